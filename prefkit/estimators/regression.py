"""Small convex fits inside other models: weighted logistic and softmax regression, and the descent they share.

They take a step at a time from where they were, since an outer loop (EM) only needs each to improve.
"""

from collections.abc import Callable

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = ["Slope", "descend", "log_logistic", "log_softmax", "logistic_step", "softmax_step"]

Slope = Callable[[np.ndarray], tuple[float, np.ndarray]]
"""From a point [n] to its cost and gradient."""

_MEMORY = 10
_ARMIJO = 1e-4


def log_logistic(margin: np.ndarray) -> np.ndarray:
    """Return ln logistic(margin) without underflow."""
    told: np.ndarray = np.minimum(margin, 0.0) - np.log1p(np.exp(-np.abs(margin)))
    return told


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Return scores less the log of the sum of their exponentials over the last axis."""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    told: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return told


def logistic_step(features: np.ndarray, weight: np.ndarray, head: np.ndarray, ridge: float) -> np.ndarray:
    """Take one Newton step on sum(weight * -ln logistic(features @ head)) + ridge / 2 |head|^2, halved until it falls.

    Shapes: `features` [rows, dims], `weight` [rows], `head` [dims]. There is no intercept: a pair read the other way
    round is the negative row.
    """

    def cost(at: np.ndarray) -> float:
        return float(-weight @ log_logistic(features @ at) + ridge / 2 * at @ at)

    p = logistic(features @ head)
    gradient = -features.T @ (weight * (1 - p)) + ridge * head
    hessian = features.T @ (features * (weight * p * (1 - p))[:, None]) + ridge * np.eye(len(head))
    step = np.linalg.solve(hessian, gradient)
    here, scale = cost(head), 1.0
    while scale > 1e-6:
        after = head - scale * step
        if cost(after) <= here:
            return after
        scale /= 2
    return head


def softmax_step(
    context: np.ndarray, target: np.ndarray, router: np.ndarray, ridge: float, most_steps: int = 20
) -> np.ndarray:
    """Descend on the cross-entropy of softmax(context @ router) with soft targets, plus ridge / 2 |router|^2.

    Shapes: `context` [rows, dims], `target` [rows, classes] (any non-negative mass), `router` [dims, classes].
    """
    mass = target.sum(axis=1, keepdims=True)

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        at = flat.reshape(router.shape)
        told = log_softmax(context @ at)
        gradient = context.T @ (mass * np.exp(told) - target) + ridge * at
        return float(-(target * told).sum() + ridge / 2 * (at**2).sum()), gradient.ravel()

    return _walk(slope, router.ravel(), 0.0, most_steps)[0].reshape(router.shape)


def descend(slope: Slope, start: np.ndarray, tolerance: float = 1e-6, most_steps: int = 2000) -> np.ndarray:
    """Walk down to where no entry of the gradient is above `tolerance` times the cost (at least 1), by L-BFGS.

    Raises: EstimateError if it does not get there in `most_steps`.
    Source: Nocedal (1980), Mathematics of Computation 35.
    """
    point, worst = _walk(slope, start, tolerance, most_steps)
    if worst > 1:
        what = f"the descent did not converge in {most_steps} steps: the gradient is {worst:.2g} times the tolerance"
        raise EstimateError(what)
    return point


def _walk(slope: Slope, point: np.ndarray, tolerance: float, most_steps: int) -> tuple[np.ndarray, float]:
    """Return the end and its largest gradient over the tolerance."""
    cost, gradient = slope(point)
    moves: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(most_steps):
        room = tolerance * max(1.0, abs(cost))
        if np.abs(gradient).max() <= room:
            break
        step = -_turned(gradient, moves)
        if step @ gradient >= 0:
            step, moves = -gradient, []
        scale = 1.0 if moves else min(1.0, 1.0 / float(np.abs(gradient).sum()))
        after = point + scale * step
        there, turn = slope(after)
        while there > cost + _ARMIJO * scale * float(step @ gradient) and scale > 1e-12:
            scale /= 2
            after = point + scale * step
            there, turn = slope(after)
        if there >= cost:
            if not moves:
                break
            moves = []
            continue
        if (after - point) @ (turn - gradient) > 0:
            moves = [*moves[1 - _MEMORY :], (after - point, turn - gradient)]
        point, cost, gradient = after, there, turn
    room = max(tolerance * max(1.0, abs(cost)), 1e-300)
    return point, float(np.abs(gradient).max()) / room


def _turned(gradient: np.ndarray, moves: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return about the inverse Hessian times the gradient, by the two loops over the last moves."""
    turned, shares = gradient.copy(), []
    for move, turn in reversed(moves):
        share = float(move @ turned) / float(move @ turn)
        turned -= share * turn
        shares.append(share)
    if moves:
        move, turn = moves[-1]
        turned *= float(move @ turn) / float(turn @ turn)
    for (move, turn), share in zip(moves, reversed(shares), strict=True):
        turned += (share - float(turn @ turned) / float(move @ turn)) * move
    return turned
