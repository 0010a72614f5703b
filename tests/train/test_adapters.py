"""LoRA: adapters alone are trained, the reference is the model without them, and both ways to open them agree."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from prefkit.engines import Model
from prefkit.errors import TrainError
from prefkit.train import TrainPlacement, TrainSettings, train


def settings(policy: Model, **kind: object) -> TrainSettings:
    lora = {"rank": 4, "alpha": 8.0}
    return TrainSettings(
        model=policy, **{"batch": 8, "learning_rate": 1e-2, "steps": 6, "lora": lora, **kind}
    )


def told(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_adapters_start_at_the_reference_and_learn(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    result = train(settings(policy), pairs, out=tmp_path)
    assert result.report.first_loss == pytest.approx(0.6931472, abs=1e-6)
    assert told(tmp_path)[-1]["loss"] < 0.68


def test_adapter_and_merged_model_open_and_say_the_same(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    train(settings(policy), pairs, out=tmp_path)
    ids = torch.arange(3, 19)[None]
    base = AutoModelForCausalLM.from_pretrained(policy.id)
    plain = base(ids).logits.log_softmax(-1)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "model")(ids).logits.log_softmax(-1)
    adapted = PeftModel.from_pretrained(base, tmp_path / "adapter")(ids).logits.log_softmax(-1)
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=0)
    assert (merged - plain).abs().max() > 1e-3


def test_frozen_weights_stay_as_they_were(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    train(settings(policy), pairs, out=tmp_path)
    before, after = (load_file(Path(at) / "model.safetensors") for at in (policy.id, tmp_path / "model"))
    still = [name for name in before if torch.equal(before[name], after[name])]
    moved = [name for name in before if name not in still]
    assert all("proj" in name for name in moved)
    assert len(moved) >= 7
    assert any("embed" in name for name in still)


def test_a_run_with_adapters_resumes_to_the_bit(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    whole = settings(policy)
    train(whole, pairs, out=tmp_path / "whole")
    seen = 0

    class StopError(Exception):
        """Somebody pulled the plug."""

    def stop(event: object) -> None:
        nonlocal seen
        seen += event.phase == "train"
        if seen == 4:
            raise StopError

    often = TrainPlacement(checkpoint_every=1)
    with pytest.raises(StopError):
        train(whole, pairs, out=tmp_path / "cut", placement=often, progress=stop)
    train(whole, pairs, out=tmp_path / "cut", placement=often)
    losses = [[line["loss"] for line in told(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]
    weights = [load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_terms_of_the_reference_need_no_second_model(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    objective = {"reward": "log-ratio", "extras": [{"token-kl": {"coefficient": 0.1}}]}
    train(settings(policy, objective=objective), pairs, out=tmp_path)
    assert told(tmp_path)[0]["loss"] == pytest.approx(0.6931472, abs=1e-5)  # the KL to itself is 0


def test_targets_that_match_nothing_are_refused(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no adapter fits") as raised:
        train(settings(policy, lora={"targets": ["nothing"]}), pairs, out=tmp_path)
    assert raised.value.where == "train: lora"


def test_metrics_go_to_tensorboard_too(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(settings(policy), pairs, out=tmp_path, placement=TrainPlacement(log_to="tensorboard"))
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    losses = [event.value for event in found.Scalars("loss")]
    assert losses == pytest.approx([line["loss"] for line in told(tmp_path)], abs=1e-6)


def test_a_missing_tracker_says_what_to_install(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="`--log-to trackio` needs its package") as raised:
        train(settings(policy), pairs, out=tmp_path, placement=TrainPlacement(log_to="trackio"))
    assert raised.value.hint == "pip install trackio"


def test_every_step_says_how_sure_the_policy_is(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    train(settings(policy), pairs, out=tmp_path)
    for line in told(tmp_path):
        assert 0 < line["top10_mass"] <= 1
        assert line["entropy"] > 0
        assert line["padding"] == 0
        assert line["memory_mib"] > 100
        assert line["tokens_per_second"] > 0
