"""Unfolding: how far a file may grow while it is read, and how large each of its rows will be.

A few kilobytes can say gigabytes: a text of 10 MB in a dictionary that 100,000 rows point to, a compressed page of
zeros, views of one buffer. So what comes out of a file is weighed before it is copied: chunks hold `CHUNK_BYTES`, and a
file unfolds to `most_bytes` and no further. Texts that many rows share, as prompts of a system are, stay welcome.
"""

from collections.abc import Iterator
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.errors import DataError
from prefkit.sources.chunks import CHUNK_BYTES
from prefkit.sources.files import DataFile

__all__ = ["FREELY", "Allowance", "items", "most_bytes", "most_rows", "refuse", "slices", "weights"]

FREELY = 1 << 28
"""Bytes that any file may unfold to, and that may be held for one of its rows."""
_ROWS_A_BYTE = 64
_ROWS_FREELY = 100_000
_UNFOLDS = 250
"""Bytes that one byte may stand for, as in compressed text."""
_SHARED = 1 << 14
"""Bytes a row may share with others: of a prompt of a system, of an instruction. A row takes a byte of its file."""
_HINT = "if that is meant, write the rows to JSON Lines, where every text is said in full, and name that file"


def most_rows(file: DataFile) -> int:
    """Return how many rows, or items of lists, the bytes of a file could tell of."""
    return _ROWS_FREELY + _ROWS_A_BYTE * file.path.stat().st_size


def most_bytes(file: DataFile, rows: int) -> int:
    """Return how many bytes the rows of a file may come to."""
    size = file.path.stat().st_size
    return max(FREELY, _UNFOLDS * size, _SHARED * min(rows, size))


def refuse(file: DataFile, what: str) -> DataError:
    """Return the error for a file that unfolds too far."""
    size = file.path.stat().st_size
    return DataError(f"file '{file.shown}' has {size:,} bytes, and {what}", where=str(file.path), hint=_HINT)


@final
class Allowance:
    """How much may still come out of a file. Raises DataError as soon as it is more."""

    def __init__(self, file: DataFile, rows: int | None = None) -> None:
        """`rows` is what the file claims to hold, where it says."""
        self._file, self._rows = file, rows
        self._seen = self._total = 0

    def take(self, lines: np.ndarray, size: int) -> None:
        """Count rows, int64 [rows], that come to so many bytes together."""
        self._seen += len(lines)
        self._total += size
        if len(lines) == 1 and size > max(FREELY, 4 * self._file.path.stat().st_size):
            raise refuse(self._file, f"row {lines[0]:,} unfolds to {size:,}")
        if self._total > most_bytes(self._file, self._rows or self._seen):
            raise refuse(self._file, f"its rows up to row {lines[-1]:,} unfold to {self._total:,}")


def slices(table: pa.Table) -> Iterator[tuple[int, int, int]]:
    """Yield (first row, number of rows, bytes) of slices that hold `CHUNK_BYTES` at most, or are one row.

    Bytes are those of a copy in which nothing is shared.
    """
    if not any(map(_shares, table.schema.types)) and table.nbytes <= CHUNK_BYTES:
        yield 0, table.num_rows, table.nbytes
        return
    upto = np.append(0.0, np.cumsum(weights(table)))  # float64: never wraps
    start = 0
    while start < table.num_rows:
        end = max(start + 1, int(np.searchsorted(upto, upto[start] + CHUNK_BYTES, side="right")) - 1)
        yield start, end - start, int(upto[end] - upto[start])
        start = end


def items(table: pa.Table) -> int:
    """Return the length of the longest array inside lists, dictionaries and structs: what holds nothing has any length."""
    return max((_items(chunk) for column in table.columns for chunk in column.chunks), default=0)


def _items(array: pa.Array) -> int:
    inside = _inside(array)
    return max([*map(_length, inside), *map(_items, inside)], default=0)


def _length(array: pa.Array) -> int:
    """Return a length. Raises ArrowInvalid for one below nought, of which Python says only that something went wrong."""
    try:
        return len(array)
    except SystemError as error:
        raise pa.ArrowInvalid("an array has fewer values than none") from error


def _inside(array: pa.Array) -> list[pa.Array]:
    """Return the arrays that an array is made of, whole."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _inside(array.storage)
    if pa.types.is_dictionary(kind):
        return [array.dictionary]
    if pa.types.is_map(kind):
        return [array.keys, array.items]
    if pa.types.is_struct(kind) or pa.types.is_union(kind):
        return [array.field(at) for at in range(kind.num_fields)]
    return [array.values] if pa.types.is_nested(kind) or pa.types.is_run_end_encoded(kind) else []


def _shares(kind: pa.DataType) -> bool:
    """Say whether rows of a type may point to the same bytes."""
    if isinstance(kind, pa.BaseExtensionType):
        return _shares(kind.storage_type)
    if pa.types.is_run_end_encoded(kind) or pa.types.is_union(kind):
        return True
    if pa.types.is_nested(kind):
        inner = [kind.field(at).type for at in range(kind.num_fields)]
        views = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
        return views or not inner or any(_shares(one) or _takes_less(one) for one in inner)
    return bool(
        pa.types.is_dictionary(kind) or pa.types.is_string_view(kind) or pa.types.is_binary_view(kind)
    )


def _takes_less(kind: pa.DataType) -> bool:
    """Say whether a value takes less than a byte."""
    return bool(pa.types.is_null(kind) or pa.types.is_boolean(kind))


def weights(table: pa.Table) -> np.ndarray:
    """Return what each row comes to when nothing is shared: bytes, float64 [rows]. Offsets must be sound."""
    each = np.zeros(table.num_rows)
    for column in table.columns:
        parts = [_weights(chunk) for chunk in column.chunks]
        each += np.concatenate(parts) if parts else 0.0
    return each


def _weights(array: pa.Array) -> np.ndarray:
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _weights(array.storage)
    if pa.types.is_dictionary(kind):
        return _picked(_weights(array.dictionary), array.indices)
    if pa.types.is_run_end_encoded(kind):
        at = pc.run_end_decode(
            pa.RunEndEncodedArray.from_arrays(array.run_ends, np.arange(len(array.run_ends)))
        )
        return _picked(_weights(array.values), at.slice(array.offset, len(array)))
    if pa.types.is_struct(kind):
        fields = [*map(_weights, _inside(array))]
        return np.sum(fields, axis=0) if fields else np.ones(len(array))
    if pa.types.is_union(kind):
        most = sum(_weights(field).max(initial=0.0) for field in _inside(array))
        return np.full(len(array), most)
    return _of_lists(array) if pa.types.is_nested(kind) else _of_values(array)


def _picked(each: np.ndarray, at: pa.Array) -> np.ndarray:
    numbers = pc.fill_null(at, 0).to_numpy(zero_copy_only=False)
    return each[numbers] if len(each) else np.zeros(len(numbers))


def _of_lists(array: pa.Array) -> np.ndarray:
    kind = array.type
    items = sum(map(_weights, _inside(array)))
    upto = np.append(0.0, np.cumsum(items, dtype=np.float64))
    if pa.types.is_fixed_size_list(kind):
        starts = (np.arange(len(array)) + array.offset) * kind.list_size
        return np.asarray(upto[starts + kind.list_size] - upto[starts])
    offsets = array.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        starts = np.where(np.asarray(array.is_valid()), offsets[: len(array)], 0)
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
        return np.asarray(upto[starts + lengths] - upto[starts] + 8.0)
    return np.asarray(np.diff(upto[offsets]) + 8.0)


def _of_values(array: pa.Array) -> np.ndarray:
    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        # The length stands first in each view of 16 bytes.
        views = np.frombuffer(array.buffers()[1], np.int32).reshape(-1, 4)[:, 0]
        return views[array.offset : array.offset + len(array)] + 4.0
    if _takes_less(kind):
        return np.ones(len(array))
    fixed = pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind) or pa.types.is_decimal(kind)
    if fixed:
        return np.full(len(array), kind.bit_width / 8)
    return np.asarray(pc.fill_null(pc.binary_length(array), 0)) + 4.0
