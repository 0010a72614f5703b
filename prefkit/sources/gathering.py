"""Gathering: bring the rows of each prompt together, in the order in which prompts first appear, and cut shards.

Sources give rows in any order, and of more rows than fit in memory; `rows_by_prompt` puts them in order, and remembers
16 bytes of each prompt. The result does not depend on how rows came in batches, and a shard boundary never cuts a
prompt in two.

Only here are all rows of a prompt side by side, so here responses are numbered and exact repeats get ids of
their own.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import Level
from prefkit.errors import ContractError, DataError, StoreError
from prefkit.shards import SHARD_ROWS
from prefkit.sources.cells import as_list, flat
from prefkit.sources.ids import pair_ids, response_ids
from prefkit.sources.rows_by_prompt import Numbered, ScatteredError, as_they_come, in_order
from prefkit.stage import level_of
from prefkit.tables import Runs, prompt_offsets, put

__all__ = ["ScatteredError", "gather", "passed_through", "unify"]


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

    `work` is a folder for temporary files as large as the rows. Repeats of a prompt without response are one row,
    and counted in `notes`. Without rows it yields one empty shard. Raises StoreError if a file cannot be written.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=work, prefix=".gather-") as folder:
            rows = in_order((conform(table, schema) for table in tables), Path(folder))
            yield from _shards(rows, schema, shard_rows, notes)
    except OSError as error:
        what = f"cannot write temporary rows: {error.strerror or error}"
        hint = "free space there; what is finished is kept, so the next build goes on from it"
        raise StoreError(what, where=str(work), hint=hint) from error


def passed_through(
    tables: Iterable[pa.Table],
    schema: pa.Schema,
    shard_rows: int = SHARD_ROWS,
    notes: Counter[str] | None = None,
) -> Iterator[pa.Table]:
    """Yield what `gather` would, without a temporary file. Raises ScatteredError if a prompt's rows are not adjacent."""
    yield from _shards(as_they_come(conform(table, schema) for table in tables), schema, shard_rows, notes)


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


def _shards(
    rows: Iterable[Numbered], schema: pa.Schema, shard_rows: int, notes: Counter[str] | None
) -> Iterator[pa.Table]:
    counts, level = Counter[str]() if notes is None else notes, level_of(schema)
    none = True
    for table in _cut(rows, shard_rows):
        none = False
        yield _told_apart(table.combine_chunks(), level, counts)
    if none:
        yield schema.empty_table()


def _cut(rows: Iterable[Numbered], most: int) -> Iterator[pa.Table]:
    """Cut rows in order: each piece begins with a prompt, and none is longer than `most` unless one prompt is."""
    held: list[Numbered] = []
    for some in rows:
        held.append(some)
        count = sum(each.table.num_rows for each in held)
        if count <= most:
            continue
        table, prompts = pa.concat_tables(each.table for each in held), np.concatenate([p for _, p in held])
        starts, begin = np.flatnonzero(np.diff(prompts, prepend=-1)), 0
        while begin + most < count:
            at = int(starts[np.searchsorted(starts, begin + most, side="right") - 1])
            if at <= begin:
                after = np.searchsorted(starts, begin, side="right")
                if after == len(starts):
                    break  # the prompt goes on
                at = int(starts[after])
            yield table.slice(begin, at - begin)
            begin = at
        held = [Numbered(table.slice(begin), prompts[begin:])]
    if held:
        yield pa.concat_tables(each.table for each in held)


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
