"""The local executor: this process, or worker processes of this machine."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from prefkit.engines import Engines
from prefkit.executors.calls import Calls
from prefkit.executors.work import Work, asks_models, engines_of
from prefkit.executors.workers import Workers
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
        """Make parts in worker processes."""
        rows = sum(shard.rows for shard in tasks[0].inputs)
        what = f"stage '{work.stage.name}': worker processes were killed, each while it made a part of {rows:,} rows"
        calls = Calls(self.jobs, self.workers, what, work.store.shown)
        for part, checked in calls(_work, _told(work, tasks)):
            work.store.trust(checked)
            yield part


def _told(work: Work, tasks: Sequence[Task]) -> Iterator[tuple[Any, ...]]:
    """Yield what a worker is told of each task."""
    config, store = work.stage.model_dump_json(), work.store
    for task in tasks:
        checked = store.checked(task.inputs)
        yield store.address, work.stage.name, config, task, work.seed, work.shard_rows, checked


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
