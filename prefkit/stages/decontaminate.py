"""Decontaminate: rows that hold what a benchmark asks, each set aside with the file and line that it matches.

A benchmark's items are texts of its files, one for each named field of each line. A row is contaminated where one of
its turns is an item word for word, or where the runs of n words that it shares with an item cover enough of the item's
words (`prefkit.near.coverage`). Case, punctuation and whitespace are left aside (`prefkit.near.words`). Prompts and
what a model is trained to say are looked at: the response of a response row, the chosen side of a pair.

The reason names the benchmark, and dropped rows carry what was found: `benchmark_item` (file and line),
`benchmark_match` (`equal`: a turn is the item; `inside`: it contains the item; `shared`: it has runs of it),
`benchmark_coverage`, and `benchmark_ngram`, the first run of words that both have.

Memory: about 50 bytes a word of the benchmarks, read once a process.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer

from prefkit.columns import MESSAGES, Columns
from prefkit.near.coverage import Overlap, best, overlaps
from prefkit.near.jaccard import blocks
from prefkit.near.words import Words, parts, spelled
from prefkit.stage import ANY, Context, Flow, Kind, Stage, level_of
from prefkit.stages.benchmark import Benchmark, Items, benchmarks, read_items, stamp

__all__ = ["Decontaminate"]

_LOOKED_AT = {"prompt": ("prompt",), "response": ("prompt", "response"), "pair": ("prompt", "chosen")}
_SLICE_ROWS, _SLICE_BYTES = 4096, 1 << 22
_FOUND = pa.schema(
    [
        ("benchmark_item", pa.string()),
        ("benchmark_match", pa.string()),
        ("benchmark_coverage", pa.float64()),
        ("benchmark_ngram", pa.string()),
    ]
)
"""What dropped rows carry beside their own columns."""


@final
class Decontaminate(Stage):
    """Drop rows that hold items of benchmarks."""

    name: ClassVar[str] = "decontaminate"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = ANY

    against: Annotated[
        tuple[Benchmark, ...],
        Field(min_length=1),
        BeforeValidator(benchmarks, json_schema_input_type=str | Benchmark | list[str | Benchmark]),
    ]
    """The benchmarks: a file, a pattern, `{file: test.jsonl, fields: [question]}`, or a list of such."""
    n: PositiveInt = 8
    """How many words in a row count as shared."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """From which share of an item's words on a row is contaminated; 0: any run that is shared will do."""
    columns: tuple[str, ...] = ()
    """Which conversations are looked at; by default the prompt, and the response or the chosen side."""
    then: Literal["drop", "count"] = "drop"
    """`count`: rows are left in and counted, for the gate `contamination` to stop the build."""

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a setting that came later where it says nothing, so that older configs keep their identity."""
        plain: dict[str, Any] = dump(self)
        return {name: value for name, value in plain.items() if (name, value) != ("then", "drop")}

    def reads(self) -> Columns:
        return dict.fromkeys(self.columns, MESSAGES)

    def writes(self) -> Columns:
        return {}

    def drops(self) -> Collection[str]:
        return sorted({_reason(one.source.label) for one in self.against}) if self.then == "drop" else ()

    def files(self, folder: Path) -> Sequence[str]:
        return stamp(self.against, folder)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        items = read_items(self.against, ctx.folder, self.n, stamp(self.against, ctx.folder))
        looked_at = table.select(self.columns or _LOOKED_AT[level_of(table.schema)])
        reasons: list[pa.Array] = []
        found: list[pa.RecordBatch] = []
        for piece in _pieces(looked_at):
            hits = best(overlaps(piece.words, items.ready, piece.owners), self.threshold)
            at = np.full(piece.rows, -1)
            at[hits.owner] = np.arange(len(hits.owner))
            places = pa.array(at, mask=at < 0)
            told = _told(hits, piece, items)
            names = items.names.take(pa.array(hits.item))
            reasons.append(pc.binary_join_element_wise("contaminated", names, "/").take(places))
            found.append(told.take(places))
        beside = pa.Table.from_batches(found, _FOUND)
        for name in _FOUND.names:
            table = table.append_column(name, beside[name])
        if self.then == "drop":
            table = ctx.drop(table, pa.chunked_array(reasons, pa.string()))
        else:
            ctx.notes.update(reason for array in reasons for reason in array.drop_null().to_pylist())
        ctx.notes.update(
            f"contamination/{match}" for match in beside["benchmark_match"].drop_null().to_pylist()
        )
        return table.drop_columns(_FOUND.names)


class _Piece(NamedTuple):
    """The turns of a few thousand rows."""

    words: Words
    owners: np.ndarray
    """The row of each turn, from 0, int64 [turns], ascending."""
    rows: int


def _reason(label: str) -> str:
    return f"contaminated/{label}"


def _pieces(table: pa.Table) -> Iterator[_Piece]:
    """Yield the turns of a table of conversations, 4096 rows and 4 MB at a time."""
    for batch in table.to_batches(max_chunksize=_SLICE_ROWS):
        lengths = [pc.fill_null(pc.list_value_length(column), 0).to_numpy() for column in batch.columns]
        texts = pa.concat_arrays([column.flatten().field("content") for column in batch.columns])
        owners = np.concatenate([np.repeat(np.arange(batch.num_rows), counts) for counts in lengths])
        order = np.argsort(owners, kind="stable")
        texts, owners = pc.fill_null(texts, "").take(pa.array(order)), owners[order]
        sizes = np.bincount(owners, pc.binary_length(texts).to_numpy(), batch.num_rows)
        for block in blocks(sizes, _SLICE_BYTES):
            first, last = np.searchsorted(owners, [block.start, block.stop])
            words = parts(texts.slice(first, last - first))
            yield _Piece(words, owners[first:last] - block.start, block.stop - block.start)


def _told(hits: Overlap, piece: _Piece, items: Items) -> pa.RecordBatch:
    """Return what was found for each contaminated row."""
    matches: list[str] = []
    runs: list[str] = []
    known, which = np.unique(hits.item, return_inverse=True)
    words = parts(pa.array([items.texts[item].as_py() for item in known.tolist()], pa.string()))
    spoken = [spelled(words, item) for item in range(len(known))]
    # A Python loop: only over contaminated rows, whose words are shown to people.
    for owner, item, place in zip(hits.owner.tolist(), which.tolist(), hits.place.tolist(), strict=True):
        asked, span = spoken[item], np.searchsorted(piece.owners, [owner, owner + 1])
        turns = [spelled(piece.words, turn) for turn in range(*span)]
        matches.append(_match(asked, turns))
        runs.append(" ".join(asked[place : place + items.ready.n]))
    places = items.places.take(pa.array(hits.item))
    columns = [places, pa.array(matches, pa.string()), pa.array(hits.coverage), pa.array(runs, pa.string())]
    return pa.RecordBatch.from_arrays(columns, schema=_FOUND)


def _match(asked: list[str], turns: list[list[str]]) -> str:
    if asked in turns:
        return "equal"
    whole = f" {' '.join(asked)} "
    return "inside" if any(whole in f" {' '.join(turn)} " for turn in turns) else "shared"
