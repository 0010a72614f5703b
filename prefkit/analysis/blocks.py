"""Blocks: an interval for any figure, from what it becomes when a part of the prompts is left out.

The delete-a-group jackknife needs no formula for the figure and no random numbers; it is for smooth figures (a kappa, an
alpha) and wrong for medians. Which block a prompt is in is a hash of its id, so neither order nor sharding matters.

Source: Kott (2001), Journal of Official Statistics 17, 521.
"""

from collections.abc import Callable, Iterable

import numpy as np

from prefkit import rng
from prefkit.statistics.figures import Estimate

__all__ = ["BLOCKS", "blocks_of", "estimate_of", "jackknifed"]

BLOCKS = 40
_T = 2.023  # the 97.5 % point of Student's t with 39 degrees of freedom


def blocks_of(ids: Iterable[str | None], blocks: int = BLOCKS) -> np.ndarray:
    """Return the block of each id: int64 [rows] from 0."""
    draw = rng.uniform(0, "blocks", (each or "" for each in ids))
    found: np.ndarray = (draw * blocks).astype(np.int64)
    return found


def jackknifed(figure: Callable[[np.ndarray], float], block: np.ndarray, n: int | None = None) -> Estimate:
    """Return a figure with its interval. `figure` takes the rows to use, bool [rows]; NaN of it is no value.

    `block` is int64 [rows], below `BLOCKS`. Without two blocks there is a value and no interval.
    """
    everything = np.ones(len(block), dtype=bool)
    value = figure(everything) if len(block) else float("nan")
    there = np.unique(block)
    left = np.array([figure(block != each) for each in there]) if len(there) > 1 else np.zeros(0)
    left = left[np.isfinite(left)]
    if not np.isfinite(value):
        return Estimate(n=len(block) if n is None else n)
    reach = float("nan")
    if len(left) > 1:
        reach = _T * float(np.sqrt((len(left) - 1) / len(left) * np.square(left - left.mean()).sum()))
    return estimate_of(value, reach, len(block) if n is None else n)


def estimate_of(value: float, reach: float, n: int, least: float = -np.inf, most: float = np.inf) -> Estimate:
    """Return a figure with the interval value +- reach, kept in its range; NaN is none."""
    if not np.isfinite(value):
        return Estimate(n=n)
    if not np.isfinite(reach):
        return Estimate(value=value, n=n)
    return Estimate(value=value, low=max(least, value - reach), high=min(most, value + reach), n=n)
