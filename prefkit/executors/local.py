"""The local executor: this process, or worker processes of this machine."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from threading import Thread, current_thread, main_thread
from typing import Any, NamedTuple

import pyarrow as pa

from prefkit.engines import Engines
from prefkit.errors import PrefkitError
from prefkit.executors.work import Work, asks_models, engines_of
from prefkit.manifest import Part
from prefkit.parts import STAGES, Task, make_part
from prefkit.store import Stamp, Store
from prefkit.threads import cores

__all__ = ["Local", "Workers", "kept_workers", "undisturbed"]


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


class Local(NamedTuple):
    """Stages that ask models run here, where the models are; the others may run in `jobs` worker processes."""

    jobs: int = 1
    workers: Workers | None = None
    """Those of a build; None starts some for each step."""

    def begin(self, store: Store) -> None:
        """Do nothing: workers are started for each step."""

    def make(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Yield the parts of all tasks in their order."""
        if self.jobs <= 1 or len(tasks) <= 1 or asks_models(work.stage):
            engines = engines_of(work) if tasks else Engines()
            for task in tasks:
                yield make_part(
                    work.stage, task, work.store, engines, work.seed, work.shard_rows, threads=self.jobs
                )
            return
        yield from self._in_workers(work, tasks)

    def _in_workers(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Make parts in worker processes; where one is killed, make what is left in half as many new ones.

        Whoever kills a worker is most often the kernel, out of memory, and fewer workers need less of it; one that
        gets no memory ends itself. Raises PrefkitError if a lone worker is gone before it has made a part.
        """
        left, jobs = list(tasks), self.jobs
        while left:
            made = 0
            try:
                with kept_workers(self.workers) as workers:
                    for part in _made(work, left, workers.opened(jobs)):
                        made += 1
                        yield part
            except BrokenProcessPool as error:
                if jobs == 1 and not made:
                    raise _killed(work, left) from error
                jobs = max(1, jobs // 2)
            left = left[made:]


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


def _made(work: Work, tasks: Sequence[Task], pool: ProcessPoolExecutor) -> Iterator[Part]:
    config, root = work.stage.model_dump_json(), work.store.address
    futures: list[Future[Any]] = []
    try:
        with undisturbed():
            futures += (
                pool.submit(
                    _work,
                    root,
                    work.stage.name,
                    config,
                    task,
                    work.seed,
                    work.shard_rows,
                    work.store.checked(task.inputs),
                )
                for task in tasks
            )
        for future in futures:
            part, checked = future.result()
            work.store.trust(checked)
            yield part
    finally:
        wait_for([future for future in futures if not future.cancel()])  # who is at work files the part


def _killed(work: Work, tasks: Sequence[Task]) -> PrefkitError:
    rows = sum(shard.rows for shard in tasks[0].inputs)
    what = (
        f"stage '{work.stage.name}': worker processes were killed, each while it made a part of {rows:,} rows"
    )
    hint = "most often memory: see `dmesg`, and give the machine more of it; what is finished is kept"
    return PrefkitError(what, where=work.store.shown, hint=hint)


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
    _end_with_parent()


def _end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however it went."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, name="prefkit-parent", daemon=True).start()


def _work(
    root: str, name: str, config: str, task: Task, seed: int, shard_rows: int, checked: Mapping[str, Stamp]
) -> tuple[Part, dict[str, Stamp]]:
    """Make a part; say too which files were checked or written, so that nobody reads them again for that."""
    stage, store = STAGES.get(name).model_validate_json(config), Store(root)
    store.trust(checked)
    try:
        part = make_part(stage, task, store, Engines(), seed, shard_rows)
    except MemoryError:
        # Telling takes memory too; that this worker is gone says enough, and fewer may do with what there is.
        os._exit(1)
    aside = [shard for shard in (part.dropped, part.failed) if shard is not None]
    return part, store.checked([*part.outputs, *aside])
