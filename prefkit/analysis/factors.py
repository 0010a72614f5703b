"""Factors: how far a label follows one feature of the two sides, alone and beside the other features.

`tau` is the share of pairs whose chosen side has more of the feature less that of pairs whose rejected side has; pairs with as
much on both sides count as neither, so a feature that is rarely there has a small tau. Features go together (length drives
most), so `effects` fits all at once. A large tau may be right: better answers can be longer.

Source: Uncovering Factor Level Preferences (Findings of EMNLP 2025), arXiv 2410.06965.
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic
from prefkit.estimators.regression import logistic_step
from prefkit.statistics.figures import Estimate, describe, mean_interval

__all__ = ["Effects", "effects", "fitted", "gap", "tau", "total_variation"]

_STEPS = 50
_Z = 1.959963984540054


class Effects(NamedTuple):
    """A logistic model of which side is chosen. Arrays are [features]."""

    head: np.ndarray
    """Change of the log-odds for a difference of one standard deviation."""
    error: np.ndarray
    """Standard errors, pairs of one prompt taken together."""
    scale: np.ndarray
    """What one standard deviation is: root mean square of the difference; 1 where it is always 0."""


def tau(difference: np.ndarray, preferred: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return (C - D) / (C + D + T), T counting ties of the feature; pairs that are a tie count not.

    Shapes: all [pairs]; `difference` of the feature, first side less second, NaN unknown; `preferred` 1, -1, or 0 for a
    tie; `groups` the number of each pair's prompt. None where nothing is known, or the feature never differs.
    """
    known = np.isfinite(difference) & (preferred != 0)
    signs = np.sign(difference[known]) * preferred[known]
    if not signs.any():
        return Estimate(n=int(known.sum()))
    return _mean(signs, groups[known], -1.0, 1.0)


def gap(chosen: np.ndarray, rejected: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return the mean of chosen less rejected, of any attribute. Shapes: all [pairs], NaN unknown."""
    both = np.isfinite(chosen) & np.isfinite(rejected)
    return _mean(chosen[both] - rejected[both], groups[both], -np.inf, np.inf)


def total_variation(one: np.ndarray, other: np.ndarray) -> float:
    """Return half the sum of differences of two distributions [categories]: 0 if equal, 1 if they share nothing."""
    return float(np.abs(one - other).sum()) / 2


def fitted(difference: np.ndarray, weight: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Return the head of a logistic model that the first side is the better one: float64 [features].

    There is no intercept: a pair read the other way round is its negative. The ridge keeps a feature that tells every label
    finite. Shapes: `difference` [pairs, features], `weight` [pairs].
    """
    head = np.zeros(difference.shape[1])
    for _ in range(_STEPS):
        after = logistic_step(difference, weight, head, ridge)
        if np.abs(after - head).max(initial=0.0) < 1e-9:
            return after
        head = after
    return head


def effects(difference: np.ndarray, groups: np.ndarray, ridge: float = 1.0) -> Effects:
    """Fit all features at once, with errors that hold for pairs in groups (Liang and Zeger, 1986).

    Shapes: `difference` [pairs, features], chosen less rejected, finite; `groups` [pairs].
    """
    scale = np.sqrt(np.square(difference).mean(axis=0)) if len(difference) else np.ones(difference.shape[1])
    scale = np.where(scale > 0, scale, 1.0)
    x = difference / scale
    head = fitted(x, np.ones(len(x)), ridge)
    p = logistic(x @ head)
    inverse = np.linalg.inv(x.T @ (x * (p * (1 - p))[:, None]) + ridge * np.eye(len(head)))
    slopes = np.zeros((int(groups.max(initial=-1)) + 1, len(head)))
    np.add.at(slopes, groups, x * (1 - p)[:, None])
    present = int(np.count_nonzero(np.bincount(groups))) if len(groups) else 0
    if present < 2:
        return Effects(head, np.full(len(head), np.nan), scale)
    wide = present / (present - 1)
    middle = slopes - slopes.mean(axis=0)
    error = np.sqrt(np.diag(inverse @ (middle.T @ middle) @ inverse) * wide)
    return Effects(head, error, scale)


def _mean(values: np.ndarray, groups: np.ndarray, least: float, most: float) -> Estimate:
    spread = describe(values, groups)
    bounds = mean_interval(spread)
    if bounds is None:
        return Estimate(value=spread.mean, n=spread.n)
    return Estimate(value=spread.mean, low=max(least, bounds.low), high=min(most, bounds.high), n=spread.n)
