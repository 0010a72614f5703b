"""Narrow tables: what a global stage is given, and how its rows become whole again.

A global stage sees all rows at once, and two kilobytes of text a row that it merely hands on would be held, copied and
moved for nothing. So a stage that says which texts it looks into (`Stage.looks`) is given a narrow table: the columns
it may know of, and the number of each row. Texts it looks into are there, memory-mapped. Any other text that it may
move from one column to another is a token that says which column it is of; one that it can only hand on is null. Once
rows are set aside, texts are null as well, for they would be copied with the rows that stay.

What comes out is made whole piece by piece: by the number of its row each value is fetched from where the text lies.
Digests, order and rows are those that the whole table gives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES
from prefkit.stage import Stage, level_of

__all__ = ["ROW", "Narrow", "restored", "seen"]

ROW = "\x00row"
"""The column with the number of the input row."""
_TOKEN = "\x00of:"  # noqa: S105 - marks a stand-in for a text
_LEVEL = {"prompt": (), "response": ("response",), "pair": ("chosen", "rejected")}


@dataclass(frozen=True)
class Narrow:
    """The input of a global stage, shard by shard, and what the stage may see of it."""

    stage: Stage
    tables: Sequence[pa.Table]
    """The shards, of one schema; memory-mapped."""

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the input."""
        return self.tables[0].schema

    @cached_property
    def spare(self) -> tuple[str, ...]:
        """Texts that it looks into and leaves as they are: they need not go on with rows that stay."""
        return tuple(
            f.name
            for f in self._given
            if _is_text(f) and f.name in self._looks and not _changes(self.stage, f.name)
        )

    @cached_property
    def table(self) -> pa.Table:
        """What the stage is given. Beside mappings it takes 8 bytes a row."""
        most = max(table.num_rows for table in self.tables)
        absent = {
            f.name: _tokens(f.name, most) if _changes(self.stage, f.name) else pa.nulls(most, MESSAGES)
            for f in self._given
            if _is_text(f) and f.name not in self._looks
        }
        names = [field.name for field in self._given]
        pieces, start = [], 0
        for table in self.tables:
            rows = table.num_rows
            # Column by column: a new table would look at the ends of all texts, and so bring them from the disk.
            piece = table.select(names)
            for name, column in absent.items():
                at = piece.schema.get_field_index(name)
                piece = piece.set_column(at, piece.schema.field(at), column.slice(0, rows))
            pieces.append(piece.append_column(ROW, pa.array(np.arange(start, start + rows, dtype=np.int64))))
            start += rows
        return pa.concat_tables(pieces)

    def whole(self, rows: pa.Table) -> pa.Table:
        """Return some of the rows that the stage kept, with all columns."""
        return restored(self.tables, self._own(rows, self.kept), self.kept)

    def needed(self, rows: pa.Table) -> tuple[list[int], pa.Table]:
        """Return what `restored` needs to make rows whole elsewhere: the numbers of their shards, and the rows.

        By number the rows are those of these shards alone; texts are not among their columns.
        """
        numbers = rows[ROW].to_numpy()
        if not len(numbers):
            return [0], self._own(rows, self.kept)
        shards, place = np.unique(np.searchsorted(self._ends, numbers, side="right"), return_inverse=True)
        sizes = np.array([self.tables[shard].num_rows for shard in shards], np.int64)
        moved = numbers - (self._ends[shards] - np.cumsum(sizes))[place]
        few = self._own(rows, self.kept).drop_columns([ROW])
        return shards.tolist(), few.append_column(ROW, pa.array(moved))

    def whole_aside(self, rows: pa.Table) -> pa.Table:
        """Return some of the rows that the stage set aside, with all columns and the reason."""
        added = [field for field in rows.schema if field.name not in {*self.schema.names, ROW}]
        schema = pa.schema([*self.schema, *added])
        return restored(self.tables, self._own(rows, schema), schema)

    @cached_property
    def kept(self) -> pa.Schema:
        """The columns of what the stage makes."""
        return self.stage.output_schema(self.schema)

    @cached_property
    def _given(self) -> tuple[pa.Field, ...]:
        return _known(self.stage, self.schema)

    @cached_property
    def _ends(self) -> np.ndarray:
        return _ends(self.tables)

    @cached_property
    def _looks(self) -> frozenset[str]:
        return frozenset(self.stage.looks() or ())

    def _own(self, rows: pa.Table, schema: pa.Schema) -> pa.Table:
        """Return the numbers of rows with the columns that the stage made, or may have changed."""
        own = [
            name
            for name in schema.names
            if name in rows.column_names and (name not in self.schema.names or _changes(self.stage, name))
        ]
        return rows.select([*own, ROW])


def restored(tables: Sequence[pa.Table], rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows with the columns of a schema: their own as they are, texts in the place of tokens, the rest fetched.

    `tables` are the shards that rows are fetched from, by their numbers.
    """
    # Copied, so that files have the same bytes wherever rows come from: how Arrow pads a slice depends on what it is cut from.
    every = pa.array(np.arange(rows.num_rows))
    own = {name: _one(rows[name]).take(every) for name in rows.column_names if name != ROW}
    moved = {name: _sources(column) for name, column in own.items() if column.type == MESSAGES}
    wanted = {field.name for field in schema} - set(own)
    wanted |= {source for sources in moved.values() for source in sources.dictionary.to_pylist()}
    names = [name for name in tables[0].schema.names if name in wanted]
    fetched = _fetched(tables, names, rows[ROW].to_numpy())
    columns = []
    for field in schema:
        if field.name in moved:
            columns.append(_settled(own[field.name], moved[field.name], fetched))
        elif field.name in own:
            columns.append(own[field.name])
        else:
            columns.append(fetched[field.name])
    return pa.table(columns, names=schema.names).cast(schema)


def _fetched(tables: Sequence[pa.Table], names: Sequence[str], rows: np.ndarray) -> pa.Table:
    """Return columns of the input at these rows, in their order."""
    if not names or not len(rows):
        return tables[0].select(names).slice(0, 0)
    rising = bool((rows[1:] > rows[:-1]).all())
    order = None if rising else np.argsort(rows, kind="stable")
    found = pa.concat_tables(_ascending(tables, names, rows if order is None else rows[order]))
    if order is None:
        return found
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return found.combine_chunks().take(pa.array(back))


def _ascending(tables: Sequence[pa.Table], names: Sequence[str], rows: np.ndarray) -> Iterator[pa.Table]:
    ends = _ends(tables)
    shards = np.searchsorted(ends, rows, side="right")
    edges = np.flatnonzero(np.append(True, shards[1:] != shards[:-1]))
    for begin, end in zip(edges, np.append(edges[1:], len(rows)), strict=True):
        table = tables[shards[begin]].select(names)
        own = rows[begin:end] - (ends[shards[begin]] - table.num_rows)
        if (np.diff(own) == 1).all():  # rows may come twice
            yield table.slice(int(own[0]), len(own))
        else:
            yield table.take(pa.array(own))


def _ends(tables: Sequence[pa.Table]) -> np.ndarray:
    return np.cumsum([table.num_rows for table in tables])


def seen(stage: Stage, schema: pa.Schema) -> list[str]:
    """Return the columns of which a stage may come to hold a copy: those it is given but for texts it leaves as they are."""
    looks = stage.looks() or ()
    return [
        field.name
        for field in _known(stage, schema)
        if not _is_text(field) or (field.name in looks and _changes(stage, field.name))
    ]


def _known(stage: Stage, schema: pa.Schema) -> tuple[pa.Field, ...]:
    """Return the columns that a stage may know of."""
    level = _LEVEL[level_of(schema)]
    known = {"id", "prompt_id", "prompt", *level, *stage.reads(), *stage.writes()}
    return tuple(f for f in schema if f.name in known or _touches(stage, f.name))


def _changes(stage: Stage, name: str) -> bool:
    return name in stage.writes() or _touches(stage, name)


def _touches(stage: Stage, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in stage.touches())


def _is_text(field: pa.Field) -> bool:
    return bool(field.type == MESSAGES)


def _tokens(name: str, rows: int) -> pa.Array:
    """Return conversations that stand for those of a column: one turn each, whose role says which."""
    roles = pa.repeat(pa.scalar(_TOKEN + name), rows)
    turns = pa.StructArray.from_arrays([roles, pa.nulls(rows, pa.string())], fields=list(MESSAGES.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), turns).cast(MESSAGES)


def _sources(column: pa.Array) -> pa.DictionaryArray:
    """Return which column each conversation stands for: null where it is one of its own."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    starts = np.cumsum(lengths) - lengths
    roles = column.flatten().field("role").take(pa.array(starts, mask=lengths == 0))
    marked = pc.fill_null(pc.starts_with(roles, _TOKEN), fill_value=False)
    names = pc.utf8_slice_codeunits(roles, len(_TOKEN))
    return pc.if_else(marked, names, None).cast(pa.string()).dictionary_encode()


def _settled(column: pa.Array, sources: pa.DictionaryArray, fetched: pa.Table) -> pa.Array | pa.ChunkedArray:
    """Return conversations with the text in the place of every token."""
    names = sources.dictionary.to_pylist()
    if len(names) == 1 and not sources.null_count:
        return fetched[names[0]]
    told = sources.cast(pa.string())
    for name in names:
        there = pc.fill_null(pc.equal(told, name), fill_value=False)
        column = pc.if_else(there, _one(fetched[name]), column)
    return column


def _one(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array."""
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
