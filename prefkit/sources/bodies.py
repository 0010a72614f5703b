"""Bodies: what the batches of an Arrow file unfold to, told before they are unfolded.

A batch may be compressed, buffer by buffer, and each buffer begins with the length it unfolds to. Arrow believes that and
takes the memory; here it is held against the size of the file first. The places are in tables of FlatBuffers, of which
this reads the few that say where buffers are; a table that is none raises DataError.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import ipc

from prefkit.sources.files import DataFile, misread
from prefkit.sources.unfolding import most_bytes, refuse

__all__ = ["Body", "bodies"]

_DICTIONARY, _BATCH = 2, 3
_BLOCK = 24
_END = len(b"ARROW1") + 4


class Body(NamedTuple):
    """A batch of rows or of a dictionary."""

    rows: int
    is_dictionary: bool
    size: int
    """Bytes it unfolds to."""


def bodies(file: DataFile, stream: Any) -> Iterator[Body]:
    """Yield the bodies of an Arrow file in the order in which they are read. Raises DataError for one too large."""
    held = 0
    try:
        for message in _of_file(stream) if file.kind == "arrow" else _of_stream(stream):
            body = _told(message)
            held = held + body.size if body.is_dictionary else held
            if (size := body.size if not body.is_dictionary else held) > most_bytes(file, body.rows):
                raise refuse(file, f"a batch of {body.rows:,} rows unfolds to {size:,}")
            yield body
    except (struct.error, IndexError, ValueError) as error:
        raise misread(file, str(error)) from error


def _of_stream(stream: Any) -> Iterator[Any]:
    reader = ipc.MessageReader.open_stream(stream)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type in {"record batch", "dictionary"}:
            yield message


def _of_file(stream: Any) -> Iterator[Any]:
    """Yield the messages that the footer names, dictionaries first, as they are read."""
    size = stream.size()
    (length,) = struct.unpack("<i", stream.read_at(4, size - _END))
    if not 0 < length <= size - _END:
        raise ValueError("its footer has no length")
    footer = stream.read_at(length, size - _END - length)
    for field in (2, 3):
        start, count = _vector(footer, _root(footer), field)
        for at in range(start, start + count * _BLOCK, _BLOCK):
            (place,) = struct.unpack_from("<q", footer, at)
            stream.seek(place)
            yield ipc.read_message(stream)


def _told(message: Any) -> Body:
    data, body = message.metadata.to_pybytes(), message.body
    root = _root(data)
    (kind,) = struct.unpack_from("<B", data, _field(data, root, 1))
    batch = _table(data, root, 2)
    if kind == _DICTIONARY:
        batch = _table(data, batch, 1)
    rows = _field(data, batch, 0)
    (count,) = struct.unpack_from("<q", data, rows) if rows else (0,)
    is_dictionary = kind == _DICTIONARY
    if not _field(data, batch, 3):
        return Body(count, is_dictionary, 0 if body is None else body.size)
    start, buffers = _vector(data, batch, 2)
    size = 0
    for at in range(start, start + buffers * 16, 16):
        place, length = struct.unpack_from("<qq", data, at)
        size += _unfolded(body, place, length)
    return Body(count, is_dictionary, size)


def _unfolded(body: pa.Buffer, place: int, length: int) -> int:
    """Return the bytes of a buffer; one that is not compressed says -1."""
    if length < 8:
        return 0
    if not 0 <= place <= body.size - 8:
        raise ValueError("a buffer lies outside of its batch")
    (size,) = struct.unpack("<q", body[place : place + 8].to_pybytes())
    return length if size == -1 else max(size, 0)


def _root(data: bytes) -> int:
    (at,) = struct.unpack_from("<I", data)
    return int(at)


def _field(data: bytes, table: int, number: int) -> int:
    """Return where a field of a table is; 0 if it is not there."""
    (back,) = struct.unpack_from("<i", data, table)
    fields = table - back
    if fields < 0 or table < 0:
        raise ValueError("a table lies outside of its message")
    (size,) = struct.unpack_from("<H", data, fields)
    place = 4 + 2 * number
    if place + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, fields + place)
    return table + offset if offset else 0


def _followed(data: bytes, at: int) -> int:
    (offset,) = struct.unpack_from("<I", data, at)
    return at + int(offset)


def _table(data: bytes, table: int, number: int) -> int:
    at = _field(data, table, number)
    if not at:
        raise ValueError("a message has no header")
    return _followed(data, at)


def _vector(data: bytes, table: int, number: int) -> tuple[int, int]:
    """Return where the items of a vector begin, and how many there are."""
    at = _field(data, table, number)
    if not at:
        return 0, 0
    start = _followed(data, at)
    (count,) = struct.unpack_from("<I", data, start)
    return start + 4, int(count)
