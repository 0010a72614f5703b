"""Arms: what may be one, their controls, and prompts that no arm was trained on."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from prefkit import build
from prefkit.columns import COLUMNS
from prefkit.engines import Engines
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.errors import DataError, StoreError
from prefkit.experiment.arms import (
    Arm,
    HeldOut,
    controls,
    held_out,
    open_arms,
    subsampled,
    with_reference,
)
from prefkit.experiment.settings import CompareSettings
from prefkit.sources import Source
from prefkit.store import Store
from prefkit.train.settings import TrainSettings

SETTINGS = CompareSettings()
LONG = "please write to anna and ask her for seven red cups and twelve blue pens by friday at noon"


@pytest.fixture
def store(world: Path, kit) -> Store:
    store = Store(world / "runs")
    for name, stages in (("clean", [kit.split]), ("half", [kit.split, kit.half])):
        build(kit.recipe(world, name, *stages), store)
    return store


def pairs(*prompts: str, split: str = "train", first: int = 0) -> pa.Table:
    """One pair a prompt, whose id is its number."""
    rows = [
        {
            "id": f"pair{at}",
            "prompt_id": f"prompt{at}",
            "prompt": [{"role": "user", "content": text}],
            "chosen": [{"role": "assistant", "content": "yes"}],
            "rejected": [{"role": "assistant", "content": "no"}],
            "split": split,
        }
        for at, text in enumerate(prompts, start=first)
    ]
    names = ("id", "prompt_id", "prompt", "chosen", "rejected", "split")
    return pa.Table.from_pylist(rows, pa.schema([(name, COLUMNS[name].type) for name in names]))


def arm(name: str, train: pa.Table, test: pa.Table) -> Arm:
    return Arm(name, name, name, train, test)


def looked_for(store: Store, *arms: Arm, **settings: object) -> HeldOut:
    return held_out(arms, CompareSettings.model_validate(settings), store.root.parent, store)


# what may be an arm


def test_arms_are_runs_or_steps_of_them(store):
    arms = open_arms(store, ["clean", "half/split"])
    assert [(one.name, one.ref, one.control) for one in arms] == [
        ("clean", "clean", ""),
        ("half/split", "half/split", ""),
    ]
    for one in arms:
        assert one.train.num_rows + one.test.num_rows == 40
        assert set(one.test["split"].to_pylist()) == {"test"}


def test_rows_that_are_no_pairs_cannot_be_an_arm(world, store, kit):
    rows = [{"prompt": "Say hi", "response": "hi"}]
    (world / "responses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build(
        kit.recipe(world, "answers", "score: { rule: length }", data="responses.jsonl", train="", compare=""),
        store,
    )
    with pytest.raises(DataError, match="'answers' has response rows, and arms are pairs") as caught:
        open_arms(store, ["clean", "answers"])
    assert "answers/pair" in caught.value.hint


def test_an_arm_has_pairs_to_train_on(world, store, kit):
    build(kit.recipe(world, "nothing", "split: { test: 1.0 }"), store)
    with pytest.raises(DataError, match="'nothing' has no pair to train on"):
        open_arms(store, ["clean", "nothing"])


def test_an_unknown_run_is_told(store):
    with pytest.raises(StoreError, match="nowhere"):
        open_arms(store, ["clean", "nowhere"])


def test_the_same_rows_once_more_are_trained_with_other_seeds(store):
    arms = open_arms(store, ["clean", "clean", "clean/split", "half"])
    assert [one.other_seeds for one in arms] == [False, True, True, False]
    assert len({one.name for one in arms}) == 4
    assert [one.seed(3) for one in arms][0::3] == [3, 3]
    assert arms[1].seed(3) > 100


# controls


def test_a_copy_is_the_first_arm_with_other_seeds(store):
    (first,) = open_arms(store, ["clean"])
    copy, _ = controls(first, SETTINGS, 0)
    assert copy.train.equals(first.train)
    assert (copy.control, copy.ref, copy.test.num_rows) == ("copy", "", 0)
    assert copy.seed(0) != first.seed(0)


@pytest.mark.parametrize("rate", [0.1, 0.3, 1.0])
def test_flip_turns_the_share_that_was_asked_for(rate):
    many = 4000
    texts = pa.array(
        [[{"role": "assistant", "content": f"{side}{at}"}] for side in "cr" for at in range(many)],
        COLUMNS["chosen"].type,
    )
    ids = [f"pair{at}" for at in range(many)]
    train = pa.table(
        {
            "id": ids,
            "prompt_id": ids,
            "chosen": texts.slice(0, many),
            "rejected": texts.slice(many),
            "p_chosen": np.full(many, 0.9),
            "ref_chosen_logp": np.arange(many) + 0.25,
            "ref_rejected_logp": -np.arange(many) - 0.5,
            "ref_fingerprint": ["x"] * many,
        }
    )
    settings = CompareSettings(controls=("flip",), flip_rate=rate)
    (flip,) = controls(arm("a", train, train.slice(0, 0)), settings, 5)
    assert flip.name == f"a ({rate:.0%} flipped)"
    turned = np.array([said[0]["content"][0] == "r" for said in flip.train["chosen"].to_pylist()])
    assert turned.mean() == pytest.approx(rate, abs=0.02)
    assert flip.train["flipped"].to_pylist() == turned.tolist()
    at = np.arange(many)
    np.testing.assert_array_equal(flip.train["ref_chosen_logp"], np.where(turned, -at - 0.5, at + 0.25))
    np.testing.assert_array_equal(flip.train["ref_rejected_logp"], np.where(turned, at + 0.25, -at - 0.5))
    assert set(flip.train["p_chosen"].to_pylist()) == {0.9}, "the label stands, and is now wrong"
    assert flip.seed(2) == 2, "other rows need no other seeds"
    again = next(controls(arm("a", train, train.slice(0, 0)), settings, 5))
    assert again.digest == flip.digest


def test_controls_that_are_not_wanted_are_not_made(store):
    (first,) = open_arms(store, ["clean"])
    assert list(controls(first, CompareSettings(controls=()), 0)) == []


# reference log-probs


@pytest.fixture(scope="module")
def local() -> Engines:
    return Engines({"prefkit/toy-policy": TransformersEngine("cpu")})


def test_missing_reference_log_probs_are_computed_and_those_of_another_model_replaced(store, local):
    train = TrainSettings.model_validate({"model": {"id": "prefkit/toy-policy"}})
    (first,) = open_arms(store, ["clean"])
    first = first._replace(train=first.train.slice(0, 3))
    meant = local.fingerprint(train.model)
    made = with_reference(first, train, local, meant)
    assert made.train["ref_fingerprint"].to_pylist() == [meant] * 3
    assert all(value < 0 for value in made.train["ref_chosen_logp"].to_pylist())
    assert with_reference(made, train, Engines({}), meant) is made, "what stands is not asked for again"
    stale = made._replace(
        train=made.train.set_column(
            made.train.column_names.index("ref_fingerprint"), "ref_fingerprint", pa.array(["other"] * 3)
        )
    )
    assert with_reference(stale, train, local, meant).train.equals(made.train)


def test_an_objective_without_a_reference_needs_none(store):
    train = TrainSettings.model_validate({"model": {"id": "prefkit/toy-policy"}, "objective": "simpo"})
    (first,) = open_arms(store, ["clean"])
    assert with_reference(first, train, Engines({}), None) is first


# prompts


def test_prompts_of_the_test_splits_are_measured_on_once_each(store):
    arms = open_arms(store, ["clean", "half"])
    found = held_out(arms, SETTINGS, store.root.parent, store)
    held = set(arms[0].test["prompt_id"].to_pylist())
    assert found.prompts["prompt_id"].to_pylist() == [*dict.fromkeys(arms[0].test["prompt_id"].to_pylist())]
    assert set(found.prompts["id"].to_pylist()) == held
    assert found.removed == {}
    assert {name: table.num_rows for name, table in found.pairs.items()} == {
        one.name: one.test.num_rows for one in arms
    }


def test_a_prompt_that_any_arm_was_trained_on_is_taken_out_and_counted(store):
    one = arm("a", pairs("x one"), pairs("y two", "y three", "y four", split="test", first=10))
    other = arm("b", pairs("y three", first=11), pairs("z five", split="test", first=20))
    found = looked_for(store, one, other)
    assert found.prompts["prompt_id"].to_pylist() == ["prompt10", "prompt12", "prompt20"]
    assert found.removed == {"trained on in an arm": 1}
    assert found.pairs["a"]["prompt_id"].to_pylist() == ["prompt10", "prompt12"]
    assert found.pairs["b"]["prompt_id"].to_pylist() == ["prompt20"]


def test_a_near_copy_is_taken_out_too_with_its_pairs(store):
    near = f"{LONG.upper()}!!"
    one = arm("a", pairs(LONG), pairs("say one", near, "say two", split="test", first=10))
    found = looked_for(store, one)
    assert found.prompts["prompt_id"].to_pylist() == ["prompt10", "prompt12"]
    assert found.removed == {"nearly trained on in an arm": 1}
    assert found.pairs["a"]["prompt_id"].to_pylist() == ["prompt10", "prompt12"]


def test_thirteen_words_in_a_row_make_a_near_copy_and_fewer_do_not(store):
    words = LONG.split()
    shares_13 = " ".join([*words[:13], "today"])
    shares_12 = " ".join([*words[:12], "today", "or", "later"])
    shares_few = " ".join([*words[:13], *(f"other{at}" for at in range(9))])
    rest = pairs("say one", "say two", shares_13, shares_12, shares_few, split="test", first=10)
    found = looked_for(store, arm("a", pairs(LONG), rest))
    assert found.prompts["prompt_id"].to_pylist() == ["prompt10", "prompt11", "prompt13", "prompt14"]


def test_more_prompts_than_asked_for_are_left_out_in_their_order(store):
    rest = pairs("say one", "say two", "say three", split="test", first=10)
    found = looked_for(store, arm("a", pairs("x"), rest), prompts=2, pairs=1)
    assert found.prompts["prompt_id"].to_pylist() == ["prompt10", "prompt11"]
    assert found.removed == {"more than asked for": 1}
    assert found.pairs["a"].num_rows == 1


def test_too_few_prompts_are_a_clear_error_with_a_way_out(store):
    one = arm("a", pairs("x", "y two"), pairs("y two", "y three", split="test", first=1))
    with pytest.raises(DataError, match="1 prompts are left to measure on: 2 were held out") as caught:
        looked_for(store, one._replace(test=one.test.slice(0)))
    assert "compare: { data:" in caught.value.hint
    assert "split" in caught.value.hint


def test_prompts_may_come_from_a_file(world, store):
    asked = [f"Question {at}" for at in range(4)]
    (world / "ask.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in asked))
    arms = open_arms(store, ["clean", "half"])
    found = held_out(arms, CompareSettings(data=(Source(file="ask.jsonl"),), prompts=3), world, store)
    assert [row[-1]["content"] for row in found.prompts["prompt"].to_pylist()] == asked[:3]
    assert set(found.pairs) == {"clean", "half"}, "held-out pairs are those of the arms as before"


def test_prompts_of_a_file_that_were_trained_on_are_taken_out(world, store, kit):
    trained = pl.from_arrow(store.table(store.resolve("clean"))).filter(split="train").height
    kit.write_pairs(world / "more.jsonl", 50)
    lines = (world / "more.jsonl").read_text().splitlines()
    (world / "ask.jsonl").write_text(
        "".join(json.dumps({"prompt": json.loads(line)["prompt"]}) + "\n" for line in lines)
    )
    arms = open_arms(store, ["clean", "half"])
    found = held_out(arms, CompareSettings(data=(Source(file="ask.jsonl"),)), world, store)
    assert found.prompts.num_rows + sum(found.removed.values()) == 50
    assert found.removed["trained on in an arm"] == trained


def test_a_subsample_is_whole_prompts_and_the_same_ones_in_every_arm(pairs):
    rows = pa.concat_tables(
        [pairs.set_column(1, "prompt_id", pa.array([f"{part}-{at}" for at in "ppq"])) for part in range(200)]
    )
    half = subsampled(rows, 0.5, seed=3)
    other = subsampled(rows.slice(300), 0.5, seed=3)
    seen = set(half["prompt_id"].to_pylist())
    assert 0.35 < len(seen) / 400 < 0.65
    assert half.num_rows == sum(prompt in seen for prompt in rows["prompt_id"].to_pylist())
    assert set(other["prompt_id"].to_pylist()) == seen & set(rows.slice(300)["prompt_id"].to_pylist())
    assert set(subsampled(rows, 0.5, seed=4)["prompt_id"].to_pylist()) != seen
