"""Where rows come from, who wrote them, and how responses and prompts lie."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from prefkit.charts.bins import beyond, drawable, edges_of, histogram, means_by, spreads
from prefkit.charts.drawn import boxes, counts, dots, hues, outlines, trend
from prefkit.charts.figure import Figure, count, figures, named, number, percent, short
from prefkit.charts.rows import Rows
from prefkit.charts.theme import COLOURS
from prefkit.statistics.figures import share, share_interval

__all__ = ["prompt_figures", "response_figures", "row_figures"]

_MOST = 12


def row_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield what the rows are made of: source, domain and split, models, and rows of a prompt."""
    noun = "pair" if rows.is_of_pairs() else "row"
    for name, title in (("source", "Where the rows come from"), ("domain", "What the rows are about")):
        if rows.has(name):
            yield name, _composition(rows, name, title, noun)
    if not rows.has("source") and rows.has("split"):
        yield "split", _composition(rows, "split", "How the rows are split", noun)
    if rows.has("chosen_model", "rejected_model"):
        yield from _winners(rows)
    if rows.has("finish"):
        yield "finish", _composition(rows, "finish", "Why generation ended", noun)
    if rows.has("model"):
        yield "model", _composition(rows, "model", "Who wrote the responses", noun)
    of_prompt = np.bincount(rows.prompts).astype(np.float64)
    if "prompt_hash" in rows.table.column_names and (of_prompt > 1).any():
        finding = f"{figures(len(of_prompt), 'prompt')} with {of_prompt.mean():.2f} {noun}s each on average, {count(int(of_prompt.max()))} at most"
        edges = edges_of(of_prompt)
        finding += beyond(of_prompt, edges)
        chart = outlines(
            histogram({"all": of_prompt}, edges),
            {"all": COLOURS["all"]},
            x=f"{noun}s of a prompt",
            y="prompts",
        )
        yield "per-prompt", Figure(f"How many {noun}s a prompt has", "rows", chart, finding)


def _composition(rows: Rows, name: str, title: str, noun: str) -> Figure:
    """Draw rows by the value of a column, each bar in parts by split."""
    by = [name, "split"] if name != "split" and rows.has("split") else [name]
    frame = pl.DataFrame(rows.table.select(by)).group_by(by).len("rows")
    order = rows.names(name)
    shown = dict(zip(order, named(order), strict=True))
    at = {value: place for place, value in enumerate(order)}
    places = [at[value] for value in frame[name]]
    kept = frame.with_columns(
        name=pl.Series([shown[value] for value in frame[name]]),
        part=pl.Series(["rows"] * frame.height if len(by) == 1 else _parts(rows, frame["split"])),
        place=pl.Series(places),
    ).filter(pl.col("place") < _MOST)
    kept = kept.sort("place", "part").select("name", "part", "rows")
    colours = {"rows": COLOURS["all"]} if len(by) == 1 else hues(named(rows.names("split"))[:8])
    most = frame.group_by(name).agg(pl.col("rows").sum()).sort("rows", descending=True)["rows"][0]
    finding = f"{figures(len(order), name)}; {shown[order[0]]} has {percent(most / rows.table.num_rows)} of {figures(rows.table.num_rows, noun)}"
    return Figure(title, "rows", counts(kept, colours, x=f"{noun}s"), finding)


def _parts(rows: Rows, splits: pl.Series) -> list[str]:
    order = rows.names("split")
    shown = dict(zip(order, named(order), strict=True))
    return [shown[value] for value in splits]


def _winners(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield how often each model's response is the chosen one, against other models."""
    sides = pl.DataFrame(rows.table.select(["chosen_model", "rejected_model"])).with_columns(
        prompt=pl.Series(rows.prompts)
    )
    apart = sides.filter(
        pl.col("chosen_model").is_not_null()
        & pl.col("rejected_model").is_not_null()
        & (pl.col("chosen_model") != pl.col("rejected_model"))
    )
    if not apart.height:
        return
    long = pl.concat(
        apart.select(pl.col(f"{side}_model").alias("model"), "prompt", wins=pl.lit(side == "chosen"))
        for side in ("chosen", "rejected")
    )
    top = (
        long.group_by("model")
        .len()
        .sort(["len", "model"], descending=[True, False])["model"]
        .to_list()[:_MOST]
    )
    found = []
    for model, name in zip(top, named(top), strict=True):
        mine = long.filter(pl.col("model") == model)
        rate = share(mine["wins"].to_numpy(), mine["prompt"].to_numpy())
        bounds = share_interval(rate)
        if rate.rate is not None and bounds is not None:
            found.append(
                {"name": name, "rows": rate.n, "value": rate.rate, "low": bounds.low, "high": bounds.high}
            )
    frame = pl.DataFrame(found).sort("value", descending=True)
    best = frame.row(0, named=True)
    finding = f"{best['name']} is chosen most often: in {percent(best['value'])} of {figures(best['rows'], 'pair')} against other models"
    chart = dots(frame, x="chosen against other models", level=0.5, percent=True)
    yield "winners", Figure("Whose responses are chosen", "rows", chart, finding)


# responses and prompts


def response_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield scores, by model and by length, and lengths of responses."""
    length = rows.chars("response")
    names = [name for name in rows.reals() if not name.endswith(("_std", "_logp", "_prob"))][:_MOST]
    for name in sorted(names, key=lambda name: name != "score"):
        values = rows.numbers(name)
        known = drawable(values)
        words = name.replace("_", " ")
        finding = f"mean {words} {short(float(values[known].mean()))}, from {short(float(values[known].min()))} to {short(float(values[known].max()))}"
        edges = edges_of(values[known])
        finding += beyond(values[known], edges)
        frame = histogram({"all": values[known]}, edges)
        chart = outlines(frame, {"all": COLOURS["all"]}, x=words, y="responses")
        yield f"scores:{name}", Figure(f"How the responses score by {words}", "scores", chart, finding)
        if rows.has("model"):
            yield from _by_model(rows, name, words, values)
        if drawable(length[known]).any():
            frame = means_by(length, values, rows.prompts)
            finding = _slope(frame, words)
            chart = trend(frame, x="characters", y=f"mean {words}")
            yield (
                f"score-by-length:{name}",
                Figure(f"Whether longer responses have more {words}", "length", chart, finding),
            )
    yield from _lengths(length, "response", "How long the responses are")


def _slope(frame: pl.DataFrame, words: str) -> str:
    first, last = frame.row(0, named=True), frame.row(-1, named=True)
    return f"mean {words} {short(first['value'])} for the shortest responses (up to {number(first['right'])} characters), {short(last['value'])} for the longest (from {number(last['left'])})"


def _by_model(rows: Rows, name: str, words: str, values: np.ndarray) -> Iterator[tuple[str, Figure]]:
    models = rows.names("model")
    if len(models) < 2:
        return
    written = np.asarray(pl.Series(rows.table["model"]).fill_null(""))
    shown = named(models)
    frame = spreads({shown[at]: values[written == (model or "")] for at, model in enumerate(models[:_MOST])})
    frame = frame.sort("p50", descending=True)
    if frame.height < 2:
        return
    best = frame.row(0, named=True)
    finding = f"{best['series']} is highest in the middle: {short(best['p50'])}, of {figures(best['rows'], 'response')}"
    yield (
        f"scores-by-model:{name}",
        Figure(f"{words.capitalize()} by model", "scores", boxes(frame, x=words), finding),
    )


def prompt_figures(rows: Rows) -> Iterator[tuple[str, Figure]]:
    """Yield lengths of the rows' prompts."""
    if "prompt" in rows.table.column_names:
        first = np.unique(rows.prompts, return_index=True)[1]
        yield from _lengths(rows.chars("prompt")[first], "prompt", "How long the prompts are")


def _lengths(chars: np.ndarray, noun: str, title: str) -> Iterator[tuple[str, Figure]]:
    found = chars[drawable(chars)]
    if len(found):
        finding = f"half of {figures(len(found), noun)} have over {number(float(np.median(found)))} characters, the longest {number(float(found.max()))}"
        edges = edges_of(found, low=0.0)
        finding += beyond(found, edges)
        chart = outlines(
            histogram({"all": found}, edges),
            {"all": COLOURS["all"]},
            x="characters",
            y=f"{noun}s",
        )
        yield f"{noun}-length", Figure(title, "length", chart, finding)
