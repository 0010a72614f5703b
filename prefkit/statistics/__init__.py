"""Statistics: what a card says of the rows of a step, computed once when the step is made and kept in its manifest.

So a card needs no rows: it can be written, compared and checked where the shards are not. What is counted is chosen
for what goes wrong in preference data: sides that differ in length more than in worth, scores that do not separate,
labels nobody is sure of, prompts on both sides of a split. Columns are looked at one at a time and text one shard at a
time, so memory stays at a few numbers a row.
"""

from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from prefkit.columns import MESSAGES
from prefkit.maps import let_go, map_file
from prefkit.stage import level_of
from prefkit.statistics.figures import Share, describe
from prefkit.statistics.measure import chars, counts_of, lighten, numbers, prompt_numbers, reals
from prefkit.statistics.pairs import summarise_pairs
from prefkit.statistics.records import ResponseSummary, Split, Summary

__all__ = ["Gathering", "Summary", "summarise"]

_SHORT = 40
"""Bytes a row of a column that is copied, in the mean."""


def summarise(table: pa.Table) -> dict[str, Any]:
    """Return the statistics of rows as JSON values: a `Summary`, dumped.

    Cost: about 0.1 s of CPU per 100,000 pairs of 3,000 characters; tests/test_statistics.py holds it below 0.3 s.
    """
    gathering = Gathering()
    gathering.add(table)
    return gathering.summary()


@final
class Gathering:
    """What statistics need of rows, taken table by table: numbers and short names in the place of texts.

    Given a folder, they are kept in a file of it, some 170 bytes a row, and memory holds the few columns that are looked
    at together. They are copied there: in a shard each of them lies between texts, so every look would bring much of
    the shard back from the disk, which takes the longer the less of the step fits into memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Keep what is gathered in a folder, or in memory."""
        self._path = folder and folder / "measures.arrow"
        self._writer: ipc.RecordBatchFileWriter | None = None
        self._kept: list[pa.Table] = []
        self._rest: list[pa.Table] = []
        """Columns that are too wide to copy, as they lie in the shards."""
        self._schema = pa.schema([])
        self._copied: list[str] = []

    def add(self, table: pa.Table) -> None:
        """Take further rows, of the same columns."""
        rest = _without_texts(table)
        if not self._rest:
            self._schema, self._copied = table.schema, _short(rest) if self._path else []
        kept = _beside(rest.select(self._copied), lighten(table))
        self._rest.append(rest.drop_columns(self._copied))
        if self._path is None:
            self._kept.append(kept)
            return
        if self._writer is None:
            self._writer = ipc.new_file(self._path, kept.schema)
        self._writer.write_table(kept)

    def summary(self) -> dict[str, Any]:
        """Return the statistics of all rows, at least one table of them, as JSON values."""
        if self._path is None or self._writer is None:
            return self._summary(pa.concat_tables(self._kept))
        self._writer.close()
        file = map_file(self._path)
        with let_go([file]):
            return self._summary(file.table)

    def _summary(self, kept: pa.Table) -> dict[str, Any]:
        table = _beside(kept, pa.concat_tables(self._rest))
        known = [name for name in self._schema.names if name in table.column_names]
        return _summary(
            table.select([*known, *(set(table.column_names) - set(known))]), level_of(self._schema)
        )


def _summary(table: pa.Table, level: str) -> dict[str, Any]:
    prompts = prompt_numbers(table)
    summary = Summary(
        level=level,
        rows=table.num_rows,
        **_prompts(table, prompts),
        sources=counts_of(table, "source"),
        domains=counts_of(table, "domain"),
        responses=_responses(table, prompts) if level == "response" else None,
        pairs=summarise_pairs(table, prompts) if level == "pair" else None,
    )
    return summary.model_dump(mode="json")


def _without_texts(table: pa.Table) -> pa.Table:
    heavy = {"id", "prompt_id", "chosen_id", "rejected_id"}
    return table.select([f.name for f in table.schema if f.type != MESSAGES and f.name not in heavy])


def _short(table: pa.Table) -> list[str]:
    """Return the columns that hold numbers and short names."""
    return [
        field.name
        for field, column in zip(table.schema, table.columns, strict=True)
        if pa.types.is_primitive(field.type) or column.nbytes <= _SHORT * table.num_rows
    ]


def _beside(table: pa.Table, other: pa.Table) -> pa.Table:
    if not table.num_columns:
        return other
    for name in other.column_names:
        table = table.append_column(name, other[name])
    return table


def _prompts(table: pa.Table, prompts: np.ndarray) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if "prompt" in table.column_names:
        fields["prompt_chars"] = describe(chars(table["prompt"]), prompts)
        fields["turns"] = describe(reals(pc.struct_field(table["prompt"], "turns")), prompts)
    if "tools" in table.column_names:
        fields["tools"] = Share(count=len(table) - table["tools"].null_count, n=len(table))
    if "prompt_hash" not in table.column_names:
        return fields
    rows = np.bincount(prompts)
    fields |= {"prompts": len(rows), "per_prompt": describe(rows.astype(np.float64))}
    if "split" in table.column_names:
        fields |= _splits(prompts, table["split"])
    return fields


def _splits(prompts: np.ndarray, column: pa.ChunkedArray) -> dict[str, Any]:
    splits, seen_in = list[Split](), np.zeros(len(np.bincount(prompts)), np.int64)
    for name in sorted(column.unique().to_pylist(), key=lambda name: (name is None, name or "")):
        inside = (
            pc.is_null(column) if name is None else pc.fill_null(pc.equal(column, name), fill_value=False)
        )
        mask = inside.to_numpy().astype(bool)
        present = np.bincount(prompts[mask], minlength=len(seen_in)) > 0
        seen_in += present
        splits.append(Split(name=name, rows=int(mask.sum()), prompts=int(present.sum())))
    return {"splits": tuple(splits), "straddling": int((seen_in > 1).sum())}


def _responses(table: pa.Table, prompts: np.ndarray) -> ResponseSummary:
    scores = numbers(table.drop_columns([name for name in ("sampler_logp",) if name in table.column_names]))
    return ResponseSummary(
        chars=describe(chars(table["response"]), prompts),
        tokens=describe(reals(table["n_tokens"]), prompts) if "n_tokens" in table.column_names else None,
        scores={name: describe(values, prompts) for name, values in scores.items()},
        models=counts_of(table, "model"),
        origins=counts_of(table, "origin"),
        finish=counts_of(table, "finish"),
    )
