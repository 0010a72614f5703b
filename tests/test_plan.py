import json
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from pyarrow import parquet

from prefkit.columns import types
from prefkit.engines import Model
from prefkit.errors import RecipeError
from prefkit.plan import plan, standing
from prefkit.recipe import Recipe
from prefkit.run import build
from prefkit.sources import Source
from prefkit.stage import PROMPTS, RESPONSES, Cost, Flow, Stage
from prefkit.store import Store


class Answer(Stage):
    """Stands for a stage that asks a model."""

    name: ClassVar[str] = "answer"
    kind: ClassVar[str] = "map"
    level: ClassVar[Flow] = Flow(("prompt",), "response")

    model: Model
    n: int = 4

    def reads(self):
        return types("prompt")

    def writes(self):
        return types("response", "finish")

    def cost(self):
        return Cost(calls=self.n, tokens_out=self.n * 100, rows=self.n)

    def apply(self, table, ctx):
        raise NotImplementedError


class Judge(Stage):
    """Stands for a stage that asks a model about every response."""

    name: ClassVar[str] = "judge"
    kind: ClassVar[str] = "map"
    level: ClassVar[Flow] = RESPONSES

    model: Model

    def reads(self):
        return types("response")

    def writes(self):
        return types("score")

    def cost(self):
        return Cost(calls=1)

    def apply(self, table, ctx):
        raise NotImplementedError


class Odd(Stage):
    """Stands for a stage that wants a column to have another type."""

    name: ClassVar[str] = "odd"
    kind: ClassVar[str] = "map"
    level: ClassVar[Flow] = PROMPTS

    def reads(self):
        return {"prompt": pa.string(), "nowhere": pa.int32(), "neither": pa.int32()}

    def writes(self):
        return {"made": pa.int32()}

    def apply(self, table, ctx):
        raise NotImplementedError


RESPONSE_ROWS = [
    {"prompt": f"question {at // 2}", "response": f"answer {at}", "score": float(at % 2)} for at in range(8)
]
SMALL = """
name: small
seed: 17
models:
  policy: { id: org/policy }
data:
  - file: rows.jsonl
build:
  - pair
  - margin: { scale: 2.0 }
  - split
"""
POLICY = Model(id="org/policy")


def lines(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines(tmp_path, RESPONSE_ROWS)
    return tmp_path


def problems(recipe: Recipe, store: Store | None = None) -> list[tuple[str, str, str]]:
    with pytest.raises(RecipeError) as caught:
        plan(recipe, store)
    return [(problem.what, problem.where, problem.hint) for problem in caught.value.problems]


def states(recipe: Recipe, store: Store) -> list[str]:
    return [step.state for step in plan(recipe, store).steps]


def prompts(folder: Path, *stages: Stage, **more) -> Recipe:
    lines(folder, [{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}], "prompts.jsonl")
    data = (Source(file="prompts.jsonl"),)
    return Recipe(name="small", models={"policy": POLICY}, data=data, build=stages, folder=folder, **more)


def test_columns_are_followed_from_the_data_to_the_last_step(folder):
    found = plan(Recipe.parse(SMALL, folder))
    assert [step.name for step in found.steps] == ["00-data", "01-pair", "02-margin", "03-split"]
    assert [step.level for step in found.steps] == ["response", "pair", "pair", "pair"]
    assert found.steps[2].needs == ("chosen_score", "rejected_score")
    assert found.steps[2].adds == ("margin",)
    assert {"chosen", "rejected", "chosen_score", "margin", "split"} <= set(found.columns.names)


def test_what_is_planned_is_what_is_built(folder, store):
    recipe = Recipe.parse(SMALL, folder)
    planned = plan(recipe)
    built = build(recipe, store)
    assert built.table.schema.equals(planned.columns)
    again = plan(recipe, store)
    assert [step.key for step in again.steps] == [manifest.key for manifest in built.steps.values()]
    assert [step.rows for step in again.steps] == [manifest.rows.kept for manifest in built.steps.values()]


def test_planning_reads_no_rows_and_writes_nothing(folder, tmp_path):
    store = Store(tmp_path / "nowhere")
    assert states(Recipe.parse(SMALL, folder), store) == ["run", "after", "after", "after"]
    assert not store.root.exists()


def test_only_what_depends_on_a_change_runs_again(folder, store):
    build(Recipe.parse(SMALL, folder), store)
    assert states(Recipe.parse(SMALL, folder), store) == ["cached"] * 4
    late = Recipe.parse(SMALL, folder, ["build.split.test=0.5"])
    assert states(late, store) == ["cached", "cached", "cached", "run"]
    middle = Recipe.parse(SMALL, folder, ["build.margin.scale=3"])
    assert states(middle, store) == ["cached", "cached", "run", "after"]
    lines(folder, RESPONSE_ROWS[:6])
    assert states(Recipe.parse(SMALL, folder), store) == ["run", "after", "after", "after"]


def test_a_seed_matters_only_to_what_draws(folder, store):
    build(Recipe.parse(SMALL, folder), store)
    assert states(Recipe.parse(SMALL, folder, ["seed=18"]), store)[:3] == ["cached"] * 3


def test_a_step_with_failed_rows_is_tried_again(folder, store):
    recipe = Recipe.parse(SMALL, folder)
    manifest = build(recipe, store).steps["02-margin"]
    rows = manifest.rows.model_copy(update={"failed": 1})
    store.save_step(manifest.model_copy(update={"rows": rows}))
    assert states(recipe, store) == ["cached", "cached", "retry", "after"]
    assert standing(store, manifest.key) is None


def test_a_step_whose_objects_are_gone_runs_again(folder, store):
    recipe = Recipe.parse(SMALL, folder)
    manifest = build(recipe, store).steps["01-pair"]
    store.discard(manifest.shards[0])
    assert states(recipe, store) == ["cached", "run", "after", "after"]


def test_calls_and_tokens_are_estimated_from_the_rows(tmp_path):
    recipe = prompts(tmp_path, Answer(model=POLICY, n=5), Judge(model=POLICY))
    recipe = recipe.model_copy(update={"data": (Source(file="prompts.parquet"),)})
    parquet.write_table(pa.table({"prompt": ["a", "b", "c"]}), tmp_path / "prompts.parquet")
    first, answer, judge = plan(recipe).steps
    assert first.rows == 3
    assert (answer.rows, answer.calls, answer.tokens) == (15, 15, 1500)
    assert (judge.rows, judge.calls, judge.tokens) == (15, 15, 0)
    assert answer.models == ("policy",)


def test_where_rows_are_not_known_neither_are_calls(tmp_path):
    recipe = prompts(tmp_path, Answer(model=POLICY), Judge(model=POLICY))
    (tmp_path / "prompts.json").write_text('[{"prompt": "a"}]')
    _, answer, judge = plan(recipe.model_copy(update={"data": (Source(file="prompts.json"),)})).steps
    assert (answer.rows, answer.calls, answer.tokens) == (None, None, None)
    assert judge.calls is None


def test_a_missing_column_is_named_with_the_line_of_its_step(folder):
    ((what, where, hint),) = problems(Recipe.parse(SMALL, folder, ["build.margin.by=taste"]))
    assert (
        what == "stage 'margin' reads columns 'chosen_taste', 'rejected_taste', which no earlier step writes"
    )
    assert where == "recipe:10"
    assert hint.startswith("columns at this point: id, prompt_id, prompt")


def test_one_missing_column_is_one_error_and_hides_no_other(folder):
    text = SMALL.replace(
        "  - split", "  - margin: { by: taste }\n  - margin: { by: taste }\n  - margin: { by: other }"
    )
    assert [where for _, where, _ in problems(Recipe.parse(text, folder))] == ["recipe:11", "recipe:13"]


def test_a_column_of_the_wrong_type_is_an_error_beside_missing_ones(tmp_path):
    told = [what for what, _, _ in problems(prompts(tmp_path, Odd()))]
    assert told == [
        "stage 'odd' reads column 'prompt' as string, and it is list<item: struct<role: string, content: string>> here",
        "stage 'odd' reads columns 'nowhere', 'neither', which no earlier step writes",
    ]


def test_rows_of_the_wrong_level_say_what_to_add(folder):
    text = SMALL.replace("  - pair\n", "")
    ((what, where, hint),) = problems(Recipe.parse(text, folder))
    assert what == "stage 'margin' takes pair rows, and the rows here are responses"
    assert (where, hint) == ("recipe:9", "add `pair` before it")


def test_the_objective_says_which_stage_would_write_what_it_lacks(folder):
    recipe = Recipe.parse(SMALL + "train:\n  model: policy\n  objective: dpo\n", folder)
    ((what, where, hint),) = problems(recipe)
    assert what.startswith("train: the objective reads columns 'ref_chosen_logp', 'ref_rejected_logp'")
    assert (where, hint) == ("recipe:12", "add to `build:` `reference`")


def test_training_needs_pairs(folder):
    text = SMALL.partition("build:")[0] + "train: { model: policy, objective: simpo }\n"
    ((what, _, hint),) = problems(Recipe.parse(text, folder))
    assert what == "train: an objective reads pair rows, and the rows after the last step are responses"
    assert hint == "add `pair` to `build:`"


def test_a_goal_that_can_be_met_is_told(folder):
    recipe = Recipe.parse(SMALL + "train: { model: policy, objective: simpo }\n", folder)
    goal = plan(recipe).goal
    assert goal is not None
    assert goal.objective.startswith("mean-log-prob")


def test_data_that_cannot_be_read_is_reported_source_by_source(tmp_path):
    text = SMALL.replace("  - file: rows.jsonl", "  - file: nowhere.jsonl\n  - file: other.jsonl")
    found = problems(Recipe.parse(text, tmp_path))
    assert [where for _, where, _ in found] == ["recipe:7", "recipe:8"]
    assert all("nowhere.jsonl" in what or "other.jsonl" in what for what, _, _ in found)


def test_a_ref_is_planned_from_the_store(folder, store):
    build(Recipe.parse(SMALL, folder), store)
    text = "name: next\ndata: [{ ref: small/pair }]\nbuild: [margin]\n"
    recipe = Recipe.parse(text, folder)
    assert plan(recipe, store).steps[1].level == "pair"
    build(recipe, store)
    assert states(recipe, store) == ["cached", "cached"]
    ((what, _, _),) = problems(recipe)
    assert "small/pair" in what
    ((what, _, hint),) = problems(Recipe.parse(text.replace("small", "smal"), folder), store)
    assert (what, hint) == ("no run is called 'smal'", "did you mean 'small'?")
