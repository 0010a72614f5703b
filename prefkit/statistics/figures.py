"""Distributions: a column of numbers as the few figures a card shows, and rates with their uncertainty.

Pure functions of arrays. Every figure carries the number of values behind it, because a rate without it cannot be
judged, and is null where it is undefined, because a card must never show a made-up zero. Rows of one prompt are not
independent: five pairs of one prompt often share a response, so intervals are over prompts wherever the prompt of a
row is known (`groups`). Figures are rounded to six significant digits, so that a card does not change with the order
in which a library adds.
"""

import math
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

__all__ = [
    "BINS",
    "Agreement",
    "Estimate",
    "Interval",
    "Share",
    "Spread",
    "describe",
    "fleiss",
    "length_auc",
    "mean_interval",
    "rank_correlation",
    "share",
    "share_interval",
    "wilson",
]

BINS = 20
"""Bars of a histogram."""
_Z = 1.959963984540054  # the 97.5 % point of the normal distribution


class _Record(BaseModel):
    # A manifest may come from a version that counted more: what is not known here is passed over.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Spread(_Record):
    """A column of numbers: how many, where they lie, and a histogram whose end bars hold what lies beyond."""

    n: int = 0
    """Finite values."""
    missing: int = 0
    """Null, NaN and infinite values."""
    mean: float | None = None
    std: float | None = None
    """Sample standard deviation; null below two values."""
    error: float | None = None
    """Standard error of the mean, rows of one prompt taken together; null below two prompts."""
    min: float | None = None
    p5: float | None = None
    p25: float | None = None
    p50: float | None = None
    p75: float | None = None
    p95: float | None = None
    max: float | None = None
    low: float | None = None
    """Left edge of the histogram."""
    high: float | None = None
    """Right edge of the histogram."""
    bars: tuple[int, ...] = ()


class Share(_Record):
    """So many of so many."""

    count: int = 0
    n: int = 0
    effective: float | None = None
    """Independent rows that would be as uncertain; null where the rows are all there is, not a sample."""

    @property
    def rate(self) -> float | None:
        """The share in [0, 1]; None of nothing."""
        return self.count / self.n if self.n else None


class Estimate(_Record):
    """A figure with its 95 % interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def describe(
    values: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> Spread:
    """Describe numbers, NaN being missing. Without edges the histogram spans the 1st to the 99th percentile.

    Shapes: `values` [rows], float64; `groups` [rows], the number of each row's prompt; without it, rows stand alone.
    """
    known = np.isfinite(values)
    found = np.sort(values[known])
    missing = len(values) - len(found)
    if not len(found):
        return Spread(missing=missing)
    marks = _quantiles(found, [0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1])
    edges = (float(marks[1]) if low is None else low, float(marks[7]) if high is None else high)
    if edges[0] == edges[1]:
        edges = (float(marks[0]), float(marks[8]))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(found.mean())
        std = float(found.std(ddof=1)) if len(found) > 1 and marks[0] != marks[8] else 0.0
        error = _error(values[known], None if groups is None else groups[known]) if std else 0.0
    quantiles = [_short(float(mark)) for mark in marks]
    return Spread(
        n=len(found),
        missing=missing,
        mean=_short(mean),
        std=_short(std) if len(found) > 1 else None,
        error=_short(error) if len(found) > 1 else None,
        min=quantiles[0],
        p5=quantiles[2],
        p25=quantiles[3],
        p50=quantiles[4],
        p75=quantiles[5],
        p95=quantiles[6],
        max=quantiles[8],
        low=_short(edges[0]),
        high=_short(edges[1]),
        bars=_bars(found, *edges),
    )


def share(flags: np.ndarray, groups: np.ndarray) -> Share:
    """Count the true values of a boolean array. Shapes: both [rows]; `groups` is the number of each row's prompt."""
    n = len(flags)
    count = int(np.count_nonzero(flags))
    if n == 0:
        return Share()
    alone = count / n * (1 - count / n) / max(1, n - 1)  # squared error, were all rows independent
    if alone == 0:
        return Share(count=count, n=n, effective=_present(groups))
    error = _error(flags.astype(np.float64), groups)
    design = 1.0 if error is None else max(1.0, error * error / alone)
    return Share(count=count, n=n, effective=_short(n / design))


def share_interval(part: Share) -> Interval | None:
    """Return the 95 % interval of a share; None of nothing, and where the rows are all there is."""
    rate = part.rate
    return None if rate is None or not part.effective else wilson(rate, part.effective)


def wilson(rate: float, n: float) -> Interval:
    """Return the 95 % interval of a rate of `n` independent trials.

    Source: Wilson (1927), JASA 22, 209. With an `n` that is smaller by the design effect it holds for trials in
    groups: Korn and Graubard (1998), Survey Methodology 24, 193.
    """
    square = _Z * _Z
    middle = (rate + square / (2 * n)) / (1 + square / n)
    reach = _Z / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    # At 0 and at n the bound is the rate itself; rounding must not push it past.
    return Interval(0.0 if rate == 0 else middle - reach, 1.0 if rate == 1 else middle + reach)


def mean_interval(spread: Spread) -> Interval | None:
    """Return the 95 % interval of a mean by the normal approximation; None below two values and for a constant."""
    if spread.mean is None or not spread.error:
        return None
    reach = _Z * spread.error
    return Interval(spread.mean - reach, spread.mean + reach)


def length_auc(gaps: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return how well length alone tells chosen from rejected: the AUC of the signed length difference.

    Each pair stands once as it is (difference d, chosen first) and once turned round (-d): the figure is the chance
    that a pair as it is has the larger difference, ties counting one half. 0.5 is no bias. The interval uses the
    variance of the U-statistic: the mean of one pair against all others, over prompts.

    Shapes: `gaps` [pairs], length of chosen less length of rejected, NaN where unknown; `groups` [pairs].
    """
    known = np.isfinite(gaps)
    order = np.argsort(gaps[known])
    found, groups = gaps[known][order], groups[known][order]
    n = len(found)
    if n == 0:
        return Estimate()
    below = np.searchsorted(found, -found, "left")
    upto = np.searchsorted(found, -found, "right")
    wins = ((n - upto) + 0.5 * (upto - below)) / n
    value = float(wins.mean())
    error = _error(wins, groups)
    reach = 1.0 if error is None else _Z * 2 * error
    return Estimate(
        value=_short(value), low=_short(max(0.0, value - reach)), high=_short(min(1.0, value + reach)), n=n
    )


def rank_correlation(one: np.ndarray, other: np.ndarray, groups: np.ndarray) -> Estimate:
    """Return Spearman's rank correlation, null where either side is constant or fewer than four pairs are known.

    Shapes: all [rows], NaN where unknown. The interval is by Fisher's transformation with the variance
    (1 + rho^2 / 2) / (n - 3) of Bonett and Wright (2000), Psychometrika 65, 23, with the number of prompts for n:
    rather too wide than too narrow.
    """
    both = np.isfinite(one) & np.isfinite(other)
    n = int(both.sum())
    if n < 4:
        return Estimate(n=n)
    first, second = _ranks(one[both]), _ranks(other[both])
    scale = float(np.sqrt(np.dot(first, first) * np.dot(second, second)))
    if scale == 0:
        return Estimate(n=n)
    rho = min(1.0, max(-1.0, float(np.dot(first, second)) / scale))
    free = max(1, _present(groups[both]) - 3)
    reach = _Z * math.sqrt((1 + rho * rho / 2) / free)
    centre = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    low, high = math.tanh(centre - reach), math.tanh(centre + reach)
    return Estimate(value=_short(rho), low=_short(low), high=_short(high), n=n)


class Agreement(NamedTuple):
    """How far raters agree: share of rater pairs that do, what chance gives, and Fleiss' kappa between the two."""

    observed: Estimate
    """Mean over rows with at least two raters."""
    chance: float
    kappa: float | None


def fleiss(counts: np.ndarray, groups: np.ndarray) -> Agreement | None:
    """Return the agreement of raters; None where no row has two.

    Shapes: `counts` [rows, categories], how many raters chose each; `groups` [rows]. Rows may have different numbers of raters; each
    row then weighs the same in `observed`, each rating in `chance`.
    Source: Fleiss (1971), Psychological Bulletin 76, 378.
    """
    raters = counts.sum(axis=1)
    counts, raters, groups = counts[raters > 1], raters[raters > 1], groups[raters > 1]
    if not len(counts):
        return None
    agreeing = (counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))
    marginal = counts.sum(axis=0) / raters.sum()
    spread = describe(agreeing, groups)
    chance = float((marginal**2).sum())
    kappa = (float(agreeing.mean()) - chance) / (1 - chance) if chance < 1 else None
    bounds = mean_interval(spread) or Interval(0.0, 1.0)
    observed = Estimate(
        value=spread.mean,
        low=_short(max(0.0, bounds.low)),
        high=_short(min(1.0, bounds.high)),
        n=len(counts),
    )
    return Agreement(observed, chance, _short(kappa))


def _error(values: np.ndarray, groups: np.ndarray | None) -> float | None:
    """Return the standard error of the mean of `values`, those of one group summed first; None below two groups.

    Source: the cluster-robust variance of a mean, Liang and Zeger (1986), Biometrika 73, 13, with G / (G - 1).
    """
    n = len(values)
    if groups is None:
        groups = np.arange(n)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = np.bincount(groups, values - values.mean())
        size = _present(groups)
        return None if size < 2 else math.sqrt(size / (size - 1) * float((sums * sums).sum())) / n


def _present(groups: np.ndarray) -> int:
    """Return how many groups there are; numbers are small and dense, so counting beats sorting."""
    return int(np.count_nonzero(np.bincount(groups)))


def _short(value: float | None) -> float | None:
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _quantiles(ordered: np.ndarray, levels: list[float]) -> np.ndarray:
    """Return quantiles with linear interpolation, as `np.quantile` does, without sorting again."""
    at = np.array(levels) * (len(ordered) - 1)
    below = np.floor(at).astype(np.int64)
    above = np.minimum(below + 1, len(ordered) - 1)
    with np.errstate(over="ignore", invalid="ignore"):
        marks: np.ndarray = ordered[below] + (ordered[above] - ordered[below]) * (at - below)
    return marks


def _bars(found: np.ndarray, low: float, high: float) -> tuple[int, ...]:
    # Halved first, so that the width of a range near the largest float does not overflow.
    width = high / 2 - low / 2
    if width == 0:
        return (len(found),)
    at = (found / 2 - low / 2) / width * BINS
    bins = np.clip(at, 0, BINS - 1).astype(np.int64)
    return tuple(int(count) for count in np.bincount(bins, minlength=BINS))


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks, ties sharing their mean, less their overall mean."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    lengths = np.diff(np.append(starts, len(values)))
    shared = np.repeat(starts + (lengths - 1) / 2, lengths)
    ranks = np.empty(len(values))
    ranks[order] = shared
    return ranks - (len(values) - 1) / 2
