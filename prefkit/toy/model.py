"""The toy language model: a Llama small enough to train on one core, and everything that a real one brings along.

It is a stock `LlamaForCausalLM` with a stock tokenizer and chat template, so that every engine and trainer takes it
as it would take a model from the Hub: no special case anywhere knows that it is a toy.

Shapes: B answers in a batch, T tokens of the longest. Log-probabilities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = [
    "Batch",
    "Example",
    "FitSettings",
    "encode_answer",
    "encode_prompt",
    "fit",
    "make_model",
    "make_tokenizer",
    "pad",
    "sample_answers",
    "sft_loss",
    "warmup_cosine",
]

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>"
    "{% else %}{{ raise_exception('the toy model knows the roles user and assistant only') }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The longest answer that a demonstrator writes has 51 tokens.
MAX_NEW_TOKENS: Final = 72
_IGNORED: Final = -100


class Example(NamedTuple):
    """Token ids of a prompt and of its answer, each with its special tokens."""

    prompt: list[int]
    answer: list[int]


class Batch(NamedTuple):
    """Examples padded on the right. All are int64 [B, T]."""

    ids: torch.Tensor
    mask: torch.Tensor
    """1 on tokens, 0 on padding."""
    labels: torch.Tensor
    """The ids of the answers, -100 elsewhere."""


class FitSettings(NamedTuple):
    """How long and how fast to train."""

    steps: int
    batch: int
    peak_lr: float
    warmup: int
    """Steps to the peak; a cosine down to a twentieth of it follows."""


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer: any text has tokens, and a number of the corpus is one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<|pad|>",  # noqa: S106
        eos_token="<|end|>",  # noqa: S106
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        padding_side="left",
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Make an untrained model of 0.65 million parameters."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        max_new_tokens=MAX_NEW_TOKENS,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def encode_prompt(tokenizer: PreTrainedTokenizerFast, prompt: str) -> list[int]:
    """Encode a prompt up to where the answer starts, as the chat template does."""
    return list(tokenizer.encode(f"<|user|>{prompt}<|assistant|>", add_special_tokens=False))


def encode_answer(tokenizer: PreTrainedTokenizerFast, answer: str) -> list[int]:
    """Encode an answer and its end, as the chat template does."""
    return list(tokenizer.encode(f"{answer}<|end|>", add_special_tokens=False))


def pad(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad examples on the right into one batch."""
    import torch

    longest = max(len(example.prompt) + len(example.answer) for example in examples)
    ids = torch.full((len(examples), longest), pad_id)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, _IGNORED)
    for row, (prompt, answer) in enumerate(examples):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return Batch(ids, mask, labels)


def sft_loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Return the mean negative log-probability of an answer's token: a scalar, in nats."""
    from torch.nn import functional

    # No mask: padding is on the right, where causal attention does not look, and its labels do not count.
    logits = model(input_ids=batch.ids).logits[:, :-1]
    return functional.cross_entropy(
        logits.flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=_IGNORED
    )


def fit(model: torch.nn.Module, losses: Iterator[torch.Tensor], settings: FitSettings) -> Iterator[float]:
    """Take one AdamW step per loss, and yield the loss; the losses are of the model as it then is.

    `losses` is drawn from lazily, so a generator that evaluates the model gives every step its own gradient.
    """
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.peak_lr, betas=(0.9, 0.98), weight_decay=0.05
    )
    model.train()
    for step, loss in enumerate(islice(losses, settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = settings.peak_lr * warmup_cosine(step, settings)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()
    model.eval()


def warmup_cosine(step: int, settings: FitSettings) -> float:
    """Return the share of the peak learning rate at a step, counted from 0."""
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / settings.steps))
    return min(1.0, (step + 1) / settings.warmup) * (0.05 + 0.95 * cosine)


def sample_answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    n: int = 1,
    temperature: float = 1.0,
    seed: int = 0,
) -> list[list[str]]:
    """Sample `n` answers to each prompt, in the order of the prompts; temperature 0 is greedy.

    An answer that reaches the limit of tokens is given back as far as it came.
    """
    import torch

    jobs = [
        (index, encode_prompt(tokenizer, prompt)) for index, prompt in enumerate(prompts) for _ in range(n)
    ]
    jobs.sort(key=lambda job: len(job[1]))
    answers: list[list[str]] = [[] for _ in prompts]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(jobs), 256):
            chunk = jobs[start : start + 256]
            texts = _continue(model, tokenizer, [ids for _, ids in chunk], temperature)
            for (index, _), text in zip(chunk, texts, strict=True):
                answers[index].append(text)
    return answers


def _continue(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], temperature: float
) -> list[str]:
    inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
    is_random = temperature > 0
    ids = model.generate(
        **inputs,
        max_new_tokens=MAX_NEW_TOKENS,
        do_sample=is_random,
        temperature=temperature if is_random else 1.0,
    )
    return list(tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
