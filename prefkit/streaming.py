"""Streaming: how a global stage sees all rows of a step while no more than a few shards are in memory.

Its input stays on disk and is read through memory (`prefkit.maps`); of texts that it does not look into it sees nothing
(`prefkit.narrow`); and what it makes is cut into shards that are made whole, filed and forgotten one by one. What a
stage holds besides is its own affair, and it says so: see `prefkit.holding`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import ipc

from prefkit.manifest import Shard
from prefkit.maps import MappedFile, let_go, map_file
from prefkit.narrow import Narrow, restored
from prefkit.shards import cut
from prefkit.stage import Context, Stage
from prefkit.store import Stamp, Store
from prefkit.threads import Apart, in_threads
from prefkit.timing import Phase

__all__ = ["Filed", "Here", "apply_to_all", "put_aside"]


class Here(NamedTuple):
    """What a part may use of this machine if its stage is global, and what goes on beside it."""

    threads: int = 1
    apart: Apart | None = None
    """Calls functions in worker processes, where there are some."""
    filed: Callable[[Shard], None] | None = None
    """Who is told of each shard as it is filed, in order."""
    beside: Callable[[], float] = lambda: 0.0
    """The CPU seconds that other threads of this process have used for something else."""


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
    here: Here,
) -> Filed:
    """Apply a global stage to the rows of all shards at once, and file what it makes.

    `lap` is told `reading`, `working` and `filing` as each is done. What the stage set aside stands in `ctx`, for
    counting.
    """
    files, tables = _opened(shards, store, _threads(store, here))
    ctx = replace(ctx, threads=here.threads, apart=here.apart, files=_lying(shards, store, len(files)))
    with let_go(files):
        lap("reading")
        if stage.looks() is None:
            filed = _whole(stage, tables, store, ctx, shard_rows, lap, here)
        else:
            filed = _narrow(stage, shards, tables, files, store, ctx, shard_rows, lap, here)
        lap("filing")
    return filed


def _opened(shards: Sequence[Shard], store: Store, threads: int) -> tuple[list[MappedFile], list[pa.Table]]:
    """Return the shards' tables, checked against their digests, and the files that they are mapped from."""
    files, tables = list[MappedFile](), list[pa.Table]()
    got = in_threads(store.get, shards, threads)
    for path, table in zip(map(store.path, shards), got, strict=True):
        if path.is_file():
            files.append(map_file(path))
        tables.append(files[-1].table if path.is_file() else table)
    return files, tables


def _lying(shards: Sequence[Shard], store: Store, files: int) -> tuple[tuple[Path, int], ...]:
    """Return where the rows lie, if all of them lie in files."""
    return tuple((store.path(shard), shard.rows) for shard in shards) if files == len(shards) else ()


def _whole(
    stage: Stage,
    tables: Sequence[pa.Table],
    store: Store,
    ctx: Context,
    shard_rows: int,
    lap: Callable[[Phase], None],
    here: Here,
) -> Filed:
    with store.workspace() as work:
        result = stage(pa.concat_tables(tables), replace(ctx, work=work))
    lap("working")
    filed = in_threads(store.put, cut(result, shard_rows), _threads(store, here))
    outputs = tuple(_told(filed, here))
    dropped, failed = (put_aside(store, aside) for aside in (ctx.dropped, ctx.failed))
    return Filed(outputs, dropped, failed, result.num_rows)


def _narrow(
    stage: Stage,
    shards: Sequence[Shard],
    tables: Sequence[pa.Table],
    files: list[MappedFile],
    store: Store,
    ctx: Context,
    shard_rows: int,
    lap: Callable[[Phase], None],
    here: Here,
) -> Filed:
    narrow = Narrow(stage, tables)
    with store.workspace() as work:
        result = stage(narrow.table, replace(ctx, spare=narrow.spare, work=work))
    pa.default_memory_pool().release_unused()
    lap("working")
    pieces = cut(result, shard_rows)
    if here.apart is not None and len(shards) > 1 and store.remote is None:
        filed = _put_apart(narrow, shards, store, pieces, here.apart)
    else:
        filed = in_threads(lambda piece: store.put(narrow.whole(piece)), pieces, _threads(store, here))
    outputs = tuple(_told(filed, here))
    dropped, failed = (
        _put_aside_whole(aside, narrow, files, store, shard_rows) for aside in (ctx.dropped, ctx.failed)
    )
    return Filed(outputs, dropped, failed, result.num_rows)


def _threads(store: Store, here: Here) -> int:
    """Return how many shards are got or filed at once: with a store elsewhere, one after the other."""
    return here.threads if store.remote is None else 1


def _put_apart(
    narrow: Narrow, shards: Sequence[Shard], store: Store, pieces: Iterator[pa.Table], apart: Apart
) -> Iterator[Shard]:
    """Make pieces whole and file them in worker processes."""

    def task(piece: pa.Table) -> tuple[Any, ...]:
        numbers, few = narrow.needed(piece)
        some = [shards[number] for number in numbers]
        return store.address, some, store.checked(some), _packed(few), narrow.kept

    for shard, checked in apart(_put_piece, map(task, pieces)):
        store.trust(checked)
        yield shard


def _put_piece(
    address: str, shards: Sequence[Shard], checked: Mapping[str, Stamp], rows: bytes, schema: pa.Schema
) -> tuple[Shard, dict[str, Stamp]]:
    """Make one piece whole and file it; in a worker."""
    store = Store(address)
    store.trust(checked)
    tables = [store.get(shard) for shard in shards]
    shard = store.put(restored(tables, ipc.open_stream(rows).read_all(), schema))
    return shard, store.checked([shard])


def _packed(table: pa.Table) -> bytes:
    """Return a table as bytes: pickled, a slice would take all it is a slice of along."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _told(shards: Iterator[Shard], here: Here) -> Iterator[Shard]:
    """Yield shards, each after it was told of."""
    for shard in shards:
        if here.filed is not None:
            here.filed(shard)
        yield shard


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
