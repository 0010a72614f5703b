"""Groups: what several groups of people, or several raters, make of a response, as one number.

The mean, weighed by shares of the population, is best for one policy for all; the worst group's score treats all
alike; the mean over the worst share (CVaR) lies between the two. The worst group may be looked for response by
response, or over all prompts together, which is not the same: a response that one group dislikes may stand if the same
group is well served elsewhere. `fit_maxmin` finds the weights of the groups for the second.
Source: MaxMin-RLHF (2024); its code takes the first, its objective is the second.
"""

import numpy as np

from prefkit.aggregators.settle import Picked, settle
from prefkit.errors import EstimateError

__all__ = ["cvar", "fit_maxmin", "mean", "worst"]


def mean(scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean of each row, by weight. Shapes: [rows, groups], [groups]; [rows]."""
    shares = _shares(weights)
    told: np.ndarray = np.sum([scores[:, at] * share for at, share in enumerate(shares)], axis=0)
    return told


def worst(scores: np.ndarray) -> np.ndarray:
    """Return the lowest score of each row: [rows, groups] to [rows]."""
    told: np.ndarray = scores.min(axis=1)
    return told


def cvar(scores: np.ndarray, share: float, weights: np.ndarray) -> np.ndarray:
    """Return the mean over the worst `share` of the population. Shapes: [rows, groups], [groups]; [rows].

    A group that lies across the border counts by the part of it that is inside. At a share of 1 this is the mean.
    """
    if not 0 < share <= 1:
        raise EstimateError(f"the share of the population must be above 0 and at most 1, got {share}")
    order = np.argsort(scores, axis=1, kind="stable")
    mass = _shares(weights)[order]
    before = np.cumsum(mass, axis=1) - mass
    counted = np.clip(share - before, 0.0, mass)
    ranked = np.take_along_axis(scores, order, axis=1)
    with np.errstate(invalid="ignore"):  # of NaN, which sorts last and must not be passed over
        told: np.ndarray = np.where(counted > 0, ranked * counted, 0.0).sum(axis=1) / counted.sum(axis=1)
    return np.where(np.isnan(scores).any(axis=1), np.nan, told)


def fit_maxmin(scores: np.ndarray, prompt: np.ndarray) -> Picked:
    """Find weights of the groups under which picking the best response of each prompt serves the worst group best.

    Shapes: `scores` [rows, groups], finite; `prompt` [rows], numbers from 0 that never fall. Weights are on the simplex
    and are means over iterates, since each prompt's pick jumps.
    Raises: EstimateError if they do not settle.
    Source: multiplicative weights for a zero-sum game (Freund and Schapire 1999), between picks and groups.
    """
    spread = float(np.ptp(scores)) if scores.size else 0.0
    rate = 0.1 / spread if spread > 0 else 0.1

    def weights(state: np.ndarray) -> np.ndarray:
        shifted = np.exp(state - state.max())
        told: np.ndarray = shifted / shifted.sum()
        return told

    def moved(_: np.ndarray, reached: np.ndarray) -> np.ndarray:
        return -rate * reached

    return settle(
        np.zeros(len(scores)),
        scores,
        prompt,
        weights=weights,
        moved=moved,
        momentum=0.0,
        of_task=lambda _: 0.0,
    )


def _shares(weights: np.ndarray) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if (weights < 0).any() or not np.isfinite(weights).all() or not weights.sum() > 0:
        raise EstimateError("weights of groups must be at least 0, finite, and not all 0")
    told: np.ndarray = weights / weights.sum()
    return told
