"""Cells: from a column as a file holds it to one typed Arrow array, with a reason for every row that does not fit.

A column of text or numbers is converted whole. What is nested or mixed is read value by value: that is the
edge where files of any shape come in, and no vectorised form exists for "text here, a list of messages
there".
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import MESSAGES, RATINGS
from prefkit.sources.chunks import BadRowError, Cell, Column
from prefkit.sources.conversations import ROLES, turns_of
from prefkit.tables import to_messages

__all__ = [
    "Cells",
    "as_list",
    "first_problem",
    "flat",
    "kept",
    "messages",
    "none",
    "number",
    "numbers",
    "problem_where",
    "ratings",
    "short_text",
    "texts",
]

_NO_NUMBER = {"", "n/a", "na", "none", "null", "-"}


class Cells(NamedTuple):
    """A column's values, null where missing or wrong."""

    values: pa.Array
    problems: pa.Array
    """The reason why a row is bad, string [rows]; null where it is not."""


def as_list(column: Column) -> list[Cell]:
    """Return a column as Python values."""
    return column if isinstance(column, list) else column.to_pylist()


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column of a chunk in one piece, without a dictionary."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _whole(column: Column) -> pa.Array | None:
    """Return a column as an Arrow array of text if it is text throughout, else None."""
    if isinstance(column, list):
        return pa.array(column, pa.string()) if {*map(type, column)} <= {str, type(None)} else None
    array = flat(column)
    return array.cast(pa.string()) if _is_textual(array.type) or pa.types.is_null(array.type) else None


def none(rows: int) -> pa.Array:
    """Return no problems."""
    return pa.nulls(rows, pa.string())


def problem_where(mask: np.ndarray | pa.Array, reason: str) -> pa.Array:
    """Return one problem for the rows where a mask is true."""
    return pc.if_else(pa.array(mask, pa.bool_()), reason, pa.scalar(None, pa.string()))


def first_problem(problems: Sequence[pa.Array]) -> pa.Array:
    """Return the first problem of each row."""
    return pc.coalesce(*problems)


def _one_by_one(column: Column, read: Callable[[Cell], Cell], kind: pa.DataType) -> Cells:
    """Read value by value; a value that is refused is null and a problem."""
    values: list[Cell] = []
    problems: list[str | None] = [None] * len(column)
    for row, value in enumerate(as_list(column)):
        try:
            values.append(read(value))
        except BadRowError as error:
            values.append(None)
            problems[row] = str(error)
    return Cells(pa.array(values, kind), pa.array(problems, pa.string()))


def messages(column: Column, what: str, role: str, notes: Counter[str]) -> Cells:
    """Read conversations: text becomes one turn of `role`; null is a problem."""
    text = _whole(column)
    if text is not None:
        return Cells(to_messages(text, role), problem_where(text.is_null(), f"no {what}"))
    ready = _ready(column)
    if ready is not None:
        empty = pc.fill_null(pc.equal(pc.list_value_length(ready), 0), True)
        return Cells(ready, problem_where(empty, f"no {what}"))
    return _one_by_one(column, lambda value: _conversation(value, what, role, notes), MESSAGES)


def _ready(column: Column) -> pa.Array | None:
    """Return a column that is messages as they should be already, else None."""
    if isinstance(column, list) or not _is_conversation(column.type):
        return None
    array = flat(column).cast(MESSAGES)
    turns = array.flatten()
    roles, contents = turns.field("role"), turns.field("content")
    known = set(roles.unique().to_pylist()) <= set(ROLES)
    return array if known and not contents.null_count and not turns.null_count else None


def _is_conversation(kind: pa.DataType) -> bool:
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(
        kind.value_type
    ):
        return False
    fields = {field.name: field.type for field in kind.value_type}
    return fields.keys() == {"role", "content"} and all(map(_is_textual, fields.values()))


def _conversation(value: Cell, what: str, role: str, notes: Counter[str]) -> list[dict[str, str]]:
    if value is None:
        raise BadRowError(f"no {what}")
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if isinstance(value, bool | int | float):
        notes[f"cast to text: {what}"] += 1
        return [{"role": role, "content": str(value)}]
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return [{"role": role, "content": "\n".join(value)}]
    return turns_of(value, what)


def numbers(column: Column, what: str, notes: Counter[str]) -> Cells:
    """Read numbers as float64. Truth is 1, what is not finite is null and counted; other text is a problem."""
    if not isinstance(column, list) and (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_boolean(column.type)
    ):
        array = flat(column)
        array = array.cast(pa.int8()) if pa.types.is_boolean(array.type) else array
        return Cells(_finite(array.cast(pa.float64()), what, notes), none(len(column)))
    cells = _one_by_one(column, lambda value: number(value, what), pa.float64())
    return cells._replace(values=_finite(cells.values, what, notes))


def number(value: Cell, what: str) -> float | None:
    """Read one number, null where there is none. Raises BadRowError for what is not a number."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_NUMBER):
        return None
    if isinstance(value, str | bool | int | float):
        try:
            return float(value)
        except (ValueError, OverflowError) as error:
            raise BadRowError(f"{what} is not a number") from error
    raise BadRowError(f"{what} is not a number")


def _finite(values: pa.Array, what: str, notes: Counter[str]) -> pa.Array:
    finite = pc.is_finite(values)
    lost = len(values) - values.null_count - (pc.sum(finite).as_py() or 0)
    if not lost:
        return values
    notes[f"not finite, made null: {what}"] += lost
    return pc.if_else(pc.fill_null(finite, True), values, pa.scalar(None, pa.float64()))


def texts(column: Column, what: str, notes: Counter[str]) -> Cells:
    """Read short texts, such as a model's name. Empty is missing; numbers become text; lists become JSON."""
    text = _whole(column)
    if text is None:
        values = as_list(column)
        cast = sum(isinstance(value, bool | int | float) for value in values)
        if cast:
            notes[f"cast to text: {what}"] += cast
        text = pa.array([short_text(value) for value in values], pa.string())
    empty = pa.scalar(None, pa.string())
    return Cells(pc.if_else(pc.equal(text, ""), empty, text), none(len(text)))


def short_text(value: Cell) -> str | None:
    """Return a value as text: lists and objects as JSON, null as null."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def ratings(scores: Column, comments: Column | None, notes: Counter[str]) -> Cells:
    """Read several scores a row: as ratings already, or as a list of numbers with a list of texts beside it."""
    if not isinstance(scores, list) and scores.type == RATINGS:
        return Cells(flat(scores), none(len(scores)))
    said = [None] * len(scores) if comments is None else as_list(comments)
    both = list(zip(as_list(scores), said, strict=True))
    return _one_by_one(both, lambda given: _ratings(given[0], given[1], notes), RATINGS)


def _ratings(value: Cell, comments: Cell, notes: Counter[str]) -> list[dict[str, Cell]] | None:
    if value is None:
        return None
    entries = value if isinstance(value, list) else [value]
    said = comments if isinstance(comments, list) else [comments] * len(entries)
    if len(said) != len(entries):
        raise BadRowError("ratings and comments differ in number")
    given = [entry if isinstance(entry, dict) else {"score": entry} for entry in entries]
    return [
        {
            "annotator": short_text(entry.get("annotator")),
            "score": _finite_or_none(number(entry.get("score"), "ratings"), notes),
            "comment": short_text(entry.get("comment", comment)),
        }
        for entry, comment in zip(given, said, strict=True)
    ]


def _finite_or_none(value: float | None, notes: Counter[str]) -> float | None:
    if value is None or math.isfinite(value):
        return value
    notes["not finite, made null: ratings"] += 1
    return None


def kept(column: Column, what: str, kind: pa.DataType) -> Cells:
    """Read a column that is carried along, as the type that its first rows had."""
    if not isinstance(column, list):
        array = flat(column)
        if pa.types.is_string(kind) and not _is_textual(array.type):
            return Cells(pa.array([short_text(value) for value in array.to_pylist()], kind), none(len(array)))
        try:
            return Cells(array.cast(kind), none(len(array)))
        except pa.ArrowException:
            column = array.to_pylist()
    try:
        return Cells(pa.array(column, kind), none(len(column)))
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return _kept_one_by_one(column, what, kind)


def _is_textual(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _kept_one_by_one(column: list[Cell], what: str, kind: pa.DataType) -> Cells:
    parts: list[pa.Array] = []
    problems: list[str | None] = [None] * len(column)
    for row, value in enumerate(column):
        try:
            parts.append(pa.array([value], kind))
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            parts.append(pa.nulls(1, kind))
            problems[row] = f"wrong type in '{what}'"
    return Cells(pa.concat_arrays(parts), pa.array(problems, pa.string()))
