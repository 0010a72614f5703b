"""Chunks: a few thousand rows as a file gives them, before anyone knows what they mean.

Rows of JSON are Python dicts, rows of a columnar file an Arrow table; everything after reading asks a chunk
for one column at a time and takes either. A chunk is bounded in rows and bytes, so a file of any size is read
in bounded memory. Rows that cannot be read travel beside it, with their line and the reason.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

__all__ = [
    "BAD",
    "CHUNK_BYTES",
    "CHUNK_ROWS",
    "BadRow",
    "BadRowError",
    "Cell",
    "Chunk",
    "Column",
    "Row",
    "bad_rows",
    "bad_table",
    "chunked",
    "cut",
    "preview",
]

CHUNK_ROWS = 4096
CHUNK_BYTES = 16 << 20

Cell = Any
"""One value of a file, of any type a file may hold."""
Row = dict[str, Cell]
Column: TypeAlias = list[Cell] | pa.Array | pa.ChunkedArray

BAD = pa.schema([("line", pa.int64()), ("reason", pa.string()), ("text", pa.string()), ("file", pa.string())])
"""What is kept of a row that cannot be read. `line` counts from 1: lines of a text file, else rows."""
_TEXT = 500


class BadRow(NamedTuple):
    """A row that cannot be read."""

    line: int
    reason: str
    """One of few, so that reasons can be counted."""
    text: str
    """The row as it stands, cut."""


class BadRowError(ValueError):
    """One row is not what its layout says. Never leaves this package: the row is set aside under this reason."""


class Chunk(NamedTuple):
    """Rows in the order of their file."""

    data: list[Row] | pa.Table
    lines: np.ndarray
    """Line of each row, int64 [rows]."""
    bad: tuple[BadRow, ...] = ()
    """Rows of this stretch that could not be read."""
    extra: Mapping[str, pa.Array] = MappingProxyType({})
    """Columns found elsewhere, by name: what a join brought."""

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.lines)

    def column(self, name: str) -> Column:
        """Return a column; all null where no row has it."""
        if name in self.extra:
            return self.extra[name]
        if isinstance(self.data, list):
            return [row.get(name) for row in self.data]
        if name not in self.data.column_names:
            return pa.nulls(self.rows)
        return self.data[name]

    def dicts(self) -> list[Row]:
        """Return the rows as dicts."""
        rows = self.data if isinstance(self.data, list) else self.data.to_pylist()
        extra = {name: values.to_pylist() for name, values in self.extra.items()}
        if not extra:
            return rows
        return [
            {**row, **{name: values[at] for name, values in extra.items()}} for at, row in enumerate(rows)
        ]

    def filter(self, stays: np.ndarray) -> "Chunk":
        """Return the rows where `stays`, bool [rows], is true; bad rows stay beside them."""
        if stays.all():
            return self
        if isinstance(self.data, list):
            data: list[Row] | pa.Table = [row for row, stay in zip(self.data, stays, strict=True) if stay]
        else:
            data = self.data.filter(pa.array(stays))
        extra = {name: values.filter(pa.array(stays)) for name, values in self.extra.items()}
        return self._replace(data=data, lines=self.lines[stays], extra=extra)

    def head(self, rows: int) -> "Chunk":
        """Return the first rows, good and bad together."""
        lines = sorted([*self.lines.tolist(), *(row.line for row in self.bad)])
        if rows >= len(lines):
            return self
        bad = tuple(row for row in self.bad if row.line < lines[rows])
        good = rows - len(bad)
        data = self.data[:good] if isinstance(self.data, list) else self.data.slice(0, good)
        return self._replace(data=data, lines=self.lines[:good], bad=bad)


def preview(chunk: Chunk, row: int) -> str:
    """Return a row as text, for keeping aside."""
    value = chunk.data[row] if isinstance(chunk.data, list) else chunk.data.slice(row, 1).to_pylist()[0]
    return cut(json.dumps(value, ensure_ascii=False, default=str))


def bad_rows(chunk: Chunk, problems: pa.Array) -> list[BadRow]:
    """Return the rows of a chunk that have a problem, string [rows]."""
    found = np.flatnonzero(np.asarray(problems.is_valid())).tolist()
    return [BadRow(int(chunk.lines[row]), problems[row].as_py(), preview(chunk, row)) for row in found]


def cut(text: str) -> str:
    """Cut text to what is kept of a bad row, without what UTF-8 cannot hold."""
    return text[:_TEXT].encode("utf-8", "replace").decode("utf-8", "replace")


def bad_table(rows: Sequence[BadRow], file: str) -> pa.Table:
    """Return bad rows as a table."""
    columns = {
        "line": [row.line for row in rows],
        "reason": [row.reason for row in rows],
        "text": [row.text for row in rows],
        "file": [file] * len(rows),
    }
    return pa.table(columns, schema=BAD)


def chunked(
    raw: Iterable[tuple[int, str, int]], parse: Callable[[str], Row], rows: int = CHUNK_ROWS
) -> Iterator[Chunk]:
    """Parse (line, text, bytes) into chunks; a row that `parse` refuses is set aside."""
    good: list[Row] = []
    lines: list[int] = []
    bad: list[BadRow] = []
    size = 0
    for line, text, length in raw:
        try:
            good.append(parse(text))
            lines.append(line)
        except BadRowError as error:
            bad.append(BadRow(line, str(error), cut(text)))
        size += length
        if len(good) + len(bad) >= rows or size >= CHUNK_BYTES:
            yield Chunk(good, np.asarray(lines, np.int64), tuple(bad))
            good, lines, bad, size = [], [], [], 0
    if good or bad:
        yield Chunk(good, np.asarray(lines, np.int64), tuple(bad))
