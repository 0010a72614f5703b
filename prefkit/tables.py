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
    "prompt_offsets",
    "put",
    "to_messages",
    "to_polars",
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


def prompt_offsets(table: pa.Table) -> Runs:
    """Return the run of rows of each prompt. Raises ContractError if a prompt's rows are not adjacent."""
    codes = table["prompt_id"].combine_chunks().dictionary_encode()
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.combine_chunks() if codes.num_chunks > 1 else codes.chunk(0)
    index = codes.indices.to_numpy(zero_copy_only=False)
    if not len(index):
        return Runs(np.zeros(0, np.int64), np.zeros(0, np.int64))
    starts = np.flatnonzero(np.append(True, index[1:] != index[:-1])).astype(np.int64)
    if len(starts) != len(codes.dictionary):
        seen = index[starts]
        again = (
            codes.dictionary[int(seen[np.flatnonzero(np.diff(np.sort(seen)) == 0)[0]])]
            if len(seen) > 1
            else ""
        )
        what = f"the rows of a prompt are not adjacent (prompt_id near '{again}')"
        raise ContractError(what, hint="sort the table by prompt_id before a group stage")
    return Runs(starts, np.diff(np.append(starts, len(index))))
