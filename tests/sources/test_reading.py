import json
import subprocess
import sys

import pyarrow as pa
import pytest

from prefkit.errors import DataError
from prefkit.sources import Source, gather, peek, read, unify


def texts(rows, name):
    return [row[name][0]["content"] for row in rows]


def test_columns_are_mapped_and_others_kept(load, write_jsonl):
    row = {"question": "What is 2 + 3?", "solution": "5", "right": True, "by": 7, "level": 3, "style": "4.5"}
    loaded = load(
        write_jsonl("rows.jsonl", [row]),
        file="rows.jsonl",
        columns={"prompt": "question", "response": "solution", "score": "right", "model": "by"},
        scores={"manner": "style"},
        keep=["level"],
    )
    assert loaded.format == "columns"
    (row,) = loaded.rows
    assert (row["score"], row["model"], row["manner"], row["level"]) == (1, "7", 4.5, 3)
    assert loaded.notes["cast to text: model"] == 1


def test_lower_is_better_is_turned_round_without_a_negative_zero(load, write_jsonl):
    rows = [
        {"prompt": "a", "response": str(n), "score": n, "errors": 2 * n, "ratings": [n, None]} for n in (0, 3)
    ]
    loaded = load(
        write_jsonl("rows.jsonl", rows),
        file="rows.jsonl",
        columns={"prompt": "prompt", "response": "response", "score": "score", "ratings": "ratings"},
        scores=["errors"],
        negate=["score", "errors", "ratings"],
    )
    assert [str(row["score"]) for row in loaded.rows] == ["0.0", "-3.0"]
    assert [str(row["errors"]) for row in loaded.rows] == ["0.0", "-6.0"]
    assert [[r["score"] for r in row["ratings"]] for row in loaded.rows] == [[0, None], [-3, None]]


def test_lists_of_candidates_explode_to_rows(load, write_jsonl):
    rows = [
        {"q": "What?", "answers": [{"text": "1", "rank": 2}, {"text": "2", "rank": 1}]},
        {"q": "Who?", "answers": []},
        {"q": "When?", "answers": ["now", "then"]},
    ]
    columns = {"prompt": "q", "response": "text", "score": "rank"}
    loaded = load(
        write_jsonl("rows.jsonl", rows[:2]),
        file="rows.jsonl",
        explode="answers",
        columns=columns,
        max_bad=0.5,
    )
    assert texts(loaded.rows, "response") == ["1", "2"]
    assert loaded.reasons == {"'answers' is not a list with items": 1}
    plain = load(
        write_jsonl("rows.jsonl", rows[2:]),
        file="rows.jsonl",
        explode="answers",
        columns={"prompt": "q", "response": "answers"},
    )
    assert texts(plain.rows, "response") == ["now", "then"]


def test_where_leaves_rows_out_and_counts_them(load, write_jsonl):
    rows = [{"prompt": str(n), "lang": "de" if n % 3 else "en", "ok": bool(n % 2)} for n in range(12)]
    folder = write_jsonl("rows.jsonl", rows)
    loaded = load(folder, file="rows.jsonl", where={"lang": "de", "ok": True})
    assert texts(loaded.rows, "prompt") == ["1", "5", "7", "11"]
    assert loaded.notes["left out by where"] == 8
    with pytest.raises(DataError, match="holds no rows"):
        load(folder, file="rows.jsonl", where={"lang": "fr"})


def test_truth_is_not_the_number_one_and_csv_has_text_only(load, write_jsonl, tmp_path):
    folder = write_jsonl("rows.jsonl", [{"prompt": "a", "x": True}, {"prompt": "b", "x": 1}])
    assert texts(load(folder, file="rows.jsonl", where={"x": 1}).rows, "prompt") == ["b"]
    (tmp_path / "rows.csv").write_text("prompt,x\na,True\nb,false\n", encoding="utf-8")
    assert texts(load(tmp_path, file="rows.csv", where={"x": True}).rows, "prompt") == ["a"]


def test_a_template_only_substitutes(load, write_jsonl):
    row = {"text": "{other} {0} {text.__class__}", "lang": "German", "n": 3, "response": "r"}
    loaded = load(
        write_jsonl("rows.jsonl", [row, {**row, "text": None}]),
        file="rows.jsonl",
        columns={"response": "response"},
        prompt_template="Translate into {lang} ({n}): {text}",
        max_bad=0.5,
    )
    assert texts(loaded.rows, "prompt") == ["Translate into German (3): {other} {0} {text.__class__}"]
    assert loaded.reasons == {"no 'text' for the prompt": 1}


@pytest.mark.parametrize("template", ["{text.__class__}", "{text!r}", "{text:>9}", "{text[0]}", "{0}", "{}"])
def test_a_template_knows_columns_and_nothing_else(write_jsonl, template):
    folder = write_jsonl("rows.jsonl", [{"text": "a", "response": "b"}])
    source = Source(file="rows.jsonl", columns={"response": "response"}, prompt_template=template)
    with pytest.raises(DataError, match="which is not there"):
        peek(source, folder)


def test_a_system_text_goes_before_prompts_that_have_none(load, write_jsonl):
    own = [{"role": "system", "content": "Own."}, {"role": "user", "content": "b"}]
    folder = write_jsonl("rows.jsonl", [{"prompt": "a"}, {"prompt": own}])
    loaded = load(folder, file="rows.jsonl", system="Be brief.")
    assert [row["prompt"][0]["content"] for row in loaded.rows] == ["Be brief.", "Own."]
    assert [len(row["prompt"]) for row in loaded.rows] == [2, 2]


def test_input_goes_below_the_instruction_unless_it_is_blank(load, write_jsonl):
    rows = [{"instruction": "Add.", "input": below} for below in ("2 + 3", "", None)]
    rows.append({"instruction": "", "input": "Just this."})
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    assert texts(loaded.rows, "prompt") == ["Add.\n\n2 + 3", "Add.", "Just this."]
    assert loaded.notes["repeated prompts merged"] == 1


def test_tools_are_part_of_what_a_prompt_is(load, write_jsonl):
    tools = [{"type": "function", "function": {"name": "add"}}]
    rows = [{"prompt": "a"}, {"prompt": "a", "tools": tools}, {"prompt": "a", "tools": json.dumps(tools)}]
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    assert len({row["id"] for row in loaded.rows}) == 2
    assert json.loads(loaded.rows[1]["tools"]) == tools


def test_a_named_layout_may_have_its_columns_mapped(load, write_jsonl):
    row = {"prompt": "a", "completion": "b", "label": True, "author": "m"}
    folder = write_jsonl("rows.jsonl", [row])
    loaded = load(folder, file="rows.jsonl", format="trl-unpaired", columns={"model": "author"})
    assert (loaded.rows[0]["model"], loaded.rows[0]["score"]) == ("m", 1)


def test_a_layout_with_fixed_meanings_refuses_a_map(write_jsonl):
    folder = write_jsonl("rows.jsonl", [{"messages": [{"role": "user", "content": "a"}], "label": True}])
    with pytest.raises(DataError, match="cannot be set for rows in the layout 'kto'"):
        peek(Source(file="rows.jsonl", format="kto", columns={"model": "messages"}), folder)


def test_columns_are_kept_through_layouts_that_unfold(load, write_jsonl):
    row = {
        "prompt": "\n\nHuman: a\n\nAssistant: ",
        "answers": [{"answer": "b", "model": "m", "rank": 1}],
        "year": 2023,
    }
    loaded = load(write_jsonl("rows.jsonl", [row]), file="rows.jsonl", keep={"year_asked": "year"})
    assert loaded.format == "nectar"
    assert loaded.rows[0]["year_asked"] == 2023


def test_one_bad_candidate_does_not_cost_the_others(load, write_jsonl):
    answers = [{"answer": "b", "rank": 1}, {"answer": None, "rank": 2}, {"answer": "c", "rank": 3}]
    folder = write_jsonl("rows.jsonl", [{"prompt": "\n\nHuman: a\n\nAssistant: ", "answers": answers}])
    loaded = load(folder, file="rows.jsonl", max_bad=0.5)
    assert texts(loaded.rows, "response") == ["b", "c"]
    assert loaded.bad.to_pylist()[0]["line"] == 1


def test_an_optional_column_that_comes_late_is_still_seen(load, write_jsonl):
    rows = [{"prompt": f"{n}", "response": "a"} for n in range(400)]
    rows.append({"prompt": "z", "response": "a", "score": 0.5})
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    assert loaded.table["score"].null_count == 400


def test_a_ref_is_read_as_it_is(load, write_jsonl, tmp_path):
    table = load(write_jsonl("rows.jsonl", [{"prompt": f"{n}"} for n in range(9)]), file="rows.jsonl").table
    source = Source(ref="run/00-data", take=5)
    shards = [table.slice(0, 3), table.slice(3)]
    assert peek(source, tmp_path, lambda ref: table.schema).schema == table.schema
    batches = list(read(source, tmp_path, lambda ref: iter(shards)))
    assert pa.concat_tables([batch.table for batch in batches]) == table.slice(0, 5)
    for call in (peek, lambda *given: list(read(*given))):
        with pytest.raises(DataError, match="needs a store"):
            call(source, tmp_path)


def test_the_same_row_has_the_same_ids_wherever_it_stands(load, write_jsonl):
    row = {"prompt": "What is 2 + 3?", "response": "5", "model": "m"}
    one = load(write_jsonl("a.jsonl", [row]), file="a.jsonl").rows[0]
    folder = write_jsonl(
        "b.jsonl",
        [
            {"prompt": "x", "response": "y", "model": None},
            {"prompt": [{"role": "user", "content": row["prompt"]}], "response": "5", "model": "m"},
        ],
    )
    other = load(folder, file="b.jsonl").rows[1]
    assert (one["id"], one["prompt_id"]) == (other["id"], other["prompt_id"])
    assert one["source"] != other["source"]


def test_ready_rows_go_round_through_parquet_unchanged(load, write_jsonl, tmp_path):
    import pyarrow.parquet as pq

    rows = [{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "d", "chosen": "e", "rejected": "f"}]
    first = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl", name="mine").table
    pq.write_table(first, tmp_path / "again.parquet")
    again = load(tmp_path, file="again.parquet", name="mine").table
    assert again.equals(first)


def test_peeking_and_reading_files_import_no_heavy_library(tmp_path, write_jsonl):
    write_jsonl("rows.jsonl", [{"prompt": "a", "response": "b"}])
    code = (
        "import sys; from pathlib import Path\n"
        "from prefkit.sources import Source, peek, read, identity\n"
        f"folder = Path({str(tmp_path)!r}); source = Source(file='rows.jsonl')\n"
        "peek(source, folder); list(read(source, folder)); identity(source, folder, None)\n"
        "peek(Source(hub='Anthropic/hh-rlhf'), folder)\n"
        "print([name for name in ('torch', 'datasets', 'transformers') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.strip() == "[]"


def test_schemas_of_one_source_unify_to_itself(write_jsonl):
    folder = write_jsonl("rows.jsonl", [{"prompt": "a", "response": "b"}])
    schema = peek(Source(file="rows.jsonl"), folder).schema
    assert unify([schema, schema]) == schema
    assert gather([], schema, folder)
