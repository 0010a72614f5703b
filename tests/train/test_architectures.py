"""Which architectures train packed, and that the others are refused before the first step."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from prefkit.errors import TrainError
from prefkit.train import attention
from prefkit.train.batches import pack
from prefkit.train.logps import check_model, log_probs
from prefkit.train.tokenise import Pair

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "vocab_size": 128,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
FITTING: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "mistral": {},
    "gemma": {},
    "gemma3_text": {},
    "phi3": {"pad_token_id": 0},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "gpt_neox": {},
    "olmo2": {},
    "opt": {"ffn_dim": 96, "word_embed_proj_dim": 64},
    "smollm3": {"pad_token_id": 0, "no_rope_layers": [1, 0]},
    "mixtral": {"num_local_experts": 4},
    "granite": {"logits_scaling": 8.0, "attention_multiplier": 0.1, "embedding_multiplier": 2.0},
    "cohere": {"logit_scale": 0.25},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gemma2": ({}, "caps it"),
    "gpt_oss": ({"num_local_experts": 4}, "differ from its own"),  # attends to a sink too
    "bloom": ({}, "differ from its own"),  # adds distances to the attention by itself
    "lfm2": ({"layer_types": ["conv", "full_attention"]}, "differ from its own"),
    "mamba": ({}, "differ from its own"),
}
PROMPT = tuple(range(5, 30))
PAIRS = [
    Pair(0, "a", PROMPT, tuple(range(30, 50)), tuple(range(60, 95))),
    Pair(1, "b", PROMPT, tuple(range(30, 50)), tuple(range(60, 75))),
    Pair(2, "c", PROMPT[3:], tuple(range(70, 80)), tuple(range(90, 99))),
]


def model_of(kind: str, more: dict[str, Any]) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **more})).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)  # fresh weights are so small that no token would notice another
    return model


@pytest.mark.parametrize("kind", FITTING)
def test_packed_log_probs_are_the_models_own(kind: str) -> None:
    model = model_of(kind, FITTING[kind])
    wanted = []
    with torch.no_grad():
        for pair in PAIRS:
            for response in (pair.chosen, pair.rejected):
                line = torch.tensor([[*pair.prompt, *response]])
                logps = model(input_ids=line).logits[0, :-1].log_softmax(-1)
                own = logps[len(pair.prompt) - 1 :].gather(-1, torch.tensor(response)[:, None])
                wanted.append(float(own.sum()))
        attention.register()
        model.set_attn_implementation(attention.NAME)
        packed = pack(PAIRS, torch.device("cpu"))
        said = log_probs(model, packed).responses
    found = torch.stack([said[packed.chosen], said[packed.rejected]], 1).flatten()
    assert found.tolist() == pytest.approx(wanted, abs=2e-3)
    check_model(model, PAIRS[0])


@pytest.mark.parametrize("kind", REFUSED)
def test_what_mixes_tokens_in_other_ways_is_refused(kind: str) -> None:
    more, why = REFUSED[kind]
    model = model_of(kind, more)
    attention.register()
    model.set_attn_implementation(attention.NAME)
    with pytest.raises(TrainError, match=why):
        check_model(model, PAIRS[0])
