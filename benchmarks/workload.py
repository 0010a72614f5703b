"""What the training benchmarks train: a random Llama, a tokenizer with one token a word, and pairs of random words.

Nothing is fetched and nothing here needs prefkit, so the same functions serve the process that runs another trainer.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

SPECIAL = ("<pad>", "<user>", "<assistant>", "<end>")
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<user> {{ message['content'] }} "
    "{% else %}<assistant> {{ message['content'] }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
MARKS = {"prompt": 2, "response": 1}
"""Tokens that the template adds to the words of a prompt and of a response."""


class Shape(NamedTuple):
    """Sizes of a Llama."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int
    tied: bool = False

    @property
    def body(self) -> int:
        """Weights of the layers' matrices, without embeddings and head."""
        shared = self.hidden * self.kv_heads // self.heads
        return self.layers * self.hidden * (2 * self.hidden + 2 * shared + 3 * self.inner)

    def least_flops(self, prompt: int, chosen: int, rejected: int) -> float:
        """Return what one pair costs at least: every token forward and backward once, the prompt for both sides.

        Two FLOPs a weight and token forward, four backward; attention looks back only; the head sees what it scores.
        """
        answers = (chosen, rejected)
        tokens = prompt + sum(size - 1 for size in answers)
        looks = prompt**2 / 2 + sum(size * prompt + size**2 / 2 for size in answers)
        head = self.hidden * self.vocab * sum(answers)
        return 6 * (self.body * tokens + head) + 12 * self.layers * self.hidden * looks


class Words(NamedTuple):
    """One pair as the words of its texts."""

    prompt: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray

    def tokens(self) -> tuple[int, int, int]:
        """Return the tokens of each text, those of the template included."""
        answer = MARKS["response"]
        return len(self.prompt) + MARKS["prompt"], len(self.chosen) + answer, len(self.rejected) + answer


def draw_pairs(count: int, shape: Shape, *, low: int = 50, high: int = 400, seed: int = 0) -> list[Words]:
    """Draw pairs whose prompts and answers have `low` to `high` tokens each."""
    draw = np.random.default_rng(seed)

    def words(marks: int) -> np.ndarray:
        size = int(draw.integers(low, high + 1)) - marks
        return draw.integers(len(SPECIAL), shape.vocab, size)

    return [
        Words(words(MARKS["prompt"]), words(MARKS["response"]), words(MARKS["response"]))
        for _ in range(count)
    ]


def write_pairs(path: Path, pairs: Sequence[Words]) -> None:
    """Write pairs as JSON lines of texts."""
    rows = [{name: text_of(words) for name, words in pair._asdict().items()} for pair in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_pairs(path: Path) -> list[dict[str, list[dict[str, str]]]]:
    """Read them back in the conversational form."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return [
        {name: [{"role": roles[name], "content": text}] for name, text in json.loads(line).items()}
        for line in path.read_text(encoding="utf-8").splitlines()
    ]


def text_of(words: np.ndarray) -> str:
    return " ".join(f"w{word}" for word in words)


def write_model(folder: Path, shape: Shape, *, seed: int = 0) -> None:
    """Save a Llama with random weights in float32, and its tokenizer."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    LlamaForCausalLM(config_of(shape)).save_pretrained(folder)
    write_tokenizer(folder, shape.vocab)


def config_of(shape: Shape) -> "LlamaConfig":  # noqa: F821 - transformers is imported where it is used
    """Return the configuration of a shape."""
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.inner,
        vocab_size=shape.vocab,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<end>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )


def write_tokenizer(folder: Path, vocab: int) -> None:
    """Save a tokenizer whose every word is one token."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), vocab))]
    plain = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<pad>")
    )
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="<end>", chat_template=TEMPLATE
    ).save_pretrained(folder)
