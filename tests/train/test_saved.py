"""The saved model: what was trained, in float32 whatever it was stored in, and open to anyone who knows transformers."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from prefkit.engines import Model
from prefkit.train import TrainPlacement, TrainSettings, train
from prefkit.train.run import Event


def stored(policy: Model, folder: Path, *, tied: bool, dtype: torch.dtype) -> Model:
    """Return a copy of the policy, as somebody else may have stored it."""
    network = AutoModelForCausalLM.from_pretrained(policy.id)
    if not tied:
        network.config.tie_word_embeddings = False
        network.lm_head.weight = torch.nn.Parameter(network.lm_head.weight.detach().clone() * 1.5)
    network.to(dtype).save_pretrained(folder)
    AutoTokenizer.from_pretrained(policy.id).save_pretrained(folder)
    return Model(id=str(folder))


def settings(model: Model, **kind: object) -> TrainSettings:
    return TrainSettings(
        model=model, objective="simpo", **{"steps": 3, "batch": 4, "learning_rate": 1e-3, **kind}
    )


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0}])
def test_what_was_trained_is_what_opens(
    policy: Model, pairs: pa.Table, tmp_path: Path, tied: bool, lora: object
) -> None:
    start, held = stored(policy, tmp_path / "start", tied=tied, dtype=torch.bfloat16), {}

    def keep(event: Event) -> None:
        if event.phase == "evaluate after":
            held.update(load_file(tmp_path / "run" / "checkpoint" / "weights.safetensors"))

    done = train(settings(start, lora=lora), pairs, out=tmp_path / "run", progress=keep)
    opened = AutoModelForCausalLM.from_pretrained(done.model.id)
    assert {weight.dtype for weight in opened.parameters()} == {torch.float32}
    assert opened.config.tie_word_embeddings is tied
    assert (opened.lm_head.weight is opened.model.embed_tokens.weight) is tied
    named = dict(opened.named_parameters())
    assert ("lm_head.weight" in named) is not tied
    before = dict(AutoModelForCausalLM.from_pretrained(start.id, dtype="float32").named_parameters())
    moved = [name for name, weight in named.items() if not torch.equal(weight, before[name])]
    if lora is None:
        assert set(moved) == set(named) == set(held)
        assert all(torch.equal(weight, held[name]) for name, weight in named.items())
    else:
        assert moved
        assert all("proj" in name for name in moved)


def test_steps_too_small_for_bfloat16_are_kept(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    start = stored(policy, tmp_path / "start", tied=True, dtype=torch.bfloat16)
    done = train(settings(start, learning_rate=1e-7), pairs, out=tmp_path / "run")
    before = AutoModelForCausalLM.from_pretrained(start.id).model.layers[0].mlp.up_proj.weight
    after = AutoModelForCausalLM.from_pretrained(done.model.id).model.layers[0].mlp.up_proj.weight
    assert before.dtype == torch.bfloat16
    steps = (after - before.float()).abs()
    assert 1e-8 < steps.median() < 1e-6
    assert (after.bfloat16() == before).float().mean() > 0.99


def test_the_saved_folder_answers_a_chat(
    policy: Model, pairs: pa.Table, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    done = train(settings(policy), pairs, out=tmp_path)
    network, opened = (kind.from_pretrained(done.model.id) for kind in (AutoModelForCausalLM, AutoTokenizer))
    asked = [{"role": "user", "content": "seven red pens please"}]
    ids = opened.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt")
    assert ids["input_ids"].tolist() == before["input_ids"].tolist()
    said = network.generate(**ids, max_new_tokens=5, do_sample=False)
    assert 1 <= said.shape[1] - ids["input_ids"].shape[1] <= 5
    assert isinstance(opened.decode(said[0]), str)
    told = [
        json.loads((Path(at) / "generation_config.json").read_text()) for at in (policy.id, done.model.id)
    ]
    assert told[0] == told[1]


def test_a_trained_model_is_where_the_next_run_begins(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    first = train(settings(policy, schedule="constant", warmup=0.0), pairs, out=tmp_path / "first")
    second = train(settings(first.model), pairs, out=tmp_path / "second", placement=TrainPlacement())
    assert first.report.held_out is not None
    assert second.report.held_out is not None
    assert second.report.held_out.loss.before == first.report.held_out.loss.after


def test_an_average_of_two_models_is_where_a_run_begins(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    """It has a name of its own, by which it is asked for samples before the first step."""
    other = train(settings(policy), pairs, out=tmp_path / "other").model
    start = Model(id=policy.id, soup={"id": other.id, "weight": 0.5})
    evaluate = {"prompts": 1, "samples": 1, "max_tokens": 2}
    done = train(settings(start, learning_rate=1e-12, evaluate=evaluate), pairs, out=tmp_path / "run")
    sides = [load_file(Path(at) / "model.safetensors") for at in (policy.id, other.id)]
    for name, weight in load_file(Path(done.model.id) / "model.safetensors").items():
        torch.testing.assert_close(weight, (sides[0][name] + sides[1][name]) / 2, atol=1e-6, rtol=0)
    assert done.report.samples is not None
    assert done.report.samples.kl.mean == pytest.approx(0, abs=1e-4)
