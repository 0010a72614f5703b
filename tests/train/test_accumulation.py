"""A step has one gradient, however it is cut into micro-batches: also where rows depend on each other or on the past."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from prefkit.engines import Model
from prefkit.train import TrainPlacement, TrainSettings, train
from prefkit.train.run import Event

OBJECTIVES: dict[str, object] = {
    "dpo": "dpo",
    "weight": "weighted-dpo",
    "kl-robust": {"preset": "kldpo", "tau": 0.5},
    "soft-min": {"preset": "dr-dpo"},
    "gradient penalty": "wdpo",
    "lambda-rank": "lipo",
    "annotators": "lcpo",
    "sft beside it": "rpo",
}


@pytest.fixture(scope="module")
def lists(pairs: pa.Table) -> pa.Table:
    """Two pairs a prompt that share a response, scored, weighed and annotated, against a reference that is not the policy."""
    draw, rows = np.random.default_rng(0), pairs.to_pylist()
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        other["rejected"], other["ref_rejected_logp"] = one["rejected"], one["ref_rejected_logp"]
        scores = np.sort(draw.random(3)).tolist()
        one["rejected_score"] = other["rejected_score"] = scores[0]
        one["chosen_score"], other["chosen_score"] = scores[1], scores[2]
        one["annotator"], other["annotator"] = draw.choice(["a", "b", "c"], size=2).tolist()
        one["weight"], other["weight"] = draw.uniform(0.2, 1.8, size=2).tolist()
    for row in rows:
        row["ref_chosen_logp"] += 3 * draw.normal()
    more = [(name, pa.float64()) for name in ("rejected_score", "chosen_score", "weight")]
    schema = pa.schema(
        [*pairs.schema, *(pa.field(*each) for each in more), pa.field("annotator", pa.string())]
    )
    return pa.Table.from_pylist(rows, schema)


def last_gradient(
    asked: TrainSettings, pairs: pa.Table, out: Path, micro_tokens: int
) -> dict[str, torch.Tensor]:
    """Train, and return the gradient of the last step: what AdamW remembers of it without a first moment's memory."""
    found: dict[str, torch.Tensor] = {}

    def keep(event: Event) -> None:
        if event.phase == "evaluate after":
            moments = load_file(out / "checkpoint" / "optimizer.safetensors")
            found.update({name: value for name, value in moments.items() if name.startswith("exp_avg/")})
            found["reliability"] = torch.from_numpy(
                load_arrays(out / "checkpoint" / "state.safetensors")["reliability"]
            )

    train(asked, pairs, out=out, placement=TrainPlacement(micro_tokens=micro_tokens), progress=keep)
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
def test_many_micro_batches_have_the_gradient_of_one(
    policy: Model, lists: pa.Table, tmp_path: Path, name: str
) -> None:
    asked = TrainSettings(
        model=policy,
        objective=OBJECTIVES[name],
        steps=1,
        batch=16,
        learning_rate=1e-4,
        betas=(0.0, 0.98),
        max_grad_norm=None,
    )
    whole = last_gradient(asked, lists, tmp_path / "whole", 100_000)
    cut = last_gradient(asked, lists, tmp_path / "cut", 30)
    assert whole.keys() == cut.keys()
    assert max(float(value.abs().max()) for value in whole.values()) > 1e-3
    for weight, value in whole.items():
        torch.testing.assert_close(cut[weight], value, atol=1e-6, rtol=1e-3, msg=weight)


def test_what_the_annotators_are_believed_does_not_depend_on_the_cut(
    policy: Model, lists: pa.Table, tmp_path: Path
) -> None:
    asked = TrainSettings(model=policy, objective="lcpo", steps=4, batch=5, learning_rate=1e-4)
    whole = last_gradient(asked, lists, tmp_path / "whole", 100_000)["reliability"]
    cut = last_gradient(asked, lists, tmp_path / "cut", 30)["reliability"]
    assert len(set(whole.tolist()) - {0.9}) == 3
    torch.testing.assert_close(cut, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("done", [2, 3])
def test_what_the_annotators_are_believed_outlives_a_kill(
    policy: Model, lists: pa.Table, tmp_path: Path, warmup: int, done: int
) -> None:
    objective = {"preset": "lcpo", "warmup": warmup, "momentum": 0.2}
    asked = TrainSettings(model=policy, objective=objective, steps=5, batch=5, learning_rate=1e-3)
    believed: dict[str, list[float]] = {}

    def watch(name: str, stop: int = 0) -> Callable[[Event], None]:
        def watched(event: Event) -> None:
            if event.phase == "train" and event.done == stop:
                raise KeyboardInterrupt
            if event.phase == "evaluate after":
                state = load_arrays(tmp_path / name / "checkpoint" / "state.safetensors")
                believed[name] = state["reliability"].tolist()

        return watched

    often = TrainPlacement(checkpoint_every=1)
    train(asked, lists, out=tmp_path / "whole", progress=watch("whole"))
    with pytest.raises(KeyboardInterrupt):
        train(asked, lists, out=tmp_path / "cut", placement=often, progress=watch("cut", done))
    train(asked, lists, out=tmp_path / "cut", placement=often, progress=watch("cut"))
    assert believed["cut"] == believed["whole"]
    assert len(set(believed["whole"])) == 3
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("cut", "whole")
    ]
    assert losses[0] == losses[1]
