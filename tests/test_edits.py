from pathlib import Path

import pytest

from prefkit.edits import edit
from prefkit.yaml_strict import parse, plain

RECIPE = b"""
name: small
data: [{ file: rows.jsonl }]
models: { policy: { id: org/model } }
build:
  - sample: { n: 4 }
  - score
  - pair: { by: score }
  - score: { as: other }
"""
HERE = Path("/somewhere")


def edited(*sets: str) -> dict:
    result = edit(parse(RECIPE, "r.yaml").root, sets, HERE)
    assert result.problems == ()
    return plain(result.root)


def wrong(*sets: str) -> list[tuple[str, str, str]]:
    result = edit(parse(RECIPE, "r.yaml").root, sets, HERE)
    return [(problem.what, problem.where, problem.hint) for problem in result.problems]


def test_a_value_is_read_by_the_rules_of_the_file():
    assert edited("seed=3")["seed"] == 3
    assert edited("seed=no")["seed"] == "no"
    assert edited("max_failures=5e-1")["max_failures"] == 0.5
    assert edited("build.sample.stop=[a, 2]")["build"][0] == {"sample": {"n": 4, "stop": ["a", 2]}}


@pytest.mark.parametrize("step", ["pair", "3", "03", "03-pair"])
def test_a_step_is_named_by_stage_or_number(step):
    assert edited(f"build.{step}.by=other")["build"][2] == {"pair": {"by": "other"}}


def test_a_step_without_settings_gets_some():
    assert edited("build.02-score.as=x")["build"][1] == {"score": {"as": "x"}}


def test_a_section_that_is_not_there_is_made():
    assert edited("train.model=policy", "train.steps=5")["train"] == {"model": "policy", "steps": 5}


def test_later_edits_see_earlier_ones():
    assert edited("data=[{ hub: org/data }]", "data.0.split=test")["data"] == [
        {"hub": "org/data", "split": "test"}
    ]


def test_a_file_is_relative_to_where_one_types():
    assert edited("data.0.file=x/y.jsonl")["data"][0]["file"] == "/somewhere/x/y.jsonl"
    assert edited("data.0.file=/z.jsonl")["data"][0]["file"] == "/z.jsonl"
    assert edited("data.0.file=[a, /b]")["data"][0]["file"] == ["/somewhere/a", "/b"]


def test_an_edited_value_knows_that_it_was_set():
    root = edit(parse(RECIPE, "r.yaml").root, ["build.sample.n=5"], HERE).root
    step = root.value["build"].value[0]
    assert step.line == 6
    assert step.value["sample"].value["n"].origin == "--set build.sample.n=5"


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("seed", "'seed' is not PATH=VALUE", "write it like --set build.pair.by=score"),
        ("a..b=1", "'a..b=1' is not PATH=VALUE", "write it like --set build.pair.by=score"),
        ("=1", "'=1' is not PATH=VALUE", "write it like --set build.pair.by=score"),
        ("data.1.file=x", "'data' has no item '1'", "items: 0 to 0"),
        ("data.x.file=x", "'data' has no item 'x'", "items: 0 to 0"),
        ("build.pear.by=x", "'build' has no step 'pear'", "did you mean 'pair'?"),
        ("build.9.by=x", "'build' has no step '9'", "steps: 01-sample, 02-score, 03-pair, 04-score"),
        ("build.0.by=x", "'build' has no step '0'", "steps: 01-sample, 02-score, 03-pair, 04-score"),
        (
            "build.score.as=x",
            "'build.score' could be any of 2 steps",
            "steps: 01-sample, 02-score, 03-pair, 04-score",
        ),
        ("name.x=1", "'name' is a value, and has no 'x' inside", "--set name=VALUE"),
        (
            "seed=[1",
            "not valid YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence",
            "",
        ),
    ],
)
def test_what_cannot_be_set_says_why(text, what, hint):
    ((told, where, hinted),) = wrong(text)
    assert (told, where) == (what, f"--set {text}")
    assert hinted == hint or not hint


def test_every_edit_that_is_wrong_is_reported():
    assert len(wrong("a", "b", "seed=1", "build.x.y=1")) == 3
