"""The worker's side of a cluster: make the part of one task, on whatever machine this is.

Nothing here may be lost on the way back: what goes wrong comes back as an error of prefkit, as text, and only bugs
come back as exceptions.
"""

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from prefkit.engines import Engines, Spend
from prefkit.engines.placement import open_engines
from prefkit.errors import PrefkitError, StoreError
from prefkit.executors.ray_tasks import check_times
from prefkit.executors.shared import Shared, asked
from prefkit.executors.spread import spread
from prefkit.executors.travel import (
    Order,
    read_order,
    read_task,
    write_error,
    write_part,
)
from prefkit.executors.workers import keep_memory
from prefkit.parts import Task, make_part
from prefkit.streaming import Here
from prefkit.threads import cores

__all__ = ["Maker", "get_ready", "make_remotely"]

_MOST_THREADS = 4


def get_ready() -> None:
    """Do nothing: a worker that was called has started, and has imported what it needs."""


def make_remotely(order: str, task: str) -> str:
    """Make a part of a stage that asks no model; return it, or the error, as text."""
    try:
        told = _opened(order)
        return _made(told, read_task(task, told.work.store), Engines())
    except PrefkitError as error:
        return write_error(error)


@final
class Maker:
    """Makes parts of a stage that asks models, which it keeps open from one task to the next."""

    def __init__(self, order: str, hub: Any, call: str, share: int) -> None:
        """Take an order; `share` is how many workers ask the same servers."""
        self._order, self._hub, self._call, self._share = order, hub, call, share
        self._opened: tuple[Order, Engines, Shared] | None = None

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        """Make the part of the row's task."""
        return {"outcome": self._outcome(row["task"])}

    def _outcome(self, task: str) -> str:
        try:
            order, engines, shared = self._open()
            told = read_task(task, order.work.store)
            before = asked(self._hub.begin.remote(f"{self._call}/{told.key}")) - 1
            check_times(before, order.work.stage.name)
            try:
                return _made(order, told, engines)
            finally:
                shared.flush()
        except PrefkitError as error:
            return write_error(error)

    def _open(self) -> tuple[Order, Engines, Shared]:
        if self._opened is None:
            order = _opened(self._order)
            work = order.work
            spend = work.spend or Spend()
            environment = {**os.environ, **asked(self._hub.environment.remote())}
            requests = max(1, work.placement.concurrency // self._share)
            shared = Shared(self._hub, spend, self._call if work.refresh else "")
            engines = open_engines(
                work.models,
                replace(work.placement, concurrency=requests),
                environment=environment,
                spend=spend,
                memo=shared,
            )
            self._opened = order, engines, shared
        return self._opened


def _opened(text: str) -> Order:
    # Read when polars first works: as many workers share this machine as it has processors.
    os.environ.setdefault("POLARS_MAX_THREADS", str(min(cores(), _MOST_THREADS)))
    keep_memory()
    order = read_order(text)
    if order.sign and not Path(order.sign).is_dir():
        what = "a worker does not see the store of this build"
        hint = "the store must be at the same path on every node: a shared folder, or object storage"
        raise StoreError(what, where=f"{order.work.store.shown} on {os.uname().nodename}", hint=hint)
    with suppress(
        OSError
    ):  # where the folder is not shared, neither are models in it, and their loading says so
        os.chdir(order.folder)
    return order


def _made(order: Order, task: Task, engines: Engines) -> str:
    work = order.work
    try:
        here = Here(apart=spread if work.store.remote is None else None)
        part = make_part(work.stage, task, work.store, engines, work.seed, work.shard_rows, here)
    except MemoryError as error:
        what = f"stage '{work.stage.name}': a worker had too little memory for its part"
        raise PrefkitError(
            what, hint="fewer workers on a node, or more memory; what is finished is kept"
        ) from error
    return write_part(part, work.store)
