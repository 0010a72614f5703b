"""Derived responses: one made from another, and the pair of both."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefkit.columns import COLUMNS, MESSAGES, types
from prefkit.pairing import Matches
from prefkit.stage import level_of
from prefkit.stages.pair_rows import pair_schema, pair_table
from prefkit.tables import put

__all__ = [
    "PAIR_COLUMNS",
    "as_responses",
    "derived_pairs",
    "derived_schema",
    "fresh_responses",
    "last_turn_replaced",
]

_NOT_OF_A_RESPONSE = ("place", "teacher", "advantage")
_NAMED = ("model", "origin")


def as_responses(table: pa.Table, side: str = "rejected") -> pa.Table:
    """Return one side of pairs as responses; responses stay as they are. Both have `model` and `origin` then."""
    if level_of(table.schema) == "pair":
        shared = [name for name in table.column_names if {"prompt", "pair"} <= _levels(name) and name != "id"]
        columns = {name: table[name] for name in shared}
        columns["response"] = table[side]
        for name in table.column_names:
            bare = name.removeprefix(f"{side}_")
            if bare != name and bare not in (*_NOT_OF_A_RESPONSE, *columns):
                columns[bare] = table[name]
        table = pa.table(columns)
    for name in _NAMED:
        if name not in table.column_names:
            table = put(table, name, pa.nulls(table.num_rows, pa.string()))
    return table


def fresh_responses(
    table: pa.Table, responses: pa.Array, ids: Sequence[str], origin: str, model: str
) -> pa.Table:
    """Return responses to the same prompts of which nothing is known but who made them."""
    made = {
        "id": pa.array(ids, pa.string()),
        "response": responses,
        "origin": pa.array([origin] * table.num_rows, pa.string()),
        "model": pa.array([model] * table.num_rows, pa.string()),
    }
    for name in table.column_names:
        if name not in made and not {"prompt", "response"} <= _levels(name):
            table = put(table, name, pa.nulls(table.num_rows, table.schema.field(name).type))
    for name, values in made.items():
        table = put(table, name, values)
    return table


def derived_pairs(
    table: pa.Table, texts: Sequence[str], ids: Sequence[str], origin: str, model: str, *, wins: bool
) -> pa.Table:
    """Return one pair a response: itself and the same with another last turn, of these ids, which wins or loses.

    A response may be in several pairs, so the ids come from the rows it was taken of.
    """
    fresh = fresh_responses(table, last_turn_replaced(table["response"], texts), ids, origin, model)
    new, old = np.arange(table.num_rows) + table.num_rows, np.arange(table.num_rows)
    chosen, rejected = (new, old) if wins else (old, new)
    return pair_table(pa.concat_tables([table, fresh]), chosen, rejected, None, Matches(chosen, rejected))


def derived_schema(schema: pa.Schema, side: str = "rejected") -> pa.Schema:
    """Return the schema of `derived_pairs` of rows of this schema, responses or one side of pairs."""
    return pair_schema(as_responses(schema.empty_table(), side).schema, ranked=False)


def last_turn_replaced(responses: pa.ChunkedArray, texts: Sequence[str]) -> pa.Array:
    """Return responses whose last turn says something else."""
    rows = zip(responses.to_pylist(), texts, strict=True)
    return pa.array([[*turns[:-1], {**turns[-1], "content": text}] for turns, text in rows], MESSAGES)


def _levels(name: str) -> set[str]:
    """Return the levels at which the vocabulary knows a column; none if it does not know it."""
    return set(COLUMNS[name].levels) if name in COLUMNS else set()


PAIR_COLUMNS = types("id", "chosen", "rejected", "chosen_id", "rejected_id", "chosen_model", "rejected_model")
