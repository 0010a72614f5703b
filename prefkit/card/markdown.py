"""Markdown from untrusted words: names of models and sources, reasons and notes are data, never markup.

A name goes into a code span, which neither Markdown nor HTML can leave; text in a table also has its pipes escaped.
Places on the machine that made the dataset are reduced to their last part wherever they appear.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from prefkit.statistics.figures import Estimate, Interval, Share, Spread, mean_interval, share_interval

__all__ = [
    "code",
    "count",
    "estimate",
    "fence",
    "mean",
    "number",
    "public",
    "public_tree",
    "rate",
    "spread_table",
    "table",
    "text",
]

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # control, direction, surrogate, private, unassigned
LONGEST = 120
"""Characters of a name that are shown."""
_FOLDER = r"""[^/\s"'`,;|]+/"""
_UNIX = re.compile(
    rf"(?:file:/{{0,2}}|(?<![\w/:.~-]))(?:(?:~[\w.-]*|\.{{1,2}})/(?:{_FOLDER})*|/(?:{_FOLDER})+)"
)
_UP = re.compile(r"^(?:\.{1,2}/)+.*/|^~[\w.-]*/.*/|^/.*/")
_WINDOWS = re.compile(r"""(?<!\w)[A-Za-z]:[\\/](?:[^\\/\s"'`,;|]+[\\/])*""")
_PLACES = ("file", "hub", "id", "ref", "path", "folder")
"""Settings that hold one path or name, spaces and all."""


def public(value: str) -> str:
    """Return text with every absolute or upward path in it reduced to its last part."""
    return _WINDOWS.sub("", _UNIX.sub("", value))


def public_tree(value: Any, key: str = "") -> Any:
    """Return JSON values with paths reduced to their last part; relative paths that stay below stand as they are."""
    if isinstance(value, dict):
        return {public(str(name)): public_tree(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [public_tree(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key in _PLACES:
        value = _UP.sub("", value)
    return public(value)


def text(value: object, longest: int = LONGEST) -> str:
    """Return one line of plain text: no control or direction marks, no paths, cut to `longest` characters."""
    line = " ".join(public(str(value)).split())
    line = "".join(mark for mark in line if unicodedata.category(mark) not in _HIDDEN).strip()
    return line if len(line) <= longest else line[: longest - 1] + "…"


def code(value: object) -> str:
    """Return a name as a code span that holds in running text and in a table. Nothing at all becomes a dash."""
    if value is None:
        return "–"
    line = text(value).replace("|", "\\|")
    if not line:
        return "–"
    runs = [len(run) for run in re.findall("`+", line)]
    ticks = "`" * (max(runs, default=0) + 1)
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def fence(body: str, language: str = "") -> str:
    """Return a fenced block that no line of `body` can close."""
    runs = [len(run) for run in re.findall("`+", body)]
    ticks = "`" * max(3, max(runs, default=0) + 1)
    return f"{ticks}{language}\n{body.rstrip()}\n{ticks}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Cells are Markdown already; columns of numbers stand right: their heads end in a colon."""
    lines = [
        [title.rstrip(":") for title in head],
        ["---:" if title.endswith(":") else "---" for title in head],
    ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [*lines, *rows])


def count(value: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{value:,}"


def number(value: float | None) -> str:
    """Return a number to four significant digits; a dash for none, and for what is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == round(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}"


def rate(share: Share | None) -> str:
    """Return a share in per cent with what it is of, and its 95 % interval where it has one."""
    if share is None or share.n == 0:
        return "–"
    bounds = share_interval(share)
    inside = "" if bounds is None else f"; 95 %: {100 * bounds.low:.1f} to {100 * bounds.high:.1f}"
    return f"{100 * share.count / share.n:.1f} % ({count(share.count)} of {count(share.n)}{inside})"


def mean(spread: Spread | None) -> str:
    """Return a mean with its 95 % interval and the number of values."""
    if spread is None or spread.mean is None:
        return "–"
    return f"{number(spread.mean)} (n {count(spread.n)}{_interval(mean_interval(spread))})"


def estimate(figure: Estimate | None) -> str:
    """Return a figure with its 95 % interval and the number of values."""
    if figure is None or figure.value is None:
        return "–"
    bounds = None if figure.low is None or figure.high is None else Interval(figure.low, figure.high)
    return f"{number(figure.value)} (n {count(figure.n)}{_interval(bounds)})"


def spread_table(rows: Iterable[tuple[str, Spread | None]]) -> str:
    """Return a table of distributions, with percentiles; those without a value are left out."""
    head = ("", "mean (95 %)", "5th:", "25th:", "median:", "75th:", "95th:", "largest:", "missing:")
    found = [
        (
            name,
            mean(each),
            *(number(mark) for mark in (each.p5, each.p25, each.p50, each.p75, each.p95, each.max)),
            count(each.missing),
        )
        for name, each in rows
        if each is not None and each.n
    ]
    return table(head, found) if found else ""


def _interval(bounds: Interval | None) -> str:
    return "" if bounds is None else f"; 95 %: {number(bounds.low)} to {number(bounds.high)}"
