"""Win rate at equal divergence: what is won without moving further from the reference.

Every point is a checkpoint or a setting of one arm: its KL to the reference and its win rate. The curves are joined by
straight lines and compared over the divergences that both reach; nothing is extrapolated.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["Matched", "matched"]


class Matched(NamedTuple):
    """How much higher one curve is than another."""

    mean: float
    """Over the shared range of divergence."""
    low: float
    high: float
    """The shared range, in the unit of the divergences."""


def matched(better: tuple[np.ndarray, np.ndarray], than: tuple[np.ndarray, np.ndarray]) -> Matched:
    """Return the mean difference of two curves, each (divergence, win rate), float64 [points], in any order.

    Raises: EstimateError if they share no range of divergence.
    """
    curves = [(x[np.argsort(x)], y[np.argsort(x)]) for x, y in (better, than)]
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if not low < high:
        raise EstimateError("the curves share no range of divergence")
    knots = np.unique(np.clip(np.concatenate([x for x, _ in curves]), low, high))
    gap = np.interp(knots, *curves[0]) - np.interp(knots, *curves[1])
    return Matched(float(np.trapezoid(gap, knots) / (high - low)), float(low), float(high))
