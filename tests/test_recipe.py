from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.engines import Model
from prefkit.errors import RecipeError
from prefkit.recipe import Recipe
from prefkit.sources import Source
from prefkit.stages.margin import Margin
from prefkit.train import TrainSettings
from prefkit.yaml_strict import parse_value

SMALL = """
name: small
seed: 17
models:
  policy: { id: org/policy, revision: 1234567 }
data:
  - file: rows.jsonl
build:
  - pair
  - margin: { scale: 2.0 }
train:
  model: policy
  objective: dpo
  learning_rate: 5e-7
"""


def problems(text: str, *sets: str) -> list[tuple[str, str, str]]:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(text, sets=sets)
    return [(problem.what, problem.where, problem.hint) for problem in caught.value.problems]


def test_a_recipe_is_read_into_configs():
    recipe = Recipe.parse(SMALL)
    assert (recipe.name, recipe.seed, recipe.max_failures) == ("small", 17, 0.01)
    assert recipe.models == {"policy": Model(id="org/policy", revision="1234567")}
    assert recipe.build[1] == Margin(scale=2.0)
    assert recipe.train is not None
    assert recipe.train.model == recipe.models["policy"]
    assert recipe.train.learning_rate == 5e-7
    assert recipe.step_names() == ["01-pair", "02-margin"]


def test_a_file_is_read_with_its_folder(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    recipe = Recipe.load(path)
    assert recipe == Recipe.parse(SMALL, tmp_path)
    assert recipe.folder == tmp_path
    assert recipe.origin.build == (f"{path}:9", f"{path}:10")


def test_what_was_set_is_kept_as_it_was_typed():
    recipe = Recipe.parse(SMALL, sets=["build.margin.scale=3", "data.0.file=other.jsonl"])
    assert recipe.build[1] == Margin(scale=3.0)
    assert recipe.data[0].file == str(Path.cwd() / "other.jsonl")
    assert recipe.sets == ("build.margin.scale=3", "data.0.file=other.jsonl")


def test_all_errors_are_shown_at_once_sorted_by_line():
    text = """
name: a b
seed: -1
sead: 2
models:
  policy: { idd: x }
data:
  - file: a.jsonl
    take: none
  - file: b.jsonl
    hub: also
build:
  - margn
  - margin: { scale: 0, bi: score }
  - { pair: {}, margin: {} }
  - 7
train:
  model: polcy
  steps: 1.5
seed: 4
"""
    found = problems(text)
    lines = [int(where.rpartition(":")[2]) for _, where, _ in found]
    assert lines == [2, 3, 4, 6, 6, 9, 10, 13, 14, 14, 15, 16, 18, 19, 20]
    told = {what: hint for what, _, hint in found}
    assert told["no stage is called 'margn'"] == "did you mean 'margin'?"
    assert told["stage 'margin': scale: input should be greater than 0, got 0"] == "prefkit stages margin"
    assert told["no key is called 'sead'"] == "did you mean 'seed'?"
    assert told["train: model: no model is called 'polcy'"] == "did you mean 'policy'?"
    assert told["'seed' is given twice, at lines 3 and 20"] == "keep one of them"
    assert told["model 'policy': 'id' is missing"] == "policy: { id: org/model }"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a", "a recipe is a mapping of keys to values"),
        ("- a", "a recipe is a mapping of keys to values"),
        ("name: x", "'data' is missing"),
        ("data: [{file: x}]", "'name' is missing"),
        ("name: x\ndata: []", "'data' has no items"),
        ("name: x\ndata: {file: x}", "data: input should be a list, got a mapping"),
        ("name: x\ndata: [{file: x}]\nbuild: margin", "build: input should be a list, got 'margin'"),
        ("name: x\ndata: [{file: x}]\nmodels: [a]", "models: input should be a mapping, got a list"),
        ("name: x\ndata: [x]", "source 0: input should be a mapping of settings, got 'x'"),
        ("name: x\ndata: [{}]", "source 0: a source has exactly one of 'file', 'hub' and 'ref'"),
        (
            "name: x\ndata: [{file: x}]\nbuild: [margin: [a]]",
            "stage 'margin': input should be a mapping of settings",
        ),
        ("name: x\ndata: [{file: x}]\ntrain: dpo", "train: input should be a mapping of settings, got 'dpo'"),
        ("name: ../x\ndata: [{file: x}]", "name: string should match pattern"),
    ],
)
def test_a_recipe_of_the_wrong_shape_is_one_clear_error(text, what):
    ((told, where, _),) = problems(text)
    assert told.startswith(what)
    assert where.startswith("recipe:")


def test_an_error_in_what_was_set_names_the_flag():
    ((what, where, _),) = problems(SMALL, "build.margin.scale=no")
    assert what == "stage 'margin': scale: input should be a number, got 'no'"
    assert where == "--set build.margin.scale=no"


def test_a_model_written_out_in_a_setting_is_sent_to_models():
    text = SMALL.replace("model: policy", "model: { id: org/other }")
    ((what, _, hint),) = problems(text)
    assert what == "train: model 'org/other' is not in `models:`"
    assert hint == "name it there, and here by name"


def test_one_wrong_model_is_one_error_however_often_it_is_named():
    ((what, _, _),) = problems(SMALL.replace("id: org/policy", "id: [a]"))
    assert what == "model 'policy': id: input should be text, got a list"


def test_a_recipe_survives_being_written_out():
    recipe = Recipe.parse(SMALL)
    assert Recipe.parse(recipe.text()) == recipe


NAMES = st.text("abcXYZ019.-_", min_size=1, max_size=8).map(lambda text: f"a{text}")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(
    name=NAMES,
    seed=st.integers(0, 2**63),
    models=st.dictionaries(NAMES, st.builds(Model, id=TEXTS, revision=TEXTS), min_size=1, max_size=3),
    margins=st.lists(st.builds(Margin, by=TEXTS, scale=st.floats(1e-300, 1e300)), max_size=3),
    file=TEXTS,
    rate=st.floats(1e-12, 1.0),
    data=st.data(),
)
def test_every_recipe_survives_being_written_out(name, seed, models, margins, file, rate, data):
    model = models[data.draw(st.sampled_from(sorted(models)))]
    train = TrainSettings(model=model, learning_rate=rate, max_grad_norm=None)
    recipe = Recipe(
        name=name, seed=seed, models=models, data=(Source(file=file),), build=tuple(margins), train=train
    )
    assert Recipe.parse(recipe.text()) == recipe


WORDS = st.sampled_from(
    [
        "name",
        "seed",
        "data",
        "build",
        "train",
        "models",
        "margin",
        "pair",
        "by",
        "scale",
        "file",
        "model",
        "x",
        "1",
        "no",
    ]
)
TREES = st.recursive(
    WORDS | st.integers(-3, 3) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(
    tree=st.dictionaries(WORDS, TREES, max_size=6), sets=st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=2)
)
def test_no_tree_crashes_the_loader(tree, sets):
    import json

    assert loads_or_says_why(json.dumps(tree), [f"{a}.{b}={c}" for a, b, c in sets])


@given(st.text(max_size=40))
def test_no_value_of_the_command_line_crashes(text):
    try:
        parse_value(text, "--set x")
    except RecipeError as error:
        assert error.problems  # noqa: PT017
    assert loads_or_says_why(SMALL, [text, f"seed={text}", f"build.margin.{text}=1"])


def loads_or_says_why(text: str, sets: list[str]) -> bool:
    try:
        Recipe.parse(text, sets=sets)
    except RecipeError as error:
        return all(problem.what and problem.where for problem in error.problems)
    return True


def test_a_recipe_made_in_python_takes_training_as_settings_or_as_plain_data():
    data = (Source(file="rows.jsonl"),)
    plain = Recipe(name="a", data=data, train={"model": {"id": "m"}, "steps": 3})
    assert plain.train == TrainSettings(model=Model(id="m"), steps=3)
    assert Recipe(name="a", data=data, train=plain.train) == plain
    assert plain.described()["train"] == {"model": {"id": "m"}, "steps": 3}
    with pytest.raises(ValidationError, match="stepps"):
        Recipe(name="a", data=data, train={"model": {"id": "m"}, "stepps": 3})
