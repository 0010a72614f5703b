"""Settle: weights that answer to what the picks they lead to reach, until their mean stands still.

Picking the best response of each prompt is a jump: a little more weight changes nothing, and then a prompt's pick. So
weights swing around where they belong, and their mean over the second half of the steps is what is found.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["Picked", "picks", "settle"]

_FIRST, _MOST = 500, 16000
_STILL = 0.01
"""How far the means over the third and the fourth quarter of the steps may be apart."""


class Picked(NamedTuple):
    """What settled."""

    weights: np.ndarray
    """Of the objectives, float64 [objectives]: means over the second half of the steps."""
    reached: np.ndarray
    """Mean score of the picked responses, by objective and over the same steps: float64 [objectives]."""
    steps: int


def picks(score: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return the position of each prompt's best response, the first of equals: int64 [prompts].

    Shapes: both [rows]; `prompt` never falls.
    """
    starts = np.flatnonzero(np.append(True, prompt[1:] != prompt[:-1]))
    best = np.maximum.reduceat(score, starts)
    sizes = np.diff(np.append(starts, len(score)))
    places = np.flatnonzero(score == np.repeat(best, sizes))
    first: np.ndarray = places[np.append(True, prompt[places][1:] != prompt[places][:-1])]
    return first


def settle(
    task: np.ndarray,
    parts: np.ndarray,
    prompt: np.ndarray,
    *,
    weights: Callable[[np.ndarray], np.ndarray],
    moved: Callable[[np.ndarray, np.ndarray], np.ndarray],
    momentum: float,
    of_task: Callable[[np.ndarray], float],
) -> Picked:
    """Move a state until the mean of its weights stands still.

    Shapes: `task` [rows], `parts` [rows, objectives], both finite; `prompt` [rows], which never falls. `weights` says
    what a state weighs each objective with, `of_task` what such weights leave for the task, and `moved` by how much a
    state moves once its picks have reached a mean score by objective.
    Raises: EstimateError if there is nothing to pick from, or if it is not still after 16,000 steps.
    """
    if not len(task) or not (np.isfinite(parts).all() and np.isfinite(task).all()):
        raise EstimateError("there are no responses with a finite score of every objective")
    state, speed = np.zeros(parts.shape[1]), np.zeros(parts.shape[1])
    path: list[np.ndarray] = []
    found: list[np.ndarray] = []
    ending = _FIRST
    while True:
        while len(path) < ending:
            now = weights(state)
            reached = parts[picks(of_task(now) * task + parts @ now, prompt)].mean(axis=0)
            path.append(now)
            found.append(reached)
            speed = momentum * speed + moved(state, reached)
            state = state + speed
        half, late = ending // 2, ending * 3 // 4
        if np.abs(np.mean(path[half:late], axis=0) - np.mean(path[late:], axis=0)).max() <= _STILL:
            return Picked(np.mean(path[half:], axis=0), np.mean(found[half:], axis=0), ending)
        if ending >= _MOST:
            what = f"the weights of the objectives still moved by more than {_STILL} after {ending} steps"
            raise EstimateError(what, hint="normalise the scores, or look at the thresholds")
        ending *= 2
