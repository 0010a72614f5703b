"""Worst case: how much a loss could rise if margins were a little wrong, and which pairs would be to blame.

The worst distribution of margins within a Wasserstein distance of the ones that were seen moves mass down, towards the
lower end of a window. The loss is convex in the margin, so per unit of distance the steepest way is either to stay or to
go to the end: a linear program in which each pair offers one gain at one price. Its optimum is the fractional knapsack's,
exact for a dataset of any size in one sort; the program is usually solved in groups of some hundred pairs instead.
Source: Stackelberg self-annotation (SGPO, 2025), with a loss of tangents; distributionally robust logistic regression
(Shafieezadeh-Abadeh et al. 2015).
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = ["WorstCase", "tangent_loss", "wasserstein"]


class WorstCase(NamedTuple):
    """The worst distribution of margins within a distance of those that were seen."""

    loss: float
    """Mean loss under it, nats."""
    mean: float
    """Mean loss of the margins as they were seen."""
    moved: np.ndarray
    """Which part of a pair's mass is moved to the lower end: float64 [pairs], NaN where the margin is missing."""
    weight: np.ndarray
    """By what factor the pull of training on a pair is greater than if nothing were moved: float64 [pairs], at least 1."""


class _Curve(NamedTuple):
    loss: np.ndarray
    slope: np.ndarray
    """Absolute slope."""


def wasserstein(margin: np.ndarray, radius: float, low: float, knots: tuple[float, ...] = ()) -> WorstCase:
    """Return the worst case within a mean absolute shift `radius` of the margins, none of them moved below `low`.

    The loss is -ln logistic(margin), or with `knots` the largest of its tangents there, which is below it. Pairs below
    `low` stay. Equal margins are moved alike, so that the order of pairs does not matter. NaN is missing.
    """
    there = np.flatnonzero(np.isfinite(margin))
    seen = margin[there]
    at, end = tangent_loss(seen, knots), tangent_loss(np.array([low]), knots)
    price = np.maximum(seen - low, 0.0)
    gain = np.where(price > 0, end.loss - at.loss, 0.0)
    part = _filled(price, gain, radius * len(seen))
    moved, weight = np.full((2, len(margin)), np.nan)
    moved[there] = part
    weight[there] = 1 - part + part * end.slope / np.maximum(at.slope, 1e-300)
    mean = float(at.loss.mean()) if len(there) else 0.0
    return WorstCase(mean + float((part * gain).mean()) if len(there) else 0.0, mean, moved, weight)


def tangent_loss(margin: np.ndarray, knots: tuple[float, ...] = ()) -> _Curve:
    """Return -ln logistic(margin) and its absolute slope, or those of the largest of its tangents at the knots."""
    if not knots:
        return _Curve(np.logaddexp(0.0, -margin), logistic(-margin))
    at = np.sort(np.asarray(knots, dtype=np.float64))
    slopes = -logistic(-at)
    lines = slopes * margin[:, None] + (np.logaddexp(0.0, -at) - slopes * at)
    best = lines.argmax(axis=1)
    return _Curve(lines[np.arange(len(margin)), best], -slopes[best])


def _filled(price: np.ndarray, gain: np.ndarray, budget: float) -> np.ndarray:
    """Return which part of each offer is taken, float64 [offers]: best gain for its price first, equal prices alike."""
    part = np.zeros(len(price))
    offers = np.flatnonzero((price > 0) & (gain > 0))
    values, group = np.unique(price[offers], return_inverse=True)
    cost = np.bincount(group, weights=price[offers], minlength=len(values))
    worth = np.bincount(group, weights=gain[offers], minlength=len(values))
    order = np.lexsort((values, -worth / cost)) if len(values) else np.zeros(0, np.int64)
    before = np.concatenate([[0.0], np.cumsum(cost[order])[:-1]]) if len(values) else np.zeros(0)
    share = np.zeros(len(values))
    share[order] = np.clip((budget - before) / cost[order], 0.0, 1.0)
    part[offers] = share[group]
    return part
