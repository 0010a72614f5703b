"""Evaluations on the way: a line for each, and a run that is the same run with and without them."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.engines import Model
from prefkit.train import TrainSettings, train

DRAWN = {"prompts": 2, "samples": 2, "max_tokens": 3, "score": {"rule": "length"}}


def settings(policy: Model, steps: int, every: int | None, **kind: object) -> TrainSettings:
    flat = {"schedule": "constant", "warmup": 0.0, "learning_rate": 1e-3, "batch": 4}
    return TrainSettings(model=policy, steps=steps, evaluate={**DRAWN, "every": every}, **{**flat, **kind})


def told(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "evaluations.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0}])
def test_an_evaluation_on_the_way_is_that_of_a_run_that_ends_there(
    policy: Model, pairs: pa.Table, tmp_path: Path, lora: object
) -> None:
    train(settings(policy, 5, 2, lora=lora), pairs, out=tmp_path / "long")
    short = train(settings(policy, 2, None, lora=lora), pairs, out=tmp_path / "short").report
    found = told(tmp_path / "long")
    assert [line["step"] for line in found] == [2, 4]
    assert short.held_out is not None
    for name in ("loss", "accuracy", "reward_margin"):
        assert found[0][name] == getattr(short.held_out, name).after.mean, name
    assert short.samples is not None
    assert short.samples.score is not None
    assert found[0]["score"] == pytest.approx(short.samples.score.after.mean)
    assert found[0]["loss"] != found[1]["loss"]


def test_evaluations_on_the_way_change_nothing(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    reports = [
        train(settings(policy, 4, every), pairs, out=tmp_path / str(every)).report for every in (1, None)
    ]
    assert [line["step"] for line in told(tmp_path / "1")] == [1, 2, 3]
    assert not (tmp_path / "None" / "evaluations.jsonl").exists()
    left = [{path.name for path in (tmp_path / name).iterdir()} for name in ("1", "None")]
    assert left[0] - left[1] == {"evaluations.jsonl"}
    for field in ("held_out", "samples", "curve", "steps", "first_loss", "last_loss"):
        assert getattr(reports[0], field) == getattr(reports[1], field), field
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("1", "None")]
    assert weights[0] == weights[1]
