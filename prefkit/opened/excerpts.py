"""A few rows to read: the two sides of a pair beside each other, with what differs marked.

Texts are cut to what a person reads; the frame has all of them. Rows are drawn by hash of their id, so that the same
rows come whatever the order they are stored in.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES
from prefkit.errors import PrefkitError
from prefkit.marked import Piece, mark
from prefkit.opened.pages import page
from prefkit.rng import uniform
from prefkit.show import in_brief
from prefkit.tables import to_polars

__all__ = ["Excerpt", "as_card", "found", "sampled"]

_SHOWN = 25
"""Rows on a page."""
_TEXT = 4000
"""Characters of a turn on a page."""
_FIRST = (
    "source",
    "domain",
    "split",
    "model",
    "score",
    "margin",
    "p_chosen",
    "tie",
    "flip_prob",
    "weight",
    "drop_reason",
)
_OF_SIDE = ("score", "model", "origin", "n_tokens", "win_rate")
_SIDES = ("response", "chosen", "rejected")


@dataclass(frozen=True, repr=False)
class Excerpt:
    """Some rows of a step: to read in a notebook, or as a polars frame."""

    table: pa.Table
    title: str
    text: str = ""
    """What was looked for."""

    @property
    def frame(self) -> pl.DataFrame:
        """The rows, whole."""
        return to_polars(self.table)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __repr__(self) -> str:
        return f"{self.title}\n{self.frame}"

    def _repr_html_(self) -> str:
        rows = [as_card(row, self.text) for row in self.table.slice(0, _SHOWN).to_pylist()]
        return page("rows.html", title=self.title, rows=rows, more=len(self) - len(rows))


def sampled(table: pa.Table, count: int, seed: int) -> pa.Table:
    """Return so many rows, drawn by their ids, in the order they are stored in."""
    if count < 0:
        raise PrefkitError(f"a sample of {count} rows is none", hint="ask for 0 or more")
    if "id" in table.column_names and table.num_rows > count:
        drawn = np.argsort(uniform(seed, "excerpt", table["id"].to_pylist()), kind="stable")[:count]
    else:
        drawn = np.arange(min(count, table.num_rows))
    return table.take(pa.array(np.sort(drawn)))


def found(table: pa.Table, text: str) -> np.ndarray:
    """Return the rows in which a prompt, a response or a side has a text, whatever its case: int64, rising.

    Raises PrefkitError if there is nothing to look for.
    """
    if not text:
        raise PrefkitError("there is no text to find", hint="data.find('some words')")
    hits = np.zeros(table.num_rows, dtype=bool)
    for name in ("prompt", *_SIDES):
        if name in table.column_names and table.schema.field(name).type == MESSAGES:
            hits |= _having(table[name], text)
    return np.flatnonzero(hits)


def _having(column: pa.ChunkedArray, text: str) -> np.ndarray:
    parts = [np.zeros(0, dtype=bool)]
    for chunk in column.chunks:
        sizes = pc.fill_null(pc.list_value_length(chunk), 0).to_numpy(zero_copy_only=False)
        hits = pc.match_substring(chunk.flatten().field("content"), text, ignore_case=True)
        rows = np.repeat(np.arange(len(chunk)), sizes)[
            pc.fill_null(hits, False).to_numpy(zero_copy_only=False)
        ]
        parts.append(np.bincount(rows, minlength=len(chunk)) > 0)
    return np.concatenate(parts)


# cards


class _Bit(NamedTuple):
    text: str
    found: bool


class _Part(NamedTuple):
    bits: Sequence[_Bit]
    same: bool


class _Turn(NamedTuple):
    role: str
    parts: Sequence[_Part]
    more: int
    """Characters that are left out."""


class _Side(NamedTuple):
    name: str
    facts: Mapping[str, str]
    turns: Sequence[_Turn]


class Card(NamedTuple):
    """A row as a page shows it."""

    id: str
    facts: Mapping[str, str]
    prompt: Sequence[_Turn]
    sides: Sequence[_Side]
    votes: Sequence[Mapping[str, str]]
    rest: Mapping[str, str]
    """Every other column, in brief."""


def as_card(row: Mapping[str, Any], text: str = "") -> Card:
    """Return a row as a page shows it, with `text` marked wherever it stands."""
    sides = [name for name in _SIDES if row.get(name)]
    marked = dict(_marked(row, sides))
    said = {f"{side}_{name}" for side in sides for name in _OF_SIDE} | {
        "id",
        "prompt",
        "votes",
        *_FIRST,
        *sides,
    }
    return Card(
        str(row.get("id") or row.get("line") or ""),
        {name: in_brief(row[name]) for name in _FIRST if row.get(name) is not None},
        [_turn(turn, [Piece(_head(turn), True)], text) for turn in row.get("prompt") or ()],
        [
            _Side(
                name,
                _facts(row, name),
                [_turn(turn, pieces, text) for turn, pieces in zip(row[name], marked[name], strict=True)],
            )
            for name in sides
        ],
        [
            {key: _brief(vote.get(key)) for key in ("judge", "winner", "order", "p", "rationale")}
            for vote in row.get("votes") or ()
        ],
        {name: in_brief(value, 300) for name, value in row.items() if name not in said and value is not None},
    )


def _facts(row: Mapping[str, Any], side: str) -> dict[str, str]:
    columns = {name: f"{side}_{name}" for name in _OF_SIDE} if side != "response" else {}
    known = {name: in_brief(row[column]) for name, column in columns.items() if row.get(column) is not None}
    return {**known, "characters": f"{sum(len(turn['content'] or '') for turn in row[side]):,}"}


def _marked(row: Mapping[str, Any], sides: Sequence[str]) -> Iterator[tuple[str, Sequence[Sequence[Piece]]]]:
    """Yield each side's turns in pieces; those of a pair are compared turn by turn."""
    if sides != ["chosen", "rejected"]:
        yield from ((name, [[Piece(_head(turn), True)] for turn in row[name]]) for name in sides)
        return
    one, other = (list(map(_head, row[name])) for name in sides)
    most = max(len(one), len(other))
    pairs = [mark(*(side[at] if at < len(side) else "" for side in (one, other))) for at in range(most)]
    yield "chosen", [pair.one for pair in pairs[: len(one)]]
    yield "rejected", [pair.other for pair in pairs[: len(other)]]


def _head(turn: Mapping[str, Any]) -> str:
    return (turn["content"] or "")[:_TEXT]


def _turn(turn: Mapping[str, Any], pieces: Sequence[Piece], text: str) -> _Turn:
    parts = [_Part(_bits(piece.text, text), piece.same) for piece in pieces]
    return _Turn(turn["role"] or "", parts, max(0, len(turn["content"] or "") - _TEXT))


def _bits(whole: str, text: str) -> list[_Bit]:
    if not text:
        return [_Bit(whole, False)]
    cuts = re.split(f"({re.escape(text)})", whole, flags=re.IGNORECASE)
    return [_Bit(cut, at % 2 == 1) for at, cut in enumerate(cuts) if cut]


def _brief(value: object) -> str:
    return "" if value is None else in_brief(value, 400)
