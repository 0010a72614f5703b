"""Sampling: one token a row from logits, by a number that the row brings along.

Token t of a request is drawn with number t of a stream that its seed alone decides (Philox counters, the same on every
machine), by comparing that number with the cumulative probabilities in float64, in the order of the vocabulary. No
global generator is touched, so what was drawn before, and for whom, plays no part.

Shapes: A rows, V vocabulary.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["Chosen", "Knobs", "choose", "uniforms"]


class Knobs(NamedTuple):
    """Sampling settings of each row. Every tensor is [A]."""

    temperature: "torch.Tensor"
    """float64; 0 takes the most likely token."""
    top_p: "torch.Tensor"
    """float64; keeps the fewest tokens whose probability reaches it, after `top_k`."""
    top_k: "torch.Tensor"
    """int64; keeps the k most likely tokens, 0 all."""


class Chosen(NamedTuple):
    """A token for each row and its log-prob at temperature 1, in nats. Both are [A]."""

    tokens: "torch.Tensor"
    logps: "torch.Tensor"


def uniforms(seed: int, count: int) -> np.ndarray:
    """Return the first numbers in [0, 1) of a seed's stream: float64 [count], the same on every machine."""
    bits = np.random.Philox(key=seed % 2**64).random_raw(count)
    scaled: np.ndarray = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return scaled


def choose(logits: "torch.Tensor", knobs: Knobs, draws: "torch.Tensor") -> Chosen:
    """Take for each row the first token whose cumulative probability exceeds the row's number.

    Shapes: `logits` [A, V]; `draws` [A], float64 in [0, 1).
    """
    import torch

    plain = torch.log_softmax(logits.double(), dim=-1)
    greedy = knobs.temperature == 0
    if bool(greedy.all()):
        tokens = logits.argmax(-1)
    else:
        heat = torch.where(greedy, torch.ones_like(knobs.temperature), knobs.temperature)
        weights = torch.exp((plain - plain.amax(-1, keepdim=True)) / heat[:, None])
        if bool(((knobs.top_p < 1) | (knobs.top_k > 0)).any()):
            weights = _keep_likely(weights, knobs)
        mass = weights.cumsum(-1)
        total = mass[:, -1]
        # Rounding must not carry a number past the end: the first sum above it then has a token behind it.
        target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
        drawn = torch.searchsorted(mass, target[:, None], right=True)[:, 0]
        tokens = torch.where(greedy, logits.argmax(-1), drawn)
    return Chosen(tokens, plain.gather(-1, tokens[:, None])[:, 0])


def _keep_likely(weights: "torch.Tensor", knobs: Knobs) -> "torch.Tensor":
    """Zero what `top_k` and `top_p` leave out, everything else in its place. Shapes: [A, V]."""
    import torch

    ranked, order = weights.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(weights.shape[-1], device=weights.device)
    top_k = torch.where(knobs.top_k > 0, knobs.top_k, weights.shape[-1])
    ranked = ranked * (rank[None] < top_k[:, None])
    before = ranked.cumsum(-1) - ranked
    ranked = ranked * (before < knobs.top_p[:, None] * ranked.sum(-1, keepdim=True))
    return torch.zeros_like(weights).scatter(-1, order, ranked)
