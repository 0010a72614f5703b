"""Tiny models that vLLM takes on a CPU (heads of 32), and one engine of each kind for all tests."""

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from prefkit.engines import Message, Model, Request
from prefkit.engines.transformers_engine import TransformersEngine

for name, value in {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}.items():
    os.environ.setdefault(name, value)  # before anything imports what reads them

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPTIONS = "max_model_len=256&enforce_eager=true&kv_cache_memory_bytes=64MiB&max_num_seqs=32"
CONTEXT = 256


class Folders(NamedTuple):
    policy: Path
    reward: Path
    base: Path
    """A policy of the same shape with other weights."""
    unlucky: Path
    """A reward model with two outputs, whose padding token is the one that ends every text."""


def make_tokenizer(template):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["hello world, say hi and bye\n\n", "one two three four\n\n"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = template
    return tokenizer


def save(folder, kind, template=CHATML, **settings):
    import torch
    from transformers import LlamaConfig

    torch.manual_seed(0)
    tokenizer = make_tokenizer(template)
    sizes = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    kind(LlamaConfig(vocab_size=len(tokenizer), **{**sizes, **settings})).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> Folders:
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    root = tmp_path_factory.mktemp("models")
    found = Folders(*(root / name for name in Folders._fields))
    save(found.policy, LlamaForCausalLM)
    save(found.base, LlamaForCausalLM, initializer_range=0.1)
    save(found.reward, LlamaForSequenceClassification, num_labels=1)
    closed = CHATML.replace("<|end|>\n", "<|end|>")
    save(found.unlucky, LlamaForSequenceClassification, closed, num_labels=2, pad_token_id=4)
    return found


@pytest.fixture
def policy(folders) -> Model:
    return Model(id=str(folders.policy))


@pytest.fixture(scope="session")
def options() -> str:
    return OPTIONS


@pytest.fixture(scope="session")
def engine():
    """One for all tests: opening a model takes seconds."""
    from prefkit.engines.vllm_engine import VllmEngine
    from prefkit.engines.vllm_options import read_options

    return VllmEngine(read_options(OPTIONS))


@pytest.fixture(scope="session")
def plain() -> TransformersEngine:
    """The engine that vLLM has to agree with."""
    return TransformersEngine("cpu", batch_tokens=2048)


@pytest.fixture
def ask():
    def make(text: str = "say hi", *, max_tokens: int = 12, seed: int = 0, **settings) -> Request:
        return Request((Message("user", text),), max_tokens, seed=seed, **settings)

    return make
