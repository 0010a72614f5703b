"""Elo's rating: strengths moved a little after every comparison, and so dependent on their order.

It is meant for a stream that never ends. For a closed set of comparisons Bradley and Terry's model gives the same thing
without an order; if a rating must be Elo's, the mean over many random orders is given here, with how far orders disagree.
"""

import math
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = ["Ratings", "elo_scale", "expected_score", "fit_elo", "rate_in_order"]

_START = 1000.0
_SCALE = 400.0
"""Rating points that make the odds ten to one."""
_BLOCK = 4096
"""Comparisons that are looked up at a time."""


class Ratings(NamedTuple):
    """Ratings in points: 400 make the odds ten to one."""

    rating: np.ndarray
    """Mean over the orders, float64 [items]; their mean is what all started from."""
    spread: np.ndarray
    """Standard deviation over the orders, float64 [items]: what the order alone does."""
    orders: int


def fit_elo(
    first: np.ndarray,
    second: np.ndarray,
    score: np.ndarray,
    *,
    seed: int,
    orders: int = 100,
    k: float = 32.0,
    items: int | None = None,
) -> Ratings:
    """Rate items by every comparison once, in `orders` random orders.

    Shapes: `first` and `second` are item numbers from 0, [comparisons]; `score` is what `first` got: 1 won, 0 lost,
    0.5 a tie. Neither the order of the rows nor the sides change the result, only `seed` does.
    Takes a Python loop over comparisons, since each needs the one before it, with all orders at a time: 200,000
    comparisons in 100 orders take under 4 CPU seconds.
    Raises: EstimateError if there is no comparison, or one with a bad number or score.
    Source: Elo (1978), The Rating of Chessplayers.
    """
    _check(first, second, score)
    turned = first > second
    low, high = np.where(turned, second, first), np.where(turned, first, second)
    score = np.where(turned, 1 - score, score)
    rows = np.lexsort((score, high, low))
    count = int(high.max()) + 1 if items is None else items
    draws = np.random.default_rng(seed)
    order = np.stack([draws.permutation(rows) for _ in range(orders)], axis=1)
    ratings = _play(low, high, score, order, k, count)
    return Ratings(ratings.mean(axis=0), ratings.std(axis=0), orders)


def rate_in_order(
    first: np.ndarray, second: np.ndarray, score: np.ndarray, *, k: float = 32.0, items: int | None = None
) -> np.ndarray:
    """Return the ratings after the comparisons in the order of the rows: float64 [items]. See `fit_elo`."""
    _check(first, second, score)
    count = int(max(first.max(), second.max())) + 1 if items is None else items
    rating: np.ndarray = _play(first, second, score, np.arange(len(first))[:, None], k, count)[0]
    return rating


def expected_score(rating: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what item `first` may expect against `second`, elementwise: 1 is a win, half a tie counts as half a win."""
    return logistic((rating[first] - rating[second]) * (math.log(10) / _SCALE))


def elo_scale(strength: np.ndarray) -> np.ndarray:
    """Return strengths in nats as points: 1000 + 400 / ln 10 times the strength."""
    return strength * (_SCALE / math.log(10)) + _START


def _play(
    first: np.ndarray, second: np.ndarray, score: np.ndarray, order: np.ndarray, k: float, items: int
) -> np.ndarray:
    """Play the comparisons in every order, `order` being rows [comparisons, orders]: ratings [orders, items]."""
    orders = order.shape[1]
    rating = np.full(orders * items, _START)
    at = np.arange(orders) * items
    for begin in range(0, len(order), _BLOCK):
        block = order[begin : begin + _BLOCK]
        for one, other, got in zip(first[block] + at, second[block] + at, score[block], strict=True):
            gap = rating[other] - rating[one]
            moved = k * (got - 1 / (1 + 10 ** (gap / _SCALE)))
            rating[one] += moved
            rating[other] -= moved
    return rating.reshape(orders, items)


def _check(first: np.ndarray, second: np.ndarray, score: np.ndarray) -> None:
    if not len(first) or not len(first) == len(second) == len(score):
        raise EstimateError(f"there are {len(first)} and {len(second)} sides and {len(score)} scores")
    if min(first.min(), second.min()) < 0 or (first == second).any():
        raise EstimateError("items are numbered from 0, and none meets itself")
    if not ((score >= 0) & (score <= 1)).all():
        raise EstimateError("scores are from 0 to 1")
