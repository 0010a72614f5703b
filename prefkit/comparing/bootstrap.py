"""Pigeonhole bootstrap: an interval for any figure of a grid of seeds and prompts, by drawing both again.

Seeds are drawn with replacement, and prompts, each without regard to the other; a value counts as often as its seed times
its prompt was drawn. It needs no formula, so it holds for what is not a mean (a length-controlled win rate, an area), so it
is the check beside a formula. With few seeds it sees few of the ways seeds can fall: docs/compare_statistics.md has its
coverage.

Sources: Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1, 386; p-value, Davison and Hinkley (1997).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.comparing.differences import whole
from prefkit.errors import EstimateError

__all__ = ["Resampled", "Statistic", "mean_of", "pigeonhole"]

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From how often each seed [draws, seeds] and each prompt [draws, prompts] counts, to the figure [draws]."""

_BLOCK = 1 << 21
"""Cells looked at at once: 16 MiB of float64 an array."""


class Resampled(NamedTuple):
    """A figure with the percentile interval of its bootstrap."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided, of the figure being `null`."""
    error: float
    null: float
    """What the figure is if arms do not differ."""
    draws: int
    failed: int
    """Draws in which the figure is undefined; left out."""


def pigeonhole(
    statistic: Statistic,
    shape: tuple[int, int],
    draw: np.random.Generator,
    draws: int = 2000,
    level: float = 0.95,
    null: float = 0.0,
    clusters: np.ndarray | None = None,
) -> Resampled:
    """Return the figure of the grid and its interval. `shape` is (seeds, prompts); clusters [prompts] are drawn whole.

    2,000 draws for an interval, 10,000 for a p-value. Raises: EstimateError where the figure is never defined.
    """
    seeds, prompts = shape
    of = np.arange(prompts) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = int(of.max()) + 1
    once = statistic(np.ones((1, seeds)), np.ones((1, prompts)))[0]
    at_once = max(1, _BLOCK // (seeds * prompts))
    told = []
    for first in range(0, draws, at_once):
        size = min(at_once, draws - first)
        drawn = draw.multinomial(groups, np.full(groups, 1 / groups), size)
        seen = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size)
        told.append(statistic(seen.astype(np.float64), drawn[:, of].astype(np.float64)))
    found = np.concatenate(told)
    known = found[np.isfinite(found)]
    if len(known) < 2 or not np.isfinite(once):
        raise EstimateError("the figure is not defined on these values, or on no draw from them")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    tail = min(int((known <= null).sum()), int((known >= null).sum())) + 1
    p = min(1.0, 2 * tail / (len(known) + 1))
    error = float(known.std(ddof=1))
    failed = len(found) - len(known)
    return Resampled(float(once), float(low), float(high), p, error, null, len(known), failed)


def mean_of(grid: np.ndarray) -> Statistic:
    """Return the statistic "mean of the grid" [seeds, prompts]; prompts that miss a value count not."""
    values, there = whole(grid)

    def statistic(seeds: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        counted = prompts[:, there]
        with np.errstate(invalid="ignore"):
            told: np.ndarray = ((seeds @ values) * counted).sum(axis=1) / (
                seeds.sum(axis=1) * counted.sum(axis=1)
            )
        return told

    return statistic
