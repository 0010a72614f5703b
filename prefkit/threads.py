"""Threads: one function over many items, several at once, results in their order; and one that is called now and then.

Arrow, polars, the hashes and much of numpy let go of Python's lock while they work, so work on shards runs side by side
in threads of one process; nothing has to be sent anywhere. Where it is many short calls, two threads are no faster than
one, since each call waits for the lock again; then it is worth a process (`Apart`).
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, Protocol, TypeVar

__all__ = ["Apart", "cores", "every", "in_threads"]

A = TypeVar("A")
R = TypeVar("R")


class Apart(Protocol):
    """Calls a function in worker processes."""

    def __call__(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield what the function returns for each of several arguments, in order, working a few ahead."""


def cores() -> int:
    """Return how many processors this process may use: all, or those it was bound to."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_threads(function: Callable[[A], R], items: Iterable[A], threads: int) -> Iterator[R]:
    """Yield the function of each item, in order. No more than `threads` + 1 items are under way or waiting."""
    if threads <= 1:
        yield from map(function, items)
        return
    ahead: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                ahead.append(pool.submit(function, item))
                if len(ahead) > threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


@contextmanager
def every(seconds: float, act: Callable[[], object], name: str) -> Iterator[None]:
    """Call a function every so many seconds, in a thread of its own, as long as the context lasts."""
    done = Event()

    def repeat() -> None:
        while not done.wait(seconds):
            act()

    thread = Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
