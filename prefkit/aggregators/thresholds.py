"""Thresholds: each objective is wanted up to a point and no further, since past it the true score falls.

Three ways to say so: cut scores off at their thresholds (`saturate`), punish distance from them (`satisfy`), or find
weights under which the picked responses just meet them (`fit_dual`): a multiplier grows while its objective is short of
its threshold and falls while it is past it.
Source: Confronting Reward Model Overoptimization with Constrained RLHF (ICLR 2024); offline: picks among responses that
are there stand in for a policy that is trained.
"""

from typing import NamedTuple

import numpy as np

from prefkit.aggregators.settle import Picked, settle

__all__ = ["Multipliers", "dual_step", "fit_dual", "missed", "mixed", "satisfy", "saturate", "squashed"]


class Multipliers(NamedTuple):
    """Where the dual stands."""

    raw: np.ndarray
    """Unbounded, float64 [objectives]."""
    speed: np.ndarray
    """Their last move, for momentum."""


def saturate(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return scores cut off at their thresholds. Shapes: [rows, objectives], [objectives]; NaN stays."""
    told: np.ndarray = np.minimum(scores, thresholds)
    return told


def satisfy(scores: np.ndarray, thresholds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return minus the weighed squares of distances from thresholds: float64 [rows]; 0 where all are just met."""
    squares = (scores - thresholds) ** 2
    told: np.ndarray = -np.sum([squares[:, at] * weight for at, weight in enumerate(weights)], axis=0)
    return told


def squashed(raw: np.ndarray, *, equality: bool) -> np.ndarray:
    """Return the weights of multipliers: in (0, 1) where thresholds are to be reached, in (-1, 1) where just met."""
    told: np.ndarray = np.tanh(raw) if equality else 0.5 + 0.5 * np.tanh(raw / 2)
    return told


def mixed(task: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (N - sum of weights) * task + weighed scores. Shapes: [rows], [rows, N], [N]; [rows]. Source: sec. 4."""
    whole = (len(weights) - weights.sum()) * task
    told: np.ndarray = np.sum([whole, *(scores[:, at] * weight for at, weight in enumerate(weights))], axis=0)
    return told


def dual_step(
    at: Multipliers,
    reached: np.ndarray,
    thresholds: np.ndarray,
    *,
    equality: bool,
    rate: float = 0.1,
    momentum: float = 0.1,
) -> Multipliers:
    """Move multipliers against what the picks reached: down where it is past the threshold, up where it is short."""
    speed = momentum * at.speed - rate * _steepness(at.raw, equality) * (reached - thresholds)
    return Multipliers(at.raw + speed, speed)


def fit_dual(
    task: np.ndarray,
    scores: np.ndarray,
    prompt: np.ndarray,
    thresholds: np.ndarray,
    *,
    equality: bool = False,
    rate: float = 2.0,
    momentum: float = 0.1,
) -> Picked:
    """Find weights under which the best response of each prompt, on average, meets the thresholds.

    Shapes: `task` [rows], `scores` [rows, N], finite; `prompt` [rows], numbers from 0 that never fall; `thresholds` [N].
    `rate` is for scores with a standard deviation of 1; it may be large, since the mean of the weights over the last steps
    is what is found. A threshold that no pick can meet drives its weight
    to the end of its range, where it stays: compare `reached` with the thresholds.
    Raises: EstimateError if the weights do not settle.
    """

    def moved(raw: np.ndarray, reached: np.ndarray) -> np.ndarray:
        told: np.ndarray = -pace * _steepness(raw, equality) * (reached - thresholds)
        return told

    spread = scores.std(axis=0) if len(scores) else np.ones(len(thresholds))
    pace = rate / np.where(spread > 0, spread, 1.0)
    return settle(
        task,
        scores,
        prompt,
        weights=lambda raw: squashed(raw, equality=equality),
        moved=moved,
        momentum=momentum,
        of_task=lambda weights: float(len(weights) - weights.sum()),
    )


def missed(found: Picked, thresholds: np.ndarray, *, equality: bool) -> np.ndarray:
    """Return which thresholds the picks are short of, or beside where they are to be met exactly: bool [N].

    By more than 0.02, or 2 % of a threshold above 1: weights swing around where they belong.
    """
    room = 0.02 * np.maximum(1.0, np.abs(thresholds))
    short = thresholds - found.reached
    told: np.ndarray = (np.abs(short) if equality else short) > room
    return told


def _steepness(raw: np.ndarray, equality: bool) -> np.ndarray:
    weight = squashed(raw, equality=equality)
    told: np.ndarray = 1 - weight**2 if equality else weight * (1 - weight)
    return told
