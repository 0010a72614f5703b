"""Counting: the digest and the statistics of a step, taken shard by shard while further ones are made.

Both look at every row once. Where a build has several cores they do so beside whoever makes the rows, in threads: one
gathers the statistics, and two take half of the columns each into the digest, so that little is left to do when the
last shard stands.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import pyarrow as pa

from prefkit.holding import allowed, refuse_counting
from prefkit.identity import Digester
from prefkit.manifest import Shard, Timing
from prefkit.statistics import Gathering, summarise
from prefkit.store import Store
from prefkit.timing import peak_bytes

__all__ = ["Counted", "Counting", "counting"]


class Counted(NamedTuple):
    """What a manifest says of all rows of a step."""

    digest: str
    statistics: dict[str, Any]


@final
class Counting:
    """Takes the shards of a step, in their order."""

    def __init__(
        self,
        get: Callable[[Shard], pa.Table],
        check: Callable[[int], None],
        work: Path,
        threads: Sequence[ThreadPoolExecutor],
    ) -> None:
        """Count with `get` to read a shard; `check` is told how many rows there are by now, and may refuse them.

        `work` is a folder for what need not be in memory; `threads` are three, or none.
        """
        self._get = get
        self._check = check
        self._rows = 0
        self.shards = 0
        """How many were added."""
        self._threads = threads
        self._waiting: list[Future[None]] = []
        self._first: Shard | None = None
        self._digester: Digester | None = None
        self._gathering = Gathering(work)
        self._counts: tuple[Callable[[pa.Table], None], ...] = ()
        self._wall = 0.0
        self._cpu = [0.0] * 4
        """CPU seconds of each of the counts, and of the result."""

    def add(self, shard: Shard) -> None:
        """Count a further shard, now or soon. Raises MemoryLimitError if the rows are more than can be counted."""
        self.shards += 1
        self._rows += shard.rows
        self._check(self._rows)
        if self._first is None:
            self._first = shard  # if it stays alone, its digest is known
            return
        if self._digester is None:
            self._begin(self._get(self._first))
            self._count(self._first)
        self._count(shard)

    def result(self) -> Counted:
        """Return what was counted. Raises DamagedError for a shard that is not what its name says."""
        wall, cpu = time.perf_counter(), time.thread_time()
        counted = self._result()
        self._wall += time.perf_counter() - wall
        self._cpu[-1] += time.thread_time() - cpu
        return counted

    @property
    def beside(self) -> bool:
        """Whether it counts in threads."""
        return bool(self._threads)

    def seconds(self) -> float:
        """Return the CPU seconds it has taken so far."""
        return sum(self._cpu)

    @property
    def timing(self) -> Timing:
        """How long others waited for counting, and the CPU seconds it took."""
        return Timing(cpu=self.seconds(), counting=self._wall, peak_bytes=peak_bytes())

    def _result(self) -> Counted:
        assert self._first is not None
        if self._digester is None:
            return Counted(self._first.digest, summarise(self._get(self._first)))
        for future in self._waiting:
            future.result()
        return Counted(self._digester.hexdigest(), self._gathering.summary())

    def _begin(self, first: pa.Table) -> None:
        self._digester = Digester(first.schema)
        digests = (partial(self._digester.update, columns=names) for names in _halves(first))
        self._counts = (self._gathering.add, *digests)

    def _count(self, shard: Shard) -> None:
        for place, count in enumerate(self._counts):
            if self._threads:
                self._waiting.append(self._threads[place].submit(self._timed, place, count, shard))
            else:
                started = time.perf_counter()
                self._timed(place, count, shard)
                self._wall += time.perf_counter() - started

    def _timed(self, place: int, count: Callable[[pa.Table], None], shard: Shard) -> None:
        before = time.thread_time()
        count(self._get(shard))
        self._cpu[place] += time.thread_time() - before


def _halves(table: pa.Table) -> tuple[list[str], list[str]]:
    """Return the columns in two lots of about as many bytes."""
    weighs = {name: table[name].nbytes for name in table.column_names}
    lots: tuple[list[str], list[str]] = ([], [])
    for name in sorted(weighs, key=lambda name: -weighs[name]):
        min(lots, key=lambda lot: sum(weighs[each] for each in lot)).append(name)
    return lots


@contextmanager
def counting(store: Store, step: str, cores: int = 1, memory: int | None = None) -> Iterator[Counting]:
    """Count the shards of a step; with several cores, beside whatever else is done."""
    check = partial(refuse_counting, allowed(memory), step)
    threads = [ThreadPoolExecutor(1, "prefkit-counting") for _ in range(3 if cores > 1 else 0)]
    with store.workspace() as work:
        try:
            yield Counting(store.get, check, work, threads)
        finally:
            for thread in threads:
                thread.shutdown(cancel_futures=True)
