"""Logistic regression with soft targets and no intercept: many weightings of the same rows at once, or a chosen lasso.

`fit` is Newton's method with a slight ridge, for a bootstrap in one call. `choose` is what AlpacaEval 2 does: a lasso by
liblinear, its strength chosen by cross-validation. liblinear stops early and goes through coefficients in a random order, and
two strengths are often equally good on held-out rows, so its random numbers decide: another seed moves a win rate by up to
0.2 points. To agree with published figures, library and random numbers are those that they were made with.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = ["CHOICES", "Chosen", "choose", "fit", "loss"]

CHOICES = np.logspace(-4, 4, 10)
"""Values of C that cross-validation chooses from."""
_FOLDS, _SEED = 5, 123
_STEPS, _DONE = 100, 1e-9
_RUNAWAY = 50.0
"""Log-odds no data of probabilities has: the likelihood has no greatest value."""


class Chosen(NamedTuple):
    """A fit whose penalty was chosen on held-out rows."""

    weights: np.ndarray
    """float64 [features]"""
    penalty: float
    """C: the larger, the weaker the lasso."""


def fit(
    x: np.ndarray, target: np.ndarray, scale: np.ndarray, ridge: float, start: np.ndarray | None = None
) -> np.ndarray:
    """Return the weights of each fit: float64 [fits, features]; NaN where it has none, as without a ridge it may.

    Minimises ridge / 2 |w|^2 + sum_i s_i cross-entropy(p_i, logistic(x_i w)). Shapes: `x` [fits or 1, rows, features],
    `target` p [rows] in [0, 1], `scale` s [fits, rows], how much each row counts;
    `start` [features], where all begin. Features are presumed of the order of 1.
    Raises: EstimateError if it does not converge.
    """
    features = x.shape[2]
    weights, going = np.zeros((len(scale), features)), np.arange(len(scale))
    if start is not None:
        weights += start
    for _ in range(_STEPS):
        rows, counts, at = x if len(x) == 1 else x[going], scale[going], weights[going]
        q = logistic(_odds(rows, at))
        slope = _across(rows, counts * (q - target)) + ridge * at
        curve = counts * q * (1 - q)
        bend = np.stack([_across(rows, curve * rows[..., one]) for one in range(features)], axis=1)
        # What no row tells apart (a feature that is 0 everywhere) stays where it is.
        bend = bend + np.eye(features) * (ridge + 1e-12 * (1 + np.einsum("bff->b", bend)))[:, None, None]
        step = -np.linalg.solve(bend, slope[..., None])[..., 0]
        # Far from the end the curve flattens and whole steps overshoot.
        step *= np.minimum(1.0, 4.0 / np.maximum(np.abs(step).max(axis=1), 1e-300))[:, None]
        weights[going] = at + step
        lost = np.abs(weights[going]).max(axis=1) > _RUNAWAY
        weights[going[lost]] = np.nan
        going = going[~lost & (np.abs(step).max(axis=1) > _DONE)]
        if not len(going):
            return weights
    raise EstimateError(f"the logistic regression did not converge in {_STEPS} steps")


def choose(x: np.ndarray, target: np.ndarray, scale: np.ndarray) -> Chosen:
    """Fit |w|_1 + C sum_i s_i cross-entropy(p_i, logistic(x_i w)) with the C of `CHOICES` that is best on held-out rows.

    Shapes: `x` [rows, features], `target` p and `scale` s [rows]. The smaller of equally good values is taken.
    """
    fold = np.arange(len(x))[::-1] % _FOLDS
    held = np.empty((_FOLDS, len(CHOICES)))
    for one in range(_FOLDS):
        seen, draws = fold != one, np.random.RandomState(_SEED)
        for at, penalty in enumerate(CHOICES):
            weights = _lasso(x[seen], target[seen], scale[seen], float(penalty), draws)
            held[one, at] = (loss(x[~seen] @ weights, target[~seen]) * scale[~seen]).mean()
    best = float(CHOICES[int(held.mean(axis=0).argmin())])
    draws = np.random.RandomState(_SEED)
    return Chosen(_lasso(x, target, scale, best, draws), best)


def loss(odds: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the cross-entropy of each row, nats, from its log-odds."""
    told: np.ndarray = np.logaddexp(0.0, odds) - target * odds
    return told


def _lasso(
    x: np.ndarray, target: np.ndarray, scale: np.ndarray, penalty: float, draws: np.random.RandomState
) -> np.ndarray:
    """Return the weights; every row stands twice, as a win that counts p and as a loss that counts 1 - p."""
    from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

    model = LogisticRegression(
        C=penalty, l1_ratio=1, solver="liblinear", fit_intercept=False, random_state=draws
    )
    sides = np.repeat([1, 0], len(x))
    counts = np.concatenate([target * scale, (1 - target) * scale])
    told: np.ndarray = model.fit(np.concatenate([x, x]), sides, sample_weight=counts).coef_[0]
    return told


def _odds(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return x w for each fit: [fits, rows]."""
    told: np.ndarray = at @ x[0].T if len(x) == 1 else np.einsum("brf,bf->br", x, at)
    return told


def _across(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the sum over rows of rows times x: [fits, features]."""
    told: np.ndarray = rows @ x[0] if len(x) == 1 else np.einsum("brf,br->bf", x, rows)
    return told
