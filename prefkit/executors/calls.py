"""Calls in worker processes: one function, many arguments, results in their order, and never many that nobody wants yet.

Whoever kills a worker is most often the kernel, out of memory, and fewer workers need less of it: what is left then runs
in half as many new ones.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from prefkit.errors import PrefkitError
from prefkit.executors.workers import Workers, kept_workers, undisturbed

__all__ = ["Calls"]

_HINT = "most often for memory: see `dmesg`, and give the machine more of it; what is finished is kept"


class Calls(NamedTuple):
    """Calls a function in so many worker processes of this machine."""

    jobs: int
    workers: Workers | None = None
    """Those of a build; None starts some."""
    what: str = "a worker process was killed"
    """What is said where a lone worker is killed before it has done anything, and `where`."""
    where: str = ""

    def __call__(self, function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield what the function returns for each task, in order; one task more than there are workers runs ahead.

        Where a worker is killed, what is left runs in half as many. Raises PrefkitError if a lone one is killed before
        it has done anything.
        """
        given, unfinished, jobs = iter(tasks), deque[tuple[Any, ...]](), self.jobs
        while True:
            done = 0
            try:
                with kept_workers(self.workers) as workers:
                    for result in _called(function, unfinished, given, workers.opened(jobs), jobs + 1):
                        done += 1
                        yield result
            except BrokenProcessPool as error:
                if jobs == 1 and not done:
                    raise PrefkitError(self.what, where=self.where, hint=_HINT) from error
                jobs = max(1, jobs // 2)
            else:
                return


def _called(
    function: Callable[..., Any],
    unfinished: deque[tuple[Any, ...]],
    given: Iterator[tuple[Any, ...]],
    pool: ProcessPoolExecutor,
    most: int,
) -> Iterator[Any]:
    """Yield the results of tasks that an earlier pool left unfinished, then of those given; keep those under way there."""
    futures: deque[Future[Any]] = deque()

    def submit(task: tuple[Any, ...]) -> None:
        with undisturbed():
            futures.append(pool.submit(function, *task))

    def result() -> Any:
        found = futures[0].result()
        futures.popleft()
        unfinished.popleft()
        return found

    try:
        for task in tuple(unfinished):
            submit(task)
        for task in given:
            unfinished.append(task)
            submit(task)
            if len(futures) > most:
                yield result()
        while futures:
            yield result()
    finally:
        # Who is at work would write to a folder that is about to go.
        wait([future for future in futures if not future.cancel()])
