"""The decontaminate stage: what counts as holding a benchmark's item, and what is said of it."""

import json
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.errors import ContractError, DataError, RecipeError
from prefkit.plan import plan
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.stages.benchmark import Benchmark, read_items, stamp
from prefkit.stages.decontaminate import Decontaminate
from prefkit.store import Store
from prefkit.testing import check_stage, run_stage

LETTERS = "a b c d e f"


def turns(*rows):
    return pa.array([[{"role": role, "content": text} for role, text in row] for row in rows], MESSAGES)


def jsonl(path: Path, *rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def asked(tmp_path: Path) -> str:
    return jsonl(tmp_path / "exam.jsonl", {"question": "Unrelated words stand here"}, {"question": LETTERS})


def dropped(stage, table):
    parts = run_stage(stage, table).dropped
    return pa.concat_tables(parts).to_pylist() if parts else []


def test_four_of_six_words_in_runs_of_three_are_two_thirds(asked, make_responses):
    responses = make_responses({"p": [1.0, 2.0]}, {"p": ["x b c d e y", "quite another answer"]})
    stage = Decontaminate(against=asked, n=3)
    assert check_stage(stage, responses)["id"].to_pylist() == ["p1"]
    (row,) = dropped(stage, responses)
    assert row["drop_reason"] == "contaminated/exam"
    assert row["benchmark_item"] == "exam.jsonl:2"
    assert row["benchmark_coverage"] == pytest.approx(4 / 6)
    assert row["benchmark_ngram"] == "b c d"
    assert row["benchmark_match"] == "shared"
    counted = {"dropped/contaminated/exam": 1, "contamination/shared": 1}
    assert run_stage(stage, responses).notes == counted
    assert dropped(Decontaminate(against=asked, n=3, threshold=0.7), responses) == []


def test_case_punctuation_and_space_do_not_hide_an_item(asked, make_responses):
    told = ["A, B, c!\nD (e)   F.", "Well: a-b-c-d-e-f, I think", "a b c d e fa"]
    found = dropped(Decontaminate(against=asked, n=5), make_responses({"p": [1.0] * 3}, {"p": told}))
    assert [row["benchmark_match"] for row in found] == ["equal", "inside", "shared"]
    assert [row["benchmark_coverage"] for row in found] == [1.0, 1.0, pytest.approx(5 / 6)]


def test_an_item_shorter_than_the_run_must_be_the_whole_turn(asked, make_responses):
    told = [LETTERS.upper(), f"{LETTERS} g", f"the {LETTERS}"]
    table = make_responses({"p": [1.0] * 3}, {"p": told})
    assert check_stage(Decontaminate(against=asked, n=8), table)["id"].to_pylist() == ["p1", "p2"]


def test_prompts_and_chosen_are_looked_at_and_rejected_is_not(asked, make_pairs):
    pairs = make_pairs(chosen=["ok", LETTERS, "ok"], rejected=[LETTERS, "no", "no"])
    pairs = pairs.set_column(2, "prompt", turns([("user", "x")], [("user", "y")], [("user", LETTERS)]))
    assert check_stage(Decontaminate(against=asked, n=4), pairs)["id"].to_pylist() == ["r000"]
    only = Decontaminate(against=asked, n=4, columns=("rejected",))
    assert check_stage(only, pairs)["id"].to_pylist() == ["r001", "r002"]


def test_a_question_in_any_turn_counts_and_runs_do_not_cross_turns(asked, make_responses):
    prompts = make_responses({key: [1.0] for key in "pqr"}).select(["id", "prompt_id", "prompt"])
    prompt = turns(
        [("system", "Be brief."), ("user", LETTERS)],
        [("user", "a b c"), ("user", "d e f")],
        [("user", "hi")],
    )
    stage = Decontaminate(against=asked, n=4)
    assert check_stage(stage, prompts.set_column(2, "prompt", prompt))["id"].to_pylist() == ["q0", "r0"]


def test_turns_of_one_row_add_up(asked, make_responses):
    prompts = make_responses({key: [1.0] for key in "pq"}).select(["id", "prompt_id", "prompt"])
    prompt = turns([("user", "a b c d"), ("assistant", "c d e f")], [("user", "a b")])
    found = dropped(Decontaminate(against=asked, n=4, threshold=1), prompts.set_column(2, "prompt", prompt))
    assert [row["benchmark_coverage"] for row in found] == [1.0]


def test_the_item_that_is_covered_most_is_named_and_of_equals_the_first(tmp_path, make_responses):
    one = jsonl(tmp_path / "one.jsonl", {"q": "a b c d e f g h", "s": "v w x"}, {"q": "a b c d x"})
    two = jsonl(tmp_path / "two.jsonl", {"q": "a b c d x"})
    against = [{"file": one, "fields": ["q", "s"], "name": "first"}, {"file": two, "fields": "q"}]
    table = make_responses({"p": [1.0]}, {"p": ["a b c d"]})
    (row,) = dropped(Decontaminate(against=against, n=3), table)
    assert (row["drop_reason"], row["benchmark_item"]) == ("contaminated/first", "one.jsonl:2")
    (row,) = dropped(Decontaminate(against=against[::-1], n=3), table)
    assert (row["drop_reason"], row["benchmark_item"]) == ("contaminated/two", "two.jsonl:1")


def test_any_shared_run_will_do_at_threshold_zero(tmp_path, make_responses):
    file = jsonl(tmp_path / "long.jsonl", {"text": " ".join(f"w{i}" for i in range(100))})
    table = make_responses({"p": [1.0, 1.0]}, {"p": ["so w7 w8 w9 it is", "w1 w3 w5"]})
    assert dropped(Decontaminate(against=file, n=3), table) == []
    found = dropped(Decontaminate(against=file, n=3, threshold=0), table)
    assert [(row["id"], row["benchmark_ngram"]) for row in found] == [("p0", "w7 w8 w9")]


def test_other_alphabets_are_found(tmp_path, make_responses):
    file = jsonl(
        tmp_path / "wide.jsonl",
        {"question": "Где находится Красная площадь?"},
        {"question": "中国的首都是哪里"},
        {"question": "¿Cuántos años tenía Élan?"},
    )
    told = [
        "скажи: где находится КРАСНАЯ площадь",
        "请问,中国的首都是哪里?",
        "CUÁNTOS AÑOS TENÍA E\u0301LAN",
        "что-то иное",
    ]
    table = make_responses({"p": [1.0] * 4}, {"p": told})
    assert check_stage(Decontaminate(against=file, n=4), table)["id"].to_pylist() == ["p3"]


def test_files_of_any_kind_are_read_and_the_usual_fields_found(tmp_path, make_responses):
    pq.write_table(pa.table({"id": [1], "prompt": [LETTERS], "label": ["A"]}), tmp_path / "exam.parquet")
    (tmp_path / "exam.csv").write_text("problem,answer\none two three four,5\n")
    chat = jsonl(tmp_path / "chat.jsonl", {"prompt": [{"role": "user", "content": "six seven eight nine"}]})
    against = [str(tmp_path / "exam.*"), chat]
    told = [LETTERS, "one two three four", "six seven eight nine", "A", "5"]
    table = make_responses({"p": [1.0] * 5}, {"p": told})
    stage = Decontaminate(against=against, n=3)
    assert check_stage(stage, table)["id"].to_pylist() == ["p3", "p4"]
    assert [row["benchmark_item"] for row in dropped(stage, table)] == [
        "exam.parquet:1",
        "exam.csv:2",
        "chat.jsonl:1",
    ]


def test_a_benchmark_that_changed_is_read_again(tmp_path, make_responses):
    file = jsonl(tmp_path / "exam.jsonl", {"question": LETTERS})
    table = make_responses({"p": [1.0, 1.0]}, {"p": [LETTERS, "u v w x y z"]})
    stage = Decontaminate(against=file, n=3)
    before = stamp(stage.against, Path())
    assert run_stage(stage, table).table["id"].to_pylist() == ["p1"]
    jsonl(tmp_path / "exam.jsonl", {"question": "u v w x y z"})
    assert run_stage(stage, table).table["id"].to_pylist() == ["p0"]
    assert stamp(stage.against, Path()) != before


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), min_size=1, max_size=6))
def test_a_lower_threshold_drops_a_superset_and_the_item_itself_always_goes(
    tmp_path_factory, make_responses, told
):
    file = jsonl(
        tmp_path_factory.mktemp("x") / "exam.jsonl", {"question": "a b c d a b"}, {"question": "d c"}
    )
    table = make_responses({"p": [1.0] * (len(told) + 2)}, {"p": [*told, "a b c d a b", "d c"]})
    gone = [
        {row["id"] for row in dropped(Decontaminate(against=file, n=3, threshold=threshold), table)}
        for threshold in (0, 0.3, 0.5, 0.8, 1)
    ]
    assert all(high <= low for low, high in pairwise(gone))
    assert {f"p{len(told)}", f"p{len(told) + 1}"} <= gone[-1]


def test_no_row_and_no_text(asked, make_responses):
    stage = Decontaminate(against=asked)
    empty = make_responses({"p": [1.0]}, {"p": [""]})
    assert run_stage(stage, empty).table.num_rows == 1
    assert run_stage(stage, empty.slice(0, 0)).table.num_rows == 0
    missing = empty.set_column(3, "response", pa.array([None], MESSAGES))
    assert run_stage(stage, missing).table.num_rows == 1


def test_what_cannot_be_read_is_said(tmp_path, make_responses):
    table = make_responses({"p": [1.0]})
    with pytest.raises(DataError, match="does not exist"):
        Decontaminate(against=str(tmp_path / "none.jsonl"))(table)
    labels = jsonl(tmp_path / "labels.jsonl", {"label": "A"})
    with pytest.raises(DataError, match="no line of benchmark 'labels' has text in 'prompt', 'question'"):
        Decontaminate(against=labels)(table)
    with pytest.raises(DataError, match="has text in 'body'"):
        Decontaminate(against={"file": labels, "fields": "body"})(table)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "fine"}\n{"question": \n')
    with pytest.raises(DataError, match="cannot be read") as caught:
        Decontaminate(against=str(broken))(table)
    assert caught.value.where.endswith("broken.jsonl:2")
    with pytest.raises(ContractError, match="reads column 'chosen'"):
        Decontaminate(against=labels, columns=("chosen",))(table)
    with pytest.raises(ValidationError):
        Decontaminate(against=[])


def test_a_changed_benchmark_builds_the_step_anew_and_paths_are_the_recipes(tmp_path):
    folder, store = tmp_path / "recipe", Store(tmp_path / "store")
    (folder / "exams").mkdir(parents=True)
    jsonl(folder / "exams" / "one.jsonl", {"question": LETTERS})
    jsonl(folder / "rows.jsonl", *({"prompt": prompt} for prompt in (LETTERS, "u v w x y z", "other words")))
    text = "name: clean\ndata: [{ file: rows.jsonl }]\n"
    recipe = Recipe.parse(text + "build:\n  - decontaminate: { against: exams/*.jsonl, n: 3 }\n", folder)
    small = Settings(shard_rows=2)

    def kept() -> list[str]:
        table = build(recipe, store, small)["decontaminate"]
        return [row["prompt"][0]["content"] for row in table.to_pylist()]

    assert kept() == ["u v w x y z", "other words"]
    assert plan(recipe, store).to_run == ()
    jsonl(folder / "exams" / "two.jsonl", {"question": "u v w x y z"})
    assert [step.name for step in plan(recipe, store).to_run] == ["01-decontaminate"]
    assert kept() == ["other words"]


def test_a_benchmark_that_is_missing_is_found_before_anything_is_built(tmp_path):
    jsonl(tmp_path / "rows.jsonl", {"prompt": "hi"})
    text = "name: x\ndata: [{ file: rows.jsonl }]\nbuild:\n  - decontaminate: { against: exam.jsonl }\n"
    with pytest.raises(RecipeError, match=r"'exam.jsonl' does not exist") as caught:
        plan(Recipe.parse(text, tmp_path))
    assert caught.value.problems[0].line == 4


def test_reading_is_done_once_for_all_shards(asked):
    against = (Benchmark(file=asked),)
    first = read_items(against, Path(), 8, stamp(against, Path()))
    assert read_items(against, Path(), 8, stamp(against, Path())) is first
    assert first.places.to_pylist() == ["exam.jsonl:1", "exam.jsonl:2"]
