"""What a chart comes with: a title, the group it stands in, and its finding in one sentence.

The sentence is for whoever cannot see the chart, and for whoever wants the number: it is computed from the rows, not
read off the drawing.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from prefkit.show import visible

__all__ = ["LONGEST", "Figure", "count", "figures", "named", "number", "percent", "short", "words"]

LONGEST = 28
"""Characters of a name in a chart."""
_WIDEST = 60
"""Characters of an axis title."""
_ENDS = str.maketrans({"\\": " ", '"': "”", "'": "’", "`": "’"})


class _Figure(NamedTuple):
    title: str
    group: str
    """`labels`, `length`, `scores`, `difficulty`, `judges`, `rows`, `training` or `comparison`."""
    chart: Any
    """An Altair chart."""
    description: str
    """The finding in one sentence, with its numbers. May hold names from rows: escape it like any text of theirs."""


class Figure(_Figure):
    """A chart that says one thing. Characters that a terminal would obey are written out in its texts."""

    __slots__ = ()

    def __new__(cls, title: str, group: str, chart: Any, description: str) -> Self:
        """Return a figure whose texts may be printed."""
        return super().__new__(cls, _line(title), group, chart, _line(description))


def _line(text: str) -> str:
    return visible(text).replace("\n", " ").replace("\t", " ")


def percent(rate: float) -> str:
    """Return a share in per cent, with a decimal only where it would otherwise be 0 or 100."""
    rounded = f"{100 * rate:.0f}"
    return (
        f"{100 * rate:.1f}\u00a0%" if rounded in {"0", "100"} and rate not in {0, 1} else f"{rounded}\u00a0%"
    )


def number(value: float) -> str:
    """Return a number with three significant digits, whole ones in full."""
    if abs(value) < 1e15 and (float(value).is_integer() or abs(value) >= 1_000):
        return count(round(value))
    return f"{value:.3g}"


def short(value: float) -> str:
    """Return a number rounded to three significant digits."""
    return number(float(f"{value:.3g}"))


def count(value: int) -> str:
    """Return a whole number in groups of three digits."""
    return f"{value:,}"


def figures(value: int, noun: str) -> str:
    """Return a number of things in words: `1 pair`, `12 pairs`."""
    return f"{count(value)} {noun}" if value == 1 else f"{count(value)} {noun}s"


def words(text: str) -> str:
    """Return a text that may title an axis: Vega puts titles into expressions, which a quote could end."""
    plain = " ".join(visible(text).translate(_ENDS).split())
    return plain if len(plain) <= _WIDEST else f"{plain[: _WIDEST - 1]}…"


def named(names: Sequence[str | None], longest: int = LONGEST) -> list[str]:
    """Return names short enough for a chart, still all different; null is `(none)`."""
    found, seen = list[str](), set[str]()
    for name in names:
        plain = " ".join((name if name is not None else "(none)").split()) or "(empty)"
        short = plain if len(plain) <= longest else f"{plain[: longest - 1]}…"
        again, at = short, 2
        while again in seen:
            again, at = f"{short} ({at})", at + 1
        seen.add(again)
        found.append(again)
    return found
