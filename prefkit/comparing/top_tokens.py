"""How sure the policy is of its next token: the mass and the entropy of its k likeliest, and two alarms of over-training.

A likelier chosen answer or a wider gap is no sign of a higher win rate. That turns when the entropy of the likeliest tokens
stops rising and falls while chosen still loses likelihood, or when their mass falls.
Source: Understanding Likelihood Over-optimisation in Direct Alignment Algorithms (2024), arXiv 2410.11677. The thresholds
of the alarms are ours.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Alarms", "TopTokens", "alarms", "expected_distinct", "top_tokens"]

_FALL, _MASS, _TIMES = 0.02, 0.98, 3


class TopTokens(NamedTuple):
    """Means over tokens; per-token arrays are those of the input without its last axis."""

    mass: np.ndarray
    entropy: np.ndarray
    """Bits, of the k probabilities made to sum to 1: at most log2(k)."""
    entropy_as_is: np.ndarray
    """Bits, of the k probabilities as they are: the paper does not say which it means."""


class Alarms(NamedTuple):
    """The first evaluation at which each alarm is raised; None where it is not."""

    entropy: int | None
    mass: int | None


def top_tokens(log_probs: np.ndarray) -> TopTokens:
    """Describe the likeliest tokens. Shape: [..., k], nats, those past the vocabulary -inf."""
    p = np.exp(log_probs)
    mass = p.sum(axis=-1)
    safe = np.where(p > 0, log_probs, 0.0)
    raw = -(p * safe).sum(axis=-1) / np.log(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        told = raw / mass + np.log2(mass)
    return TopTokens(mass, told, raw)


def alarms(entropy: np.ndarray, mass: np.ndarray, chosen: np.ndarray) -> Alarms:
    """Read the curves of a run, one value an evaluation: mean entropy, mean mass, mean token log-prob of chosen. Shape: [evaluations].

    Entropy: three evaluations in a row more than 2 % below its maximum so far, with chosen falling in each. Mass: below 98 %
    of what it was at first.
    """
    low = entropy < (1 - _FALL) * np.maximum.accumulate(entropy)
    falling = np.append(False, np.diff(chosen) < 0)
    row = np.convolve((low & falling).astype(np.int64), np.ones(_TIMES, np.int64))[: len(entropy)] == _TIMES
    return Alarms(_first(row), _first(mass < _MASS * mass[:1]))


def expected_distinct(distinct: float, total: float, vocabulary: int) -> float:
    """Return distinct n-grams over how many `total` draws from the vocabulary would give: near 1 is as diverse as can be.

    Source: Liu et al. (2022), Rethinking and Refining the Distinct Metric, arXiv 2202.13587.
    """
    return float(distinct / (vocabulary * -np.expm1(total * np.log1p(-1 / vocabulary))))


def _first(flags: np.ndarray) -> int | None:
    return int(flags.argmax()) if flags.any() else None
