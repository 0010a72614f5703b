"""The difference of two arms, with an interval that holds for other prompts and other seeds.

Prompts and seeds are crossed: the difference of seed s on prompt i is a mean, plus what is peculiar to the prompt, to the
seed, and to both. The variance of the mean is that of a two-way layout with random effects, (MS_s + MS_p - MS_e) / (n S).
The part of seeds can come out below none; then the interval is that over prompts, the wider one, with its degrees of freedom.

Sources: Searle, Casella and McCulloch (1992), Variance Components, ch. 4; degrees of freedom, Satterthwaite (1946),
Biometrics Bulletin 2, 110; questions in clusters, Miller (2024), arXiv 2411.00640.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["Difference", "Variance", "among", "at_level", "difference", "whole"]


class Variance(NamedTuple):
    """What a single difference, of one seed on one prompt, varies by. Squares of its unit, not below 0."""

    prompt: float
    seed: float
    """NaN with a single seed: it cannot be known."""
    rest: float
    """Of a seed on a prompt, beyond both; with a single seed a part of `prompt`."""


class Difference(NamedTuple):
    """How much better one arm is than another, in the unit of the values."""

    estimate: float
    low: float
    high: float
    p: float
    """Two-sided, of no difference."""
    error: float
    df: float
    """Degrees of freedom of Student's t: Satterthwaite's, or prompts less one where the interval is that over prompts."""
    satterthwaite: float
    level: float
    seeds: int
    prompts: int
    """Or clusters of prompts, where they were given."""
    left_out: int
    """Prompts without a value for each seed of both arms."""
    variance: Variance
    error_of_prompts: float
    """The standard error if only prompts were sampled: too small wherever seeds differ."""


def difference(
    better: np.ndarray, than: np.ndarray, clusters: np.ndarray | None = None, level: float = 0.95
) -> Difference:
    """Return how much higher `better` is than `than`, paired by seed and prompt.

    Shapes: both float64 [seeds, prompts], NaN missing; `clusters` [prompts], equal for prompts that are not independent.
    With a single seed the interval is over prompts alone, and holds for these two trained models only.
    Raises: EstimateError below two prompts (or clusters) that have every value.
    """
    grid, there = whole(better - than)
    if clusters is not None:
        grid = _by_cluster(grid, clusters[there])
    seeds, prompts = grid.shape
    if prompts < 2:
        raise EstimateError(f"an interval needs two prompts with a value for every seed, found {prompts}")
    laid = _layout(grid)
    found = Difference(
        estimate=float(grid.mean()),
        low=np.nan,
        high=np.nan,
        p=np.nan,
        error=laid.error,
        df=laid.df,
        satterthwaite=laid.satterthwaite,
        level=level,
        seeds=seeds,
        prompts=prompts,
        left_out=int((~there).sum()),
        variance=laid.variance,
        error_of_prompts=float(grid.mean(axis=0).std(ddof=1) / np.sqrt(prompts)),
    )
    return at_level(found, level)


def among(
    values: np.ndarray, base: int = 0, clusters: np.ndarray | None = None, level: float = 0.95
) -> tuple[Difference | None, ...]:
    """Return how much higher each arm is than arm `base`; None for that itself. Shape of `values`: [arms, seeds, prompts]."""
    return tuple(
        None if arm == base else difference(its, values[base], clusters, level)
        for arm, its in enumerate(values)
    )


def at_level(found: Difference, level: float) -> Difference:
    """Return the same difference with an interval of another level, and its p-value."""
    from scipy.special import stdtr, stdtrit  # type: ignore[import-untyped]

    if found.error == 0:  # as when both arms are one: no spread, so no doubt
        p = 1.0 if found.estimate == 0 else 0.0
        return found._replace(low=found.estimate, high=found.estimate, p=p, level=level)
    reach = float(stdtrit(found.df, (1 + level) / 2)) * found.error
    p = 2 * float(stdtr(found.df, -abs(found.estimate) / found.error))
    return found._replace(low=found.estimate - reach, high=found.estimate + reach, p=p, level=level)


def whole(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of [seeds, prompts] that have every value, and which those are: bool [prompts]."""
    there = np.isfinite(grid).all(axis=0)
    return grid[:, there], there


class _Layout(NamedTuple):
    error: float
    df: float
    satterthwaite: float
    variance: Variance


def _layout(grid: np.ndarray) -> _Layout:
    seeds, prompts = grid.shape
    middle = grid.mean()
    rows, columns = grid.mean(axis=1) - middle, grid.mean(axis=0) - middle
    of_prompts = seeds * float(columns @ columns) / (prompts - 1)
    if seeds == 1:
        alone = Variance(of_prompts, np.nan, 0.0)
        return _Layout(float(np.sqrt(of_prompts / prompts)), prompts - 1, prompts - 1, alone)
    of_seeds = prompts * float(rows @ rows) / (seeds - 1)
    rest = grid - middle - rows[:, None] - columns
    free = (seeds - 1) * (prompts - 1)
    of_rest = float(np.square(rest).sum()) / free
    variance = Variance(
        max(0.0, (of_prompts - of_rest) / seeds), max(0.0, (of_seeds - of_rest) / prompts), of_rest
    )
    total = of_seeds + of_prompts - of_rest
    error = float(np.sqrt(max(total, of_prompts) / (seeds * prompts)))
    spread = of_seeds**2 / (seeds - 1) + of_prompts**2 / (prompts - 1) + of_rest**2 / free
    df = total**2 / spread if spread > 0 else np.inf
    df = max(df, min(seeds, prompts) - 1)
    # With no sign of seeds the few degrees of freedom they have must not widen what is not their error.
    return _Layout(error, df if of_seeds > of_rest else prompts - 1, df, variance)


def _by_cluster(grid: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return [seeds, clusters] of the same mean, whose columns are sums within clusters, so that sizes may differ."""
    _, which = np.unique(clusters, return_inverse=True)
    count = int(which.max(initial=-1)) + 1
    if not count:
        return grid
    member = np.zeros((grid.shape[1], count))
    member[np.arange(grid.shape[1]), which] = 1.0
    middle = grid.mean()
    told: np.ndarray = middle + (grid - middle) @ member * (count / grid.shape[1])
    return told
