"""Ablation: what is left out, what is not, what it reuses, and what it says."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from prefkit import build
from prefkit.comparing.several import holm
from prefkit.engines import Spend
from prefkit.errors import PrefkitError
from prefkit.experiment.ablate import (
    Ablation,
    Earned,
    ablation,
    build_variants,
    foretold,
    in_order,
    read_digest,
    render,
    save,
    variants,
)
from prefkit.experiment.markdown import interval
from prefkit.experiment.report import Figure
from prefkit.recipe import Recipe
from prefkit.run import Settings
from prefkit.store import Store

LABEL = "label: { ops: [{ flip: { rate: 0.5 } }] }"
SCORED = "score: { rule: length, at: pair }"


@pytest.fixture
def store(world: Path) -> Store:
    return Store(world / "runs")


def simple(kit, *arguments: object, **options: object) -> Recipe:
    """A recipe whose objective reads no reference log-probs, so that every stage may go."""
    return kit.recipe(*arguments, **{"train": kit.free, **options})


def by_step(found: Sequence) -> dict:
    return {each.step: each for each in found}


def test_each_stage_is_left_out_in_turn(world, store, kit):
    recipe = simple(kit, world, "whole", kit.split, LABEL, "order: { kind: shuffle }")
    found = variants(recipe, store)
    assert [each.step for each in found] == recipe.step_names()
    for each in found[1:]:
        assert each.recipe.name == f"whole.without-{each.step}"
        assert len(each.recipe.build) == 2
    assert [stage.name for stage in by_step(found)["02-label"].recipe.build] == ["split", "order"]


def test_split_and_reference_stay_unless_they_are_named(world, store, kit):
    recipe = simple(kit, world, "whole", kit.split, LABEL, "reference: { model: policy }")
    found = by_step(variants(recipe, store))
    assert (found["01-split"].recipe, found["03-reference"].recipe) == (None, None)
    assert "held out" in found["01-split"].why
    assert "changes no pair" in found["03-reference"].why
    named = variants(recipe, store, ["split", "03-reference"])
    assert [each.step for each in named] == ["01-split", "03-reference"]
    assert all(each.recipe is not None for each in named)


def test_a_stage_that_others_rest_on_is_named_with_the_reason(world, store, kit):
    recipe = simple(kit, world, "whole", SCORED, "margin", kit.split)
    found = by_step(variants(recipe, store))
    assert found["01-score"].recipe is None
    assert "the rest does not fit without it" in found["01-score"].why
    assert "score" in found["01-score"].why
    assert found["02-margin"].recipe is not None


def test_a_stage_that_makes_the_pairs_cannot_be_left_out(world, store, kit):
    (world / "responses.jsonl").write_text(
        "".join(f'{{"prompt": "Say {at}", "response": "{"hi" * n}"}}\n' for at in range(9) for n in (1, 2))
    )
    for train, why in (
        ("", "without it rows end as responses, and not as pairs"),
        (kit.free, "the rows after the last step are responses"),
    ):
        recipe = simple(
            kit,
            world,
            "made",
            "score: { rule: length }",
            "pair: { kind: best-worst }",
            data="responses.jsonl",
            train=train,
        )
        found = by_step(variants(recipe, store))
        assert found["02-pair"].recipe is None
        assert why in found["02-pair"].why


def test_a_misspelt_step_is_told_with_what_was_meant(world, store, kit):
    recipe = simple(kit, world, "whole", kit.split, LABEL)
    with pytest.raises(PrefkitError, match="no step 'lable'") as caught:
        variants(recipe, store, ["lable"])
    assert "label" in caught.value.hint
    assert store.runs() == []


def test_a_step_that_comes_twice_is_left_out_where_it_is_named(world, store, kit):
    recipe = simple(kit, world, "whole", LABEL, kit.split, LABEL)
    assert [each.step for each in variants(recipe, store, ["label"])] == ["01-label", "03-label"]
    assert [each.step for each in variants(recipe, store, ["03-label"])] == ["03-label"]


def test_what_the_whole_recipe_has_built_asks_no_model_again(world, store, kit):
    lines = (world / "pairs.jsonl").read_text().splitlines()[:4]
    asked = [json.dumps({"prompt": json.loads(line)["prompt"]}) + "\n" for line in lines]
    (world / "prompts.jsonl").write_text("".join(asked))
    stages = [
        "sample: { model: policy, n: 3, max_tokens: 6 }",
        "score: { rule: length }",
        "pair: { kind: all }",
    ]
    recipe = simple(kit, world, "whole", *stages, kit.split, LABEL, data="prompts.jsonl")
    build(recipe, store)
    assert store.resolve("whole/sample").made.calls == 12
    found = variants(recipe, store, ["label"])
    assert [step.state for step in found[0].plan.steps] == ["cached"] * 5
    spend = Spend()
    (made,) = build_variants(found, store, Settings(spend=spend))
    assert spend.snapshot() == Spend().snapshot(), "nothing was asked"
    assert store.resolve(f"{made.run}/sample").key == store.resolve("whole/sample").key
    told = ablation(recipe, store, variants(recipe, store, ["sample", "label"]), [made], None)
    assert [(each.step, each.calls) for each in told.stages] == [("01-sample", 12), ("05-label", 0)]


def test_a_gate_that_stops_a_variant_does_not_stop_the_ablation(world, store, kit):
    gate = "fail_if:\n  pairs: { above: 30 }\n"
    recipe = simple(kit, world, "gated", "mix: { total: 20 }", kit.split, train=kit.free + gate)
    build(recipe, store)
    found = variants(recipe, store, ["mix"])
    (made,) = build_variants(found, store, Settings())
    assert "pairs" in made.gates
    assert "\n" not in made.gates
    assert store.resolve(made.run).rows.kept == 40, "all of it is built"
    assert made.gates in render(ablation(recipe, store, found, [made], None))


def test_a_variant_without_a_pair_to_train_on_is_told(world, store, kit):
    recipe = simple(kit, world, "turned", "split: { test: 1.0 }", kit.split)
    build(recipe, store)
    found = variants(recipe, store, ["02-split"])
    (made,) = build_variants(found, store, Settings())
    assert "no pair to train on" in made.why
    told = ablation(recipe, store, found, [made], None)
    assert (told.stages[0].verdict, told.stages[0].words) == ("not tried", made.why)


def test_a_stage_without_which_rows_are_the_same_changes_nothing(world, store, kit):
    keep = "filter: { drop: [empty] }"
    recipe = simple(kit, world, "idle", keep, kit.split)
    build(recipe, store)
    found = variants(recipe, store, ["filter"])
    (made,) = build_variants(found, store, Settings())
    assert made.digest == read_digest(recipe, store)
    told = ablation(recipe, store, found, [made], None)
    assert told.stages[0].verdict == "changes nothing"
    assert (told.comparison, told.stages[0].earned) == ("", None)
    assert "changes nothing" in render(told)


def test_a_stage_that_writes_what_training_does_not_read_changes_nothing(world, store, kit):
    recipe = simple(kit, world, "unread", kit.split, SCORED)
    build(recipe, store)
    found = variants(recipe, store, ["score"])
    (made,) = build_variants(found, store, Settings())
    assert store.resolve(made.run).digest != store.resolve("unread").digest
    assert ablation(recipe, store, found, [made], None).stages[0].verdict == "changes nothing"


# what stages earned, of the comparison that stands


@pytest.fixture
def earned(finished, world, store, kit) -> Ablation:
    """The finished comparison, read as if its second dataset and its controls were variants."""
    recipe = simple(
        kit,
        world,
        "whole",
        kit.split,
        "mix: { total: 30 }",
        "label: { ops: [{ flip: { rate: 0.2 } }] }",
        kit.half,
    )
    build(recipe, store)
    found = variants(recipe, store, ["02-mix", "03-label", "04-label"])
    built = list(build_variants(found, store, Settings()))
    names = {
        each.run: arm
        for each, arm in zip(built, ["half", "clean (copy)", "clean (30% flipped)"], strict=True)
    }
    renamed = {arm: run for run, arm in names.items()}
    told = finished.report
    report = told.model_copy(
        update={
            "arms": [arm.model_copy(update={"name": renamed.get(arm.name, "whole")}) for arm in told.arms],
            "versus": [one.model_copy(update={"arm": renamed[one.arm]}) for one in told.versus],
        }
    )
    return ablation(recipe, store, found, built, report)


def test_what_a_stage_earned_is_the_whole_less_the_rest(finished, earned):
    for one, versus in zip(earned.stages, finished.report.versus, strict=True):
        assert one.earned.estimate == -versus.primary.estimate
        assert (one.earned.low, one.earned.high) == (-versus.primary.high, -versus.primary.low)
        assert one.verdict == {"better": "hurts", "worse": "helps"}.get(versus.verdict, versus.verdict)


def test_stages_share_the_error_by_holm(finished, earned):
    p = np.array([one.primary.p for one in finished.report.versus])
    assert [one.adjusted for one in earned.stages] == pytest.approx(list(holm(p)))


def test_a_table_tells_what_earned_most_first(earned, tmp_path):
    shown = in_order(earned)
    estimates = [one.earned.estimate for one in shown]
    assert estimates == sorted(estimates, reverse=True)
    text = render(earned)
    places = [text.index(f"| `{one.step}`") for one in shown]
    assert places == sorted(places)
    assert interval(shown[0].earned, "+") in text


def test_stages_that_were_not_measured_come_last():
    one = Earned(step="01-a", verdict="not tried", words="because")
    other = Earned(
        step="02-b", verdict="hurts", words="", earned=Figure(estimate=-3.0, method="x", seeds=1, prompts=2)
    )
    told = Ablation(recipe="r", primary="win_rate", pairs=1, comparison="c", stages=[one, other])
    assert [each.step for each in in_order(told)] == ["02-b", "01-a"]


def test_it_is_saved_as_it_is_read_again(earned, store):
    path = save(store, earned)
    assert path == store.root / "ablated" / "whole.json"
    again = Ablation.model_validate_json(path.read_bytes())
    assert (
        again.model_dump() == earned.model_dump(mode="json")
        or again.stages[0].earned == earned.stages[0].earned
    )
    assert path.with_suffix(".md").read_text() == render(again)


def test_what_training_would_take_is_said_before(world, store, kit):
    recipe: Recipe = simple(kit, world, "whole", kit.split, LABEL, "order: { kind: shuffle }")
    build(recipe, store)
    found = variants(recipe, store)
    planned = foretold(recipe, store, found)
    arms = 1 + 2 + 2  # the whole, two controls, two variants
    assert (planned.runs, planned.steps) == (arms * 2, arms * 2 * 2)
    assert planned.answers == (arms * 2 + 2) * 6 * 2
    assert not (store.root / "compared").exists()
