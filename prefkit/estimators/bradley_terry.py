"""Bradley and Terry's model: strengths such that P(i beats j) = logistic(strength_i - strength_j).

A tie counts as half a win of each side; `ties.py` has models that know ties. With a ridge, a Gaussian prior of variance
1 / ridge about 0, items that never met may be fitted at once: all prompts of a corpus in one call, say, where each
prompt's responses are a part of the graph by themselves. Strengths of different parts are then not comparable.
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.graph import (
    Matches,
    Slope,
    centred,
    check_wins,
    descend,
    inverse,
    laplacian,
    slope_of_gaps,
    start_strengths,
)
from prefkit.estimators.preference import logistic

__all__ = [
    "PER_CORPUS",
    "PER_PROMPT",
    "Strengths",
    "covariance",
    "difference_error",
    "fit_bradley_terry",
    "predict_win",
    "standard_errors",
]

PER_CORPUS = 0.01
"""The ridge for items that met often."""
PER_PROMPT = 0.1
"""The ridge for the few votes on one prompt's responses."""


class Strengths(NamedTuple):
    """Strengths of items, in nats."""

    strength: np.ndarray
    """float64 [items], mean 0 in each part."""
    part: np.ndarray
    """Which part of the graph an item is in, int64 [items]; strengths of different parts are not comparable."""
    cost: float
    """Negative log-likelihood without the ridge, nats."""
    ridge: float
    steps: int


def fit_bradley_terry(
    matches: Matches, ridge: float = 0.0, *, tolerance: float = 1e-8, limit: int = 100
) -> Strengths:
    """Fit strengths by maximum likelihood, less ridge / 2 times the sum of their squares.

    Stops when Newton's step moves no strength by more than `tolerance` nats.
    Raises: EstimateError if without ridge some items never met, never lost or never won against the others through
    any chain (it names them), or if `limit` steps were not enough.
    Source: Bradley and Terry (1952), Biometrika 39; finite optimum: Ford (1957), Am. Math. Monthly 64.
    """
    part = check_wins(matches, ridge)
    wins, losses = matches.wins + matches.ties / 2, matches.losses + matches.ties / 2
    total = wins + losses

    def slope_at(strength: np.ndarray) -> Slope:
        gap = strength[matches.first] - strength[matches.second]
        small = np.exp(-np.abs(gap))
        large = 1 / (1 + small)  # the same exponential gives the probability and the cost
        p = np.where(gap >= 0, large, small * large)
        cost = total @ np.log1p(small) + wins @ np.maximum(-gap, 0) + losses @ np.maximum(gap, 0)
        return slope_of_gaps(
            matches, part, strength, ridge, (cost, total * p - wins, total * small * large**2)
        )

    end = descend(
        slope_at,
        start_strengths(matches, part),
        model="bradley and terry's model",
        tolerance=tolerance,
        limit=limit,
    )
    strength = centred(end.point, part)
    penalty = ridge / 2 * float(strength @ strength)
    return Strengths(strength, part, end.slope.cost - penalty, ridge, end.steps)


def covariance(matches: Matches, fit: Strengths) -> np.ndarray:
    """Return the covariance of the strengths [items, items] from the Fisher information.

    It is the pseudo-inverse, since without ridge only differences are told. Takes items^2 memory and items^3 time.
    The variance of a difference is C_ii + C_jj - 2 C_ij: see `difference_error`.
    """
    p = predict_win(fit.strength, matches.first, matches.second)
    total = matches.wins + matches.losses + matches.ties
    return inverse(laplacian(matches, total * p * (1 - p), fit.ridge), matches.items, fit.ridge)


def standard_errors(matches: Matches, fit: Strengths) -> np.ndarray:
    """Return the standard error of each strength about the mean of all, nats: float64 [items]."""
    errors: np.ndarray = np.sqrt(np.diag(covariance(matches, fit)))
    return errors


def difference_error(covariance: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the standard error of strength[first] - strength[second], nats, elementwise."""
    variance = np.diag(covariance)[first] + np.diag(covariance)[second] - 2 * covariance[first, second]
    errors: np.ndarray = np.sqrt(np.maximum(variance, 0.0))
    return errors


def predict_win(strength: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the probability that item `first` beats item `second`, elementwise on item numbers."""
    return logistic(strength[first] - strength[second])
