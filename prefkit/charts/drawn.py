"""The few kinds of chart that everything is drawn with, as functions of small frames with named columns.

Field names are always ours and typed, and texts from rows are only ever values or titles: Vega reads a field's name
as a path.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from prefkit.charts.figure import words
from prefkit.charts.theme import COLOURS, HEIGHT, HUES, WIDTH, styled

if TYPE_CHECKING:
    import altair as alt

__all__ = ["boxes", "counts", "dots", "heat", "hues", "legend", "lines", "outlines", "room", "trend"]


def hues(names: Sequence[str]) -> dict[str, str]:
    """Give each name a colour: its own where it has a role, else one of eight by place, again from the first after."""
    return {name: COLOURS.get(name, HUES[at % len(HUES)]) for at, name in enumerate(names)}


def outlines(
    frame: pl.DataFrame, colours: Mapping[str, str], *, x: str, y: str = "pairs", rules: Sequence[float] = ()
) -> Any:
    """Draw histograms over one another. Columns: series, left, right, rows, share."""
    import altair as alt

    bars = (
        alt.Chart(frame)
        .mark_rect(opacity=0.3 if len(colours) > 1 else 0.8)
        .encode(
            x=alt.X(
                "left:Q",
                title=words(x),
                scale=alt.Scale(zero=False, nice=False),
                axis=alt.Axis(grid=False, tickCount=6),
            ),
            x2="right:Q",
            y=alt.Y("rows:Q", title=words(y), axis=alt.Axis(tickCount=4, tickMinStep=1)),
            y2=alt.Y2Datum(0),
            color=_colour("series", colours),
            tooltip=[
                _tip("series", ""),
                _tip("left", "from"),
                _tip("right", "to"),
                _tip("rows", y),
                _tip("share", "share", ".1%"),
            ],
        )
    )
    tops = [_tops(frame, colours)] if len(colours) > 1 else []
    return styled(alt.layer(bars, *tops, *(_rule(alt, "x", at) for at in rules)))


def _tops(frame: pl.DataFrame, colours: Mapping[str, str]) -> Any:
    """Draw the upper edge of histograms, so that those that overlap can be told apart."""
    import altair as alt

    ends = frame.group_by("series", maintain_order=True).last().with_columns(left="right")
    steps = pl.concat([frame, ends]).filter(pl.col("rows").sum().over("series") > 0).sort("series", "left")
    line = alt.Chart(steps).mark_line(interpolate="step-after", strokeWidth=1.5)
    return line.encode(x="left:Q", y="rows:Q", color=_colour("series", colours))


def trend(
    frame: pl.DataFrame,
    *,
    x: str,
    y: str,
    level: float | None = None,
    domain: tuple[float, float] | None = None,
    diagonal: bool = False,
    percent: bool = False,
    colour: str = COLOURS["all"],
) -> Any:
    """Draw values with their intervals along an axis. Columns: left, right, middle, rows, value, low, high."""
    import altair as alt

    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=False)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "middle:Q",
            title=words(x),
            scale=alt.Scale(zero=False, nice=True),
            axis=alt.Axis(grid=False, tickCount=6),
        ),
        tooltip=[
            *(_tip("left", "from"), _tip("right", "to"), _tip("rows", "rows")),
            *(_tip("value", y, ".3~f"), _tip("low", "95 % from", ".3~f"), _tip("high", "95 % to", ".3~f")),
        ],
    )
    up = alt.Axis(tickCount=5, format="%") if percent else alt.Axis(tickCount=5)
    marks = [
        base.mark_line(color=colour, opacity=0.5, strokeWidth=1.5).encode(
            y=alt.Y("value:Q", title=words(y), scale=scale, axis=up)
        ),
        base.mark_rule(color=colour, strokeWidth=1.5).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        base.mark_point(color=colour, filled=True, size=45, opacity=1).encode(y="value:Q"),
    ]
    if diagonal:
        ends = pl.DataFrame({"middle": [0.0, 1.0], "value": [0.0, 1.0]})
        marks.insert(
            0,
            alt.Chart(ends)
            .mark_line(color=COLOURS["soft"], strokeDash=[4, 3], strokeWidth=1)
            .encode(x="middle:Q", y="value:Q"),
        )
    if level is not None:
        marks.insert(0, _rule(alt, "y", level))
    return styled(alt.layer(*marks))


def counts(frame: pl.DataFrame, colours: Mapping[str, str], *, x: str = "pairs") -> Any:
    """Draw rows by name as stacked bars. Columns: name, part, rows, in order; one part is one bar."""
    import altair as alt

    names = frame["name"].unique(maintain_order=True).to_list()
    encoded = alt.Chart(frame).encode(
        x=alt.X("rows:Q", title=words(x), stack="zero", axis=alt.Axis(tickCount=5)),
        y=alt.Y(
            "name:N", title=None, sort=names, axis=alt.Axis(ticks=False, domain=False, labelOverlap=False)
        ),
        order=alt.Order("at:Q"),
        color=_colour("part", colours),
        tooltip=[_tip("name", ""), _tip("part", "of"), _tip("rows", "rows")],
    )
    placed = {name: at for at, name in enumerate(colours)}
    frame = frame.with_columns(at=pl.col("part").replace_strict(placed, default=0, return_dtype=pl.Int64))
    return styled(encoded.properties(data=frame).mark_bar(height={"band": 0.7}), height=_tall(len(names)))


def dots(
    frame: pl.DataFrame,
    *,
    x: str,
    level: float | None = None,
    colour: str = COLOURS["all"],
    percent: bool = False,
) -> Any:
    """Draw one value with its interval a name. Columns: name, rows, value, low, high, in order."""
    import altair as alt

    names = frame["name"].to_list()
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "name:N",
            title=None,
            sort=names,
            axis=alt.Axis(ticks=False, domain=False, labelOverlap=False, grid=True),
        ),
        tooltip=[
            _tip("name", ""),
            _tip("rows", "rows"),
            _tip("value", x, ".3~f"),
            _tip("low", "95 % from", ".3~f"),
            _tip("high", "95 % to", ".3~f"),
        ],
    )
    scale = alt.Scale(zero=False)
    axis = alt.Axis(tickCount=5, format="%", grid=False) if percent else alt.Axis(tickCount=5, grid=False)
    marks = [
        base.mark_rule(color=colour, strokeWidth=1.5).encode(
            x=alt.X("low:Q", title=words(x), scale=scale, axis=axis), x2="high:Q"
        ),
        base.mark_point(color=colour, filled=True, size=55, opacity=1).encode(
            x=alt.X("value:Q", scale=scale)
        ),
    ]
    rules = [] if level is None else [_rule(alt, "x", level)]
    return styled(alt.layer(*rules, *marks), height=_tall(len(names)))


def boxes(frame: pl.DataFrame, *, x: str) -> Any:
    """Draw the middle half, the middle nine tenths and the median of each series. Columns as of `bins.spreads`."""
    import altair as alt

    names = frame["series"].to_list()
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "series:N", title=None, sort=names, axis=alt.Axis(ticks=False, domain=False, labelOverlap=False)
        ),
        tooltip=[
            _tip("series", ""),
            _tip("rows", "rows"),
            *(_tip(f"p{mark}", f"{mark} % below", ".3~f") for mark in (5, 25, 50, 75, 95)),
        ],
    )
    across = alt.X("p5:Q", title=words(x), scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=6))
    marks = (
        base.mark_rule(color=COLOURS["all"], strokeWidth=1.5).encode(x=across, x2="p95:Q"),
        base.mark_bar(color=COLOURS["all"], height={"band": 0.55}, opacity=0.55).encode(
            x="p25:Q", x2="p75:Q"
        ),
        base.mark_tick(color=COLOURS["ink"], thickness=2.5, height={"band": 0.65}).encode(x="p50:Q"),
    )
    return styled(alt.layer(*marks), height=_tall(len(names)))


def heat(frame: pl.DataFrame, *, what: str) -> Any:
    """Draw shares between names as a matrix, each with the rows behind it. Columns: one, other, value, rows.

    The share is in the opacity of one colour, so that the matrix reads on dark and on light, and is written out.
    """
    import altair as alt

    names = sorted({*frame["one"], *frame["other"]}, key=_naturally)
    base = alt.Chart(frame).encode(
        x=alt.X(
            "one:N",
            title=None,
            sort=names,
            axis=alt.Axis(ticks=False, domain=False, labelOverlap=False, labelAngle=-35, labelLimit=90),
        ),
        y=alt.Y(
            "other:N",
            title=None,
            sort=names,
            axis=alt.Axis(ticks=False, domain=False, labelOverlap=False, labelLimit=110),
        ),
        tooltip=[_tip("one", ""), _tip("other", "and"), _tip("value", what, ".1%"), _tip("rows", "rows")],
    )
    cells = base.mark_rect(color=COLOURS["all"]).encode(
        opacity=alt.Opacity("value:Q", scale=alt.Scale(domain=[0, 1], range=[0.04, 0.42]), legend=None)
    )
    texts = base.mark_text(color=COLOURS["ink"], fontSize=11 if len(names) <= 8 else 9).encode(
        text=alt.Text("value:Q", format=".0%")
    )
    return styled(alt.layer(cells, texts), height=max(HEIGHT, min(420, 60 + 30 * len(names))))


def _naturally(name: str) -> list[tuple[int, int, str]]:
    """Order names as people do: rater2 before rater10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


def lines(
    frame: pl.DataFrame,
    colours: Mapping[str, str],
    *,
    x: str = "step",
    y: str,
    level: float | None = None,
) -> Any:
    """Draw values along steps, a line a series. Columns: step, series, value."""
    import altair as alt

    small = alt.Axis(tickCount=5, format="~e")
    axis = small if frame["value"].abs().max() < 0.01 else alt.Axis(tickCount=5)  # type: ignore[operator]
    marks = (
        alt.Chart(frame)
        .mark_line(strokeWidth=1.8, point={"size": 18, "filled": True} if frame.height <= 40 else False)
        .encode(
            x=alt.X("step:Q", title=words(x), axis=alt.Axis(grid=False, tickCount=6, tickMinStep=1)),
            y=alt.Y("value:Q", title=words(y), scale=alt.Scale(zero=False), axis=axis),
            color=_colour("series", colours),
            tooltip=[_tip("step", x), _tip("series", ""), _tip("value", y, ".4~g")],
        )
    )
    return styled(alt.layer(marks, *([] if level is None else [_rule(alt, "y", level)])))


def _colour(field: str, colours: Mapping[str, str]) -> "alt.Color":
    import altair as alt

    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    return alt.Color(f"{field}:N", scale=scale, legend=legend(list(colours)))


def legend(names: Sequence[str]) -> "alt.Legend | None":
    """Return a legend as wide as the chart at most; none for a single name."""
    import altair as alt

    if len(names) < 2:
        return None
    columns = max(1, min(len(names), int(WIDTH // (_SYMBOL + room(names)))))
    return alt.Legend(title=None, columns=columns, labelLimit=WIDTH - _SYMBOL)


def room(names: Sequence[str]) -> float:
    """Return how wide names are at most, in pixels: a page's font may be wider than the one that Vega measures."""
    return _LETTER * max(map(len, names), default=0)


_SYMBOL = 34
"""Pixels of a legend's symbol, with what is left free beside it."""
_LETTER = 6.6
"""Pixels of a letter at 11 pixels, in a wide font."""


def _tip(field: str, title: str, shape: str = "") -> "alt.Tooltip":
    import altair as alt

    title = title or " "
    if field in _NAMES:
        return alt.Tooltip(field=field, type="nominal", title=words(title))
    return alt.Tooltip(field=field, type="quantitative", title=words(title), format=shape or ",.4~g")


_NAMES = frozenset({"series", "name", "part", "one", "other"})


def _rule(alt: Any, axis: str, at: float) -> Any:
    """Return a dashed line at a value of an axis."""
    ruled = alt.Chart(pl.DataFrame({"at": [at]})).mark_rule(
        color=COLOURS["soft"], strokeDash=[4, 3], strokeWidth=1
    )
    return ruled.encode(x="at:Q") if axis == "x" else ruled.encode(y="at:Q")


def _tall(names: int) -> int:
    return max(90, min(460, 58 + 24 * names))
