"""Rows of an export: which go into which Parquet file, and the files, several written at once.

A file is full at 256 MiB. Which shards fill it is known from their sizes before anything is written, so files need not wait
for each other; and a shard is read for one file at a time, so memory holds a shard a thread.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from prefkit.card.facts import Facts, split_name
from prefkit.identity import Digester
from prefkit.manifest import Shard
from prefkit.store import Store
from prefkit.threads import in_threads

__all__ = ["FILE_BYTES", "GROUP_ROWS", "KWARGS", "Shape", "Written", "projected", "write_rows"]

FILE_BYTES = 256 * 2**20
"""Text and numbers in one file before compression: what the hub's viewer reads in one go."""
GROUP_ROWS = 10_000
KWARGS = "chat_template_kwargs"


class Shape(NamedTuple):
    """The columns of the copy."""

    names: tuple[str, ...]
    left_out: tuple[str, ...]
    kwargs: pa.DataType | None
    """What `chat_template_kwargs` is decoded to, where it is JSON text."""
    whole: bool = False
    """Whether pairs of responses that had parts taken out stay behind."""


class Written(NamedTuple):
    """What became of the rows of a split."""

    files: list[str]
    rows: int
    digest: str
    """Of the values in the files, in their order: that of the dataset, where all its rows and columns are here."""


class _Split(NamedTuple):
    """What is to be written of a split."""

    name: str
    files: list[list[Shard]]
    """The shards whose rows go into each file, in order."""


def write_rows(
    store: Store, facts: Facts, folder: Path, shape: Shape, schema: pa.Schema, threads: int = 1
) -> dict[str, Written]:
    """Write the rows of a step to a new folder, so many files at once; return what was written of each split.

    `schema` is that of the copy.
    """
    folder.mkdir()
    splits, tasks = _planned(store, facts, shape, threads), list[Callable[[], str | int]]()
    for split in splits:
        tasks.append(partial(_digest, store, facts, split, shape, schema))
        for shards, name in zip(split.files, _names(split), strict=True):
            rows = partial(_rows, store, shards, shape, split.name)
            tasks.append(partial(_write, rows, folder / name, schema))
    done = in_threads(lambda task: task(), tasks, threads)
    return {split.name: _written(split, folder.name, done) for split in splits}


def _written(split: _Split, folder: str, done: Iterator[str | int]) -> Written:
    digest = str(next(done))
    return Written(
        [f"{folder}/{name}" for name in _names(split)], sum(int(next(done)) for _ in split.files), digest
    )


def _write(pieces: Callable[[], Iterator[pa.Table]], path: Path, schema: pa.Schema) -> int:
    """Write a file; return how many rows it has."""
    rows = 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for piece in pieces():
            writer.write_table(piece, row_group_size=GROUP_ROWS)
            rows += piece.num_rows
    return rows


def _digest(store: Store, facts: Facts, split: _Split, shape: Shape, schema: pa.Schema) -> str:
    names = [name for name, _ in facts.last.columns]
    if list(shape.names) == names and "split" not in names and shape.kwargs is None and not shape.whole:
        return facts.last.digest
    digester = Digester(schema)
    for shards in split.files:
        for piece in _rows(store, shards, shape, split.name):
            digester.update(piece)
    return digester.hexdigest()


def _names(split: _Split) -> list[str]:
    return [f"{split.name}-{at:05d}-of-{len(split.files):05d}.parquet" for at in range(len(split.files))]


def _planned(store: Store, facts: Facts, shape: Shape, threads: int) -> list[_Split]:
    """Return which shards go into which file; a split without rows has one file without shards."""
    splits = [_Split(name, [[]]) for name in facts.splits()]
    filled = [0.0] * len(splits)
    names = [split.name for split in splits]
    weighed = in_threads(lambda shard: _weighed(store.get(shard), shape, names), facts.last.shards, threads)
    for shard, sizes in zip(facts.last.shards, weighed, strict=True):
        for place, size in enumerate(sizes):
            if size is None:
                continue
            if filled[place] >= FILE_BYTES:
                splits[place].files.append([])
                filled[place] = 0.0
            splits[place].files[-1].append(shard)
            filled[place] += size
    return splits


def _weighed(table: pa.Table, shape: Shape, names: Sequence[str]) -> list[float | None]:
    """Return how many bytes the rows of each split have; None where there are none."""
    width = table.select(shape.names).nbytes / max(table.num_rows, 1)
    counts = [_count(_of(table, shape, name), table) for name in names]
    return [count * width if count else None for count in counts]


def _of(table: pa.Table, shape: Shape, name: str) -> pa.ChunkedArray | None:
    """Return which rows belong to a split, bool [rows]; None if all do."""
    masks = [pc.equal(table["degree"], 0)] if shape.whole else []
    if "split" in table.column_names:
        known = table["split"].unique()
        mine = [value for value in known.to_pylist() if split_name(value) == name]
        if len(mine) < len(known):
            masks.append(pc.is_in(table["split"], pa.array(mine, table["split"].type)))
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else pc.and_(*masks)


def _count(mask: pa.ChunkedArray | None, table: pa.Table) -> int:
    return int(table.num_rows if mask is None else pc.sum(mask, min_count=0).as_py())


def _rows(store: Store, shards: Sequence[Shard], shape: Shape, name: str) -> Iterator[pa.Table]:
    """Yield the rows of a split in some shards, as they are written."""
    for shard in shards:
        table = store.get(shard)
        mask = _of(table, shape, name)
        yield projected(table if mask is None else table.filter(mask), shape)


def projected(table: pa.Table, shape: Shape) -> pa.Table:
    """Return rows with the columns of a copy."""
    table = table.select(shape.names)
    if shape.kwargs is None:
        return table
    codes = table[KWARGS].combine_chunks().dictionary_encode()
    values = pa.array([json.loads(text) for text in codes.dictionary.to_pylist()], shape.kwargs)
    return table.set_column(table.schema.get_field_index(KWARGS), KWARGS, values.take(codes.indices))
