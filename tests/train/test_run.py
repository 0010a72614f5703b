"""A whole run: resumed to the bit, refused where it would be wrong, and a report of what happened."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefkit.engines import Model
from prefkit.errors import TrainError
from prefkit.train import TrainPlacement, TrainSettings, train
from prefkit.train.run import Event


def settings(policy: Model, **kind: object) -> TrainSettings:
    return TrainSettings(model=policy, **{"epochs": 4.0, "batch": 8, "learning_rate": 1e-3, **kind})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_learns_reports_and_saves_a_model_that_opens(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    seen: list[Event] = []
    result = train(settings(policy), pairs, out=tmp_path / "run", progress=seen.append)
    assert result.report.first_loss == pytest.approx(0.693147, abs=1e-5)
    assert result.report.last_loss < 0.6
    assert result.report.steps == 8 == len(losses(tmp_path / "run"))
    assert result.report.pairs == 16
    held_out = result.report.held_out
    assert held_out is not None
    assert held_out.pairs == 8
    assert held_out.accuracy.before.mean == 0.5
    assert [event.phase for event in seen][:3] == ["prepare", "evaluate before", "train"]
    assert "reward accuracy" in (tmp_path / "run" / "report.md").read_text()
    assert not (tmp_path / "run" / "checkpoint").exists()
    reopened = AutoModelForCausalLM.from_pretrained(result.model.id)
    assert AutoTokenizer.from_pretrained(result.model.id).chat_template
    original = AutoModelForCausalLM.from_pretrained(policy.id)
    moved = [not torch.equal(a, b) for a, b in zip(reopened.parameters(), original.parameters(), strict=True)]
    assert all(moved)


class Killed(Exception):
    pass


@pytest.mark.parametrize("moment", [3, 4, 7])
def test_a_killed_run_goes_on_with_the_same_losses_to_the_bit(
    policy: Model, pairs: pa.Table, tmp_path: Path, moment: int
) -> None:
    whole = train(settings(policy), pairs, out=tmp_path / "whole")

    def kill(event: Event) -> None:
        if event.phase == "train" and event.done == moment:
            raise Killed

    often = TrainPlacement(checkpoint_every=2)
    with pytest.raises(Killed):
        train(settings(policy), pairs, out=tmp_path / "cut", placement=often, progress=kill)
    resumed = train(settings(policy), pairs, out=tmp_path / "cut", placement=often)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert resumed.report.held_out == whole.report.held_out
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert weights[0] == weights[1]


def test_the_same_run_again_trains_nothing_and_another_is_refused(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    first = train(settings(policy), pairs, out=tmp_path)
    seen: list[Event] = []
    assert train(settings(policy), pairs, out=tmp_path, progress=seen.append) == first
    assert not seen
    with pytest.raises(TrainError, match="holds another run"):
        train(settings(policy, seed=1), pairs, out=tmp_path)


def test_an_objective_without_a_reference_needs_no_reference_columns(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    bare = pairs.drop_columns(["ref_chosen_logp", "ref_rejected_logp", "ref_fingerprint"])
    result = train(settings(policy, objective="simpo", epochs=1.0), bare, out=tmp_path / "free")
    assert result.report.steps == 2
    with pytest.raises(TrainError, match="reads column 'ref_chosen_logp'") as raised:
        train(settings(policy), bare, out=tmp_path / "dpo")
    assert "reference" in raised.value.hint


def test_reference_log_probs_of_another_model_are_refused(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    at = pairs.schema.get_field_index("ref_fingerprint")
    other = pairs.set_column(at, "ref_fingerprint", pa.array(["0" * 32] * pairs.num_rows))
    with pytest.raises(TrainError, match="the reference log-probs come from") as raised:
        train(settings(policy), other, out=tmp_path)
    assert raised.value.where == "column 'ref_fingerprint'"


@pytest.mark.parametrize("side", ["prompt", "response"])
def test_cut_pairs_are_counted_and_held_against_a_reference_that_saw_them_cut(
    side: str, policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    result = train(settings(policy, max_length=20, truncate=side), pairs, out=tmp_path / "cut")
    assert result.report.notes[f"truncated/{side}"] > 0
    assert result.report.first_loss == pytest.approx(0.693147, abs=1e-5)
    dropped = train(settings(policy, max_length=25), pairs, out=tmp_path / "dropped")
    assert dropped.report.notes["dropped/too-long"] + dropped.report.pairs == 16


def test_a_dataset_without_rows_is_refused(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="has no rows"):
        train(settings(policy), pairs.slice(0, 0), out=tmp_path / "run")


@pytest.mark.parametrize(("column", "value"), [("route", "sft"), ("pair_kind", "prompt")])
def test_rows_that_are_meant_for_something_else_are_refused(
    policy: Model, pairs: pa.Table, tmp_path: Path, column: str, value: str
) -> None:
    marked = pairs.append_column(column, pa.array([None] * (pairs.num_rows - 1) + [value], pa.string()))
    with pytest.raises(TrainError, match=f"1 of {pairs.num_rows} rows have {column} '{value}'"):
        train(TrainSettings(model=policy), marked, out=tmp_path / "out")


def test_a_table_without_a_usable_pair_is_refused(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no pair is left"):
        train(settings(policy, max_length=3), pairs, out=tmp_path)


def test_fresh_samples_are_drawn_and_rated_before_and_after(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    evaluate = {"prompts": 3, "samples": 2, "max_tokens": 8, "score": {"rule": "length"}}
    result = train(settings(policy, evaluate=evaluate), pairs, out=tmp_path)
    samples = result.report.samples
    assert samples is not None
    assert samples.prompts == 3
    assert samples.score is not None
    assert samples.score.difference.prompts == 3
    assert samples.score.difference.mean == pytest.approx(
        samples.score.after.mean - samples.score.before.mean
    )
    assert samples.kl_k3.mean > 0
    assert samples.failed == {"before": 0, "after": 0}
    assert "Fresh samples (3 held-out prompts, 2 each" in (tmp_path / "report.md").read_text()


def test_an_untrained_policy_has_no_distance_to_its_reference(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    evaluate = {"prompts": 2, "samples": 2, "max_tokens": 8}
    result = train(settings(policy, evaluate=evaluate, steps=1, learning_rate=1e-12), pairs, out=tmp_path)
    samples = result.report.samples
    assert samples is not None
    assert samples.score is None
    assert samples.kl.mean == pytest.approx(0, abs=1e-4)
    assert samples.kl_k3.mean == pytest.approx(0, abs=1e-6)
    assert samples.chars.difference.mean == 0


def test_samples_cannot_be_rated_by_ratings_they_do_not_have(policy: Model) -> None:
    with pytest.raises(ValidationError, match="rate them by a model or a rule"):
        settings(policy, evaluate={"score": {"ratings": "mean"}})


# torch warns of itself on the way to the compiler.
@pytest.mark.parametrize(
    "how",
    ["recompute", pytest.param("compile", marks=[pytest.mark.slow, pytest.mark.filterwarnings("default")])],
)
def test_where_and_how_fast_changes_no_loss(policy: Model, pairs: pa.Table, tmp_path: Path, how: str) -> None:
    train(settings(policy), pairs, out=tmp_path / "plain")
    train(settings(policy), pairs, out=tmp_path / how, placement=TrainPlacement(**{how: True}))
    assert losses(tmp_path / how) == pytest.approx(losses(tmp_path / "plain"), abs=1e-5)


def test_bfloat16_activations_follow_float32(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    train(settings(policy), pairs, out=tmp_path / "plain")
    train(settings(policy), pairs, out=tmp_path / "half", placement=TrainPlacement(dtype="bfloat16"))
    plain, half = losses(tmp_path / "plain"), losses(tmp_path / "half")
    assert half == pytest.approx(plain, abs=0.05)
    assert half != plain
