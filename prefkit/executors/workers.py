"""Worker processes of this machine: they stay for a build, end with it, and are not disturbed by Ctrl-C."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from threading import Thread, current_thread, main_thread

import pyarrow as pa

from prefkit.threads import cores

__all__ = ["Workers", "keep_memory", "kept_workers", "undisturbed"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of options in malloc.h."""


class Workers:
    """Worker processes that stay: one takes over a second to start, and a build has many steps."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._count = 0

    def opened(self, count: int) -> ProcessPoolExecutor:
        """Return so many workers: those that are there, or new ones. They start as they are needed."""
        if self._pool is None or count != self._count:
            self.close()
            self._pool, self._count = _workers(count), count
        return self._pool

    def close(self) -> None:
        """End them, once they have filed their part."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def kept_workers(workers: Workers | None) -> Iterator[Workers]:
    """Give the workers of a build, or some of their own that end with the block. Those that broke end in any case."""
    own = Workers() if workers is None else workers
    try:
        yield own
    except BrokenProcessPool:
        own.close()
        raise
    finally:
        if workers is None:
            own.close()


def _workers(count: int) -> ProcessPoolExecutor:
    """Open worker processes, each with its share of the cores, which end with this one."""
    share = max(cores() // count, 1)
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin, initargs=(share,))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Start worker processes that Ctrl-C does not reach: this process ends them, once they have filed their part.

    A blocked signal stays blocked in a child; here it is only delayed. Blocking it is not enough to delay it: another
    thread may take it, and Python then interrupts this one, with a child that waits for what it was to be told.
    """
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _delayed():
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _delayed() -> Iterator[None]:
    """Take Ctrl-C to heart only at the end. Outside the main thread, which alone is interrupted, nothing changes."""
    if current_thread() is not main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin(share: int) -> None:
    """Set a worker up: its libraries use its share of the cores, and it ends with its parent."""
    os.environ.setdefault("POLARS_MAX_THREADS", str(share))  # read when polars first works, which is later
    pa.set_cpu_count(share)
    keep_memory()
    _end_with_parent()


def keep_memory() -> None:
    """Let freed arrays of up to 32 MB be used again: the C library would give each back, and page by page ask for it anew.

    Where it is not glibc, nothing changes.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, 32 << 20)
        set_option(_TRIM_THRESHOLD, 128 << 20)


def _end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however it went."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, name="prefkit-parent", daemon=True).start()
