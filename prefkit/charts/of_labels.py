"""What is believed of the labels, what scores say of both sides, and how hard the pairs are."""

from collections.abc import Iterator

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.charts.bins import beyond, drawable, edges_of, histogram, rates_by, spreads
from prefkit.charts.drawn import boxes, outlines, trend
from prefkit.charts.figure import Figure, count, figures, number, percent, short
from prefkit.charts.rows import Rows
from prefkit.charts.theme import COLOURS

__all__ = ["difficulty_figures", "label_figures", "one_column", "score_figures"]

_MOST = 8
"""Scores drawn, in the order of their columns."""


def label_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield margin, soft labels, belief in flips, weights and, where a gold score is there, reliability."""
    if _known(rows, "margin"):
        values = _finite(rows, "margin")
        yield (
            "margin",
            one_column(values, "By how much chosen is better", "labels", "margin", _margin(values)),
        )
    if _known(rows, "p_chosen"):
        yield "soft-labels", _soft(rows)
    if _known(rows, "flip_prob"):
        yield "flip-prob", _doubt(_finite(rows, "flip_prob"))
    if _known(rows, "weight"):
        values = _finite(rows, "weight")
        finding = f"weights go from {number(float(values.min()))} to {number(float(values.max()))}"
        finding = f"every pair weighs {number(float(values[0]))}" if values.min() == values.max() else finding
        yield (
            "weight",
            one_column(values, "How much each pair counts in training", "labels", "weight", finding),
        )
    if _known(rows, "p_chosen") and (gold := _gold(rows)):
        yield from _reliability(rows, *gold)


def _margin(values: np.ndarray) -> str:
    if values.min() == values.max():
        return f"the margin is {short(float(values[0]))} for every pair"
    below = float((values < 0).mean())
    middle = short(float(np.median(values)))
    finding = f"the margin of the middle pair of {count(len(values))} is {middle}"
    return finding + (f", and {percent(below)} are below 0" if below else "")


def _soft(rows: Rows) -> Figure:
    values = _finite(rows, "p_chosen")
    sure = int((values >= 0.9).sum())
    against = int((values < 0.5).sum())
    finding = f"p_chosen is 0.9 or more for {percent(sure / len(values))} of {figures(len(values), 'pair')}"
    finding += f" and below one half for {percent(against / len(values))}"
    frame = histogram({"all": values}, _twentieths())
    chart = outlines(frame, {"all": COLOURS["all"]}, x="probability that chosen is better", rules=[0.5])
    return Figure("How sure the labels are", "labels", chart, finding)


def _doubt(values: np.ndarray) -> Figure:
    likely = int((values > 0.5).sum())
    finding = f"{figures(likely, 'pair')} of {count(len(values))} are more likely mislabelled than not"
    finding += f"; about {number(float(round(values.sum())))} mislabelled are expected"
    frame = histogram({"all": values}, _twentieths())
    chart = outlines(frame, {"all": COLOURS["bad"]}, x="probability that the label is wrong", rules=[0.5])
    return Figure("How likely each label is wrong", "labels", chart, finding)


def _twentieths() -> np.ndarray:
    edges: np.ndarray = np.arange(21) / 20
    return edges


def _gold(rows: Rows) -> tuple[str, str] | None:
    """Return the columns of a trusted score: a score called gold, or gold and something, on both sides."""
    for name in rows.table.column_names:
        stem = name.removeprefix("chosen_")
        if (
            name.startswith("chosen_gold")
            and _known(rows, name)
            and f"rejected_{stem}" in rows.table.column_names
        ):
            return name, f"rejected_{stem}"
    return None


def _reliability(rows: Rows, chosen: str, rejected: str) -> Iterator[tuple[str, Figure]]:
    belief, gap = rows.numbers("p_chosen"), rows.numbers(chosen) - rows.numbers(rejected)
    known = drawable(belief) & drawable(gap) & (gap != 0)
    if not known.any():
        return
    belief, right = belief[known], gap[known] > 0
    frame = rates_by(belief, right, rows.prompts[known], bins=10)
    finding = f"gold prefers chosen in {percent(float(right.mean()))} of {figures(len(right), 'pair')}; labels say {percent(float(belief.mean()))}"
    chart = trend(
        frame,
        x="probability that chosen is better, by the labels",
        y="gold prefers chosen",
        domain=(0.0, 1.0),
        diagonal=True,
        percent=True,
    )
    yield "reliability", Figure("Whether the labels are as right as they say", "labels", chart, finding)


# scores


def score_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield both sides' scores and their gap, scorer by scorer, those called score first."""
    stems = [
        name.removeprefix("chosen_")
        for name in rows.reals()
        if name.startswith("chosen_") and not name.endswith(("_std", "_logp"))
    ]
    both = [stem for stem in stems if _is_float(rows, f"rejected_{stem}")]
    for stem in sorted(both, key=lambda name: name != "score")[:_MOST]:
        chosen, rejected = rows.numbers(f"chosen_{stem}"), rows.numbers(f"rejected_{stem}")
        known = drawable(chosen) & drawable(rejected)
        if (chosen[known] != rejected[known]).any():  # else it is of the prompt, not of a side
            yield from _scored(stem, chosen[known], rejected[known])
    if _known(rows, "ref_chosen_logp") and _known(rows, "ref_rejected_logp"):
        chosen, rejected = rows.numbers("ref_chosen_logp"), rows.numbers("ref_rejected_logp")
        known = drawable(chosen) & drawable(rejected)
        if known.any():
            yield "reference", _reference(chosen[known], rejected[known])


def _scored(stem: str, chosen: np.ndarray, rejected: np.ndarray) -> Iterator[tuple[str, Figure]]:
    gap = chosen - rejected
    series = {"chosen": chosen, "rejected": rejected}
    both = np.concatenate([chosen, rejected])
    edges = edges_of(both)
    frame = histogram(series, edges)
    name = stem.replace("_", " ")
    finding = f"mean {name} {short(float(chosen.mean()))} chosen, {short(float(rejected.mean()))} rejected{beyond(both, edges)}"
    sides = {side: COLOURS[side] for side in series}
    yield f"scores:{stem}", Figure(f"Both sides by {name}", "scores", outlines(frame, sides, x=name), finding)
    finding = (
        f"chosen has the higher {name} in {percent(float((gap > 0).mean()))} of {figures(len(gap), 'pair')}"
    )
    same = float((gap == 0).mean())
    finding += f", the same in {percent(same)}" if same else ""
    edges = edges_of(gap)
    finding += beyond(gap, edges)
    frame = histogram({"all": gap}, edges)
    chart = outlines(frame, {"all": COLOURS["all"]}, x=f"{name} of chosen less rejected", rules=[0.0])
    yield f"score-gap:{stem}", Figure(f"How far apart the sides are by {name}", "scores", chart, finding)


def _reference(chosen: np.ndarray, rejected: np.ndarray) -> Figure:
    series = {"chosen": chosen, "rejected": rejected}
    both = np.concatenate([chosen, rejected])
    edges = edges_of(both)
    frame = histogram(series, edges)
    finding = f"the reference model finds chosen likelier in {percent(float((chosen > rejected).mean()))} of {figures(len(chosen), 'pair')}{beyond(both, edges)}"
    chart = outlines(frame, {side: COLOURS[side] for side in series}, x="log-prob of the side, nats")
    return Figure("How likely the sides are to the reference model", "scores", chart, finding)


def _is_float(rows: Rows, name: str) -> bool:
    return _known(rows, name) and pa.types.is_floating(rows.table.schema.field(name).type)


# difficulty


def difficulty_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield difficulty, pass rate and perplexity, and by phase where a curriculum has two."""
    names = [
        name
        for name in rows.reals()
        if name in {"difficulty", "consistency"} or "pass_rate" in name or "perplexity" in name
    ]
    names = [name for name in names if not (name.startswith("rejected_") and _of_prompt(rows, name) != name)]
    for name in names:
        values = _finite(rows, name)
        words = _of_prompt(rows, name).replace("_", " ")
        finding = f"{words} is {number(float(np.median(values)))} in the middle, {number(float(values.min()))} to {number(float(values.max()))} in all"
        yield (
            f"difficulty:{name}",
            one_column(values, f"How the rows lie by {words}", "difficulty", words, finding),
        )
    if not _known(rows, "phase"):
        return
    phase = rows.numbers("phase")
    phases = np.unique(phase[drawable(phase)])
    if len(phases) < 2:
        return
    for name in [*names, *(name for name in ("margin",) if _known(rows, name))]:
        values = rows.numbers(name)
        frame = spreads({f"phase {number(float(at))}": values[phase == at] for at in phases})
        if frame.height > 1:
            yield f"phase:{name}", _by_phase(_of_prompt(rows, name).replace("_", " "), frame)


def _of_prompt(rows: Rows, name: str) -> str:
    """Return a column's name without its side, if it says the same of both sides."""
    stem = name.removeprefix("chosen_").removeprefix("rejected_")
    sides = [f"chosen_{stem}", f"rejected_{stem}"]
    if stem == name or not set(sides) <= set(rows.table.column_names):
        return name
    return stem if rows.table[sides[0]].equals(rows.table[sides[1]]) else name


def _by_phase(words: str, frame: pl.DataFrame) -> Figure:
    ends = [frame.row(at, named=True) for at in (0, -1)]
    said = [f"{short(end['p50'])} in {end['series']}" for end in ends]
    finding = f"the {words} in the middle goes from {said[0]} to {said[1]}"
    title = f"{words.capitalize()} by phase of the curriculum"
    return Figure(title, "difficulty", boxes(frame, x=words), finding)


# shared


def one_column(
    values: np.ndarray, title: str, group: str, x: str, finding: str, rows: str = "pairs"
) -> Figure:
    """Draw one column of finite numbers as a histogram."""
    edges = edges_of(values)
    chart = outlines(histogram({"all": values}, edges), {"all": COLOURS["all"]}, x=x, y=rows)
    return Figure(title, group, chart, finding + beyond(values, edges))


def _known(rows: Rows, name: str) -> bool:
    return rows.has(name) and bool(drawable(rows.numbers(name)).any())


def _finite(rows: Rows, name: str) -> np.ndarray:
    values = rows.numbers(name)
    found: np.ndarray = values[drawable(values)]
    return found
