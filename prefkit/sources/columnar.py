"""Columnar files: Parquet, Arrow and CSV, in batches.

CSV has no types and no null: its cells are text, an empty cell is no value, and numbers are read where
numbers are wanted. A TSV file has no quoting, so a bare quote in a text is a quote.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pyarrow import ipc

from prefkit.errors import DataError
from prefkit.sources.bodies import Body, bodies
from prefkit.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, BadRow, Chunk, cut
from prefkit.sources.files import DataFile, opened, reading
from prefkit.sources.footer import column_chunks
from prefkit.sources.pages import Plan, planned
from prefkit.sources.unfolding import Allowance, items, most_rows, slices

__all__ = ["arrow", "csv", "known_rows", "parquet", "tables"]

_MOST_COLUMNS = 10_000
"""Each costs some 0.4 ms of every batch."""
_AHEAD = 1 << 16
"""Rows whose pages are looked at before they are read."""


def parquet(file: DataFile, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file; `columns` are the only ones needed."""
    with reading(file):
        meta = pq.read_metadata(file.path)
        schema = pq.ParquetFile(file.path, metadata=meta).schema_arrow
        names = _checked(schema.names, file)
        _believe(int(meta.num_rows), file)
        wanted = None if columns is None else [name for name in names if name in set(columns)]
        for chunk in tables(_planned(file, meta, wanted, rows), file, int(meta.num_rows)):
            assert isinstance(chunk.data, pa.Table)
            yield chunk._replace(data=_in_full(chunk.data, schema))


def _in_full(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a slice with texts in full that were read as entries of a dictionary."""
    wanted = pa.schema([schema.field(name) for name in table.column_names], schema.metadata)
    if table.schema.equals(wanted):
        return table
    # Of a slice of lists, a cast copies all that lies below the whole; so its rows are taken out first.
    return table.take(np.arange(table.num_rows)).cast(wanted)


def _planned(file: DataFile, meta: Any, wanted: list[str] | None, rows: int) -> Iterator[pa.Table]:
    """Yield tables of at most `rows` rows, read as many at a time as their pages allow."""
    for plan, groups in _groups(file, meta, wanted, rows):
        # A buffered read holds one page a column; a mapping or a pre-buffer would hold the whole row group.
        data = pq.ParquetFile(
            file.path, metadata=meta, read_dictionary=plan.pointed, pre_buffer=False, buffer_size=1 << 20
        )
        batches = data.iter_batches(plan.rows, row_groups=groups, columns=wanted, use_threads=False)
        yield from _together(batches, rows)


def _groups(
    file: DataFile, meta: Any, wanted: list[str] | None, rows: int
) -> Iterator[tuple[Plan, list[int]]]:
    """Yield row groups that are read the same way, some at a time: they are looked at shortly before they are read."""
    last, groups, count = None, list[int](), 0
    told = column_chunks(file, meta.num_row_groups, meta.num_columns)
    for group, chunks in zip(range(meta.num_row_groups), told, strict=True):
        plan = planned(file, meta, group, chunks, wanted, rows)
        if last is not None and (plan != last or count >= _AHEAD):
            yield last, groups
            groups, count = [], 0
        last, groups = plan, [*groups, group]
        count += int(meta.row_group(group).num_rows)
    if last is not None:
        yield last, groups


def _together(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Yield small batches together, as many as make `rows` rows or a chunk's bytes."""
    some, count, size = list[pa.RecordBatch](), 0, 0
    for batch in batches:
        if some and (count + batch.num_rows > rows or size + batch.nbytes > CHUNK_BYTES):
            yield pa.Table.from_batches(some)
            some, count, size = [], 0, 0
        some.append(batch)
        count += batch.num_rows
        size += batch.nbytes
    if some:
        yield pa.Table.from_batches(some)


def arrow(file: DataFile, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of an Arrow IPC file or stream, memory-mapped."""
    with reading(file), pa.memory_map(str(file.path)) as stream, pa.memory_map(str(file.path)) as ahead:
        source = ipc.open_file(stream) if file.kind == "arrow" else ipc.open_stream(stream)
        _checked(source.schema.names, file)
        yield from tables(_slices(_believed(_batches(source, bodies(file, ahead)), file), rows), file)


def _believed(batches: Iterator[pa.RecordBatch], file: DataFile) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        _believe(rows, file)
        yield batch


def _believe(rows: int, file: DataFile, what: str = "rows") -> None:
    """Raise DataError if a file claims more rows than bytes could tell of: each would be read and set aside."""
    if rows > most_rows(file):
        size = file.path.stat().st_size
        said = f"file '{file.shown}' claims {rows:,} {what}, and has {size:,} bytes"
        raise DataError(said, where=str(file.path), hint=f"make it again: so many {what} can hold nothing")


def _batches(source: Any, told: Iterator[Body]) -> Iterator[pa.RecordBatch]:
    """Yield batches, each after it was looked at; dictionaries stand before the rows that need them."""
    count = source.num_record_batches if isinstance(source, ipc.RecordBatchFileReader) else None
    index = 0
    while count is None or index < count:
        while (body := next(told, None)) is not None and body.is_dictionary:
            pass
        if body is None and count is None:
            return
        yield source.read_next_batch() if count is None else source.get_batch(index)
        index += 1


def _slices(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield pa.Table.from_batches([batch.slice(start, rows)])


def tables(
    parts: Iterator[pa.Table], file: DataFile | None = None, rows: int | None = None
) -> Iterator[Chunk]:
    """Yield Arrow tables as chunks of bounded bytes, with rows numbered from 1. Unsound rows are set aside.

    With a file, as much as such a file may come to, of which `rows` is how many it claims to hold.
    """
    allowance = None if file is None else Allowance(file, rows)
    start = 1
    for table in parts:
        if file is not None:
            _believe(items(table), file, "items of lists")
        chunk = Chunk(table, np.arange(start, start + table.num_rows, dtype=np.int64))
        yield from _bounded(chunk if _is_sound(table) else _sound_rows(chunk, table), allowance)
        start += table.num_rows


def _bounded(chunk: Chunk, allowance: Allowance | None) -> Iterator[Chunk]:
    assert isinstance(chunk.data, pa.Table)
    bad = chunk.bad
    for start, count, size in slices(chunk.data):
        if allowance is not None:
            allowance.take(chunk.lines[start : start + count], size)
        data = _without_runs(chunk.data.slice(start, count))
        yield Chunk(data, chunk.lines[start : start + count], bad)
        bad = ()
    if bad:
        yield Chunk(chunk.data.slice(0, 0), chunk.lines[:0], bad)


def _without_runs(table: pa.Table) -> pa.Table:
    """Return a slice with runs of one value said in full: few of Arrow's functions know them."""
    for at, field in enumerate(table.schema):
        if pa.types.is_run_end_encoded(field.type):
            parts = [pc.run_end_decode(chunk) for chunk in table.column(at).chunks]
            table = table.set_column(at, field.name, pa.chunked_array(parts, field.type.value_type))
    return table


def _is_sound(table: pa.Table) -> bool:
    """Say whether text is UTF-8 and offsets are in range: Arrow trusts files in both, and so would crash later."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _sound_rows(chunk: Chunk, table: pa.Table) -> Chunk:
    # Row by row: only for a chunk that has such a row.
    sound = np.array([_is_sound(table.slice(row, 1)) for row in range(chunk.rows)], dtype=np.bool_)
    bad = tuple(BadRow(int(line), "invalid UTF-8", "") for line in chunk.lines[~sound])
    return chunk._replace(bad=bad).filter(sound)


def csv(file: DataFile, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of a CSV or TSV file. Row 1 is the header, so lines are right where no cell spans lines.

    The parser works on bytes taken as Latin-1, in which every byte is a character, and cells are decoded after it: so
    a row that is not UTF-8 is one bad row, whatever else is wrong with it.
    """
    bad: list[BadRow] = []

    def refuse(row: Any) -> str:
        text = row.text.encode("latin-1").decode("utf-8", "replace")
        bad.append(BadRow(row.number or 0, "wrong number of columns", cut(text)))
        return "skip"

    tab = file.kind == "tsv"
    parse = pa_csv.ParseOptions(
        delimiter="\t" if tab else ",",
        quote_char=False if tab else '"',
        newlines_in_values=not tab,
        invalid_row_handler=refuse,
    )
    # A row must fit in a block.
    read = pa_csv.ReadOptions(use_threads=False, block_size=CHUNK_BYTES, encoding="latin-1")
    names = _header(file, read, parse)
    bad.clear()
    convert = pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    with _without_mark(file) as stream:
        line, skipped = 2, set[int]()
        for batch in pa_csv.open_csv(stream, read, parse, convert):
            for start in range(0, batch.num_rows, rows):
                skipped.update(row.line for row in bad)
                table = pa.Table.from_batches([batch.slice(start, rows)])
                numbers = _numbered(line, table.num_rows, skipped)
                line = int(numbers[-1]) + 1
                yield _as_text(Chunk(table, numbers, tuple(bad)), table)
                bad.clear()
        if bad:
            yield Chunk(pa.table({}), np.zeros(0, np.int64), tuple(bad))


@contextmanager
def _without_mark(file: DataFile) -> Iterator[BinaryIO]:
    """Open a file behind its byte order mark."""
    with opened(file) as stream:
        if stream.read(3) != b"\xef\xbb\xbf":
            stream.seek(0)
        yield stream


def _header(file: DataFile, read: Any, parse: Any) -> list[str]:
    with _without_mark(file) as stream:
        names = pa_csv.open_csv(stream, read, parse).schema.names
    return _checked(names, file)


def _numbered(first: int, count: int, skipped: set[int]) -> np.ndarray:
    """Return `count` row numbers from `first` on, leaving out those that were refused."""
    numbers: list[int] = []
    while len(numbers) < count:
        if first not in skipped:
            numbers.append(first)
        first += 1
    return np.asarray(numbers, np.int64)


def _as_text(chunk: Chunk, table: pa.Table) -> Chunk:
    """Decode cells; an empty one is null. Rows that are not UTF-8 are set aside."""
    wrong = np.zeros(chunk.rows, dtype=np.bool_)
    columns = {_decoded(name) or name: _utf8(table[name], wrong) for name in table.column_names}
    bad = [BadRow(int(line), "invalid UTF-8", "") for line in chunk.lines[wrong]]
    return chunk._replace(data=pa.table(columns), bad=(*chunk.bad, *bad)).filter(~wrong)


def _utf8(column: pa.ChunkedArray, wrong: np.ndarray) -> pa.Array:
    """Decode a column that was read as Latin-1, marking the rows where that fails in `wrong`, bool [rows]."""
    text = column.combine_chunks()
    if not pc.all(pc.string_is_ascii(text)).as_py():
        # A Python loop: Arrow knows no Latin-1; 0.5 microseconds a cell, only for columns that are not ASCII.
        cells = [_decoded(cell) for cell in text.to_pylist()]
        wrong |= np.array([cell is None for cell in cells], dtype=np.bool_)
        text = pa.array(cells, pa.string())
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _decoded(text: str) -> str | None:
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None


def known_rows(file: DataFile) -> int | None:
    """Return how many rows a file holds, where its footer says so."""
    with reading(file):
        if file.kind == "parquet":
            return int(pq.read_metadata(file.path).num_rows)
        if file.kind == "arrow":
            with pa.memory_map(str(file.path)) as stream:
                return sum(body.rows for body in bodies(file, stream) if not body.is_dictionary)
    return None


def _checked(names: Sequence[str], file: DataFile) -> list[str]:
    if len(names) > _MOST_COLUMNS:
        what = f"file '{file.shown}' has {len(names):,} columns"
        raise DataError(what, where=str(file.path), hint=f"keep the {_MOST_COLUMNS:,} that matter, or fewer")
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        what = f"file '{file.shown}' has two columns called '{twice[0]}'"
        raise DataError(what, where=str(file.path), hint="rename one of them")
    return list(names)
