"""Labels of people who differ: from votes to the mean strength of preference, not the strength of the mean preference.

Pooled votes estimate the mean over people of P(left), whose log-odds is not the mean of their margins: where people
disagree strongly it is too small, and over several responses it may even order them otherwise. Two ways back. If the
variance between people is known, a first-order correction. If all people judged the same pair, those pairs on which they
are unanimous, whose log-odds is the exact sum of the margins, at the price of all other pairs.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = [
    "Corrected",
    "Unanimous",
    "correct_margins",
    "keep_unanimous",
    "unanimity",
    "unanimous_margin",
    "variance_between",
    "variance_of_cells",
]

_HALVINGS = 60


class Corrected(NamedTuple):
    """Margins that a variance between people was taken out of."""

    margin: np.ndarray
    """Nats, float64 [pairs]: an estimate of the mean margin."""
    p: np.ndarray
    """logistic(margin), float64 [pairs]."""
    is_corrected: np.ndarray
    """bool [pairs]; False where people differ too much for the correction, and the margin is the pooled one."""


class Unanimous(NamedTuple):
    """What unanimous pairs say."""

    p_left: np.ndarray
    """P(all say left | all say the same)."""
    margin: np.ndarray
    """Mean margin of the people, nats."""
    kept: np.ndarray
    """P(all say the same)."""


def correct_margins(p: np.ndarray, variance: np.ndarray) -> Corrected:
    """Return the mean margin of people whose mean probability is `p` and whose probabilities have this variance.

    To first order p = s + variance (1 - 2 s) / (2 s (1 - s)), s being the logistic of the mean margin; the root next to
    one half is taken. Shapes: [pairs], or one variance for all. Where people differ so much that there is no root, the
    pooled margin logit(p) stays. No sign ever changes, and variance 0 changes nothing.
    Raises: EstimateError if a p is not within (0, 1), or a variance not within [0, 1/4].
    Source: Taylor expansion, derived here after Shirali et al. (2025), arXiv 2502.16320.
    """
    p, variance = np.broadcast_arrays(np.asarray(p, np.float64), np.asarray(variance, np.float64))
    if not ((p > 0) & (p < 1)).all():
        raise EstimateError("a vote share is not within 0 and 1", hint="add a pseudo-count to the votes")
    if not ((variance >= 0) & (variance <= 0.25)).all():
        raise EstimateError("the variance of a probability is between 0 and 1/4", hint="use variance_between")
    upper = np.maximum(p, 1 - p)
    # The right side is concave in s on [1/2, 1) and rises up to where s (1 - s) is this.
    peak = (-variance + np.sqrt(variance * (variance + 2))) / 2
    high = (1 + np.sqrt(np.maximum(1 - 4 * peak, 0.0))) / 2
    high = np.where(variance == 0, upper, high)
    low = np.full(p.shape, 0.5)
    there = (_pooled(high, variance) >= upper) | (variance == 0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = _pooled(middle, variance) < upper
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    s = np.where(there & (variance > 0), high, upper)
    s = np.where(p == 0.5, 0.5, np.where(p > 0.5, s, 1 - s))
    return Corrected(np.log(s) - np.log1p(-s), s, there)


def variance_between(wins: np.ndarray, total: np.ndarray, strength: float = 10.0) -> np.ndarray:
    """Return the variance over people of P(left), of each pair or stratum, from several judgements of each person.

    Shapes: `wins`, `total` [people, pairs]: how often a person said left, of how many judgements of the same pair, or of
    pairs of one stratum. The mean square needs two judgements of a person, and the squared mean two people; both are
    unbiased, so single estimates may be far off: they are shrunk to the mean of all pairs, as if `strength` more people
    had judged each, and never left below 0 or above p (1 - p). Returns [pairs].
    Raises: EstimateError if on no pair two people have two judgements.
    Source: U-statistics, derived here.
    """
    wins, total = np.asarray(wins, np.float64), np.asarray(total, np.float64)
    person, pair = np.nonzero(total > 0)
    return variance_of_cells(pair, wins[person, pair], total[person, pair], total.shape[1], strength)


def variance_of_cells(
    pair: np.ndarray, wins: np.ndarray, total: np.ndarray, pairs: int, strength: float = 10.0
) -> np.ndarray:
    """Return what `variance_between` does, from one entry for each person and pair with a judgement. Shapes: [entries]."""

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(pair, values, pairs)

    twice, share = total > 1, wins / total
    people, repeats = np.bincount(pair, minlength=pairs), sums(twice)
    able = (repeats > 1) & (people > 1)
    if not able.any():
        raise EstimateError("on no pair have two people two judgements, so their variance cannot be told")
    square = sums(np.where(twice, wins * (wins - 1) / np.where(twice, total * (total - 1), 1.0), 0.0))
    both = sums(share) ** 2 - sums(share**2)
    found = square / np.maximum(repeats, 1) - both / np.maximum(people * (people - 1), 1)
    weight = np.where(able, repeats, 0.0)
    mean = float((weight * np.where(able, found, 0.0)).sum() / weight.sum())
    shrunk = (weight * np.where(able, found, mean) + strength * mean) / (weight + strength)
    p = sums(share) / np.maximum(people, 1)
    clipped: np.ndarray = np.clip(shrunk, 0.0, p * (1 - p))
    return clipped


def unanimity(margins: np.ndarray) -> Unanimous:
    """Return what pairs show on which people with these margins agree. Shapes: `margins` [people, ...], nats.

    P(all left | all the same) is logistic(sum of margins), so the mean margin comes out exactly.
    Source: Shirali et al. (2025), arXiv 2502.16320.
    """
    total = margins.sum(axis=0)
    left, right = (-np.logaddexp(0, -sign * margins).sum(axis=0) for sign in (1, -1))
    return Unanimous(logistic(total), total / len(margins), np.exp(left) + np.exp(right))


def keep_unanimous(item: np.ndarray, label: np.ndarray, least: int = 2) -> np.ndarray:
    """Return the label that all votes on an item have, or -1 where they differ or are fewer than `least`.

    Shapes: `item` and `label` [votes], integers from 0. Returns int64 [items]. One vote an annotator and item is assumed.
    """
    items = int(item.max()) + 1 if len(item) else 0
    lowest, highest = np.full(items, np.iinfo(np.int64).max), np.full(items, -1)
    np.minimum.at(lowest, item, label)
    np.maximum.at(highest, item, label)
    same = (lowest == highest) & (np.bincount(item, minlength=items) >= least)
    kept: np.ndarray = np.where(same, highest, -1)
    return kept


def unanimous_margin(left: np.ndarray, right: np.ndarray, people: int, pseudo: float = 0.5) -> np.ndarray:
    """Return the mean margin of `people` in each stratum from its pairs on which all of them said left, or right.

    Shapes: counts [strata]. logit of the smoothed share of left, over the number of people; NaN without pairs.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        margin = (np.log(left + pseudo) - np.log(right + pseudo)) / people
    told: np.ndarray = np.where(left + right > 0, margin, np.nan)
    return told


def _pooled(s: np.ndarray, variance: np.ndarray) -> np.ndarray:
    room = np.maximum(s * (1 - s), 1e-300)
    pooled: np.ndarray = s + variance * (1 - 2 * s) / (2 * room)
    return pooled
