"""How close is too close to call: what makes a rule tie as often as people do, or be right as often as asked.

Functions look at a slice that people have labelled. A threshold found there holds for judges, prompts and responses like
those of the slice, and for no others.
"""

from typing import Literal

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.ties import davidson, rao_kupper

__all__ = ["fit_tie_parameter", "threshold_at_agreement", "threshold_at_rate"]

_FAR = 300.0
"""Logarithm of a tie parameter beyond which nothing is told any more."""


def threshold_at_rate(distance: np.ndarray, is_tie: np.ndarray) -> float:
    """Return the threshold below which as many rows lie as people call ties, or as near to that as can be.

    It lies halfway between two distances, so that rounding does not decide; of two that are as near, the lower one.
    Shapes: `distance` float64 [rows], from even; `is_tie` bool [rows], what people say.
    """
    _check_some(len(distance), "is_tie")
    values, counts = np.unique(distance, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    best = int(np.argmin(np.abs(below - is_tie.sum())))
    return float(_edges(values)[best])


def threshold_at_agreement(distance: np.ndarray, agrees: np.ndarray, target: float) -> float:
    """Return the lowest threshold at or above which at least a share `target` of rows agree with people.

    Rows at a distance of 0 are ties whatever the threshold, and count for nothing.
    Shapes: `distance` float64 [rows]; `agrees` bool [rows], of rows on which people are decided.
    Raises: EstimateError if no threshold reaches the target.
    """
    far = distance > 0
    _check_some(int(far.sum()), "decided")
    values, index = np.unique(distance[far], return_inverse=True)
    counts, right = np.bincount(index), np.bincount(index, weights=agrees[far])
    share = np.cumsum(right[::-1])[::-1] / np.cumsum(counts[::-1])[::-1]
    enough = np.flatnonzero(share >= target - 1e-12)
    if not len(enough):
        what = f"no threshold makes decided pairs agree with people in {target:.3g} of cases; the best is {share.max():.3g}"
        raise EstimateError(what, hint="lower the target, or use a better judge")
    return float(_edges(values)[enough[0]])


def fit_tie_parameter(gap: np.ndarray, is_tie: np.ndarray, rule: Literal["davidson", "rao-kupper"]) -> float:
    """Return nu (`davidson`) or kappa (`rao-kupper`) under which as many ties are expected as people called.

    Strength differences are given, so that one number is left; of Davidson's it is the one of maximum likelihood.
    Shapes: `gap` float64 [rows], nats; `is_tie` bool [rows].
    Raises: EstimateError if all rows are ties.
    """
    _check_some(len(gap), "is_tie")
    ties = int(is_tie.sum())
    if ties == len(gap):
        raise EstimateError(
            "people call every pair of the slice a tie, so how readily they tie cannot be told"
        )
    if not ties:
        return 0.0 if rule == "davidson" else 1.0

    def expected(log_parameter: float) -> float:
        parameter = float(np.exp(log_parameter))
        odds = davidson(gap, parameter) if rule == "davidson" else rao_kupper(gap, parameter)
        return float(odds.tie.sum())

    from scipy.optimize import brentq  # type: ignore[import-untyped]

    low = -_FAR if rule == "davidson" else 0.0
    return float(np.exp(brentq(lambda at: expected(at) - ties, low, _FAR, xtol=1e-12)))


def _edges(values: np.ndarray) -> np.ndarray:
    """Return thresholds below the first value, between each two, and above the last. Values rise and are not negative."""
    return np.concatenate([[0.0], (values[1:] + values[:-1]) / 2, [values[-1] * 1.000001 + 1e-6]])


def _check_some(count: int, what: str) -> None:
    if not count:
        hint = "name a column that people have filled for some pairs that also have what the rule looks at"
        raise EstimateError(f"no row to calibrate ties on ({what})", hint=hint)
