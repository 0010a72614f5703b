"""A tiny causal LM and a tiny reward model with random weights, saved as a user would have them."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prefkit.engines import Message, Model, Request

os.environ.setdefault(
    "HF_HUB_OFFLINE", "1"
)  # before anything imports huggingface_hub: no test waits for a network

CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class Folders(NamedTuple):
    policy: Path
    reward: Path


def make_tokenizer(template: str | None = CHATML):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    text = ["hello world, say hi and bye\n\n", "one two three four\n\n"] * 20
    core.train_from_iterator(
        text,
        trainers.BpeTrainer(
            vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = template
    return tokenizer


def make_llama(tokenizer, kind, **settings):
    import torch
    from transformers import LlamaConfig

    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    return kind(LlamaConfig(vocab_size=len(tokenizer), **{**sizes, **settings})).eval()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification

    root, tokenizer = tmp_path_factory.mktemp("models"), make_tokenizer()
    for name, kind, more in (
        ("policy", LlamaForCausalLM, {}),
        ("reward", LlamaForSequenceClassification, {"num_labels": 1}),
    ):
        make_llama(tokenizer, kind, **more).save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)
    return Folders(root / "policy", root / "reward")


@pytest.fixture(scope="session")
def tokenizer_for() -> Callable[..., Any]:
    """Make the tiny tokenizer with another chat template."""
    return make_tokenizer


@pytest.fixture(scope="session")
def llama_for() -> Callable[..., Any]:
    """Make a tiny model of a class, with other settings."""
    return make_llama


@pytest.fixture
def policy(folders: Folders) -> Model:
    return Model(id=str(folders.policy))


@pytest.fixture
def reward(folders: Folders) -> Model:
    return Model(id=str(folders.reward))


@pytest.fixture
def ask() -> Callable[..., Request]:
    """Make a request for one user turn."""

    def make(text: str = "say hi", *, max_tokens: int = 12, seed: int = 0, **settings) -> Request:
        return Request((Message("user", text),), max_tokens, seed=seed, **settings)

    return make


class Chat(NamedTuple):
    """A chat server in a process of its own: see servers.py."""

    process: subprocess.Popen
    url: str
    log: Path

    def count(self, word: str) -> Counter:
        """Return how often each prompt was `asked` or `answered`."""
        lines = [line.partition(" ") for line in self.log.read_text().splitlines()]
        return Counter(prompt for first, _, prompt in lines if first == word)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def chat_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Chat]]:
    """Start chat servers, which write into one log."""
    started: list[Chat] = []
    log = tmp_path / "server.log"
    log.touch()
    for name in ("PREFKIT_API_KEY", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(*options: object) -> Chat:
        command = [sys.executable, str(Path(__file__).with_name("servers.py")), str(log), *map(str, options)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        port = int(process.stdout.readline())
        started.append(Chat(process, f"http://127.0.0.1:{port}/v1", log))
        return started[-1]

    yield start
    for chat in started:
        chat.kill()
        chat.process.stdout.close()
