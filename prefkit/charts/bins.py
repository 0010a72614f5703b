"""Rows in bins: all that a chart of a million rows needs to carry.

Pure functions of arrays; what is NaN, infinite or beyond anything that can be drawn is left out. Intervals are over
prompts, since rows of one prompt are not independent.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl

from prefkit.charts.figure import count, number
from prefkit.statistics.figures import describe, mean_interval, share, share_interval

__all__ = ["beyond", "drawable", "edges_of", "histogram", "means_by", "rates_by", "spreads"]

_FARTHEST = 1e100
"""Beyond it, the width of a bin may overflow."""
_BARS = 24


def drawable(values: np.ndarray) -> np.ndarray:
    """Return which numbers can be drawn. Shape as `values`, bool."""
    with np.errstate(invalid="ignore"):
        known: np.ndarray = np.abs(values) < _FARTHEST
    return known


def edges_of(values: np.ndarray, *, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Return round edges of about 24 bins from the 0.5th to the 99.5th percentile, or from `low` to `high`.

    Shape: [bins + 1], rising. Whole numbers of a small range have a bin each, around the number.
    """
    found = values[drawable(values)]
    if not len(found):
        return np.array([0.0, 1.0])
    least, most = (float(mark) for mark in np.quantile(found, [0.005, 0.995]))
    least, most = (least if low is None else low), (most if high is None else high)
    if low is None and most - least <= 2 * _BARS and np.all(found == np.round(found)):
        beside = 1.5 if least == most else 0.5  # a constant is one bar in the middle, not the whole chart
        return np.arange(np.floor(least) - beside, np.ceil(most) + beside + 0.5)
    if most <= least:
        reach = abs(least) * 0.05 or 0.5
        return np.array([least - reach, least + reach])
    step = _round_step((most - least) / _BARS)
    first, last = np.floor(least / step + 1e-9), np.ceil(most / step - 1e-9)
    edges: np.ndarray = np.arange(first, last + 1) * step
    return edges


def _round_step(wide: float) -> float:
    """Return the least of 1, 2, 2.5, 5 and 10 times a power of ten that is not below `wide`."""
    power = 10.0 ** np.floor(np.log10(wide))
    return float(next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= wide * (1 - 1e-9)))


def histogram(series: Mapping[str, np.ndarray], edges: np.ndarray) -> pl.DataFrame:
    """Count each series in common bins; the end bins hold what lies beyond.

    Columns: series, left, right, rows, share (of the series).
    """
    parts = []
    for name, values in series.items():
        found = values[drawable(values)]
        at = np.clip(np.searchsorted(edges, found, "right") - 1, 0, len(edges) - 2)
        rows = np.bincount(at, minlength=len(edges) - 1)
        parts.append(
            pl.DataFrame(
                {
                    "series": [name] * len(rows),
                    "left": edges[:-1],
                    "right": edges[1:],
                    "rows": rows,
                    "share": rows / max(1, len(found)),
                }
            )
        )
    return pl.concat(parts)


def beyond(values: np.ndarray, edges: np.ndarray) -> str:
    """Say what the end bars hold that lies beyond the axis; nothing where nothing does."""
    found = values[drawable(values)]
    below, above = (
        found[found < edges[0] * (1 - _NEAR * np.sign(edges[0]))],
        found[found > edges[-1] * (1 + _NEAR * np.sign(edges[-1]))],
    )
    said = []
    if len(below):
        said.append(
            f"the first bar also holds {count(len(below))} below {number(float(edges[0]))}, the least {number(float(below.min()))}"
        )
    if len(above):
        said.append(
            f"the last bar also holds {count(len(above))} above {number(float(edges[-1]))}, the largest {number(float(above.max()))}"
        )
    return "".join(f"; {each}" for each in said)


_NEAR = 1e-9
"""Of an edge: nearer is on it."""


def rates_by(at: np.ndarray, flags: np.ndarray, prompts: np.ndarray, bins: int = 8) -> pl.DataFrame:
    """Return the share of true flags in bins of about equally many rows, with Wilson intervals over prompts.

    Shapes: all [rows]. Columns: left, right, middle (the median), rows, value, low, high.
    """
    rows = []
    for inside in _parts(at, bins):
        found = share(flags[inside], prompts[inside])
        bounds = share_interval(found)
        if found.rate is not None and bounds is not None:
            rows.append({**_where(at[inside]), "value": found.rate, "low": bounds.low, "high": bounds.high})
    return pl.DataFrame(rows, schema=_POINTS)


def means_by(at: np.ndarray, values: np.ndarray, prompts: np.ndarray, bins: int = 8) -> pl.DataFrame:
    """Return the mean of `values` in bins of about equally many rows, with normal intervals over prompts.

    Shapes: all [rows]. Columns as of `rates_by`; a bin whose mean has no interval has its mean for both ends.
    """
    known = drawable(at) & drawable(values)
    at, values, prompts = at[known], values[known], prompts[known]
    rows = []
    for inside in _parts(at, bins):
        spread = describe(values[inside], prompts[inside])
        mean = spread.mean if spread.mean is not None else 0.0
        bounds = mean_interval(spread)
        low, high = (mean, mean) if bounds is None else bounds
        rows.append({**_where(at[inside]), "value": mean, "low": low, "high": high})
    return pl.DataFrame(rows, schema=_POINTS)


def spreads(series: Mapping[str, np.ndarray]) -> pl.DataFrame:
    """Return five quantiles of each series that has values. Columns: series, rows, p5, p25, p50, p75, p95."""
    rows = []
    for name, values in series.items():
        found = values[drawable(values)]
        if len(found):
            marks = np.quantile(found, [0.05, 0.25, 0.5, 0.75, 0.95])
            rows.append(
                {"series": name, "rows": len(found)}
                | dict(zip(("p5", "p25", "p50", "p75", "p95"), marks.tolist(), strict=True))
            )
    return pl.DataFrame(
        rows, schema={"series": pl.String, "rows": pl.Int64, **dict.fromkeys(_MARKS, pl.Float64)}
    )


_MARKS = ("p5", "p25", "p50", "p75", "p95")
_POINTS = {
    "left": pl.Float64,
    "right": pl.Float64,
    "middle": pl.Float64,
    "rows": pl.Int64,
    "value": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
}


def _parts(at: np.ndarray, bins: int) -> list[np.ndarray]:
    """Return the rows of each bin: cut at quantiles, so that equal values share a bin, and none is empty."""
    if not len(at):
        return []
    cuts = np.unique(np.quantile(at, np.linspace(0, 1, bins + 1)[1:-1], method="lower"))
    bin_of = np.searchsorted(cuts, at, "left")
    order = np.argsort(bin_of, kind="stable")
    return [part for part in np.split(order, np.flatnonzero(np.diff(bin_of[order])) + 1) if len(part)]


def _where(at: np.ndarray) -> dict[str, float | int]:
    return {
        "left": float(at.min()),
        "right": float(at.max()),
        "middle": float(np.median(at)),
        "rows": len(at),
    }
