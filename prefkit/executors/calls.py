"""Calls in worker processes: one function, many arguments, results in their order, and never many that nobody wants yet."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from prefkit.errors import PrefkitError
from prefkit.executors.local import Workers, kept_workers, undisturbed

__all__ = ["Calls"]


class Calls(NamedTuple):
    """Calls a function in so many worker processes of this machine."""

    jobs: int
    workers: Workers | None = None
    """Those of a build; None starts some."""

    def __call__(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
        """Yield what the function returns for each task, in order; one task more than there are workers runs ahead.

        Where a worker is killed, what is left runs in half as many. Raises PrefkitError if a lone one is killed before
        it has done anything.
        """
        left, jobs = list(tasks), self.jobs
        while left:
            done = 0
            try:
                with kept_workers(self.workers) as workers:
                    for result in _called(function, left, workers.opened(jobs), jobs + 1):
                        done += 1
                        yield result
            except BrokenProcessPool as error:
                if jobs == 1 and not done:
                    what = "a worker process that read the data was killed, most often for memory"
                    raise PrefkitError(what, hint="free memory, and build again without --jobs") from error
                jobs = max(1, jobs // 2)
            left = left[done:]


def _called(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], pool: ProcessPoolExecutor, most: int
) -> Iterator[Any]:
    ahead: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            with undisturbed():
                ahead.append(pool.submit(function, *task))
            if len(ahead) > most:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        # Who is at work would write to a folder that is about to go.
        wait([future for future in ahead if not future.cancel()])
