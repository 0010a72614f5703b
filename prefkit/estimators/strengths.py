"""Strengths of items from comparisons: Bradley and Terry's model, and Davidson's for comparisons that may tie.

Both are fitted by Newton's method on the penalised likelihood, which is concave, with steps halved until it rises.
Without a penalty the optimum is finite only if every item has beaten every other through some chain; that is checked,
since a fit that drifts off to infinity looks like a number.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.ties import davidson

__all__ = ["BradleyTerry", "Davidson", "fit_bradley_terry", "fit_davidson"]

_TOLERANCE = 1e-10
_STEPS = 100


class BradleyTerry(NamedTuple):
    """Strengths of items, in nats."""

    strength: np.ndarray
    """float64 [items], mean 0."""
    covariance: np.ndarray
    """Of the strengths, [items, items]; that of a difference is C_ii + C_jj - 2 C_ij."""
    cost: float
    """Negative log-likelihood without the penalty, nats."""


class Davidson(NamedTuple):
    """Strengths of items and how readily equals tie."""

    strength: np.ndarray
    """float64 [items], nats, mean 0."""
    nu: float
    """P(tie) : P(win) : P(loss) = nu : 1 : 1 between equals."""
    cost: float
    """Negative log-likelihood without the penalty, nats."""


class _Slope(NamedTuple):
    """The penalised cost at a point, and its first and second derivatives."""

    cost: float
    gradient: np.ndarray
    hessian: np.ndarray


def fit_bradley_terry(wins: np.ndarray, ridge: float = 0.0) -> BradleyTerry:
    """Fit strengths by maximum likelihood, less ridge / 2 times the sum of their squares.

    Shapes: `wins` [items, items], wins[i, j] counts i over j and may be fractional; the diagonal is not read.
    Raises: EstimateError if without ridge some item never won against, or never lost to, the others through any
    chain, or if Newton's method does not converge.
    Source: Bradley and Terry (1952), Biometrika 39; finite optimum: Ford (1957).
    """
    wins = _counts(wins)
    if ridge <= 0:
        _check_connected(wins)
    total = wins + wins.T

    def slope(theta: np.ndarray) -> _Slope:
        gap = theta[:, None] - theta[None, :]
        p = logistic(gap)
        gradient = -(wins * (1 - p)).sum(axis=1) + (wins.T * p).sum(axis=1) + ridge * theta
        weight = total * p * (1 - p)
        hessian = np.diag(weight.sum(axis=1) + ridge) - weight
        return _Slope(
            float((wins * np.logaddexp(0, -gap)).sum() + ridge / 2 * theta @ theta), gradient, hessian
        )

    theta = _newton(slope, np.zeros(len(wins)))
    theta = theta - theta.mean()
    end = slope(theta)
    return BradleyTerry(theta, np.linalg.pinv(end.hessian), end.cost - ridge / 2 * float(theta @ theta))


def fit_davidson(wins: np.ndarray, ties: np.ndarray, ridge: float = 0.0) -> Davidson:
    """Fit strengths and the tie parameter by maximum likelihood, less ridge / 2 times the sum of squared strengths.

    Shapes: `wins` [items, items] as for `fit_bradley_terry`; `ties` [items, items], symmetric, ties[i, j] counts the
    ties of i and j once.
    Raises: EstimateError as `fit_bradley_terry` (a tie counts as half a win of each), if there is no tie, or if there
    is nothing else.
    Source: Davidson (1970), JASA 65; concave in the strengths and ln nu.
    """
    wins, ties = _counts(wins), _counts(ties)
    if not (ties == ties.T).all():
        raise EstimateError("ties must be symmetric: ties[i, j] is ties[j, i]")
    if not ties.any() or not wins.any():
        what = "there are no ties" if wins.any() else "every comparison is a tie"
        raise EstimateError(f"{what}, so how readily equals tie cannot be told", hint="use fit_bradley_terry")
    if ridge <= 0:
        _check_connected(wins + ties / 2)
    total, count = wins + wins.T + ties, len(wins)

    def slope(point: np.ndarray) -> _Slope:
        theta, log_nu = point[:count], float(point[count])
        gap = theta[:, None] - theta[None, :]
        odds = davidson(gap, float(np.exp(log_nu)))
        lead = (wins - wins.T - total * (odds.win - odds.lose)) / 2
        gradient = np.append(-lead.sum(axis=1) + ridge * theta, -(ties - total * odds.tie).sum() / 2)
        spread = total * (odds.win + odds.lose - (odds.win - odds.lose) ** 2) / 4
        cross = total * odds.tie * (odds.win - odds.lose) / 2
        hessian = np.zeros((count + 1, count + 1))
        hessian[:count, :count] = np.diag(spread.sum(axis=1) + ridge) - spread
        hessian[:count, count] = hessian[count, :count] = -cross.sum(axis=1)
        hessian[count, count] = (total * odds.tie * (1 - odds.tie)).sum() / 2
        told = np.log(np.maximum(odds, 1e-300))  # a step too far may put a probability at 0
        cost = -(wins * told[0]).sum() - (ties * told[2]).sum() / 2
        return _Slope(float(cost + ridge / 2 * theta @ theta), gradient, hessian)

    point = _newton(slope, np.zeros(count + 1))
    theta = point[:count] - point[:count].mean()
    penalty = ridge / 2 * float(point[:count] @ point[:count])
    return Davidson(theta, float(np.exp(point[count])), slope(point).cost - penalty)


def _newton(slope: Callable[[np.ndarray], _Slope], point: np.ndarray) -> np.ndarray:
    here = slope(point)
    for _ in range(_STEPS):
        if np.abs(here.gradient).max(initial=0.0) < _TOLERANCE * max(1.0, abs(here.cost)):
            return point
        step = np.linalg.lstsq(here.hessian, here.gradient, rcond=1e-12)[0]
        scale = 1.0
        while (there := slope(point - scale * step)).cost > here.cost + 1e-12 * abs(
            here.cost
        ) and scale > 1e-9:
            scale /= 2
        point, here = point - scale * step, there
    worst = np.abs(here.gradient).max()
    raise EstimateError(f"strengths did not converge in {_STEPS} steps: the gradient is still {worst:.2g}")


def _counts(counts: np.ndarray) -> np.ndarray:
    counts = np.array(counts, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise EstimateError(f"counts must be items by items, got shape {counts.shape}")
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise EstimateError("counts must be finite and at least 0")
    np.fill_diagonal(counts, 0.0)
    return counts


def _check_connected(wins: np.ndarray) -> None:
    reached = (wins > 0) | np.eye(len(wins), dtype=bool)
    for _ in range(max(1, len(wins)).bit_length()):
        reached = (reached.astype(np.float64) @ reached.astype(np.float64)) > 0
    if not reached.all():
        i, j = (int(at) for at in np.argwhere(~reached)[0])
        what = f"item {i} never beats item {j} through any chain of comparisons, so their strengths are not finite"
        raise EstimateError(what, hint="give a ridge above 0, or fit each connected part by itself")
