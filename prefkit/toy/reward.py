"""The toy reward model: a proxy of the gold reward, wrong as often as a real one.

It is fitted as reward models are: the policy answers prompts, annotators compare answers, and the Bradley-Terry
model is fitted to who won. The annotators are noisy: where two answers are close they often name the worse one.
So the proxy is clearly better than chance and clearly imperfect, and the gold reward can tell by how much.
"""

import math
import random
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import combinations
from typing import Final, NamedTuple

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from prefkit.toy.grading import gold
from prefkit.toy.model import Example, FitSettings, encode_answer, encode_prompt, fit, pad

__all__ = [
    "Comparison",
    "all_comparisons",
    "fit_reward",
    "label",
    "make_reward",
    "pair_accuracy",
    "score_answers",
]

# An annotator names the better of two answers with probability sigmoid(gap / .1): .62 at a gap of .05, .92 at .25.
ANNOTATOR_SPREAD: Final = 0.1
# Bradley-Terry leaves the level of the scores open; this pulls their mean to zero.
_CENTRING: Final = 0.01


class Comparison(NamedTuple):
    """Two answers to one prompt."""

    prompt: str
    better: str
    worse: str


def all_comparisons(prompts: Sequence[str], answers: Sequence[Sequence[str]]) -> list[Comparison]:
    """Compare every two answers to a prompt by gold; ties are no comparison."""
    return [
        Comparison(prompt, *pair) if gap > 0 else Comparison(prompt, *reversed(pair))
        for prompt, texts in zip(prompts, answers, strict=True)
        for pair in combinations(texts, 2)
        if (gap := gold(prompt, pair[0]).reward - gold(prompt, pair[1]).reward)
    ]


def label(comparisons: Sequence[Comparison], rng: random.Random) -> list[Comparison]:
    """Let a noisy annotator decide which answer is better."""
    return [
        comparison
        if rng.random() < 1 / (1 + math.exp(-_gap(comparison) / ANNOTATOR_SPREAD))
        else Comparison(comparison.prompt, comparison.worse, comparison.better)
        for comparison in comparisons
    ]


def make_reward(base: LlamaForCausalLM, seed: int) -> LlamaForSequenceClassification:
    """Put a head with one output on a copy of a language model's body."""
    config = deepcopy(base.config)
    config.num_labels = 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForSequenceClassification(config)
    model.model.load_state_dict(base.model.state_dict())
    return model


def fit_reward(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    comparisons: Sequence[Comparison],
    settings: FitSettings,
    rng: random.Random,
) -> Iterator[float]:
    """Fit a reward model to comparisons, and yield the loss of every step, in nats."""
    batches = _batches(comparisons, settings.batch, rng)
    return fit(model, (_bradley_terry_loss(model, tokenizer, batch) for batch in batches), settings)


def score_answers(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    pairs: Sequence[tuple[str, str]],
) -> list[float]:
    """Score (prompt, answer) pairs, in their order."""
    examples = [_encode(tokenizer, prompt, answer) for prompt, answer in pairs]
    order = sorted(range(len(examples)), key=lambda index: sum(map(len, examples[index])))
    scores = [0.0] * len(examples)
    with torch.inference_mode():
        for start in range(0, len(order), 256):
            chunk = order[start : start + 256]
            values = _score(model, [examples[index] for index in chunk])
            for index, value in zip(chunk, values.tolist(), strict=True):
                scores[index] = value
    return scores


def pair_accuracy(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    comparisons: Sequence[Comparison],
) -> float:
    """Return how often the model scores the better answer higher."""
    better = score_answers(model, tokenizer, [(pair.prompt, pair.better) for pair in comparisons])
    worse = score_answers(model, tokenizer, [(pair.prompt, pair.worse) for pair in comparisons])
    return sum(one > other for one, other in zip(better, worse, strict=True)) / len(comparisons)


def _bradley_terry_loss(
    model: LlamaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    comparisons: Sequence[Comparison],
) -> torch.Tensor:
    """Source: Bradley and Terry (1952); centring as in Eisenstein et al. (2023), arXiv 2312.09244, eq. 3."""
    better = [_encode(tokenizer, pair.prompt, pair.better) for pair in comparisons]
    worse = [_encode(tokenizer, pair.prompt, pair.worse) for pair in comparisons]
    scores = _score(model, [*better, *worse])
    first, second = scores.chunk(2)
    return (_CENTRING * (first + second).square() - functional.logsigmoid(first - second)).mean()


def _score(model: LlamaForSequenceClassification, examples: Sequence[Example]) -> torch.Tensor:
    """Return one score per example: float32 [B]."""
    batch = pad(examples, model.config.pad_token_id)
    scores: torch.Tensor = model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, 0]
    return scores


def _encode(tokenizer: PreTrainedTokenizerFast, prompt: str, answer: str) -> Example:
    return Example(encode_prompt(tokenizer, prompt), encode_answer(tokenizer, answer))


def _batches(comparisons: Sequence[Comparison], size: int, rng: random.Random) -> Iterator[list[Comparison]]:
    """Deal the comparisons in a new order in every round, for ever."""
    while True:
        order = rng.sample(comparisons, len(comparisons))
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def _gap(comparison: Comparison) -> float:
    return (
        gold(comparison.prompt, comparison.better).reward - gold(comparison.prompt, comparison.worse).reward
    )
