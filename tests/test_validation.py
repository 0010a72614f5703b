from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from prefkit.engines import Model
from prefkit.errors import PrefkitError
from prefkit.validation import Owner, fill
from prefkit.yaml_strict import parse

MODELS = {"policy": Model(id="org/policy"), "judge": Model(id="org/judge")}
OWNER = Owner("r.yaml", "stage 'x'", "prefkit stages x", MODELS)


def refuse_hm(value: str) -> str:
    if value == "hm":
        raise PrefkitError("no rule is called 'hm'", hint="did you mean 'ham'?")
    return value


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    judge: Model


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = ""
    number: float = 0.5
    count: Annotated[int, Field(gt=0)] = 1
    flag: bool = False
    way: Literal["up-stairs", "down-stairs"] = "up-stairs"
    pair: tuple[str, int] = ("a", 1)
    names: Annotated[tuple[str, ...], BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)] = ()
    model: Model | None = None
    models: tuple[Model, ...] = ()
    by_name: dict[str, Model] = {}
    inner: Inner | None = None
    either: Model | Literal["none"] = "none"
    rule: Annotated[str, BeforeValidator(refuse_hm)] = ""


def filled(text: str) -> Config:
    result = fill(Config, parse(text.encode(), "r.yaml").root, OWNER)
    assert result.problems == ()
    return result.config


def wrong(text: str) -> list[tuple[str, str, str]]:
    result = fill(Config, parse(text.encode(), "r.yaml").root, OWNER)
    assert result.config is None
    return [
        (problem.what.removeprefix("stage 'x': "), problem.where, problem.hint) for problem in result.problems
    ]


def test_a_text_field_gets_what_was_written():
    assert filled("text: 1.10").text == "1.10"
    assert filled("text: null").text == "null"
    assert filled("names: [1.0, 007, true]").names == ("1.0", "007", "true")


def test_a_whole_number_is_a_number():
    assert filled("number: 1").number == 1.0
    assert filled("number: 5e-7").number == 5e-7


def test_lists_become_tuples_even_behind_a_validator():
    assert filled("pair: [a, 2]").pair == ("a", 2)
    assert filled("names: [a, b]").names == ("a", "b")
    assert filled("names: a").names == ("a",)


def test_a_name_becomes_the_model_wherever_a_model_is_wanted():
    config = filled(
        "model: policy\nmodels: [judge, policy]\nby_name: {x: judge}\ninner: {judge: judge}\neither: policy"
    )
    policy, judge = MODELS.values()
    assert config.model == policy
    assert config.models == (judge, policy)
    assert config.by_name == {"x": judge}
    assert config.inner == Inner(judge=judge)
    assert config.either == policy
    assert filled("either: none").either == "none"
    assert filled("model: null").model is None


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("count: 0", "count: input should be greater than 0, got 0", "prefkit stages x"),
        ("count: '4'", "count: input should be a whole number, got '4'", "remove the quotes"),
        ("count: 4.5", "count: input should be a whole number, got 4.5", "prefkit stages x"),
        ("count: true", "count: input should be a whole number, got true", "prefkit stages x"),
        ("number: no", "number: input should be a number, got 'no'", "prefkit stages x"),
        ("flag: no", "flag: input should be true or false, got 'no'", "write false, unquoted"),
        ("flag: 1", "flag: input should be true or false, got 1", "prefkit stages x"),
        (
            "way: upstairs",
            "way: input should be 'up-stairs' or 'down-stairs', got 'upstairs'",
            "did you mean 'up-stairs'?",
        ),
        ("txet: a", "no setting is called 'txet'", "did you mean 'text'?"),
        ("zzz: a", "no setting is called 'zzz'", "prefkit stages x"),
        ("text: [a]", "text: input should be text, got a list", "prefkit stages x"),
        ("text: {a: 1}", "text: input should be text, got a mapping", "prefkit stages x"),
        ("pair: [a]", "'pair.1' is missing", "prefkit stages x"),
        ("pair: [a, b]", "pair.1: input should be a whole number, got 'b'", "prefkit stages x"),
        ("inner: {}", "'inner.judge' is missing", "prefkit stages x"),
        ("inner: {judge: judge, jugde: 1}", "no setting is called 'inner.jugde'", "did you mean 'judge'?"),
        ("model: polcy", "model: no model is called 'polcy'", "did you mean 'policy'?"),
        ("model: 3", "model: input should be a name from `models:`, got 3", "prefkit stages x"),
        ("either: x", "either: no model is called 'x'", "`models:` has policy, judge"),
        ("rule: hm", "no rule is called 'hm'", "did you mean 'ham'?"),
        (
            'count: "\\e[31m"',
            "count: input should be a whole number, got '\\x1b[31m'",
            "prefkit stages x",
        ),
    ],
)
def test_errors_name_the_setting_the_value_and_what_to_do(text, what, hint):
    assert (what, hint) in [(told, hinted) for told, _, hinted in wrong(text)]


def test_all_errors_are_found_at_once_each_with_its_line():
    found = wrong("count: 0\nflag: no\nmodel: x\nmodels: [judge, y,\n  z]\nwrong: 1\n")
    assert sorted(where for _, where, _ in found) == [
        "r.yaml:1",
        "r.yaml:2",
        "r.yaml:3",
        "r.yaml:4",
        "r.yaml:5",
        "r.yaml:6",
    ]


def test_a_long_value_is_shown_short():
    (what, _, _) = wrong(f"count: {'x' * 5000}")[0]
    assert len(what) < 150
