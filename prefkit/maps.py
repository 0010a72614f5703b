"""Maps: the shards of a step, read through memory, whose pages are given back while they are read.

A memory-mapped file costs no memory of its own, but what was read through it counts as resident until the system
wants it back, and a limit on memory (of a container, of a job) may count it too. Here a thread watches how much of the
process is resident because of files, and lets go of the pages as soon as that is a few hundred megabytes; what is read
again comes back from the system's cache.
"""

import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from prefkit.threads import every

__all__ = ["MappedFile", "let_go", "map_file", "map_numbers"]

_EVERY = 0.02
"""Seconds between two looks: a disk that gives 3 GB/s brings 60 MB in that time."""
_MOST = 128 << 20
"""Bytes of mapped files that may be resident beyond what was at the start."""
_STATM = Path("/proc/self/statm")


class MappedFile:
    """A table of Arrow's file format, and the mapping its columns lie in."""

    def __init__(self, table: pa.Table, area: mmap.mmap) -> None:
        self.table = table
        self._area = area

    def let_go(self) -> None:
        """Give back the pages that were read; the table stays as it is."""
        self._area.madvise(mmap.MADV_DONTNEED)


def map_file(path: Path) -> MappedFile:
    """Return a file's table without reading it. Raises OSError or ArrowException."""
    with path.open("rb") as file:
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return MappedFile(ipc.open_file(pa.py_buffer(area)).read_all(), area)


def map_numbers(path: Path, kind: np.dtype) -> tuple[np.ndarray, mmap.mmap]:
    """Return a file's numbers without reading them, and the mapping they lie in. Raises OSError; ValueError if empty."""
    with path.open("rb") as file:
        area = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return np.frombuffer(area, kind), area


@contextmanager
def let_go(files: Sequence[MappedFile]) -> Iterator[None]:
    """Keep small what of these files is resident, as long as the context lasts, and leave nothing of it."""
    before = _resident()

    def watch() -> None:
        if _resident() - before > _MOST:
            _release(files)

    try:
        with every(_EVERY, watch, "prefkit-maps"):
            yield
    finally:
        _release(files)


def _release(files: Sequence[MappedFile]) -> None:
    for file in tuple(files):
        file.let_go()


def _resident() -> int:
    """Return the bytes of files in this process's memory; a system that does not say is taken to have too many."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[2])
    except OSError:
        return 0 if not _STATM.parent.exists() else 1 << 62
    return pages * mmap.PAGESIZE
