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
from prefkit.sources.chunks import CHUNK_BYTES, CHUNK_ROWS, BadRow, Chunk, cut
from prefkit.sources.files import DataFile, opened, reading

__all__ = ["arrow", "csv", "known_rows", "parquet", "tables"]

_MOST_COLUMNS = 10_000
"""Each costs some 0.4 ms of every batch."""
_ROWS_A_BYTE = 64
_FREELY = 100_000
"""Rows that any file may claim."""


def parquet(file: DataFile, rows: int = CHUNK_ROWS, columns: Sequence[str] | None = None) -> Iterator[Chunk]:
    """Yield the rows of a Parquet file; `columns` are the only ones needed."""
    with reading(file):
        # A buffered read holds one page a column; a mapping or a pre-buffer would hold the whole row group.
        data = pq.ParquetFile(file.path, pre_buffer=False, buffer_size=1 << 20)
        names = _checked(data.schema_arrow.names, file)
        _believe(int(data.metadata.num_rows), file)
        wanted = None if columns is None else [name for name in names if name in set(columns)]
        batches = data.iter_batches(batch_size=rows, columns=wanted, use_threads=False)
        yield from tables(pa.Table.from_batches([batch]) for batch in batches)


def arrow(file: DataFile, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield the rows of an Arrow IPC file or stream, memory-mapped."""
    with reading(file), pa.memory_map(str(file.path)) as stream:
        source = ipc.open_file(stream) if file.kind == "arrow" else ipc.open_stream(stream)
        _checked(source.schema.names, file)
        yield from tables(_slices(_believed(_batches(source), file), rows))


def _believed(batches: Iterator[pa.RecordBatch], file: DataFile) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        _believe(rows, file)
        yield batch


def _believe(rows: int, file: DataFile) -> None:
    """Raise DataError if a file claims more rows than bytes could tell of: each would be read and set aside."""
    size = file.path.stat().st_size
    if rows > _FREELY + _ROWS_A_BYTE * size:
        what = f"file '{file.shown}' claims {rows:,} rows, and has {size:,} bytes"
        raise DataError(what, where=str(file.path), hint="make it again: so many rows can hold nothing")


def _batches(source: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(source, ipc.RecordBatchFileReader):
        for index in range(source.num_record_batches):
            yield source.get_batch(index)
    else:
        yield from source


def _slices(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    for batch in batches:
        for start in range(0, batch.num_rows, rows):
            yield pa.Table.from_batches([batch.slice(start, rows)])


def tables(parts: Iterator[pa.Table]) -> Iterator[Chunk]:
    """Yield Arrow tables as chunks, with rows numbered from 1. Rows whose buffers are not sound are set aside."""
    start = 1
    for table in parts:
        chunk = Chunk(table, np.arange(start, start + table.num_rows, dtype=np.int64))
        yield chunk if _is_sound(table) else _sound_rows(chunk, table)
        start += table.num_rows


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
                return sum(int(batch.num_rows) for batch in _batches(ipc.open_file(stream)))
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
