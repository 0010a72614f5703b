"""Rows: from a chunk under a known shape to canonical rows with ids, and the rows that do not fit with their reasons.

The first thing that is wrong with a row is its reason. An empty response is not wrong: a model that said
nothing is a fact about the model, and `filter` drops it with a count. An empty prompt is, since nothing can
be asked with it.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import RATINGS
from prefkit.sources.carried import CARRIED, carried, span_problems
from prefkit.sources.cells import (
    Cells,
    as_list,
    first_problem,
    flat,
    kept,
    messages,
    none,
    numbers,
    problem_where,
    ratings,
    texts,
)
from prefkit.sources.chunks import BadRow, BadRowError, Cell, Chunk, Column, Row, bad_rows, preview
from prefkit.sources.conversations import order_problems
from prefkit.sources.ids import pair_ids, prompt_ids, response_ids
from prefkit.sources.layouts.transcripts import JOINED
from prefkit.sources.shape import JOINED_COLUMN, KEPT, Shape
from prefkit.sources.sides import Pairs, oriented
from prefkit.sources.source import Source
from prefkit.sources.templates import prompt_column
from prefkit.tables import last_content

__all__ = ["Arranged", "arrange"]


class Arranged(NamedTuple):
    """Canonical rows of a chunk, and the bad ones."""

    table: pa.Table
    bad: list[BadRow]


class _Reader:
    """Reads targets of one chunk, gathering problems and notes."""

    def __init__(self, chunk: Chunk, shape: Shape, notes: Counter[str]) -> None:
        self.chunk = chunk
        self.shape = shape
        self.notes = notes
        self.problems: list[pa.Array] = [none(chunk.rows)]

    def has(self, target: str) -> bool:
        return target in self.shape.targets

    def column(self, target: str) -> Column:
        name = self.shape.column(target)
        return pa.nulls(self.chunk.rows) if name is None else self.chunk.column(name)

    def take(self, cells: Cells) -> pa.Array:
        self.problems.append(cells.problems)
        return cells.values

    def text(self, target: str) -> pa.Array:
        return self.take(texts(self.column(target), target, self.notes))

    def number(self, target: str) -> pa.Array:
        return self.take(numbers(self.column(target), target, self.notes))

    def response(self, target: str) -> pa.Array:
        values = self.take(messages(self.column(target), target, "assistant", self.notes))
        self._check_order(values, "response", target)
        return values

    def prompt(self, source: Source) -> pa.Array:
        values = self.take(prompt_column(self.chunk, self.shape, source, self.notes))
        self._check_order(values, "prompt", "prompt")
        blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(last_content(values), "?")), "")
        self.problems.append(problem_where(blank, "empty prompt"))
        return values

    def _check_order(self, values: pa.Array, side: str, what: str) -> None:
        wrong = order_problems(values, "prompt" if side == "prompt" else "response")
        self.problems.append(problem_where(wrong, f"roles out of order in {what}"))


def arrange(chunk: Chunk, shape: Shape, source: Source, notes: Counter[str]) -> Arranged:
    """Make canonical rows of a chunk. Ids count exact repeats as one row yet; `gather` tells them apart."""
    chunk = _unfolded(chunk, shape, notes) if shape.layout_made is not None else chunk
    if not chunk.rows:
        return Arranged(shape.schema.empty_table(), list(chunk.bad))
    reader = _Reader(chunk, shape, notes)
    columns = {"prompt": reader.prompt(source)}
    columns |= {
        name: reader.text(name) for name in ("tools", "reference_answer", "domain") if reader.has(name)
    }
    if shape.level == "response":
        columns |= _response_columns(reader, source)
    if shape.level == "pair":
        columns |= _pair_columns(reader)
    columns |= _carried_columns(reader, columns)
    for name in (*shape.kept, *shape.extras):
        raw = (
            KEPT + name
            if shape.layout_made is not None and name in shape.kept
            else shape.kept.get(name, name)
        )
        columns[name] = reader.take(kept(chunk.column(raw), name, shape.schema.field(name).type))
    problems = first_problem(reader.problems)
    table = pa.table(columns).filter(problems.is_null())
    return Arranged(_with_ids(table, shape, source.label), [*chunk.bad, *bad_rows(chunk, problems)])


def _unfolded(chunk: Chunk, shape: Shape, notes: Counter[str]) -> Chunk:
    layout = shape.layout_made
    assert layout is not None
    assert layout.unfold is not None
    rows, lines, bad = list[Row](), list[int](), list(chunk.bad)
    # A Python loop: nested rows of any shape have no vectorised form.
    for at, row in enumerate(chunk.dicts()):
        carried = {KEPT + name: row.get(column) for name, column in shape.kept.items()}
        try:
            made = [{**carried, **new} for new in layout.unfold(row)]
        except BadRowError as error:
            bad.append(BadRow(int(chunk.lines[at]), str(error), preview(chunk, at)))
            continue
        joined = sum(new.pop(JOINED, 0) for new in made)
        if joined:
            notes[JOINED] += joined
        rows += made
        lines += [int(chunk.lines[at])] * len(made)
    return Chunk(rows, np.asarray(lines, np.int64), tuple(bad))


def _response_columns(reader: _Reader, source: Source) -> dict[str, pa.Array]:
    rows = reader.chunk.rows
    found = {"response": reader.response("response"), "index": pa.array(np.zeros(rows, np.int32))}
    found["model"] = reader.text("model")
    found["origin"] = pc.fill_null(reader.text("origin"), "dataset")
    if reader.has("score"):
        found["score"] = reader.number("score")
    for name, column in reader.shape.scores.items():
        found[name] = reader.take(numbers(reader.chunk.column(column), name, reader.notes))
    if source.join is not None:
        found["ratings"] = flat(reader.chunk.extra[JOINED_COLUMN])
    elif reader.has("ratings"):
        comments = reader.column("comments") if reader.has("comments") else None
        found["ratings"] = reader.take(ratings(reader.column("ratings"), comments, reader.notes))
    return {name: _negated(values) if name in source.negate else values for name, values in found.items()}


def _negated(values: pa.Array) -> pa.Array:
    if values.type != RATINGS:
        return pc.subtract(0.0, values)  # and not minus one times: 0 has no sign
    entries = values.flatten()
    flipped = [entries.field("annotator"), pc.subtract(0.0, entries.field("score")), entries.field("comment")]
    struct = pa.StructArray.from_arrays(flipped, fields=list(RATINGS.value_type))
    valid = np.asarray(values.is_valid())
    lengths = np.where(valid, np.nan_to_num(values.value_lengths().to_numpy(zero_copy_only=False)), 0)
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends, mask=np.append(~valid, False)), struct).cast(RATINGS)


def _pair_columns(reader: _Reader) -> dict[str, pa.Array]:
    explicit = reader.has("chosen")
    ends = ("chosen", "rejected") if explicit else ("first", "second")
    sides = {side: reader.response(side) for side in ends}
    pairs = Pairs(reader.chunk, reader.shape, reader.notes)
    judged = pairs.judged(explicit=explicit)
    reader.problems.append(judged.problems)
    found: dict[str, pa.Array] = oriented(sides[ends[0]], sides[ends[1]], judged.swap, "")
    for what, read in (("model", reader.text), ("score", reader.number)):
        names = [f"{side}_{what}" for side in ends]
        if any(reader.has(name) for name in names):
            found |= oriented(read(names[0]), read(names[1]), judged.swap, f"_{what}")
    for name in reader.shape.scores:
        given = [numbers(reader.chunk.column(f"{side}_{name}"), name, reader.notes) for side in ends]
        found |= oriented(reader.take(given[0]), reader.take(given[1]), judged.swap, f"_{name}")
    if reader.has("margin"):
        found["margin"] = reader.number("margin")
    if reader.has("rationale"):
        found["rationales"] = pairs.rationales(reader.text("rationale"))
    if judged.votes is not None:
        found["votes"] = judged.votes
    return found


def _carried_columns(reader: _Reader, columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    found = {}
    for name in CARRIED[reader.shape.level]:
        if reader.has(name):
            found[name] = reader.take(carried(reader.column(name), name, reader.notes))
    for side in ("chosen", "rejected"):
        name = f"{side}_spans"
        if name in found:
            reader.problems.append(span_problems(found[name], last_content(columns[side]), name))
    return found


def _with_ids(table: pa.Table, shape: Shape, label: str) -> pa.Table:
    rows = table.num_rows
    tools: list[Cell] = as_list(table["tools"]) if "tools" in table.column_names else [None] * rows
    prompts = prompt_ids(flat(table["prompt"]), tools)
    columns = dict(zip(table.column_names, table.columns, strict=True))
    columns |= {"prompt_id": pa.array(prompts, pa.string()), "source": pa.repeat(pa.scalar(label), rows)}
    if shape.level == "pair":
        ends = {}
        for side in ("chosen", "rejected"):
            models = as_list(columns.get(f"{side}_model", pa.nulls(rows)))
            ends[side] = response_ids(prompts, flat(columns[side]), models, [0] * rows)
            columns[f"{side}_id"] = pa.array(ends[side], pa.string())
        ids = pair_ids(ends["chosen"], ends["rejected"])
    elif shape.level == "response":
        ids = response_ids(prompts, flat(columns["response"]), as_list(columns["model"]), [0] * rows)
    else:
        ids = prompts
    columns["id"] = pa.array(ids, pa.string())
    return pa.table({name: columns[name] for name in shape.schema.names}).cast(shape.schema)
