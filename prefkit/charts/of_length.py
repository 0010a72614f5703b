"""Whether length explains the labels: the question that a preference dataset fails most often.

Judges and people prefer longer answers, so a model can learn length in the place of worth. Three looks at it: how
often chosen is the longer side and by how much, how that grows with the gap, and whether the margin goes with it.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from prefkit.charts.bins import beyond, drawable, edges_of, histogram, means_by, rates_by
from prefkit.charts.drawn import outlines, trend
from prefkit.charts.figure import Figure, count, figures, number, percent
from prefkit.charts.rows import Rows
from prefkit.charts.theme import COLOURS
from prefkit.statistics.figures import rank_correlation, share, share_interval

__all__ = ["length_figures"]


def length_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of both sides' lengths, in characters of all their turns."""
    chosen, rejected = rows.chars("chosen"), rows.chars("rejected")
    known = drawable(chosen) & drawable(rejected)
    if not known.any():
        return
    gap, prompts = (chosen - rejected)[known], rows.prompts[known]
    yield "length", _both(chosen[known], rejected[known])
    yield "length-gap", _gap(gap)
    if (gap != 0).any():
        yield "length-bias", _bias(gap, prompts)
    if rows.has("margin") and drawable(rows.numbers("margin")[known]).any():
        yield "margin-by-length", _margin(gap, rows.numbers("margin")[known], prompts)


def _both(chosen: np.ndarray, rejected: np.ndarray) -> Figure:
    series = {"chosen": chosen, "rejected": rejected}
    both = np.concatenate([chosen, rejected])
    edges = edges_of(both, low=0.0)
    frame = histogram(series, edges)
    medians = {name: number(float(np.median(values))) for name, values in series.items()}
    finding = f"half of the chosen sides have over {medians['chosen']} characters, half of the rejected over {medians['rejected']}{beyond(both, edges)}"
    return Figure("How long the two sides are", "length", outlines(frame, _SIDES, x="characters"), finding)


def _gap(gap: np.ndarray) -> Figure:
    series = {name: gap[inside] for name, inside in zip(_LONGER, (gap > 0, gap < 0, gap == 0), strict=True)}
    series = {name: values for name, values in series.items() if len(values)}
    edges = _through_zero(gap)
    frame = histogram(series, edges)
    rates = ", ".join(
        f"{name} in {percent(len(values) / len(gap))}"
        for name, values in series.items()
        if name != "chosen longer"
    )
    longer = len(series.get("chosen longer", ()))
    finding = f"chosen is longer in {percent(longer / len(gap))} of {figures(len(gap), 'pair')}"
    finding = (f"{finding} ({rates})" if rates else finding) + beyond(gap, edges)
    chart = outlines(
        frame, {name: _LONGER[name] for name in series}, x="characters that chosen is longer", rules=[0.0]
    )
    return Figure("Which side is longer, and by how much", "length", chart, finding)


def _through_zero(gap: np.ndarray) -> np.ndarray:
    """Return edges of bins of which one begins at 0, so that no bar mixes longer and shorter."""
    edges = edges_of(gap)
    if len(edges) < 3 or (edges == 0).any():
        return edges
    if (edges[1] - edges[0]) == 1 and float(edges[0] * 2).is_integer():
        return edges
    step = edges[1] - edges[0]
    moved: np.ndarray = np.arange(np.floor(edges[0] / step), np.ceil(edges[-1] / step) + 1) * step
    return moved


def _bias(gap: np.ndarray, prompts: np.ndarray) -> Figure:
    apart = gap != 0
    size, wins, prompts = np.abs(gap[apart]), gap[apart] > 0, prompts[apart]
    frame = rates_by(size, wins, prompts)
    overall = share(wins, prompts)
    bounds = share_interval(overall)
    rate = overall.rate or 0.0
    finding = f"the longer side is chosen in {percent(rate)} of {figures(len(wins), 'pair')}"
    if bounds is not None:
        finding += f" (95 %: {percent(bounds.low)} to {percent(bounds.high)})"
    if frame.height > 1:
        last = frame.row(-1, named=True)
        least = count(int(last["left"]))
        finding += f"; in {percent(last['value'])} of the {count(last['rows'])} where it is longer by {least} characters or more"
    chart = trend(
        frame,
        x="characters that one side is longer",
        y="longer side is chosen",
        level=0.5,
        domain=(0.0, 1.0),
        percent=True,
    )
    return Figure("How often the longer side is chosen", "length", chart, finding)


def _margin(gap: np.ndarray, margin: np.ndarray, prompts: np.ndarray) -> Figure:
    frame = means_by(gap, margin, prompts, bins=10)
    found = rank_correlation(np.where(drawable(margin), margin, np.nan), gap, prompts)
    if found.value is None:
        finding = "too few pairs, or all alike: no correlation of margin and length"
    else:
        finding = f"rank correlation of margin and length gap {found.value:.2f} (95 %: {found.low:.2f} to {found.high:.2f})"
    chart = trend(frame, x="characters that chosen is longer", y="mean margin")
    return Figure("Whether the margin goes with length", "length", chart, finding)


_SIDES: Mapping[str, str] = {name: COLOURS[name] for name in ("chosen", "rejected")}
_LONGER: Mapping[str, str] = {
    "chosen longer": COLOURS["chosen"],
    "rejected longer": COLOURS["rejected"],
    "equal": COLOURS["soft"],
}
