"""Drawings of a report: histograms and curves as SVG paths, from the figures that manifests keep."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from prefkit.card.markdown import number
from prefkit.statistics import Summary
from prefkit.statistics.figures import BINS, Spread
from prefkit.statistics.records import PairSummary

__all__ = ["HEIGHT", "WIDTH", "Drawing", "Line", "curve", "drawings"]

WIDTH, HEIGHT = 320, 96
"""Of a drawing's plane, in units of its view box."""


class Line(NamedTuple):
    """One distribution or curve in a drawing."""

    name: str
    """`chosen` and `rejected` have colours of their own."""
    path: str
    """SVG path in the plane."""
    caption: str


class Drawing(NamedTuple):
    """A drawing of one or two lines over one axis."""

    title: str
    lines: Sequence[Line]
    low: float
    high: float
    filled: bool = True
    note: str = ""


def drawings(found: Summary) -> Iterator[Drawing]:
    """Draw every distribution that the rows have."""
    if found.pairs is not None:
        yield from _of_pairs(found.pairs)
    else:
        yield from _of_others(found)


def _of_pairs(pairs: PairSummary) -> Iterator[Drawing]:
    for name, scores in pairs.scores.items():
        yield from _drawn(name, chosen=scores.chosen, rejected=scores.rejected)
        yield from _drawn(f"{name}: chosen less rejected", all=scores.gap)
    lengths, labels = pairs.lengths, pairs.labels
    yield from _drawn("length, characters", chosen=lengths.chosen, rejected=lengths.rejected)
    yield from _drawn("length, characters: chosen less rejected", all=lengths.gap)
    for title, spread in (
        ("margin", labels.margin),
        ("p_chosen", labels.p_chosen),
        ("flip_prob", labels.flip_prob),
    ):
        yield from _drawn(title, all=spread)
    if pairs.reference is not None:
        yield from _drawn(
            "reference log-prob, nats", chosen=pairs.reference.chosen, rejected=pairs.reference.rejected
        )


def _of_others(summary: Summary) -> Iterator[Drawing]:
    found = summary.responses
    if found is None:
        yield from _drawn("prompt, characters", all=summary.prompt_chars)
        return
    for name, spread in found.scores.items():
        yield from _drawn(name, all=spread)
    yield from _drawn("length, characters", all=found.chars)


def _drawn(title: str, **spreads: Spread | None) -> Iterator[Drawing]:
    found = {name: spread for name, spread in spreads.items() if spread is not None and spread.n}
    if not found:
        return
    low = min(spread.low or 0.0 for spread in found.values())
    high = max(spread.high or 0.0 for spread in found.values())
    if low == high:
        low, high = low - 0.5, high + 0.5
    lines = []
    for name, spread in found.items():
        caption = f"mean {number(spread.mean)}, median {number(spread.p50)}, n {spread.n:,}"
        lines.append(Line(name, _outline(spread, low, high), caption))
    missing = sum(spread.missing for spread in found.values())
    yield Drawing(title, lines, low, high, note=f"{missing:,} missing" if missing else "")


def _outline(spread: Spread, low: float, high: float) -> str:
    """Return a histogram's outline as an SVG path, as tall as the plane. A constant is one narrow bar."""
    scale, left = WIDTH / (high - low), spread.low or 0.0
    width = ((spread.high or 0.0) - left) / len(spread.bars)
    if width == 0:
        width = (high - low) / BINS
        left -= width / 2
    tallest = max(spread.bars)
    points = [f"M{_inside((left - low) * scale)} {HEIGHT}"]
    for at, rows in enumerate(spread.bars, start=1):
        points.append(f"V{HEIGHT * (1 - rows / tallest):.1f}H{_inside((left + at * width - low) * scale)}")
    return "".join([*points, f"V{HEIGHT}Z"])


def _inside(across: float) -> str:
    return f"{min(max(across, 0.0), WIDTH):.1f}"


def curve(points: Sequence[tuple[int, float]]) -> Drawing | None:
    """Draw loss by step; None below two points."""
    found = [(step, loss) for step, loss in points if np.isfinite(loss)]
    if len(found) < 2:
        return None
    first, last = found[0][0], found[-1][0]
    least, most = min(loss for _, loss in found), max(loss for _, loss in found)
    across, down = WIDTH / (last - first), HEIGHT / ((most - least) or 1.0)
    path = "L".join(f"{(step - first) * across:.1f} {(most - loss) * down:.1f}" for step, loss in found)
    caption = f"highest {number(most)}, lowest {number(least)}"
    return Drawing("loss by step", [Line("all", f"M{path}", caption)], first, last, filled=False)
