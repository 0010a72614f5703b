"""Hypervolume: how much of the space of objectives a set of responses covers, and what each alone adds.

A point covers the box between it and a reference point. What a response adds is what no other response of its prompt
covers: 0 for one that another is at least as good as in everything. So the best of this score lies on the Pareto front,
where it is alone, dents included, which no weighed sum reaches.

The space is cut at every coordinate that occurs, and each cell is covered or not: exact, and quick for pools of the
usual size. Work grows as n^(objectives + 1), so more than five objectives, or very large pools, are refused.
Source: Learning to Optimize Multi-Objective Alignment Through Dynamic Reward Weighting (2025) for the use of
hypervolume and `pareto_factor`; the exclusive share of each response is Zitzler and Thiele's (1999) measure.
"""

from functools import reduce

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["exclusive", "hypervolume", "pareto_factor"]

_MOST_OBJECTIVES = 5
_BLOCK = 1 << 23
"""Cells times points looked at together: 8 MB of booleans."""


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that points cover above a reference point. Shapes: [n, objectives], [objectives].

    A point that is not above the reference in every objective covers nothing.
    """
    if not len(points):
        return 0.0
    covered, volume = _cells(np.asarray(points, np.float64)[None], np.asarray(reference, np.float64)[None])
    return float((volume * covered.any(axis=1)).sum())


def exclusive(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the volume that each point covers and no other point of its pool: float64 [pools, n].

    Shapes: `points` [pools, n, objectives], `reference` [pools, objectives]. Of two equal points neither adds anything.
    Raises: EstimateError for more than five objectives or a pool too large to be cut into cells.
    """
    pools, size, objectives = points.shape
    told = np.zeros((pools, size))
    at_once = max(1, _BLOCK // max(1, size ** (objectives + 1)))
    for start in range(0, pools, at_once):
        part = slice(start, start + at_once)
        covered, volume = _cells(points[part], reference[part])
        alone = volume * (covered.sum(axis=1) == 1)
        told[part] = (covered * alone[:, None]).sum(axis=2)
    return told


def pareto_factor(gain: np.ndarray) -> np.ndarray:
    """Return what a reward is multiplied by after a gain of hypervolume: 0.5 + 1.5 tanh(gain), in [0.5, 2)."""
    told: np.ndarray = 0.5 + 1.5 * np.tanh(gain)
    return told


def _cells(points: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which point covers which cell, bool [pools, n, cells], and the cells' volumes, float64 [pools, cells]."""
    pools, size, objectives = points.shape
    if objectives > _MOST_OBJECTIVES:
        what = f"hypervolume is told of at most {_MOST_OBJECTIVES} objectives, and there are {objectives}"
        raise EstimateError(what, hint="combine some of them first, by a weighed sum")
    if size ** (objectives + 1) > _BLOCK * 8:
        what = f"a pool of {size} responses and {objectives} objectives is too large for exact hypervolume"
        raise EstimateError(what, hint="fewer objectives, or fewer responses a prompt")
    above = np.maximum(points, reference[:, None])
    covers, widths = [], []
    for at in range(objectives):
        ends = np.sort(above[:, :, at], axis=1)
        starts = np.concatenate([reference[:, None, at], ends[:, :-1]], axis=1)
        widths.append(ends - starts)
        covers.append(above[:, :, None, at] >= ends[:, None, :])
    volume = reduce(lambda one, other: (one[:, :, None] * other[:, None, :]).reshape(pools, -1), widths)
    covered = reduce(
        lambda one, other: (one[:, :, :, None] & other[:, :, None, :]).reshape(pools, size, -1), covers
    )
    return covered, volume
