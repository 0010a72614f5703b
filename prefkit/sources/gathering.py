"""Gathering: bring the rows of each prompt together, in the order in which prompts first appear.

Sources give rows in any order, and of more rows than fit in memory. They are spilled to one Arrow file as
they come, while only their prompts are remembered, as 16 bytes a row; then shards are read out of the
memory-mapped file in the new order. The result does not depend on how rows came in batches, and a shard
boundary never cuts a prompt in two.

Only here are all rows of a prompt side by side, so here responses are numbered and exact repeats get ids of
their own.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from prefkit.columns import Level
from prefkit.errors import ContractError, DataError, StoreError
from prefkit.shards import SHARD_ROWS
from prefkit.sources.cells import as_list, flat
from prefkit.sources.ids import pair_ids, response_ids
from prefkit.stage import level_of
from prefkit.tables import Runs, prompt_offsets, put

__all__ = ["gather", "unify"]


def unify(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Return one schema for several sources: a column that one of them lacks is null there.

    Raises DataError if they are of different levels, or disagree on a column's type.
    """
    levels = {level_of(schema) for schema in schemas}
    if len(levels) > 1:
        what = f"the sources hold rows of different levels: {', '.join(sorted(levels))}"
        raise DataError(what, hint="a recipe's data is all prompts, all responses or all pairs")
    fields: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            known = fields.setdefault(field.name, field.type)
            if known != field.type:
                what = f"column '{field.name}' is {known} in one source and {field.type} in another"
                raise DataError(
                    what, hint="keep it under another name in one of them: keep: { other_name: column }"
                )
    return pa.schema(list(fields.items()))


def gather(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    work: Path,
    shard_rows: int = SHARD_ROWS,
    notes: Counter[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield shards of about `shard_rows` rows with the rows of each prompt adjacent, numbered and with unique ids.

    `work` is a folder for one temporary file as large as the rows. Repeats of a prompt without response are one row,
    and counted in `notes`. Without rows it yields one empty shard. Raises StoreError if the file cannot be written.
    """
    counts = Counter[str]() if notes is None else notes
    try:
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work, prefix=".gather-") as folder:
            file = Path(folder) / "rows.arrow"
            spilled = _spill(tables, schema, file)
            if not len(spilled.prompts):
                yield schema.empty_table()
                return
            yield from _shards(file, schema, spilled, shard_rows, counts)
    except OSError as error:
        what = f"cannot write temporary rows: {error.strerror or error}"
        hint = "free space there; what is finished is kept, so the next build goes on from it"
        raise StoreError(what, where=str(work), hint=hint) from error


class _Spilled(NamedTuple):
    prompts: np.ndarray
    """Number of each row's prompt, by first appearance: int64 [rows]."""
    begins: np.ndarray
    """First row of each batch in the file, and the number of rows: int64 [batches + 1]."""


def _spill(tables: Iterable[pa.Table], schema: pa.Schema, file: Path) -> _Spilled:
    """Write all rows to a file."""
    seen: dict[bytes, int] = {}
    numbers, begins = [np.zeros(0, np.int64)], [0]
    at = schema.get_field_index("prompt_id")
    with ipc.new_file(str(file), schema) as writer:
        for table in tables:
            for batch in conform(table, schema).to_batches() if table.num_rows else ():
                numbers.append(_numbered(batch.column(at), seen))
                begins.append(begins[-1] + batch.num_rows)
                writer.write_batch(batch)
    return _Spilled(np.concatenate(numbers), np.asarray(begins, np.int64))


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table in a wider schema, null where it lacks a column. Raises ContractError if it has further ones."""
    surplus = sorted(set(table.column_names) - set(schema.names))
    if surplus:
        raise ContractError(f"rows have the column '{surplus[0]}', which the schema of the sources lacks")
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def _numbered(prompts: pa.Array, seen: dict[bytes, int]) -> np.ndarray:
    codes = prompts.dictionary_encode()
    keys = [_key(prompt) for prompt in codes.dictionary.to_pylist()]
    numbers = np.asarray([seen.setdefault(key, len(seen)) for key in keys], np.int64)
    found: np.ndarray = numbers[codes.indices.to_numpy(zero_copy_only=False)]
    return found


def _key(prompt: str) -> bytes:
    """Return an id in little memory: ids are hex, so 16 bytes and not 32 for each of millions of prompts."""
    try:
        return bytes.fromhex(prompt)
    except ValueError:  # a ref to rows that a plug-in made
        return prompt.encode()


def _shards(
    file: Path, schema: pa.Schema, spilled: _Spilled, shard_rows: int, notes: Counter[str]
) -> Iterator[pa.Table]:
    order = np.argsort(spilled.prompts, kind="stable")
    starts = np.flatnonzero(np.diff(spilled.prompts[order], prepend=-1))
    for begin, end in _edges(starts, len(order), shard_rows):
        # Mapped anew for each shard: what a mapping has touched stays in memory as long as it stands.
        with pa.memory_map(str(file)) as source:
            table = _picked(ipc.open_file(source), spilled.begins, order[begin:end])
        yield _told_apart(table, level_of(schema), notes)


def _edges(starts: np.ndarray, rows: int, shard_rows: int) -> list[tuple[int, int]]:
    """Return (begin, end) of shards: each begins with a prompt, none is longer than wanted unless one prompt is."""
    edges = [0]
    while edges[-1] + shard_rows < rows:
        at = starts[np.searchsorted(starts, edges[-1] + shard_rows, side="right") - 1]
        if at <= edges[-1]:
            after = np.searchsorted(starts, edges[-1], side="right")
            at = starts[after] if after < len(starts) else rows
        edges.append(int(at))
    if edges[-1] < rows:
        edges.append(rows)
    return list(pairwise(edges))


def _picked(reader: ipc.RecordBatchFileReader, begins: np.ndarray, rows: np.ndarray) -> pa.Table:
    """Return rows by number, in that order, touching only the batches that hold them."""
    of = np.searchsorted(begins, rows, side="right") - 1
    parts = [_rows_of(reader.get_batch(index), rows[of == index] - begins[index]) for index in np.unique(of)]
    table = pa.Table.from_batches(parts).combine_chunks()
    if (np.diff(of) >= 0).all():
        return table
    back = np.empty(len(rows), np.int64)
    back[np.argsort(of, kind="stable")] = np.arange(len(rows))
    return table.take(pa.array(back))


def _rows_of(batch: pa.RecordBatch, rows: np.ndarray) -> pa.RecordBatch:
    first, last = int(rows[0]), int(rows[-1])
    if last - first + 1 == len(rows) and (np.diff(rows) == 1).all():
        return batch.slice(first, len(rows))
    return batch.take(pa.array(rows))


def _told_apart(table: pa.Table, level: Level, notes: Counter[str]) -> pa.Table:
    """Number the responses of each prompt, and give each exact repeat an id of its own."""
    if level == "response":
        runs = prompt_offsets(table)
        table = put(table, "index", pa.array(_indices(table["index"], runs), pa.int32()))
    if pc.count_distinct(table["id"]).as_py() == table.num_rows:
        return table
    ids = pl.DataFrame({"id": pl.Series(table["id"].combine_chunks())})
    occurrence = ids.select(pl.int_range(pl.len()).over("id")).to_series().to_numpy()
    repeats = np.flatnonzero(occurrence > 0)
    if level == "prompt":
        notes["repeated prompts merged"] += len(repeats)
        return table.filter(pa.array(occurrence == 0))
    notes[f"exact repeats of a {level}"] += len(repeats)
    return _with_new_ids(table, level, repeats, occurrence[repeats].tolist())


def _indices(given: pa.ChunkedArray, runs: Runs) -> np.ndarray:
    """Number the responses of each prompt from 0; numbers that rise already, as those of a ref do, stay."""
    prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)
    index = given.to_numpy()
    falls = (np.diff(prompt) == 0) & (np.diff(index) <= 0)
    anew = np.isin(prompt, prompt[1:][falls])
    counted = np.arange(len(prompt)) - np.repeat(runs.starts, runs.lengths)
    found: np.ndarray = np.where(anew, counted, index)
    return found


def _with_new_ids(table: pa.Table, level: Level, rows: np.ndarray, occurrences: list[int]) -> pa.Table:
    some = table.take(pa.array(rows))
    prompts = as_list(some["prompt_id"])
    if level == "response":
        new = {"id": response_ids(prompts, flat(some["response"]), as_list(some["model"]), occurrences)}
    else:
        new = {}
        for side in ("chosen", "rejected"):
            there = f"{side}_model" in some.column_names
            models = as_list(some[f"{side}_model"]) if there else [None] * len(rows)
            new[f"{side}_id"] = response_ids(prompts, flat(some[side]), models, occurrences)
        new["id"] = pair_ids(new["chosen_id"], new["rejected_id"])
    for name, values in new.items():
        column = np.asarray(as_list(table[name]), dtype=object)
        column[rows] = values
        table = put(table, name, pa.array(column, pa.string()))
    return table
