"""Strength: how sure an ensemble is of each pair, and how that lies over the dataset.

Sorted by the mean margin of models that did not see the pair, the lowest pairs are mostly mislabelled (the mean is below 0), the
next are undecided, and the highest are easy. Where these bands end is a fact of a dataset, so the profile shows it.

Source: Secrets of RLHF in Large Language Models II (2024), arXiv 2401.06080, section 2.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Band", "profile", "strength"]


class Strength(NamedTuple):
    """What an ensemble makes of each pair. Every array is float64 [pairs], NaN where a margin is missing."""

    mean: np.ndarray
    std: np.ndarray
    """Population standard deviation over the members."""
    agree: np.ndarray
    """Share of members with a margin above 0."""


class Band(NamedTuple):
    """Pairs of about the same strength."""

    n: int
    mean: float
    std: float
    agree: float


def strength(margins: np.ndarray, standardise: bool = False) -> Strength:
    """Return the strength of each pair from margins [pairs, members]; optionally each member by its own spread first."""
    if standardise:
        spread = np.nanstd(margins, axis=0, keepdims=True) if margins.size else np.ones((1, 1))
        margins = margins / np.where(spread > 0, spread, 1.0)
    agree = np.where(np.isnan(margins).any(axis=1), np.nan, (margins > 0).mean(axis=1))
    return Strength(margins.mean(axis=1), margins.std(axis=1), agree)


def profile(found: Strength, bands: int = 10) -> list[Band]:
    """Cut pairs by their mean into bands of about equal size, weakest first."""
    known = np.flatnonzero(np.isfinite(found.mean))
    order = known[np.argsort(found.mean[known], kind="stable")]
    return [
        Band(len(rows), *(float(np.mean(each[rows])) for each in (found.mean, found.std, found.agree)))
        for rows in np.array_split(order, min(bands, len(order)) or 1)
        if len(rows)
    ]
