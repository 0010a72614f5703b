"""Gates: every rule on a dataset that fails it and on one that passes, what stops, what is marked, and what is not remade."""

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.card import write_card
from prefkit.card.facts import collect
from prefkit.card.limits import check
from prefkit.cli import run
from prefkit.engines.placement import Placement
from prefkit.errors import GateError, RecipeError
from prefkit.gates.measures import MEASURES, Figure
from prefkit.gates.rules import RULES, Wanted, spelled
from prefkit.gates.said import Limit
from prefkit.gates.verdict import gated, passes
from prefkit.recipe import Recipe
from prefkit.run import Build, Event, Settings, build, make

RECIPES = Path(__file__).parents[1] / "recipes"
FAKE = Settings(placement=Placement(engines={"judge": "fake"}))
HEAD = """
name: small
models: { judge: { id: test/judge } }
data: [{ file: rows.jsonl, max_bad: 0.5 SOURCE }]
"""


def pair(at: int, chosen: str = "", rejected: str = "", **more: Any) -> dict[str, Any]:
    """A pair whose longer side takes turns."""
    sides = ("so", "oh no!") if at % 2 else ("oh no!", "so")
    return {
        "prompt": f"question {at}",
        "chosen": chosen or f"{sides[0]} {at}",
        "rejected": rejected or f"{sides[1]} {at}",
        **more,
    }


EVEN = [pair(at) for at in range(20)]
SCORED = [pair(at, chosen_score=float(at), rejected_score=1.5) for at in range(20)]
LONGER = [pair(at, f"a long answer {at * 'x'}", f"no {at}") for at in range(20)]
VOTES = ", columns: { prompt: prompt, first: chosen, second: rejected, votes: [one, two, three] }"
FROM_VOTES = "  - label: { ops: [from-votes, { tie: { delta: 0.1 } }ORIENT] }\n"
RATINGS = ", columns: { prompt: prompt, response: response, ratings: ratings }"
COUNT = "  - decontaminate: { against: [{ file: asked.jsonl, name: exam }], n: 2, then: count }\n"
DROP = "  - decontaminate: { against: [{ file: asked.jsonl, name: exam }], n: 2 }\n"
JUDGE = "  - judge: { model: judge, verdict: token }\n"


def voted(*votes: int) -> list[dict[str, Any]]:
    return [pair(at, one=vote, two=1, three=vote) for at, vote in enumerate(votes)]


def rated(nulls: int) -> list[dict[str, Any]]:
    ratings = [None if at < nulls else [at % 3, 1] for at in range(100)]
    return [{"prompt": f"q {at // 2}", "response": f"a {at}", "ratings": ratings[at]} for at in range(100)]


@pytest.fixture
def prepare(tmp_path):
    """Write rows and a recipe; return its path."""

    def write(
        rows: list[dict[str, Any]], steps: str = "", fail_if: str = "", source: str = "", head: str = HEAD
    ) -> Path:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "asked.jsonl").write_text('{"question": "question 3"}\n')
        text = head.replace(" SOURCE", source)
        text += f"build:\n{steps}" if steps else ""
        text += f"fail_if: {{ {fail_if} }}\n" if fail_if else ""
        path = tmp_path / "small.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def made(prepare, store):
    """Build rows and return the build, whatever its gates find."""

    def of(rows, steps="", fail_if="", source="") -> Build:
        return make(Recipe.load(prepare(rows, steps, fail_if, source)), store, FAKE)

    return of


def failing(found: Build) -> dict[str, str]:
    return {each.rule.name: each.then for each in found.gates if not each.passed}


# every rule

CASES: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "contamination": ((EVEN, COUNT), (EVEN, DROP)),
    "identical-sides": (([*EVEN, pair(99, "same", "same")],), (EVEN,)),
    "reversed-labels": (
        (SCORED, "  - label: { ops: [from-scores] }\n"),
        (SCORED, "  - label: { ops: [from-scores, orient] }\n"),
    ),
    "null-scores": (
        (rated(10), "  - score: { ratings: mean }\n", "", RATINGS),
        (rated(1), "  - score: { ratings: mean }\n", "", RATINGS),
    ),
    "parse-failures": ((EVEN, "  - judge: { model: judge, max_tokens: 8, retries: 0 }\n"), (EVEN, JUDGE)),
    "order-inconsistency": ((EVEN, JUDGE), (EVEN, JUDGE.replace("token", "token, swap: false"))),
    "longer-chosen": ((LONGER,), (EVEN,)),
    "length-auc": ((LONGER,), (EVEN,)),
    "pairs": ((EVEN, "", "pairs: { below: 21 }"), (EVEN, "", "pairs: { below: 20 }")),
    "prompts": ((EVEN, "", "prompts: { below: 21 }"), (EVEN, "", "prompts: { above: 20 }")),
    "kept-share": (
        (EVEN, "  - filter: { max_chars: 8 }\n", "kept-share: { below: 0.9 }"),
        (EVEN, "  - filter: { max_chars: 60 }\n", "kept-share: { below: 1.0 }"),
    ),
    "drop-share": (
        (EVEN, "  - filter: { max_chars: 8 }\n", "drop-share: { above: 0.1 }"),
        (EVEN, "  - filter: { max_chars: 60 }\n", "drop-share: { above: 0 }"),
    ),
    "tie-rate": (
        (
            voted(1, 2),
            FROM_VOTES.replace("0.1", "0.9").replace("ORIENT", ""),
            "tie-rate: { above: 0.5 }",
            VOTES,
        ),
        (voted(1, 1), FROM_VOTES.replace("ORIENT", ""), "tie-rate: { above: 0.5 }", VOTES),
    ),
    "agreement": (
        (voted(*[2] * 18, 1, 1), FROM_VOTES.replace("ORIENT", ""), "agreement: { below: 0.7 }", VOTES),
        (voted(*[1] * 20), FROM_VOTES.replace("ORIENT", ""), "agreement: { below: 0.7 }", VOTES),
    ),
    "first-wins": (
        (EVEN, JUDGE, "first-wins: { outside: [0.9, 1.0] }"),
        (EVEN, JUDGE, "first-wins: { outside: [0.3, 0.7] }"),
    ),
}


def test_every_rule_has_a_measure_and_is_tried_here():
    assert set(MEASURES) == set(RULES) == {*CASES, "rows-failed", "split-leakage"}
    assert len(RULES) == 17


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fails_what_it_is_about_and_passes_what_is_in_order(made, name):
    bad, good = CASES[name]
    assert name in failing(made(*bad))
    assert name not in failing(made(*good))


def test_rows_that_failed_are_marked(made, store):
    found = made(EVEN)
    last = found.last.model_copy(update={"rows": found.last.rows.model_copy(update={"failed": 2})})
    results = {each.rule.name: each for each in gated({"00-data": last}, {})}
    assert (results["rows-failed"].then, results["rows-failed"].found) == ("mark", "2")


def test_a_figure_that_a_recipe_asks_for_and_nothing_gives_fails(made):
    found = made(EVEN, "", "agreement: { below: 0.6 }, parse-failures: { above: 0.1 }")
    assert failing(found) == {"agreement": "stop"}
    with pytest.raises(GateError, match="nothing to measure"):
        build(found.recipe, found.store, FAKE)


def test_prompts_in_two_splits_stop_a_build(made, store):
    runs = []
    for share in (0.0, 1.0):
        part = made(EVEN, f"  - split: {{ test: {share} }}\n").last
        store.save_refs(f"part-{share:g}", {"01-split": part.key}, {}, first=True)
        runs.append({"ref": f"part-{share:g}/01-split"})
    both = make(Recipe.model_validate({"name": "both", "data": runs}), store)
    assert failing(both) == {"split-leakage": "stop"}
    assert [each.found for each in both.gates if each.rule.name == "split-leakage"] == ["20"]
    one = make(Recipe.model_validate({"name": "one", "data": runs[:1]}), store)
    assert [each.passed for each in one.gates if each.rule.name == "split-leakage"] == [True]


def test_people_may_be_held_out_with_their_prompts_on_both_sides(made):
    rows = [pair(at // 4, f"a {at}", f"b {at}", who=f"person {at % 4}") for at in range(40)]
    source = ", columns: { prompt: prompt, chosen: chosen, rejected: rejected, annotator: who }"
    found = made(rows, "  - split: { by: annotator, test: 0.5 }\n", source=source)
    assert len(set(found.table["split"].to_pylist())) == 2
    assert "split-leakage" not in [each.rule.name for each in found.gates]


def test_a_later_look_at_the_same_benchmark_counts(made):
    (result,) = [each for each in made(EVEN, COUNT + DROP).gates if each.rule.name == "contamination"]
    assert (result.passed, result.found) == (True, "0")
    (result,) = [each for each in made(EVEN, COUNT).gates if each.rule.name == "contamination"]
    assert (result.title, result.found) == ("rows with items of 'exam'", "1")


# what happens


def test_what_is_wrong_stops_and_what_is_lopsided_marks_by_default(made):
    found = made([*LONGER, pair(99, "same", "same")])
    assert failing(found) == {"identical-sides": "stop", "longer-chosen": "mark", "length-auc": "mark"}


def test_a_limit_stops_unless_it_says_mark(made):
    said = "length-auc: { above: 0.75 }, longer-chosen: { outside: [0.4, 0.6], then: mark }"
    assert failing(made(LONGER, "", said)) == {"length-auc": "stop", "longer-chosen": "mark"}
    assert failing(made(LONGER, "", "length-auc: stop, longer-chosen: off")) == {
        "length-auc": "stop",
        "longer-chosen": "off",
    }


def test_a_build_that_stops_is_whole_kept_and_stops_again(prepare, store):
    recipe = Recipe.load(prepare([*EVEN, pair(99, "same", "same")], "  - split: { test: 0.5 }\n"))
    started: list[Event] = []
    for _ in range(2):
        with pytest.raises(GateError, match="gate 'identical-sides' failed") as caught:
            build(recipe, store, Settings(progress=started.append))
    assert [event.state for event in started if event.state in ("start", "cached")] == ["start"] * 2 + [
        "cached"
    ] * 2
    assert caught.value.build is not None
    assert caught.value.build.table.num_rows == 21
    assert store.table(store.resolve("small")).num_rows == 21
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.build) == (str(caught.value), None)


def test_a_build_that_ends_early_is_not_gated(prepare, store):
    recipe = Recipe.load(prepare([*EVEN, pair(99, "same", "same")], "  - split\n"))
    assert build(recipe, store, Settings(until="data")).gates == []


def test_gates_are_no_part_of_what_is_built(prepare, store):
    rows, steps = LONGER, "  - split\n"
    plain = make(Recipe.load(prepare(rows, steps)), store)
    started: list[Event] = []
    recipe = Recipe.load(prepare(rows, steps, "length-auc: stop, pairs: { below: 100 }"))
    gated_build = make(recipe, store, Settings(progress=started.append))
    assert {event.state for event in started} == {"cached"}
    for name, manifest in plain.steps.items():
        assert (gated_build.steps[name].key, gated_build.steps[name].digest) == (
            manifest.key,
            manifest.digest,
        )


# few rows


@pytest.mark.parametrize(("longer", "passed"), [(5, True), (2, True), (1, False), (0, False)])
def test_ten_pairs_lean_one_way_only_if_nearly_all_do(made, longer, passed):
    rows = [pair(at, "yes, surely" if at < longer else "no", "perhaps") for at in range(10)]
    found = {each.rule.name: each.passed for each in made(rows).gates}
    assert found["longer-chosen"] is passed


def test_three_pairs_are_too_few_to_call_length_a_giveaway(made):
    assert failing(made(LONGER[1:4])) == {}


FINITE = st.floats(-2, 2)
RATES = st.sampled_from([RULES[name] for name in ("length-auc", "null-scores", "pairs")])


@given(
    rule=RATES, value=FINITE, reach=st.floats(0, 1), low=FINITE, width=st.floats(0, 2), wider=st.floats(0, 1)
)
def test_a_wider_limit_never_fails_what_a_narrower_one_passes(rule, value, reach, low, width, wider):
    figure = Figure("", "", value, value - reach, value + reach, "", "")
    narrow, wide = Wanted(low, low + width), Wanted(low - wider, low + width + wider)
    assert passes(rule, wide, figure) or not passes(rule, narrow, figure)
    assert passes(rule, wide._replace(low=None), figure) or not passes(rule, wide, figure)


@given(
    rule=RATES, value=st.floats(0, 1), limit=st.floats(0, 1), reach=st.floats(0, 0.5), less=st.floats(0, 0.5)
)
def test_more_rows_never_save_a_figure_that_fails(rule, value, limit, reach, less):
    def holds(by: float) -> bool:
        return passes(rule, Wanted(high=limit), Figure("", "", value, value - by, value + by, "", ""))

    assert holds(reach) or not holds(max(0.0, reach - less))


# recipes


@pytest.mark.parametrize(
    ("said", "what", "hint"),
    [
        ("lenght-auc: stop", "no gate is called 'lenght-auc'", "length-auc"),
        (
            "length-auc: stpo",
            "gate 'length-auc': then: input should be 'stop', 'mark' or 'off', got 'stpo'",
            "stop",
        ),
        ("length-auc: 0.7", "gate 'length-auc': input should be", "prefkit stages fail_if"),
        ("length-auc: { abov: 0.7 }", "gate 'length-auc': no setting is called 'abov'", "above"),
        (
            "length-auc: { above: high }",
            "gate 'length-auc': above: input should be a number, got 'high'",
            "stages",
        ),
        ("length-auc: { outside: [0.7, 0.3] }", "nothing is both at least 0.7 and at most 0.3", "stages"),
        ("length-auc: { outside: [0, 1], above: 1 }", "give `outside`, or `above` and `below`", "stages"),
        ("length-auc: {}", "say `above`, `below`, `outside` or `then`", "stages"),
        ("pairs: stop", "gate 'pairs' has no limit unless you give one", "pairs: { above: ... }"),
    ],
)
def test_a_mistake_in_a_gate_is_named_with_its_line(prepare, said, what, hint):
    path = prepare(EVEN, "", said)
    with pytest.raises(RecipeError) as caught:
        Recipe.load(path)
    (problem,) = caught.value.problems
    assert what in problem.what
    assert problem.where == f"{path}:5"
    assert hint in problem.hint


def test_gates_come_back_from_the_text_of_a_recipe_and_from_edits(prepare):
    said = (
        "length-auc: { above: 0.75, then: mark }, longer-chosen: { outside: [0.3, 0.7] }, contamination: off"
    )
    recipe = Recipe.load(prepare(EVEN, "", said))
    assert recipe.described()["fail_if"] == {
        "length-auc": {"above": 0.75, "then": "mark"},
        "longer-chosen": {"outside": [0.3, 0.7]},
        "contamination": "off",
    }
    assert Recipe.parse(recipe.text(), recipe.folder) == recipe
    path = prepare(EVEN)
    edits = ["fail_if.length-auc.then=stop", "fail_if.contamination=off", "fail_if.pairs.below=3"]
    edited = Recipe.load(path, edits).fail_if
    assert edited == {
        "length-auc": Limit(then="stop"),
        "contamination": Limit(then="off"),
        "pairs": Limit(below=3),
    }
    assert "fail_if" not in Recipe.load(path).described()


def test_a_recipe_made_in_python_is_checked_too():
    fields: Mapping[str, Any] = {"name": "r", "data": [{"file": "x.jsonl"}]}
    assert Recipe(**fields, fail_if={"length-auc": "stop"}).fail_if == {"length-auc": Limit(then="stop")}
    with pytest.raises(ValueError, match="no gate is called 'length'"):
        Recipe(**fields, fail_if={"length": "stop"})


def test_limits_are_said_as_people_say_them():
    assert spelled(Wanted(0.35, 0.65), "share") == "35 to 65 %"
    assert spelled(Wanted(high=0), "share") == "0"
    assert spelled(Wanted(high=0.07), "share") == "at most 7 %"
    assert spelled(Wanted(low=1000), "count") == "at least 1,000"


# the command line, the card


def test_the_command_line_says_which_gates_stop_and_ends_with_2(prepare, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    prepare([*LONGER, pair(99, "same", "same")])
    assert run(["build", "small.yaml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        "warning: gate 'longer-chosen' failed: pairs whose chosen side is the longer one: 95.2 % (20 of 21"
        in err
    )
    assert "error: gate 'identical-sides' failed: pairs with identical sides: 4.8 % (1 of 21; " in err
    assert "  where: small/00-data (prefkit show small/00-data)\n" in err
    assert (
        "  hint:  add `- filter: { drop: [identical] }`. To take it as it is: fail_if: { identical-sides: mark }"
        in err
    )
    assert err.endswith("all of it is built and kept: `prefkit card small` says what it is\n")
    assert run(["build", "small.yaml", "--set", "fail_if.identical-sides=mark"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith(".arrow\n")
    assert "warning: gate 'identical-sides' failed" in err


def test_nothing_is_trained_on_what_fails(prepare, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    path = prepare([*EVEN, pair(99, "same", "same")])
    path.write_text(path.read_text() + "train: { model: judge, objective: simpo }\n")
    assert run(["train", "small.yaml"]) == 2
    assert "gate 'identical-sides' failed" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "trained").exists()


def test_a_plan_says_which_gates_apply(prepare, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    prepare(EVEN, JUDGE, "length-auc: { above: 0.6 }, identical-sides: off")
    assert run(["plan", "small.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["gates"]
    assert {"length-auc", "parse-failures"} <= set(told["stop"])
    assert "contamination" not in told["stop"]
    assert (told["mark"], told["off"]) == (["rows-failed", "longer-chosen"], ["identical-sides"])
    assert run(["plan", "small.yaml"]) == 0
    assert "mark the card if: rows-failed, longer-chosen · off: identical-sides\n" in capsys.readouterr().out


def test_stages_explains_the_gates(capsys):
    assert run(["stages", "fail_if"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in RULES)
    assert run(["stages", "fail_if", "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["name"] for each in told] == list(RULES)


def test_a_card_says_at_the_top_what_failed_and_who_set_the_limit(made, store):
    made(
        [*LONGER, pair(99, "same", "same")],
        "",
        "length-auc: { above: 0.6, then: mark }, identical-sides: off",
    )
    card = write_card(store, "small")
    top, _, rest = card.partition("\n## ")
    assert "> - `length-auc`: AUC of length alone: " in top
    assert "wanted at most 0.6 (mark)" in top
    assert "identical-sides" not in top
    _, _, table = rest.partition("## Checks\n\n")
    assert "| `length-auc` | AUC of length alone | at most 0.6 | recipe | " in table
    assert "| **failed: marked** |" in table
    assert "(1 of 21; 95 %: 0.8 to 22.7) | failed, switched off |" in table
    failed = [(each.gate, each.name) for each in check(collect(store, "small")) if not each.passed]
    assert failed[0] == ("identical-sides", "pairs with identical sides")


def test_a_dataset_that_passes_has_no_banner(made, store):
    made(EVEN)
    assert "Gates failed" not in write_card(store, "small")


# real data


def test_the_length_of_translations_stops_a_build_that_forbids_it(shared_data, store):
    data = f"data.0.file={shared_data / 'wmt_mqm_3raters' / 'responses.parquet'}"
    steps = Recipe.load(RECIPES / "wmt-mqm.yaml", [data])
    few = steps.model_copy(update={"build": steps.build[:6]})  # no model is needed for this
    assert failing(build(few, store)).keys() <= {"longer-chosen", "length-auc"}
    strict = few.model_copy(update={"fail_if": {"length-auc": Limit(above=0.7)}})
    with pytest.raises(GateError, match=r"'length-auc' failed: AUC of length alone: 0\.7"):
        build(strict, store)
