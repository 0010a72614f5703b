"""Charts of comparisons: datasets against the first, with their intervals, their seeds, and what each step cost.

Functions of plain frames, so that whatever compares can be drawn; the column `arm` names the dataset. Names of arms,
seeds and metrics are any text. A frame without rows, or with nothing finite, gives no figure. `arms` are all datasets
of a page in their order, so that each has one colour in all of its charts, whichever of them a chart shows.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import polars as pl

from prefkit.charts.drawn import hues, legend, room
from prefkit.charts.figure import LONGEST, Figure, count, figures, named, percent, short, words
from prefkit.charts.theme import COLOURS, styled

if TYPE_CHECKING:
    import altair as alt

__all__ = ["frontier", "intervals", "score_by_length", "seeds"]


def intervals(
    frame: pl.DataFrame,
    *,
    title: str = "What the datasets differ in",
    x: str = "difference to the first",
    arms: Sequence[str] = (),
    even: float = 0.0,
) -> Figure | None:
    """Draw estimates with their 95 % intervals, and the line of no difference, `even`: 0.5 for shares of wins.

    Columns: arm, metric (text), estimate, low, high (float). An interval that leaves out `even` is filled, others hollow.
    """
    found = _finite(frame, "estimate", "low", "high")
    if not found.height:
        return None
    several = found["metric"].n_unique() > 1
    dressed = _dressed(_named(found, "metric"), arms, _IN_ROW if several else LONGEST)
    found = dressed.frame.with_columns(
        apart=(pl.col("low") > even) | (pl.col("high") < even),
        row=pl.col("metric") + " · " + pl.col("arm") if several else pl.col("arm"),
    )
    clear = found.filter("apart")
    said = [
        f"{row['row']} {_with_ends(row, shares=even == _HALF)}"
        for row in clear.head(_SAID).iter_rows(named=True)
    ]
    finding = f"{count(clear.height)} of {figures(found.height, 'interval')} leave out {percent(even) if even else 0}"
    finding += f": {'; '.join(said)}" if said else ""
    finding += f" and {count(clear.height - _SAID)} more" if clear.height > _SAID else ""
    return Figure(title, "comparison", _intervals(found, x, dressed.colours, even), finding + dressed.note)


_HALF = 0.5
"""Of wins: even."""


def _with_ends(row: Mapping[str, Any], *, shares: bool) -> str:
    if shares:
        return f"{percent(row['estimate'])} ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
    return f"{row['estimate']:+.3g} ({row['low']:+.3g} to {row['high']:+.3g})"


_IN_ROW = 16
"""Characters of a dataset's name beside that of a metric."""
_SAID = 6
"""Intervals that a caption names."""


def _intervals(found: pl.DataFrame, x: str, colours: Mapping[str, str], even: float) -> Any:
    import altair as alt

    rows = found["row"].to_list()
    base = alt.Chart(found).encode(
        y=alt.Y(
            "row:N",
            title=None,
            sort=rows,
            axis=_labels(rows),
        ),
        color=_by_arm(colours, told=False),
        tooltip=_tips("arm", "metric", "estimate", "low", "high"),
    )
    scale = alt.Scale(zero=False, padding=8)
    across = alt.X("low:Q", title=words(x), scale=scale, axis=_across(shares=even == _HALF))
    zero = (
        alt.Chart(pl.DataFrame({"at": [even]}))
        .mark_rule(color=COLOURS["ink"], strokeWidth=1)
        .encode(x="at:Q")
    )
    layers = [
        zero,
        base.mark_rule(strokeWidth=2).encode(x=across, x2="high:Q"),
        base.transform_filter("datum.apart")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(x="estimate:Q"),
        base.transform_filter("!datum.apart")
        .mark_point(filled=False, size=55, opacity=1, strokeWidth=2)
        .encode(x="estimate:Q"),
    ]
    return styled(alt.layer(*layers), height=max(100, min(700, 60 + 24 * len(rows))))


def _across(*, shares: bool) -> Any:
    import altair as alt

    if shares:
        return alt.Axis(grid=False, tickCount=6, format="%")
    return alt.Axis(grid=False, tickCount=6)


def _labels(rows: Sequence[str], *, grid: bool = False) -> Any:
    """Return an axis that has room for the names of its rows."""
    import altair as alt

    wide = min(_WIDEST, room(rows))
    return alt.Axis(
        ticks=False, domain=False, labelOverlap=False, labelLimit=_WIDEST, minExtent=wide, grid=grid
    )


_WIDEST = 200
"""Pixels of the names of rows, of the 380 of a chart."""


def frontier(frame: pl.DataFrame, *, y: str = "win rate", arms: Sequence[str] = ()) -> Figure | None:
    """Draw win rate against distance to the reference, the checkpoints of one seed connected.

    Columns: arm, seed (any), step (int), kl (nats a response), win_rate (in [0, 1]). The last step is marked.
    """
    found = _finite(frame, "kl", "win_rate")
    if not found.height:
        return None
    dressed = _dressed(found.with_columns(pl.col("seed").cast(pl.String)), arms)
    found = dressed.frame.sort("arm", "seed", "step", maintain_order=True)
    last = found.group_by("arm", "seed", maintain_order=True).last()
    means = last.group_by("arm", maintain_order=True).agg(pl.col("kl").mean(), pl.col("win_rate").mean())
    said = [
        f"{row['arm']} {percent(row['win_rate'])} at {short(row['kl'])} nats"
        for row in means.sort("win_rate", descending=True).iter_rows(named=True)
    ]
    finding = f"{y} and KL to the reference at the end, mean of the seeds: {', '.join(said[:6])}"
    chart = _frontier(found, last, y, dressed.colours)
    title = "What each dataset gained for how far training moved the model"
    return Figure(title, "comparison", chart, finding + dressed.note)


def _frontier(found: pl.DataFrame, last: pl.DataFrame, y: str, colours: Mapping[str, str]) -> Any:
    import altair as alt

    across = alt.X(
        "kl:Q", title="KL to the reference, nats a response", axis=alt.Axis(grid=False, tickCount=6)
    )
    up = alt.Y(
        "win_rate:Q", title=words(y), scale=alt.Scale(zero=False), axis=alt.Axis(format="%", tickCount=5)
    )
    tips = _tips("arm", "seed", "step", "kl", "win_rate")
    paths = (
        alt.Chart(found)
        .mark_line(strokeWidth=1.2, opacity=0.5, point={"size": 14, "opacity": 0.6})
        .encode(x=across, y=up, color=_by_arm(colours), detail="seed:N", order="step:Q", tooltip=tips)
    )
    ends = (
        alt.Chart(last)
        .mark_point(filled=True, size=70, opacity=1)
        .encode(
            x="kl:Q",
            y="win_rate:Q",
            color=_by_arm(colours),
            shape=alt.Shape("arm:N", sort=list(colours), legend=None),
            tooltip=tips,
        )
    )
    half = (
        alt.Chart(pl.DataFrame({"at": [0.5]}))
        .mark_rule(color=COLOURS["soft"], strokeDash=[4, 3])
        .encode(y="at:Q")
    )
    return styled(alt.layer(half, paths, ends), height=260)


def seeds(
    frame: pl.DataFrame,
    *,
    x: str,
    title: str = "How much the seeds differ",
    arms: Sequence[str] = (),
    shares: bool = False,
) -> Figure | None:
    """Draw one dot a seed, and the mean of each arm. Columns: arm, seed (any), value (float; shown in per cent with `shares`)."""
    found = _finite(frame, "value")
    if not found.height:
        return None
    dressed = _dressed(found.with_columns(pl.col("seed").cast(pl.String)), arms)
    found = dressed.frame
    means = found.group_by("arm", maintain_order=True).agg(
        value=pl.col("value").mean(), low=pl.col("value").min(), high=pl.col("value").max()
    )
    told = percent if shares else short
    said = [
        f"{row['arm']} {told(row['value'])} ({told(row['low'])} to {told(row['high'])})"
        for row in means.iter_rows(named=True)
    ]
    return Figure(
        title,
        "comparison",
        _seeds(found, means, x, dressed.colours, shares=shares),
        f"{x}, mean and range of the seeds: {', '.join(said[:6])}{dressed.note}",
    )


def _seeds(
    found: pl.DataFrame, means: pl.DataFrame, x: str, colours: Mapping[str, str], *, shares: bool
) -> Any:
    import altair as alt

    arms = means["arm"].to_list()
    up = alt.Y(
        "arm:N",
        title=None,
        sort=arms,
        axis=_labels(arms, grid=True),
    )
    scale = alt.Scale(zero=False, padding=12)
    across = alt.X("value:Q", title=words(x), scale=scale, axis=_across(shares=shares))
    dots = (
        alt.Chart(found)
        .mark_point(filled=True, size=45, opacity=0.55)
        .encode(x=across, y=up, color=_by_arm(colours, told=False), tooltip=_tips("arm", "seed", "value"))
    )
    ticks = (
        alt.Chart(means)
        .mark_tick(thickness=3, height=18, color=COLOURS["ink"])
        .encode(x="value:Q", y=alt.Y("arm:N", sort=arms))
    )
    return styled(alt.layer(dots, ticks), height=max(90, min(460, 58 + 30 * len(arms))))


def score_by_length(
    frame: pl.DataFrame, *, x: str = "mean characters", y: str = "score", arms: Sequence[str] = ()
) -> Figure | None:
    """Draw what arms score against how long they answer, a dot a seed. Columns: arm, seed (any), length, score (float).

    A dataset whose model is only longer and not better moves along, not up.
    """
    found = _finite(frame, "length", "score")
    if not found.height:
        return None
    dressed = _dressed(found.with_columns(pl.col("seed").cast(pl.String)), arms)
    found = dressed.frame
    import altair as alt

    means = found.group_by("arm", maintain_order=True).agg(pl.col("length").mean(), pl.col("score").mean())
    chart = (
        alt.Chart(found)
        .mark_point(filled=True, size=60, opacity=0.8)
        .encode(
            x=alt.X(
                "length:Q",
                title=words(x),
                scale=alt.Scale(zero=False),
                axis=alt.Axis(grid=False, tickCount=6),
            ),
            y=alt.Y("score:Q", title=words(y), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5)),
            color=_by_arm(dressed.colours),
            shape=alt.Shape("arm:N", sort=list(dressed.colours), legend=None),
            tooltip=_tips("arm", "seed", "length", "score"),
        )
    )
    said = [
        f"{row['arm']} {short(row['score'])} at {short(row['length'])}" for row in means.iter_rows(named=True)
    ]
    finding = f"{y} and {x}: {', '.join(said[:6])}{dressed.note}"
    return Figure("Whether answers are better or only longer", "comparison", styled(chart), finding)


def _finite(frame: pl.DataFrame, *columns: str) -> pl.DataFrame:
    return frame.filter(pl.all_horizontal(pl.col(name).cast(pl.Float64).is_finite() for name in columns))


def _named(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return the frame with names short enough for a chart, still different."""
    names: Sequence[str | None] = frame[column].cast(pl.String).unique(maintain_order=True).to_list()
    return _renamed(frame, column, dict(zip(names, named(names), strict=True)))


def _renamed(frame: pl.DataFrame, column: str, shown: Mapping[str | None, str]) -> pl.DataFrame:
    values = [shown[name] for name in frame[column].cast(pl.String)]
    return frame.with_columns(pl.Series(column, values, pl.String))


class _Dressed(NamedTuple):
    """A frame whose datasets have short names, each with its colour."""

    frame: pl.DataFrame
    colours: Mapping[str, str]
    """Of those in the frame, in the order of the page."""
    note: str
    """What cut names stand for, for the caption."""


def _dressed(frame: pl.DataFrame, arms: Sequence[str], longest: int = LONGEST) -> _Dressed:
    there: Sequence[str | None] = frame["arm"].cast(pl.String).unique(maintain_order=True).to_list()
    order = [*arms, *(name for name in there if name not in arms)]
    shown = dict(zip(order, named(order, longest), strict=True))
    colours = hues(list(shown.values()))
    cut = [
        f"{shown[name]} is {name[:120]}" for name in order if name in there and name and len(name) > longest
    ]
    note = f". {'; '.join(cut[:_SAID])}" if cut else ""
    used = {shown[name]: colours[shown[name]] for name in order if name in there}
    return _Dressed(_renamed(frame, "arm", shown), used, note)


def _by_arm(colours: Mapping[str, str], *, told: bool = True) -> "alt.Color":
    """Return the colours of datasets; their legend only where rows are not labelled."""
    import altair as alt

    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color("arm:N", scale=scale, legend=legend(list(colours)) if told else None)


def _tips(*fields: str) -> list[Any]:
    import altair as alt

    texts = {"arm", "seed", "metric"}
    return [
        alt.Tooltip(field=name, type="nominal")
        if name in texts
        else alt.Tooltip(field=name, type="quantitative", format=".4~g")
        for name in fields
    ]
