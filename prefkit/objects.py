"""Objects as files: how they are written, how one looks that was checked, and whether it is what its name says."""

import errno
import os
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import pyarrow as pa
from pyarrow import ipc

from prefkit.identity import digest

__all__ = ["Stamp", "is_named", "is_ours", "short", "stamp_of", "write_ipc"]

Stamp = tuple[int, int, int]
"""Inode, size and time of the last change of a file: what changes when anybody writes to it."""

_OURS = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM)
"""Errors that say nothing of the file: what it holds is sound for all we know."""
_MOST_CHUNKS = 8
_BLOCK_BYTES = 1 << 25
_BUFFER = 1 << 20


def short(error: Exception) -> str:
    """Return the first line of an error, and not too much of it."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def is_ours(error: OSError) -> bool:
    """Say whether reading failed for want of memory, handles or rights. Arrow tells of a failed mapping in words only."""
    return error.errno in _OURS or os.strerror(errno.ENOMEM) in str(error)


def is_named(table: pa.Table, name: str) -> bool:
    """Say whether a table is what its name says. Raises pa.ArrowException for buffers that must not be looked into."""
    table.validate(full=True)  # Arrow believes a file's offsets, and reads wherever they point
    return digest(table) == name


def stamp_of(path: Path) -> Stamp:
    """Return how a file looks. Raises OSError for what is no file: a pipe would be waited for."""
    found = path.stat()
    if not S_ISREG(found.st_mode):
        raise OSError("it is not a regular file")
    return found.st_ino, found.st_size, found.st_mtime_ns


def write_ipc(table: pa.Table, file: BinaryIO) -> None:
    """Write a table as an Arrow file that can be memory-mapped.

    Arrow opens the file once more by its name: some hundred small writes through Python would each wait for its lock.
    """
    with (
        pa.OSFile(file.name, "wb") as opened,
        pa.BufferedOutputStream(opened, _BUFFER) as buffered,
        ipc.new_file(buffered, table.schema) as writer,
    ):
        # Slices of mapped shards are written as they are; only many small chunks are worth a copy, of a block at once.
        rows = max(_BLOCK_BYTES * table.num_rows // max(table.nbytes, 1), 1)
        for start in range(0, max(table.num_rows, 1), rows):
            block = table.slice(start, rows)
            writer.write_table(block if _chunks(block) <= _MOST_CHUNKS else block.combine_chunks())


def _chunks(table: pa.Table) -> int:
    return max((column.num_chunks for column in table.columns), default=0)
