"""Parts: what a step makes of one shard, and how it is made, here or in a worker process.

A part is the unit of resume. Its key hashes the stage, the shard's content and the seed if the stage draws, so a part
made by a build that was killed, or by another recipe with the same step on the same rows, is found and used.
"""

import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import NamedTuple, Protocol

import pyarrow as pa

from prefkit import __version__
from prefkit.catalog import Catalog
from prefkit.engines import Engines, Spend
from prefkit.engines.spend import Tally
from prefkit.manifest import Made, Part, Rows, Shard, Used
from prefkit.shards import cut
from prefkit.stage import Context, Stage
from prefkit.stages import HOMES
from prefkit.store import Store

__all__ = ["STAGES", "Task", "made_now", "make_part", "make_parts"]

STAGES: Catalog[Stage] = Catalog("stage", "prefkit.stages", HOMES)


class Task(NamedTuple):
    """One part to make."""

    key: str
    inputs: tuple[Shard, ...]
    """One shard for a map or group stage; all of them for a global one."""
    folder: Path = Path()
    """What paths in settings are relative to."""


def make_part(stage: Stage, task: Task, store: Store, engines: Engines, seed: int, shard_rows: int) -> Part:
    """Run a stage on a task's rows, file what it makes, and file the part."""
    started, before = time.perf_counter(), engines.spend.snapshot()
    table = pa.concat_tables([store.get(shard) for shard in task.inputs])
    ctx = Context(seed=seed, engines=engines, folder=task.folder)
    result = stage(table, ctx)
    pieces = cut(result, shard_rows) if stage.scope() == "global" else [result]
    part = Part(
        key=task.key,
        outputs=tuple(store.put(piece) for piece in pieces),
        dropped=_put_aside(store, ctx.dropped),
        failed=_put_aside(store, ctx.failed),
        rows=Rows(read=len(table), kept=len(result), dropped=_count(ctx.dropped), failed=_count(ctx.failed)),
        notes=dict(sorted(ctx.notes.items())),
        made=made_now(time.perf_counter() - started, engines, before, STAGES.origin(stage.name)),
    )
    store.save_part(part)
    return part


class How(Protocol):
    """Where and how fast, as far as parts care."""

    @property
    def jobs(self) -> int: ...
    @property
    def shard_rows(self) -> int: ...


def make_parts(
    stage: Stage, tasks: Sequence[Task], store: Store, engines: Engines, seed: int, how: How
) -> Iterator[Part]:
    """Yield the parts of all tasks in their order.

    Stages that ask models run here, where the models are; the others may run in `jobs` worker processes.
    """
    jobs, shard_rows = how.jobs, how.shard_rows
    if jobs <= 1 or len(tasks) <= 1 or stage.cost().calls > 0:
        for task in tasks:
            yield make_part(stage, task, store, engines, seed, shard_rows)
        return
    config = stage.model_dump_json()
    with _workers(min(jobs, len(tasks))) as pool:
        with _undisturbed():
            futures = [
                pool.submit(_work, str(store.root), stage.name, config, task, seed, shard_rows)
                for task in tasks
            ]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _workers(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Start worker processes that Ctrl-C does not reach: this process ends them, once they have filed their part.

    A blocked signal stays blocked in a child; here it is only delayed.
    """
    resource_tracker.ensure_running()  # starting it later would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    """End this worker as soon as the process that started it is gone, however it went."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    Thread(target=watch, name="prefkit-parent", daemon=True).start()


def made_now(seconds: float, engines: Engines, before: Mapping[str, Tally], plugin: str) -> Made:
    """Return how something was made just now, from the engines' counters before it."""
    used = {name: _used(name, tally, engines.spend) for name, tally in engines.spend.since(before).items()}
    return Made(
        prefkit=__version__,
        python=platform.python_version(),
        plugin=plugin,
        engines={name: how for name, how in sorted(engines.versions().items()) if name in used},
        calls=sum(one.calls for one in used.values()),
        remembered=sum(one.remembered for one in used.values()),
        tokens_in=sum(one.tokens_in for one in used.values()),
        tokens_out=sum(one.tokens_out for one in used.values()),
        models=used,
        seconds=round(seconds, 3),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _used(name: str, tally: Tally, spend: Spend) -> Used:
    counts = {**asdict(tally), "seconds": round(tally.seconds, 3)}
    return Used(**counts, dollars=spend.cost({name: tally}) if tally.calls else None)


def _work(root: str, name: str, config: str, task: Task, seed: int, shard_rows: int) -> Part:
    stage = STAGES.get(name).model_validate_json(config)
    return make_part(stage, task, Store(Path(root)), Engines(), seed, shard_rows)


def _put_aside(store: Store, tables: Sequence[pa.Table]) -> Shard | None:
    return store.put(pa.concat_tables(tables)) if tables else None


def _count(tables: Sequence[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)
