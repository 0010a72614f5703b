"""How far two scorers order the responses of a prompt alike: 1 alike, 0 the other way round, one half no more than chance.

A comparison that one scorer finds even is no evidence either way, so Kendall's tau-b and not ranks by row order: those
would make the answer depend on how rows happen to be sorted.
Source: CREAM: Consistency Regularized Self-Rewarding Language Models (2025): C = (tau + 1) / 2.
"""

from typing import Literal

import numpy as np

__all__ = ["How", "consistency"]

How = Literal["kendall", "spearman", "extremes"]
_BLOCK = 1 << 21
"""Comparisons made at once: 16 MiB of float64 an array."""


def consistency(
    one: np.ndarray, other: np.ndarray, starts: np.ndarray, lengths: np.ndarray, how: How = "kendall"
) -> np.ndarray:
    """Return how alike two scores order each group: float64 [groups] in [0, 1], NaN where fewer than two have both.

    `kendall` and `spearman` are (correlation + 1) / 2, one half where a scorer finds all even; `extremes` is 1 where
    best and worst are the same response, the earlier one of equals, and else 0.
    Shapes: `one` and `other` [rows], NaN is missing; `starts` and `lengths` int64 [groups], of adjacent rows.
    """
    told = np.full(len(starts), np.nan)
    # A Python loop over the distinct sizes of groups, which are few.
    for length in np.unique(lengths[lengths >= 2]).tolist():
        groups = np.flatnonzero(lengths == length)
        step = max(_BLOCK // length**2, 1)
        for first in range(0, len(groups), step):
            block = groups[first : first + step]
            rows = starts[block, None] + np.arange(length)
            told[block] = _of_equal_size(one[rows], other[rows], how)
    return told


def _of_equal_size(one: np.ndarray, other: np.ndarray, how: How) -> np.ndarray:
    """Shapes: both [groups, size]."""
    there = np.isfinite(one) & np.isfinite(other)
    enough = there.sum(axis=1) >= 2
    if how == "extremes":
        return np.where(enough, _same_ends(one, other, there), np.nan)
    left, right = _signs(one, there), _signs(other, there)
    if how == "spearman":  # sums of signs are centred ranks, those of equals being their mean
        left, right = left.sum(axis=2, keepdims=True), right.sum(axis=2, keepdims=True)
    size = np.sqrt(np.square(left).sum(axis=(1, 2)) * np.square(right).sum(axis=(1, 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.where(size > 0, (left * right).sum(axis=(1, 2)) / size, 0.0)
    return np.where(enough, (np.clip(correlation, -1.0, 1.0) + 1) / 2, np.nan)


def _signs(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return which of each two is higher: 1, 0 or -1, and 0 where one is missing: [groups, size, size]."""
    known = np.where(there, scores, 0.0)
    both = there[:, :, None] & there[:, None, :]
    # not the sign of the difference: that of two huge numbers is infinite
    higher = (known[:, :, None] > known[:, None, :]).astype(np.float64)
    return np.where(both, higher - higher.transpose(0, 2, 1), 0.0)


def _same_ends(one: np.ndarray, other: np.ndarray, there: np.ndarray) -> np.ndarray:
    best, worst = (
        [np.where(there, sign * scores, -np.inf).argmax(axis=1) for scores in (one, other)]
        for sign in (1, -1)
    )
    told: np.ndarray = ((best[0] == best[1]) & (worst[0] == worst[1])).astype(np.float64)
    return told
