"""The local executor: this process, or worker processes of this machine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple

from prefkit.engines import Engines
from prefkit.errors import PrefkitError
from prefkit.executors.calls import Calls
from prefkit.executors.work import Work, asks_models, engines_of
from prefkit.executors.workers import Workers, kept_workers, undisturbed
from prefkit.manifest import Part
from prefkit.parts import STAGES, Task, make_part
from prefkit.store import Stamp, Store

__all__ = ["Local"]


class Local(NamedTuple):
    """Stages that ask models run here, where the models are; the others may run in `jobs` worker processes."""

    jobs: int = 1
    workers: Workers | None = None
    """Those of a build; None starts some for each step."""

    def begin(self) -> None:
        """Do nothing: workers are started for each step."""

    def make(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Yield the parts of all tasks in their order."""
        if self.jobs <= 1 or len(tasks) <= 1 or asks_models(work.stage):
            engines = engines_of(work) if tasks else Engines()
            calls = Calls(self.jobs, self.workers) if self.jobs > 1 else None
            here = work.here._replace(threads=self.jobs, apart=calls)
            for task in tasks:
                yield make_part(work.stage, task, work.store, engines, work.seed, work.shard_rows, here)
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
