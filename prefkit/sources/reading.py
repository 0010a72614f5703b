"""Reading: peek at a source to plan with it, then read it into canonical rows, batch by batch.

Both begin by fixing the shape from the head of the data, so what `peek` promises is what `read` gives. Memory
is bounded by a chunk, whatever the size of a file; only the file of a join is held whole.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.errors import DataError
from prefkit.sources import columnar, hub, records
from prefkit.sources.chunks import BAD, CHUNK_ROWS, BadRow, Chunk, bad_table
from prefkit.sources.files import DataFile, beside, find, inspect, reading
from prefkit.sources.joins import Joined, left_by_where
from prefkit.sources.layouts import Head
from prefkit.sources.rows import arrange
from prefkit.sources.shape import Shape, shape_of
from prefkit.sources.source import Source
from prefkit.sources.tally import Tally

__all__ = [
    "Batch",
    "Peek",
    "ReadRef",
    "RefSchema",
    "arranged",
    "check_there",
    "looked_at",
    "most_rows",
    "peek",
    "raw",
    "read",
    "read_file",
]

ReadRef = Callable[[str], Iterator[pa.Table]]
RefSchema = Callable[[str], pa.Schema]
_HEAD_ROWS = 500
"""Rows that decide what columns there are and of what type: enough to meet an optional field, cheap to parse."""
_COUNTED_BYTES = 1 << 26
"""Files up to this size have their lines counted for a plan's estimate: 64 MB take 30 ms."""


class Peek(NamedTuple):
    """What a source will give."""

    schema: pa.Schema
    """Exactly the columns that `read` gives."""
    format: str
    """Layout, or `columns` where the source maps them itself, or `rows` for a ref."""
    rows: int | None
    """Rows in the data at most, where that is known without parsing it."""
    bytes: int | None


class Batch(NamedTuple):
    """Some rows of a source."""

    table: pa.Table
    """Canonical rows. `gather` numbers them and tells exact repeats apart."""
    bad: pa.Table
    """Rows that cannot be read: line, reason, text, file."""
    notes: Mapping[str, int]
    """What was counted on the way."""


def peek(source: Source, folder: Path, ref_schema: RefSchema | None = None) -> Peek:
    """Look at the head of a source. Never reaches for the network. Raises DataError."""
    if source.ref is not None:
        if ref_schema is None:
            raise _no_store(source.ref)
        return Peek(ref_schema(source.ref), "rows", None, None)
    files, shape = looked_at(source, folder)
    rows = [_rows_at_most(file) for file in files]
    total = sum(row for row in rows if row is not None) if files and None not in rows else None
    if total is not None and source.take is not None:
        total = min(total, source.take)
    exact = total if shape.layout_made is None and not source.explode and not source.where else None
    size = sum(file.path.stat().st_size for file in files) if files else None
    return Peek(shape.schema, shape.layout, exact, size)


def read(source: Source, folder: Path, read_ref: ReadRef | None = None) -> Iterator[Batch]:
    """Yield canonical rows. Raises DataError as soon as more than `max_bad` of the rows cannot be read."""
    if source.ref is not None:
        yield from _read_ref(source, read_ref)
        return
    files, shape = looked_at(source, folder)
    notes: Counter[str] = Counter()
    tally = Tally(source.max_bad, source.label)
    joined = None if source.join is None else _joined(source, folder, shape)
    if joined is not None:
        tally.add(0, joined.bad, joined.file)
        yield Batch(shape.schema.empty_table(), bad_table(joined.bad, joined.file), dict(joined.notes))
    most = most_rows(files, source, shape)
    for name, chunk in _taken(_chunks(source, folder, files, shape), source.take):
        table, bad = arranged(chunk, source, shape, joined, notes)
        tally.add(table.num_rows, bad, name)
        if most is not None:
            tally.check(most)
        yield Batch(table, bad_table(bad, name), dict(notes))
        notes.clear()
    tally.finish()
    if joined is not None and joined.unused():
        unused = {"join: judgements of rows that are not there": joined.unused()}
        yield Batch(shape.schema.empty_table(), BAD.empty_table(), unused)


def raw(source: Source, folder: Path) -> Iterator[tuple[str, Chunk]]:
    """Yield (file, rows as they stand) of a source that names files: for who must see what `read` would refuse."""
    assert source.file is not None
    for file in find(source.file, folder):
        for chunk in read_file(file, CHUNK_ROWS, None):
            yield file.shown, chunk


def arranged(
    chunk: Chunk, source: Source, shape: Shape, joined: Joined | None, notes: Counter[str]
) -> tuple[pa.Table, list[BadRow]]:
    """Return the canonical rows of a chunk, and those that cannot be read; adds to `notes`."""
    chunk = left_by_where(chunk, source.where, notes, "left out by where")
    if source.explode:
        chunk = _exploded(chunk, source.explode)
    if joined is not None:
        chunk = joined.attach(chunk)
    made = arrange(chunk, shape, source, notes)
    return made.table, made.bad


def looked_at(source: Source, folder: Path) -> tuple[list[DataFile], Shape]:
    """Return a source's files (none for a named hub dataset) and its shape."""
    if source.hub is not None:
        path = hub.hub_folder(source, folder)
        if path is None:
            named = hub.settled(source)
            return [], shape_of(named, hub.unseen_head(named), f"hub: {source.hub}")
        files = hub.hub_files(source, path)
    else:
        assert source.file is not None
        files = find(source.file, folder)
    place = files[0].shown
    head = _head(files[0])
    if source.explode:
        head = _exploded_head(head, source.explode)
    return files, shape_of(source, head, place)


def _head(file: DataFile) -> Head:
    chunk = next(read_file(file, _HEAD_ROWS, None), None)
    if chunk is None or not chunk.rows:
        first = (
            f": {chunk.bad[0].reason} at row {chunk.bad[0].line}" if chunk is not None and chunk.bad else ""
        )
        raise DataError(f"file '{file.shown}' has no row that can be read{first}", where=str(file.path))
    if isinstance(chunk.data, pa.Table):
        return Head(tuple(chunk.data.column_names), chunk.data.slice(0, 20).to_pylist(), chunk.data.schema)
    return Head(tuple(dict.fromkeys(name for row in chunk.data for name in row)), chunk.data)


def _rows_at_most(file: DataFile) -> int | None:
    """Return how many rows a file holds by its footer, or by its line breaks where counting them takes milliseconds."""
    rows = columnar.known_rows(file)
    if rows is not None or file.kind != "jsonl" or file.gzipped or file.path.stat().st_size > _COUNTED_BYTES:
        return rows
    with reading(file), file.path.open("rb") as stream:
        data = stream.read()
    return data.count(b"\n") + (0 if data.endswith(b"\n") else 1)


def _exploded_head(head: Head, column: str) -> Head:
    chunk = _exploded(Chunk(list(head.rows), np.arange(len(head.rows), dtype=np.int64)), column)
    assert isinstance(chunk.data, list)
    return Head(
        tuple(dict.fromkeys([*head.names, *(name for row in chunk.data for name in row)])), chunk.data
    )


def read_file(file: DataFile, rows: int, shape: tuple[str, ...] | None) -> Iterator[Chunk]:
    """Yield the rows of a file as they stand, so many at a time; of a columnar one, the columns that are needed."""
    match file.kind:
        case "jsonl":
            return records.json_lines(file, rows)
        case "json":
            return records.json_array(file, rows)
        case "csv" | "tsv":
            return columnar.csv(file, rows)
        case "parquet":
            return columnar.parquet(file, rows, shape)
        case "arrow" | "arrow-stream":
            return columnar.arrow(file, rows)


def _chunks(source: Source, folder: Path, files: list[DataFile], shape: Shape) -> Iterator[tuple[str, Chunk]]:
    """Yield (file, chunk) of the whole source."""
    if source.hub is not None:
        for chunk in hub.hub_chunks(source, folder):
            yield source.label, chunk
        return
    needed = shape.needed(source)
    for file in files:
        for chunk in read_file(file, CHUNK_ROWS, None if needed is None else tuple(needed)):
            check_there(chunk, file, shape, source)
            yield file.shown, chunk


def check_there(chunk: Chunk, file: DataFile, shape: Shape, source: Source) -> None:
    """Raise DataError if a columnar file lacks a column that the first file has."""
    needed = shape.needed(source)
    if needed is None or isinstance(chunk.data, list) or not chunk.rows:
        return
    missing = [name for name in needed if name not in chunk.data.column_names]
    if missing:
        what = f"file '{file.shown}' has no column '{missing[0]}', which the first file has"
        raise DataError(what, where=str(file.path), hint="read it as a source of its own")


def _taken(chunks: Iterator[tuple[str, Chunk]], take: int | None) -> Iterator[tuple[str, Chunk]]:
    left = take
    for name, chunk in chunks:
        if left is None:
            yield name, chunk
            continue
        part = chunk.head(left)
        left -= part.rows + len(part.bad)
        yield name, part
        if left <= 0:
            return


def most_rows(files: list[DataFile], source: Source, shape: Shape) -> int | None:
    """Return how many rows can come at most, where the files say so; rows that unfold may be more."""
    if shape.layout_made is not None or source.explode or not files:
        return None
    rows = [columnar.known_rows(file) for file in files]
    if any(row is None for row in rows):
        return None
    total = sum(row for row in rows if row is not None)
    return total if source.take is None else min(total, source.take)


def _exploded(chunk: Chunk, column: str) -> Chunk:
    rows, lines, bad = [], [], list(chunk.bad)
    # A Python loop: items of lists may be of any shape.
    for line, row in zip(chunk.lines.tolist(), chunk.dicts(), strict=True):
        items = row.get(column)
        if not isinstance(items, list) or not items:
            bad.append(BadRow(line, f"'{column}' is not a list with items", str(row)[:200]))
            continue
        rows += [{**row, **item} if isinstance(item, dict) else {**row, column: item} for item in items]
        lines += [line] * len(items)
    return Chunk(rows, np.asarray(lines, np.int64), tuple(bad))


def _joined(source: Source, folder: Path, shape: Shape) -> Joined:
    assert source.join is not None
    file = inspect(beside(source.file, folder) / source.join.file, source.join.file)
    return Joined(source.join, shape.level, read_file(file, CHUNK_ROWS, None), file.shown)


def _read_ref(source: Source, read_ref: ReadRef | None) -> Iterator[Batch]:
    assert source.ref is not None
    if read_ref is None:
        raise _no_store(source.ref)
    left = source.take
    for table in read_ref(source.ref):
        part = table if left is None else table.slice(0, left)
        left = None if left is None else left - part.num_rows
        yield Batch(part, BAD.empty_table(), {})
        if left == 0:
            return


def _no_store(ref: str) -> DataError:
    return DataError(
        f"the ref '{ref}' needs a store", hint="read it through `prefkit build`, or give `read_ref`"
    )
