"""Rows inside a page: what its browser shows, packed so that 20,000 pairs open at once and stay smooth.

A set of rows is a head and blocks. The head has what lists, filters and sorting need of every row: numbers, flags,
names and the first words of the prompt, column by column. The blocks have the texts, a few hundred rows each, and are
opened only when one of their rows is looked at or when somebody searches. All of it is JSON, compressed.
"""

import base64
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit import rng
from prefkit.columns import MESSAGES
from prefkit.page.columns import Kind, described, kind_of
from prefkit.page.derived import with_derived
from prefkit.page.shell import Block

__all__ = ["LONGEST", "MOST", "MOST_CHARS", "About", "Embedded", "embed", "sampled", "spread"]

MOST = 20_000
"""Rows of a set, at most."""
MOST_CHARS = 80_000_000
"""Characters of texts of a set, at most: about 25 MB of page, compressed."""
LONGEST = 50_000
"""Characters of one message, at most."""
BLOCK = 400
"""Rows of a block: one opens in a few milliseconds."""
_SNIPPET = 90
"""Characters of the prompt that a list shows."""
_DIGITS = 6
_LEVEL = 6
"""Of compression: the highest takes twice as long for 1 % less."""


class About(NamedTuple):
    """What a set of rows is called."""

    name: str
    """In ids of the page: letters and hyphens."""
    title: str
    noun: str
    """One row: `pair`."""
    sides: tuple[str, ...] = ("chosen", "rejected")
    """Two conversations that are shown beside each other; without both, none are."""
    meanings: Mapping[str, str] = MappingProxyType({})
    """What columns mean here, where that is more than their names say."""


class Embedded(NamedTuple):
    """A set of rows as a page holds it."""

    name: str
    title: str
    rows: int
    """In the page."""
    total: int
    """In the store."""
    blocks: tuple[Block, ...]


def embed(about: About, table: pa.Table, *, total: int | None = None, most: int = MOST) -> Embedded:
    """Pack a table for the browser of a page: all of it, or a part that is spread evenly over it.

    `total` is the number of rows that the table was taken from, if it is already a part.
    """
    whole = table.num_rows if total is None else total
    name, title = about.name, about.title
    sides = about.sides if set(about.sides) <= set(table.column_names) else ()
    table = with_derived(table.take(spread(table.num_rows, _fitting(table, most), name)).flatten(), sides)
    kinds = {field.name: kind_of(table[field.name]) for field in table.schema}
    light = [column for column, kind in kinds.items() if kind in ("number", "flag", "category", "name")]
    heavy = [column for column, kind in kinds.items() if kind in ("conversation", "prose", "structure")]
    head = {
        "name": name,
        "title": title,
        "noun": about.noun,
        "sides": sides,
        "rows": table.num_rows,
        "total": whole,
        "block": BLOCK,
        "columns": [
            {
                **described(column, kinds[column], about.meanings.get(column)),
                **(_values(table[column], kinds[column]) if column in light else {}),
            }
            for column in [*light, *heavy]
        ],
        "left_out": [column for column, kind in kinds.items() if kind == "left-out"],
        "snippets": _snippets(table),
    }
    packed = [Block(f"rows-{name}", _pack(head))]
    for at, first in enumerate(range(0, table.num_rows, BLOCK)):
        part = table.select(heavy).slice(first, BLOCK)
        packed.append(Block(f"rows-{name}-{at}", _pack({column: _texts(part[column]) for column in heavy})))
    return Embedded(name, title, table.num_rows, whole, tuple(packed))


def spread(rows: int, most: int, seed: str) -> pa.Array:
    """Return the places of at most `most` rows, spread evenly from a start that is drawn: the same every time."""
    if rows <= most:
        return pa.array(np.arange(rows), pa.int64())
    start = float(rng.uniform(0, "page", [seed])[0])
    return pa.array(np.floor((np.arange(most) + start) * rows / most).astype(np.int64))


def _fitting(table: pa.Table, most: int) -> int:
    """Return how many rows fit into a page: fewer than `most` where texts are very long."""
    found = 0
    for field in table.schema:
        if field.type == MESSAGES and table.num_rows:
            contents = pc.list_flatten(table[field.name])
            lengths = pc.utf8_length(pc.struct_field(contents, "content"))
            found += pc.sum(pc.min_element_wise(lengths, pa.scalar(LONGEST, lengths.type))).as_py() or 0
    return min(most, max(1, int(table.num_rows * MOST_CHARS / found))) if found > MOST_CHARS else most


def _values(column: pa.ChunkedArray, kind: Kind) -> Mapping[str, Any]:
    """Return a light column as JSON values; a category as its names and, for each row, which of them."""
    if kind == "number":
        return {"values": [_number(value) for value in column.to_pylist()]}
    if kind != "category":
        return {"values": column.to_pylist()}
    coded = column.combine_chunks().dictionary_encode()
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    return {"names": coded.dictionary.to_pylist(), "values": coded.indices.to_pylist()}


def _number(value: float | None) -> float | str | None:
    """Return a number as JSON has it; JSON has no infinity, and what is no number is missing."""
    if value is None or isinstance(value, int):
        return value
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return None if math.isnan(value) else float(f"{value:.{_DIGITS}g}")


def _texts(column: pa.ChunkedArray) -> list[Any]:
    if column.type == MESSAGES:
        return [None if row is None else [_turn(turn) for turn in row] for row in column.to_pylist()]
    return [_cut(value) for value in column.to_pylist()]


def _turn(turn: Mapping[str, str | None] | None) -> list[Any]:
    role, content = (turn or {}).get("role") or "", (turn or {}).get("content") or ""
    more = len(content) - LONGEST
    return [role, content] if more <= 0 else [role, content[:LONGEST], more]


def _cut(value: Any) -> Any:
    """Return a value as JSON has it, its texts cut."""
    if isinstance(value, str):
        return (
            value
            if len(value) <= LONGEST
            else f"{value[:LONGEST]} … {len(value) - LONGEST:,} characters more"
        )
    if isinstance(value, Mapping):
        return {key: _cut(inner) for key, inner in value.items()}
    if isinstance(value, Sequence):
        return [_cut(inner) for inner in value]
    return _number(value) if isinstance(value, float) else value


def _snippets(table: pa.Table) -> list[str]:
    """Return the first words of each row's prompt: of its last turn, since that is what is answered."""
    if "prompt" not in table.column_names:
        return [""] * table.num_rows
    return [_snippet(row) for row in table["prompt"].to_pylist()]


def _snippet(messages: Sequence[Mapping[str, str | None]] | None) -> str:
    last = (messages[-1]["content"] or "") if messages else ""
    words = " ".join(last[: 4 * _SNIPPET].split())
    return words if len(words) <= _SNIPPET else words[: _SNIPPET - 1] + "…"


def _pack(value: object) -> str:
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
    return base64.b64encode(gzip.compress(plain.encode("utf-8", "replace"), _LEVEL, mtime=0)).decode("ascii")


def sampled(tables: Sequence[pa.Table], most: int, seed: str) -> Iterator[pa.Table]:
    """Yield of each table as large a part as leaves `most` rows of all, spread evenly."""
    rows = sum(table.num_rows for table in tables)
    share = min(1.0, most / max(1, rows))
    for table in tables:
        yield table.take(spread(table.num_rows, math.ceil(table.num_rows * share), seed))
