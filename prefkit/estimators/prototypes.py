"""Ideal points: everyone prefers what lies closest to a point of their own, a mixture of a few shared prototypes.

An answer is worth less the farther it lies from a person's ideal point, so two people may want opposite things, and a
person in between wants neither extreme: what no mixture of linear rewards can say. A new person is placed among fixed
prototypes from a few labels. Answers are taken as embedded already; the original learns the embedding as well, and
measures without a scale, which the learnt embedding stands in for.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.regression import Slope, descend, log_logistic, log_softmax

__all__ = ["Prototypes", "fit_prototypes", "hinge", "ideal_margin", "ideal_points", "place"]

_BLUR = 1e-9
"""Added to squared distances, so that the gradient is finite on an ideal point."""


class Prototypes(NamedTuple):
    """Shared prototypes and where people lie between them."""

    points: np.ndarray
    """float64 [prototypes, dims]."""
    share: np.ndarray
    """How much of each prototype is in each annotator, float64 [annotators, prototypes]; rows sum to 1."""
    scale: float
    """Nats of margin per unit of distance."""
    log_likelihood: float
    """Of the labels, nats, without the penalty."""


def ideal_points(share: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the ideal point of each annotator. Shapes: [annotators, prototypes], [prototypes, dims]."""
    ideal: np.ndarray = share @ points
    return ideal


def ideal_margin(chosen: np.ndarray, rejected: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """Return how much closer to the ideal point chosen lies than rejected. Shapes: [pairs, dims] each; [pairs].

    Source: PAL (2024), arXiv 2406.08469, model A with an identity map.
    """
    margin: np.ndarray = _distance(rejected - ideal) - _distance(chosen - ideal)
    return margin


def hinge(margin: np.ndarray) -> np.ndarray:
    """Return max(0, 1 - margin), the loss that PAL trains with."""
    cost: np.ndarray = np.maximum(0.0, 1.0 - margin)
    return cost


def fit_prototypes(
    chosen: np.ndarray,
    rejected: np.ndarray,
    annotator: np.ndarray,
    prototypes: int = 2,
    *,
    ridge: float = 0.01,
    restarts: int = 3,
    seed: int = 0,
    tolerance: float = 1e-5,
    most_steps: int = 5000,
) -> Prototypes:
    """Fit prototypes, everyone's shares and the scale by maximum likelihood of the logistic loss.

    Shapes: `chosen`, `rejected` [pairs, dims]; `annotator` [pairs], integers from 0 without gaps. `ridge` / 2 times the
    sum of squared log-shares and of squared prototypes, both from their centre and in units of the data's spread, is the
    penalty. Starts at answers drawn at random; the likeliest of the `restarts` ends is kept. It stops when no entry of
    the gradient is above `tolerance` times the cost.
    Raises: EstimateError if no start stops in `most_steps`.
    Source: PAL (2024), arXiv 2406.08469, with the logistic loss in place of the hinge.
    """
    chosen, rejected = np.asarray(chosen, np.float64), np.asarray(rejected, np.float64)
    annotator = np.asarray(annotator, np.int64)
    if not len(annotator) or annotator.min() < 0 or not (count := np.bincount(annotator)).all():
        raise EstimateError("some annotator has no pair", hint="number them from 0 without gaps")
    people, dims = len(count), chosen.shape[1]
    centre = (chosen + rejected).mean(axis=0) / 2
    spread = float(np.sqrt(np.square(np.concatenate([chosen, rejected]) - centre).mean())) or 1.0
    near, far = (chosen - centre) / spread, (rejected - centre) / spread
    slope = _slope(near, far, annotator, people, prototypes, ridge)
    rng = np.random.default_rng(seed)
    ends, told = [], []
    for _ in range(restarts):
        points = near[rng.choice(len(near), prototypes, replace=len(near) < prototypes)]
        logits = rng.normal(0, 0.1, (people, prototypes))
        try:
            start = np.concatenate([[0.0], points.ravel(), logits.ravel()])
            ends.append(descend(slope, start, tolerance, most_steps))
        except EstimateError as error:
            told.append(error)
    if not ends:
        raise told[0]
    best = min(ends, key=lambda end: slope(end)[0])
    scale, points, logits = _parts(best, people, prototypes, dims)
    share = np.exp(log_softmax(logits))
    margin = scale * ideal_margin(near, far, ideal_points(share, points)[annotator])
    return Prototypes(points * spread + centre, share, scale / spread, float(log_logistic(margin).sum()))


def place(
    chosen: np.ndarray,
    rejected: np.ndarray,
    points: np.ndarray,
    scale: float = 1.0,
    *,
    ridge: float = 0.1,
    tolerance: float = 1e-6,
    most_steps: int = 2000,
) -> np.ndarray:
    """Return the shares of one new annotator from a few labels, prototypes being fixed: float64 [prototypes].

    Shapes: `chosen`, `rejected` [pairs, dims]; `points` [prototypes, dims]. Without labels, and the more so the higher
    `ridge`, the shares are equal.
    Raises: EstimateError if it does not converge.
    """

    def slope(logits: np.ndarray) -> tuple[float, np.ndarray]:
        share = np.exp(log_softmax(logits))
        ideal = share @ points
        to_chosen, to_rejected = chosen - ideal, rejected - ideal
        near, far = _distance(to_chosen), _distance(to_rejected)
        margin = scale * (far - near)
        pull = scale * logistic(-margin)[:, None]
        by_ideal = (pull * (to_rejected / far[:, None] - to_chosen / near[:, None])).sum(axis=0)
        by_share = points @ by_ideal
        gradient = share * (by_share - share @ by_share) + ridge * logits
        return float(-log_logistic(margin).sum() + ridge / 2 * logits @ logits), gradient

    share: np.ndarray = np.exp(log_softmax(descend(slope, np.zeros(len(points)), tolerance, most_steps)))
    return share


def _slope(
    near: np.ndarray, far: np.ndarray, annotator: np.ndarray, people: int, prototypes: int, ridge: float
) -> Slope:
    dims = near.shape[1]

    def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
        scale, points, logits = _parts(flat, people, prototypes, dims)
        share = np.exp(log_softmax(logits))
        ideal = ideal_points(share, points)[annotator]
        to_near, to_far = near - ideal, far - ideal
        near_by, far_by = _distance(to_near), _distance(to_far)
        margin = scale * (far_by - near_by)
        wrong = logistic(-margin)
        each = scale * wrong[:, None] * (to_far / far_by[:, None] - to_near / near_by[:, None])
        by_ideal = np.stack([np.bincount(annotator, column, people) for column in each.T], axis=1)
        by_share = by_ideal @ points.T
        by_logits = share * (by_share - (share * by_share).sum(axis=1, keepdims=True)) + ridge * logits
        by_points = share.T @ by_ideal + ridge * points
        penalty = ridge / 2 * (float((logits**2).sum()) + float((points**2).sum()))
        gradient = np.concatenate([[-float(wrong @ margin)], by_points.ravel(), by_logits.ravel()])
        return float(-log_logistic(margin).sum()) + penalty, gradient

    return slope


def _parts(flat: np.ndarray, people: int, prototypes: int, dims: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the scale, the prototypes and the log-shares of a point of the descent."""
    cut = 1 + prototypes * dims
    scale = float(np.exp(np.clip(flat[0], -20, 20)))
    return scale, flat[1:cut].reshape(prototypes, dims), flat[cut:].reshape(people, prototypes)


def _distance(gap: np.ndarray) -> np.ndarray:
    distance: np.ndarray = np.sqrt(np.square(gap).sum(axis=-1) + _BLUR**2)
    return distance
