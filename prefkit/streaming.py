"""Streaming: how a global stage sees all rows of a step while no more than a few shards are in memory.

Its input stays on disk and is read through memory (`prefkit.maps`); of texts that it does not look into it sees nothing
(`prefkit.narrow`); and what it makes is cut into shards that are made whole, filed and forgotten one by one. What a
stage holds besides is its own affair, and it says so: see `prefkit.holding`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import ipc

from prefkit.manifest import Shard
from prefkit.maps import MappedFile, let_go, map_file
from prefkit.narrow import Narrow
from prefkit.shards import cut
from prefkit.stage import Context, Stage
from prefkit.store import Store
from prefkit.threads import in_threads
from prefkit.timing import Phase

__all__ = ["Filed", "apply_to_all", "put_aside"]


class Filed(NamedTuple):
    """What a global stage made, filed."""

    outputs: tuple[Shard, ...]
    dropped: Shard | None
    failed: Shard | None
    kept: int
    """Rows."""


def apply_to_all(
    stage: Stage,
    shards: Sequence[Shard],
    store: Store,
    ctx: Context,
    shard_rows: int,
    lap: Callable[[Phase], None],
) -> Filed:
    """Apply a global stage to the rows of all shards at once, and file what it makes.

    `lap` is told `reading`, `working` and `filing` as each is done. What the stage set aside stands in `ctx`, for
    counting.
    """
    files, tables = _opened(shards, store)
    with let_go(files):
        lap("reading")
        if stage.looks() is None:
            filed = _whole(stage, tables, store, ctx, shard_rows, lap)
        else:
            filed = _narrow(stage, tables, files, store, ctx, shard_rows, lap)
        lap("filing")
    return filed


def _opened(shards: Sequence[Shard], store: Store) -> tuple[list[MappedFile], list[pa.Table]]:
    files, tables = list[MappedFile](), list[pa.Table]()
    for shard in shards:
        table = store.get(shard)  # checked against its digest
        path = store.path(shard)
        if path.is_file():
            files.append(map_file(path))
            table = files[-1].table
        tables.append(table)
    return files, tables


def _whole(
    stage: Stage,
    tables: Sequence[pa.Table],
    store: Store,
    ctx: Context,
    shard_rows: int,
    lap: Callable[[Phase], None],
) -> Filed:
    with store.workspace() as work:
        result = stage(pa.concat_tables(tables), replace(ctx, work=work))
    lap("working")
    outputs = tuple(in_threads(store.put, cut(result, shard_rows), _threads(store, ctx)))
    dropped, failed = (put_aside(store, aside) for aside in (ctx.dropped, ctx.failed))
    return Filed(outputs, dropped, failed, result.num_rows)


def _narrow(
    stage: Stage,
    tables: Sequence[pa.Table],
    files: list[MappedFile],
    store: Store,
    ctx: Context,
    shard_rows: int,
    lap: Callable[[Phase], None],
) -> Filed:
    narrow = Narrow(stage, tables)
    with store.workspace() as work:
        result = stage(narrow.table, replace(ctx, spare=narrow.spare, work=work))
    pa.default_memory_pool().release_unused()
    lap("working")
    outputs = tuple(
        in_threads(
            lambda piece: store.put(narrow.whole(piece)), cut(result, shard_rows), _threads(store, ctx)
        )
    )
    dropped, failed = (
        _put_aside_whole(aside, narrow, files, store, shard_rows) for aside in (ctx.dropped, ctx.failed)
    )
    return Filed(outputs, dropped, failed, result.num_rows)


def _threads(store: Store, ctx: Context) -> int:
    """Return how many shards are made and filed at once: a store elsewhere is sent one after the other."""
    return ctx.threads if store.remote is None else 1


def put_aside(store: Store, aside: Sequence[pa.Table]) -> Shard | None:
    """File rows that a stage set aside, all as one object; None if there are none."""
    return store.put(pa.concat_tables(aside)) if aside else None


def _put_aside_whole(
    aside: Sequence[pa.Table], narrow: Narrow, files: list[MappedFile], store: Store, shard_rows: int
) -> Shard | None:
    """File rows that were set aside, made whole again, all as one object."""
    if not aside:
        return None
    pieces = (
        narrow.whole_aside(table.slice(start, shard_rows))
        for table in aside
        for start in range(0, table.num_rows, shard_rows)
    )
    if sum(table.num_rows for table in aside) <= shard_rows:
        return store.put(pa.concat_tables(pieces))
    with store.workspace() as work:
        spool = work / "aside.arrow"
        _spool(pieces, spool)
        files.append(map_file(spool))
        try:
            return store.put(files[-1].table)
        finally:
            files.pop()


def _spool(pieces: Iterator[pa.Table], path: Path) -> None:
    first = next(pieces)
    with path.open("wb") as file, ipc.new_file(file, first.schema) as writer:
        for piece in chain([first], pieces):
            writer.write_table(piece)
