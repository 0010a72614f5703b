import json
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import pytest

from prefkit.columns import types
from prefkit.engines import Engines, Failure, Message, Model, Request
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.placement import Placement
from prefkit.engines.spend import Price, Spend
from prefkit.engines.weights import identity
from prefkit.keys import stage_key
from prefkit.parts import Task, make_part
from prefkit.plan import plan
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.sources import Source
from prefkit.stage import PROMPTS, Context, Cost, Flow, Kind, Stage
from prefkit.stages.sample import Sample
from prefkit.store import Store

POLICY, OTHER = Model(id="org/policy"), Model(id="org/other")
PRICES = {"org/policy": Price(Decimal(1), Decimal(2))}
ROWS = 40


class Both(Stage):
    """Asks two models, and does not get on with failures."""

    name: ClassVar[str] = "both"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PROMPTS

    first: Model = POLICY
    second: Model = OTHER

    def reads(self):
        return types("prompt")

    def writes(self):
        return types("source")

    def cost(self):
        return Cost(calls=2, tokens_out=200)

    def apply(self, table, ctx: Context):
        asked = [Request((Message("user", "x" * 40),), 100)]
        assert not isinstance(ctx.engines.generate(self.first, asked)[0], Failure)
        return table


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    rows = "".join(json.dumps({"prompt": f"prompt {at:04d} " * 4}) + "\n" for at in range(ROWS))
    (tmp_path / "prompts.jsonl").write_text(rows)
    return recipe_of(tmp_path, Sample(model=POLICY, n=2, max_tokens=10))


def recipe_of(folder: Path, *stages: Stage) -> Recipe:
    models = {"policy": POLICY, "other": OTHER}
    return Recipe(
        name="small", models=models, data=(Source(file="prompts.jsonl"),), build=stages, folder=folder
    )


def remember(store: Store, recipe: Recipe, rows: int) -> None:
    """Fill the memo with the real model's answers to the first prompts, as a build that was stopped leaves it."""
    spend = Spend()
    engine = Remembering(FakeEngine(), Memo(store.root / "memo.sqlite"), spend, identity)
    table = build(recipe, store, Settings(until="00-data")).table.slice(0, rows)
    recipe.build[0](table, Context(seed=recipe.seed, engines=Engines({"org/policy": engine}, spend)))


def test_before_anything_is_built_prompts_are_weighed_in_the_file(recipe, store):
    step = plan(recipe, store, PRICES).steps[1]
    size = len("prompt 0000 " * 4)
    assert (step.calls, step.tokens, step.tokens_in) == (80, 800, 80 * size // 4)
    assert step.dollars == Decimal(step.tokens_in + 2 * step.tokens) / 1_000_000
    assert (step.remembered, step.seconds) == (None, None)
    assert step.basis == (
        "remembered answers are not looked up, and may make it less",
        "prompts as in 40 rows, at 4 bytes a token, answers as long as they may be",
    )
    assert not store.root.exists()


def test_remembered_answers_are_free_and_say_how_long_answers_are(recipe, store):
    remember(store, recipe, 10)
    step = plan(recipe, store, PRICES).steps[1]
    assert (step.calls, step.remembered) == (60, 20)
    assert 60 * 2 <= step.tokens < 600
    assert step.tokens_in == 60 * 8  # the fake engine counts words
    assert step.basis == (
        "remembered answers as for 40 rows spread over the input",
        "tokens as in the answers that are remembered",
    )


def test_rows_are_tried_all_over_the_input(recipe, store, tmp_path):
    rows = "".join(json.dumps({"prompt": f"prompt {at:04d}"}) + "\n" for at in range(4000))
    (tmp_path / "prompts.jsonl").write_text(rows)
    recipe = recipe_of(tmp_path, Sample(model=POLICY, n=1, max_tokens=10))
    remember(store, recipe, 1000)
    step = plan(recipe, store, PRICES).steps[1]
    assert step.remembered == pytest.approx(1000, abs=20)
    assert step.calls + step.remembered == 4000


def test_what_an_earlier_build_took_is_the_measure(recipe, store, tmp_path):
    build(recipe, store, Settings(Placement(engines={"policy": "fake"})))
    took = store.resolve("small/sample").made.models["org/policy"]
    more = recipe_of(tmp_path, Sample(model=POLICY, n=4, max_tokens=10))
    step = plan(more, store, PRICES).steps[1]
    assert step.calls == 160
    assert step.tokens == round(160 * took.tokens_out / 80)
    assert step.tokens_in == 160 * 8
    assert step.seconds == pytest.approx(160 * took.seconds / 80)
    assert step.basis[1:] == ("tokens as measured in run 'small'", "time as measured in run 'small'")


def test_parts_that_stand_cost_nothing(recipe, store):
    few = Settings(Placement(engines={}), shard_rows=10, until="00-data")
    manifest = build(recipe, store, few).last
    assert len(manifest.shards) == 4
    stage, shard = recipe.build[0], manifest.shards[0]
    task = Task(stage_key(stage, recipe.seed, [shard.digest]), (shard,))
    make_part(stage, task, store, Engines({"org/policy": FakeEngine()}), recipe.seed, 10)
    step = plan(recipe, store, PRICES).steps[1]
    assert (step.calls, step.tokens, step.rows) == (60, 600, 80)


def test_a_stage_that_cannot_be_tried_is_estimated_from_what_it_declares(recipe, store, tmp_path):
    step = plan(recipe_of(tmp_path, Both()), store, PRICES).steps[1]
    assert (step.calls, step.tokens, step.tokens_in, step.dollars) == (80, 8000, None, None)
    assert step.basis[1] == "how long prompts are is not known yet, answers as long as they may be"


def test_without_prices_asked_for_nothing_is_tried(recipe, store):
    step = plan(recipe, store).steps[1]
    assert (step.calls, step.tokens, step.tokens_in, step.basis) == (80, 800, None, ())
    without = plan(recipe, store, {}).steps[1]
    assert without.tokens_in is not None
    assert without.dollars is None
