"""Plackett and Luce's model: a ranking is drawn from the top, each place going to an item in proportion to exp(strength).

A ranking may be partial in two ways: it may be of some of the items only, and below its first places it may leave the
rest unordered, as when only the best of eight is marked. With two items it is Bradley and Terry's model.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.graph import (
    Slope,
    centred,
    check_strongly_connected,
    descend,
    inverse,
    parts,
)

__all__ = [
    "RankingStrengths",
    "Rankings",
    "fit_plackett_luce",
    "log_likelihoods",
    "predict_first",
    "ranking_covariance",
    "rankings_of",
]


_FAR = 600.0
"""Nats between the best and the worst beyond which odds overflow."""


class Rankings(NamedTuple):
    """Rankings of items, one after the other."""

    item: np.ndarray
    """Item numbers from 0, best first, int64 [entries]."""
    lengths: np.ndarray
    """Entries of each ranking, at least 1, int64 [rankings]."""
    ordered: np.ndarray
    """How many of them, from the first, are in order; those below are only known to be below, int64 [rankings]."""
    items: int


class RankingStrengths(NamedTuple):
    """Strengths of items, in nats."""

    strength: np.ndarray
    """float64 [items], mean 0 in each part."""
    part: np.ndarray
    """Which items rankings join, int64 [items]; strengths of different parts are not comparable."""
    cost: float
    """Negative log-likelihood without the ridge, nats."""
    ridge: float
    steps: int


class _Stages(NamedTuple):
    """Every choice of a next place: [rankings, longest]."""

    item: np.ndarray
    """Padded by 0."""
    there: np.ndarray
    chooses: np.ndarray
    """Whether a place was given to an item by choice: ordered, and not the last one left."""
    weight: np.ndarray
    """[rankings, 1]."""


def rankings_of(
    lists: Sequence[Sequence[int]], ordered: Sequence[int] | None = None, items: int | None = None
) -> Rankings:
    """Gather rankings, best item first. `ordered` says how many places of each are in order; the default is all.

    Raises: EstimateError if there is none, or one that is empty, names an item twice or has a bad number.
    """
    lengths = np.array([len(one) for one in lists], np.int64)
    if not len(lengths) or not lengths.all():
        raise EstimateError("there are no rankings" if not len(lengths) else "a ranking is empty")
    item = np.concatenate([np.asarray(one, np.int64) for one in lists])
    places = lengths if ordered is None else np.asarray(ordered, np.int64)
    return _checked(Rankings(item, lengths, places, int(item.max()) + 1 if items is None else items))


def fit_plackett_luce(
    rankings: Rankings,
    weight: np.ndarray | None = None,
    ridge: float = 0.0,
    *,
    tolerance: float = 1e-8,
    limit: int = 100,
) -> RankingStrengths:
    """Fit strengths by maximum likelihood, less ridge / 2 times the sum of their squares. `weight` is [rankings].

    Stops when Newton's step moves no strength by more than `tolerance` nats. Takes rankings times the longest memory.
    Raises: EstimateError if without ridge some items were never in a ranking with the others, or never above or never
    below them through any chain, or if `limit` steps were not enough.
    Source: Plackett (1975), Applied Statistics 24; Luce (1959); finite optimum: Hunter (2004), Ann. Stat. 32.
    """
    if not 0 <= ridge < np.inf:
        raise EstimateError(f"ridge must be finite and at least 0, got {ridge}")
    stages = _stages(rankings, weight)
    part = _parts(stages, rankings.items, ridge)
    end = descend(
        lambda strength: _slope(stages, part, strength, ridge),
        np.zeros(rankings.items),
        model="plackett and luce's model",
        tolerance=tolerance,
        limit=limit,
    )
    strength = centred(end.point, part)
    penalty = ridge / 2 * float(strength @ strength)
    return RankingStrengths(strength, part, end.slope.cost - penalty, ridge, end.steps)


def log_likelihoods(strength: np.ndarray, rankings: Rankings) -> np.ndarray:
    """Return ln P of each ranking, nats: float64 [rankings]."""
    stages = _stages(rankings, None)
    scores, left = _left(stages, strength)
    likelihoods: np.ndarray = np.where(stages.chooses, scores - left, 0.0).sum(axis=1)
    return likelihoods


def predict_first(strength: np.ndarray, rankings: Rankings) -> np.ndarray:
    """Return for each entry the probability that its item is the best of its ranking: float64 [entries]."""
    stages = _stages(rankings, None)
    scores, left = _left(stages, strength)
    first: np.ndarray = np.exp(scores - left[:, :1])[stages.there]
    return first


def ranking_covariance(
    rankings: Rankings, fit: RankingStrengths, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return the covariance of the strengths [items, items] from the observed information; takes items products."""
    slope = _slope(_stages(rankings, weight), fit.part, fit.strength, fit.ridge)
    dense = np.stack([slope.product(unit) for unit in np.eye(rankings.items)])
    return inverse(dense, rankings.items, fit.ridge)


def _slope(stages: _Stages, part: np.ndarray, strength: np.ndarray, ridge: float) -> Slope:
    """Return the cost's slope: each choice pulls its item up and all that were left down, by their probabilities."""
    count = len(strength)
    if np.ptp(strength) > _FAR:
        return Slope(np.inf, strength, np.copy, strength)
    scores, left = _left(stages, strength)
    weight = stages.weight * stages.chooses
    cost = float((weight * np.where(stages.chooses, left - scores, 0.0)).sum())
    # P(item m goes to place k) = share[m] * odds[k] for k <= m, with shares relative to the whole ranking
    share = np.where(stages.there, np.exp(scores - left[:, :1]), 0.0)
    odds = stages.chooses * np.exp(np.where(stages.chooses, left[:, :1] - left, 0.0))
    taken = np.cumsum(weight * odds, axis=1)
    expected = share * taken
    items = stages.item[stages.there]

    def gather(values: np.ndarray) -> np.ndarray:
        return np.bincount(items, values[stages.there], count)

    def product(vector: np.ndarray) -> np.ndarray:
        moved = vector[stages.item]
        mean = np.cumsum((share * moved)[:, ::-1], axis=1)[:, ::-1] * odds
        pulled = expected * moved - share * np.cumsum(weight * odds * mean, axis=1)
        return gather(pulled) + ridge * vector

    diagonal = gather(expected - share**2 * np.cumsum(weight * odds**2, axis=1)) + ridge
    gradient = centred(gather(expected - weight) + ridge * strength, part)
    return Slope(cost + ridge / 2 * float(strength @ strength), gradient, product, diagonal)


def _left(stages: _Stages, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores, and the log-sum-exp of those from each place on: [rankings, longest]."""
    scores = np.where(stages.there, strength[stages.item], -1e300)
    return scores, np.logaddexp.accumulate(scores[:, ::-1], axis=1)[:, ::-1]


def _stages(rankings: Rankings, weight: np.ndarray | None) -> _Stages:
    _checked(rankings)
    count = len(rankings.lengths)
    weight = np.ones(count) if weight is None else np.asarray(weight, np.float64)
    if len(weight) != count or not (np.isfinite(weight) & (weight >= 0)).all():
        raise EstimateError("weights must be one a ranking, finite and at least 0")
    place = np.arange(int(rankings.lengths.max()))
    there = place < rankings.lengths[:, None]
    item = np.zeros(there.shape, np.int64)
    item[there] = rankings.item
    chooses = place < np.minimum(rankings.ordered, rankings.lengths - 1)[:, None]
    return _Stages(item, there, chooses, weight[:, None])


def _parts(stages: _Stages, items: int, ridge: float) -> np.ndarray:
    """Return what belongs together: each place beats the next, and the last ordered one all that are below."""
    counted = stages.chooses & (stages.weight > 0)
    if not counted.any():
        raise EstimateError("no ranking orders anything")
    last = counted & ~np.pad(counted[:, 1:], ((0, 0), (0, 1)))
    row, at = np.nonzero(counted & ~last)
    end_row, end_at = np.nonzero(last)
    below = stages.there[end_row] & (np.arange(stages.there.shape[1]) > end_at[:, None])
    which, under = np.nonzero(below)
    winner = np.concatenate([stages.item[row, at], stages.item[end_row, end_at][which]])
    loser = np.concatenate([stages.item[row, at + 1], stages.item[end_row[which], under]])
    if ridge > 0:
        return parts(winner, loser, items)
    check_strongly_connected(winner, loser, items)
    return np.zeros(items, np.int64)


def _checked(rankings: Rankings) -> Rankings:
    item, lengths, ordered, items = rankings
    if not len(item) or lengths.sum() != len(item) or len(ordered) != len(lengths):
        raise EstimateError("the lengths of the rankings do not add up to their entries")
    if item.min() < 0 or item.max() >= items:
        raise EstimateError(f"an item is not among 0 to {items - 1}: {item.min()} to {item.max()}")
    if (ordered < 0).any() or (ordered > lengths).any() or (lengths < 1).any():
        raise EstimateError("a ranking has more places in order than entries, or none at all")
    cell = np.repeat(np.arange(len(lengths)), lengths) * items + item
    if len(np.unique(cell)) < len(cell):
        raise EstimateError("a ranking names an item twice")
    return rankings
