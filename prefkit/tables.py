"""Small vectorised moves between Arrow, polars and numpy that every stage needs.

polars changes string and list types on a round trip, so whatever comes back from it is cast to a declared schema at
once (`from_polars`). Rows of one prompt are adjacent by contract; `prompt_offsets` checks that and hands out slices.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES
from prefkit.engines import Message
from prefkit.errors import ContractError

__all__ = [
    "empty",
    "floats",
    "from_polars",
    "last_content",
    "message_tuples",
    "nullable",
    "numbered",
    "prompt_offsets",
    "put",
    "rows_of",
    "to_messages",
    "to_polars",
    "word_where",
]


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Return a table as a polars frame; strings become views, nothing else changes."""
    frame = pl.from_arrow(table)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError(f"expected a table, got {type(table).__name__}")
    return frame


def from_polars(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    """Return a polars frame as an Arrow table of exactly this schema."""
    return frame.to_arrow().select(schema.names).cast(schema)


def empty(schema: pa.Schema) -> pa.Table:
    """Return a table of this schema with no rows."""
    return schema.empty_table()


def put(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """Return the table with a column replaced, or added at the end."""
    at = table.schema.get_field_index(name)
    return table.append_column(name, values) if at < 0 else table.set_column(at, name, values)


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """Return a float column as numpy float64, null as NaN. Shape [rows]."""
    return np.array(column.cast(pa.float64()).to_numpy(), dtype=np.float64)


def nullable(values: np.ndarray) -> pa.Array:
    """Return a float64 array with null for NaN and infinities: a row never gains a number it was not given."""
    return pa.array(values, pa.float64(), mask=~np.isfinite(values))


def last_content(messages: pa.ChunkedArray) -> pa.Array:
    """Return the content of the last message of each row: string; null where there is no message."""
    array = messages.combine_chunks() if isinstance(messages, pa.ChunkedArray) else messages
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], MESSAGES)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    contents = array.flatten().field("content") if len(array) else pa.array([], pa.string())
    positions = pa.array(np.maximum(ends - 1, 0), mask=lengths == 0)
    return contents.take(positions)


def to_messages(texts: pa.Array | pa.ChunkedArray, role: str) -> pa.Array:
    """Wrap each text in one message of `role`. Null texts give null messages."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    texts = texts.cast(pa.string())
    valid = pc.is_valid(texts)
    kept = texts.drop_null()
    roles = pa.repeat(pa.scalar(role, pa.string()), len(kept))
    struct = pa.StructArray.from_arrays([roles, kept], fields=list(MESSAGES.value_type))
    ends = np.concatenate([[0], np.cumsum(valid.to_numpy(zero_copy_only=False).astype(np.int32))])
    offsets = pa.array(ends.astype(np.int32), mask=np.append(~valid.to_numpy(zero_copy_only=False), False))
    return pa.ListArray.from_arrays(offsets, struct).cast(MESSAGES)


def message_tuples(column: pa.ChunkedArray) -> list[tuple[Message, ...]]:
    """Return conversations as tuples of messages, for engines, which want Python values."""
    return [tuple(Message(turn["role"], turn["content"]) for turn in row or ()) for row in column.to_pylist()]


class Runs(NamedTuple):
    """Where each prompt's rows begin: `starts` [prompts], `lengths` [prompts], both int64."""

    starts: np.ndarray
    lengths: np.ndarray


def rows_of(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Return rows, ascending, chunk by chunk: a column of several chunks may not fit into one."""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    cuts = np.searchsorted(rows, ends)
    begins = [0, *cuts[:-1]]
    pieces = [
        chunk.take(pa.array(rows[begin:cut] - (end - len(chunk))))
        for chunk, begin, cut, end in zip(column.chunks, begins, cuts, ends, strict=True)
        if cut > begin
    ]
    return pa.chunked_array(pieces, column.type)


def word_where(rows: np.ndarray, word: str) -> pa.Array:
    """Return a word where a row (bool [rows]) is meant, else null: string [rows]."""
    return pc.if_else(pa.array(rows), pa.scalar(word, pa.string()), pa.scalar(None, pa.string()))


def prompt_offsets(table: pa.Table) -> Runs:
    """Return the run of rows of each prompt. Raises ContractError if a prompt's rows are not adjacent."""
    column = table["prompt_id"]
    starts = _run_starts(column)
    again = _coming_again(_hashed(column, starts))
    if again is not None:
        what = f"the rows of a prompt are not adjacent (prompt_id near '{column[int(starts[again])]}')"
        raise ContractError(what, hint="sort the table by prompt_id before a group stage")
    return Runs(starts, np.diff(np.append(starts, len(column))))


def numbered(column: pa.ChunkedArray) -> np.ndarray:
    """Return a number for each word, in the order of their first coming: int64 [rows]; -1 for null.

    Two words are taken for one if 128 bits of theirs are equal. Memory: 8 bytes a row, and 60 for each run of equal
    words, of which prompts have one each.
    """
    if not len(column):
        return np.zeros(0, np.int64)
    starts = _run_starts(column)
    hashes = _hashed(column, starts)
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    fresh = np.append(True, (hashes[order[1:]] != hashes[order[:-1]]).any(axis=1))
    first = order[fresh]  # the sort is stable: of equal words, the place of the first
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.argsort(np.argsort(first))[np.cumsum(fresh) - 1]
    if column.null_count:
        missing = column.is_null().to_numpy()[starts]
        null = numbers[missing][0]
        numbers[numbers > null] -= 1
        numbers[missing] = -1
    found: np.ndarray = np.repeat(numbers, np.diff(np.append(starts, len(column))))
    return found


def _run_starts(column: pa.ChunkedArray) -> np.ndarray:
    """Return where a word begins that is not that of the row before: int64. Null is a word."""
    found, start = [np.zeros(0, np.int64)], 0
    last: pa.Scalar | None = None
    for chunk in column.chunks:
        if not len(chunk):
            continue
        fresh = np.append(chunk[0] != last, _differs(chunk))
        found.append(np.flatnonzero(fresh) + start)
        start, last = start + len(chunk), chunk[len(chunk) - 1]
    return np.concatenate(found)


def _differs(chunk: pa.Array) -> np.ndarray:
    one, other = chunk.slice(1), chunk.slice(0, len(chunk) - 1)
    told = pc.fill_null(pc.not_equal(one, other), fill_value=False)
    if chunk.null_count:
        told = pc.or_(told, pc.xor(one.is_null(), other.is_null()))
    found: np.ndarray = told.to_numpy(zero_copy_only=False)
    return found


def _hashed(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    """Return 128 bits of the words of some rows, ascending: uint64 [rows, 2]."""
    found, start = [np.zeros((0, 2), np.uint64)], 0
    for chunk in column.chunks:
        own = rows[slice(*np.searchsorted(rows, [start, start + len(chunk)]))] - start
        start += len(chunk)
        words = pl.Series(chunk.take(pa.array(own)))
        found.append(np.stack([words.hash(seed).to_numpy() for seed in (0, 1)], axis=1))
    return np.concatenate(found)


def _coming_again(hashes: np.ndarray) -> int | None:
    """Return the place of one that comes twice, if there is any."""
    ordered = np.sort(hashes[:, 0])
    if not (ordered[1:] == ordered[:-1]).any():
        return None
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    twice = np.flatnonzero((hashes[order[1:]] == hashes[order[:-1]]).all(axis=1))
    return int(order[twice[0] + 1]) if len(twice) else None
