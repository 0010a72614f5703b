"""Pages: what reading a Parquet row group may take, told from the headers of its pages before any is unfolded.

A footer may say anything: pages are unfolded to what their own headers say, and values of a dictionary are copied once
for each row that points to them. So a row group is read so many rows at a time that the worst its pages can mean fits
into memory. Where lists make even one row too large for that, their texts stay in their dictionary, are weighed there,
and copied a slice at a time.
"""

import os
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.sources.chunks import CHUNK_ROWS
from prefkit.sources.files import DataFile, misread
from prefkit.sources.footer import ColumnChunk
from prefkit.sources.thrift import Fields, struct
from prefkit.sources.unfolding import FREELY, most_bytes, refuse

__all__ = ["Plan", "planned"]

_AT_ONCE = 1 << 26
"""Bytes that a batch may come to at worst, where fewer rows make it less."""
_HELD = 64
"""Bytes of pages held at once for a byte of file."""
_AT_A_POINTER = 8
"""Bytes an element of a list takes while its text stays in a dictionary."""
_UNFOLDS = 250
"""Bytes of a page that one byte may stand for, beyond `_AT_ONCE`."""
_DICTIONARY, _DATA_2 = 2, 3
_ABOUT = {0: 5, _DICTIONARY: 7, _DATA_2: 8}
"""Field of a page's header that tells of its kind, by kind. Pages of other kinds are passed over."""
_POINTS, _SHARES_STARTS = (2, 8), 7
"""Encodings: values of a dictionary, and texts that begin as the one before."""
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LENGTH = Struct("<I")
_HEADER, _LARGEST_HEADER = 1 << 9, 1 << 24


class Plan(NamedTuple):
    """How to read a row group."""

    rows: int
    """Rows of a batch."""
    pointed: tuple[str, ...]
    """Columns whose texts stay in their dictionary, by path."""


class _Column(NamedTuple):
    """A leaf of the schema in one row group, and its data pages."""

    path: str
    width: int
    """Bytes of a value; 0 for text."""
    listed: bool
    """Whether a row may have many values."""
    values: np.ndarray
    """Values of each page, float64 [pages]: sums of what files claim must not wrap."""
    sizes: np.ndarray
    """Bytes each page unfolds to, float64 [pages]."""
    pointing: np.ndarray
    """Whether values of a page point to a dictionary, bool [pages]."""
    longest: np.ndarray
    """Most bytes of one value where values share bytes, float64 [pages]; 0 where a page has its values in full."""
    held: int
    """Bytes of the dictionary and the largest page."""

    def each(self) -> np.ndarray:
        """Return the bytes each page comes to, all of its values taken."""
        if self.width:
            return self.values * self.width
        return np.where(self.longest > 0, self.values * self.longest, self.sizes)


def planned(
    file: DataFile,
    meta: Any,
    group: int,
    chunks: Sequence[ColumnChunk],
    wanted: Sequence[str] | None,
    rows: int,
) -> Plan:
    """Plan to read a row group, at most `rows` at a time. Raises DataError if one row could not be held.

    `chunks` are its columns, as the footer tells them.
    """
    place = f"row group {group + 1}"
    with file.path.open("rb") as stream:
        columns = [
            _looked_at(stream.fileno(), chunks[at], meta.schema.column(at), file)
            for at in _leaves(meta, wanted)
        ]
    most_held = max(FREELY, _HELD * file.path.stat().st_size)
    held = sum(column.held for column in columns)
    if held > most_held:
        raise refuse(file, f"the pages of {place} unfold to {held:,} at once")
    pointed = tuple(column.path for column in columns if column.listed and _stays(column))
    most = most_bytes(file, int(meta.num_rows))
    for column in columns:
        if column.listed and (worst := _listed_at_worst(column, pointed)) > most:
            raise refuse(file, f"'{column.path}' of {place} may unfold to {worst:,}")
    flat = [column for column in columns if not column.listed]
    one = _at_worst(flat, 1)
    if one > most_held:
        raise refuse(file, f"a row of {place} may unfold to {one:,}")
    while rows > 1 and _at_worst(flat, rows) > max(_AT_ONCE, 2 * one):
        rows = 1 << (rows - 1).bit_length() - 1
    return Plan(rows, pointed)


def _leaves(meta: Any, wanted: Sequence[str] | None) -> Iterator[int]:
    for at in range(meta.num_columns):
        path = meta.schema.column(at).path
        if wanted is None or any(path == name or path.startswith(f"{name}.") for name in wanted):
            yield at


def _stays(column: _Column) -> bool:
    """Say whether the texts of lists are better left in their dictionary."""
    return not column.width and bool(column.pointing.any()) and column.each().sum() > _AT_ONCE


def _listed_at_worst(column: _Column, pointed: Sequence[str]) -> int:
    """Return what one row comes to if it holds all that a column has in a row group."""
    if column.path not in pointed:
        return int(column.each().sum())
    copied = np.where(column.pointing, column.values * _AT_A_POINTER, column.each())
    return int(copied.sum())


def _at_worst(columns: Sequence[_Column], rows: int) -> int:
    """Return the most bytes that so many rows on end come to, wherever they begin, where each has one value."""
    return int(sum(map(_windowed, columns, [rows] * len(columns))))


def _windowed(column: _Column, rows: int) -> float:
    if column.width or not len(column.values):
        return float(rows * column.width)
    ends = np.cumsum(column.values)
    starts, upto = (
        ends - column.values,
        np.append(0.0, np.cumsum(np.where(column.longest > 0, 0, column.sizes))),
    )
    last = np.searchsorted(starts, ends - 1 + rows)
    return float((upto[last] - upto[:-1]).max() + rows * column.longest.max())


def _looked_at(handle: int, chunk: ColumnChunk, leaf: Any, file: DataFile) -> _Column:
    """Look at the headers of a column's pages. Raises DataError where they are none, or a page is beyond belief."""
    path = leaf.path
    try:
        pages = list(_pages(handle, chunk))
        large = next((page for page in pages if page.size > max(_AT_ONCE, _UNFOLDS * page.packed)), None)
        if large is not None:
            raise refuse(file, f"a page of '{path}' unfolds from {large.packed:,} to {large.size:,}")
        return _column(handle, chunk, leaf, pages)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise misread(file, f"a page of '{path}' has no header") from error


class _Page(NamedTuple):
    kind: int
    at: int
    """Where its bytes begin in the file."""
    packed: int
    size: int
    values: int
    encoding: int
    plain: int
    """Bytes before the part that is compressed."""


def _pages(handle: int, chunk: ColumnChunk) -> Iterator[_Page]:
    """Yield the pages of a column of a row group, as their headers tell them."""
    at, seen = chunk.begins, 0
    while seen < chunk.values:
        header, length = _header(handle, at)
        kind, size, packed = (_count(header[number]) for number in (1, 2, 3))
        at += length
        if kind in _ABOUT:
            about = header[_ABOUT[kind]]
            if not isinstance(about, dict):
                raise TypeError("no header of its kind")
            values, encoding = _count(about[1]), _count(about[4 if kind == _DATA_2 else 2])
            plain = _count(about[5]) + _count(about[6]) if kind == _DATA_2 else 0
            yield _Page(kind, at, packed, size, values, encoding, plain)
            seen += 0 if kind == _DICTIONARY else values
        at += packed


def _header(handle: int, at: int) -> tuple[Fields, int]:
    size = _HEADER
    while True:
        data = os.pread(handle, size, at)
        try:
            return struct(data)
        except IndexError:
            if len(data) < size or size > _LARGEST_HEADER:
                raise
            size *= 8


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("no count")
    return value


def _column(handle: int, chunk: ColumnChunk, leaf: Any, pages: Sequence[_Page]) -> _Column:
    data = [page for page in pages if page.kind != _DICTIONARY]
    dictionary = next((page for page in pages if page.kind == _DICTIONARY), None)
    width = (
        leaf.length if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY" else _WIDTHS.get(leaf.physical_type, 0)
    )
    values, sizes, encodings = (
        np.array([page[at] for page in data], np.float64)
        for at in (_Page._fields.index(name) for name in ("values", "size", "encoding"))
    )
    pointing = np.isin(encodings, _POINTS)
    longest = np.where(encodings == _SHARES_STARTS, sizes, 0.0)
    if not width and pointing.any():
        longest[pointing] = _longest(handle, chunk, dictionary, int(values[pointing].sum()))
    held = sum(
        max((page.size + page.packed for page in some), default=0)
        for some in (data, [*filter(None, [dictionary])])
    )
    return _Column(leaf.path, width, leaf.max_repetition_level > 0, values, sizes, pointing, longest, held)


def _longest(handle: int, chunk: ColumnChunk, page: _Page | None, values: int) -> float:
    """Return the most bytes an entry of a dictionary may have; looked up only where that can matter."""
    if page is None:
        raise ValueError("values point to no dictionary")
    if page.size * min(values, CHUNK_ROWS) <= _AT_ONCE and page.size * values <= FREELY:
        return float(page.size)
    data = os.pread(handle, page.packed, page.at)
    if chunk.codec:
        try:
            data = pa.decompress(data, page.size, codec=chunk.codec, asbytes=True)
        except (ValueError, OSError):  # of a codec that goes by another name there
            return float(page.size)
    at = longest = 0
    # A Python loop: each length stands behind the text before. 60 ns an entry, of a megabyte or so a row group.
    for _ in range(page.values):
        (length,) = _LENGTH.unpack_from(data, at)
        longest = max(longest, length)
        at += 4 + length
    return float(longest + 4)
