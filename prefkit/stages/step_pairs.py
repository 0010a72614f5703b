"""Pairs of steps: two responses that share a beginning, cut behind the step in which they part, and that step marked."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from prefkit.columns import COLUMNS, types
from prefkit.pairing import Matches
from prefkit.stages.derived import last_turn_replaced
from prefkit.stages.pair_rows import pair_schema, pair_table
from prefkit.tables import put

__all__ = ["STEP_PAIR", "step_pair_schema", "step_pairs"]

_OF_THE_PAIR = ("prefix_end", "step_index")
STEP_PAIR = types(
    "id", "chosen", "rejected", "chosen_id", "rejected_id", "chosen_spans", "rejected_spans", *_OF_THE_PAIR
)
"""What a pair of steps has."""


def step_pair_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema of pairs of steps of responses of this schema."""
    if "spans" not in schema.names:
        schema = schema.append(pa.field("spans", COLUMNS["spans"].type))
    of_a_side = {f"{side}_{n}" for side in ("chosen", "rejected") for n in (*_OF_THE_PAIR, "parent_id")}
    fields = [field for field in pair_schema(schema, ranked=False) if field.name not in of_a_side]
    return pa.schema([*fields, *(pa.field(n, kind) for n, kind in types(*_OF_THE_PAIR).items())])


def step_pairs(table: pa.Table, texts: Sequence[str], chosen: np.ndarray, rejected: np.ndarray) -> pa.Table:
    """Return one pair for each two row numbers, int64 [pairs]; `texts` are the responses up to the end of the step.

    The step begins at `prefix_end`, and is `step_index`; both are taken from the rejected side.
    """
    cut = put(table, "response", last_turn_replaced(table["response"], texts))
    begins, numbers = table["prefix_end"].to_pylist(), table["step_index"].to_pylist()
    spans = [
        [{"start": begin or 0, "end": len(text), "kind": "step", "id": number, "value": None}]
        for begin, text, number in zip(begins, texts, numbers, strict=True)
    ]
    cut = put(cut, "spans", pa.array(spans, COLUMNS["spans"].type))
    pairs = pair_table(cut, chosen, rejected, None, Matches(chosen, rejected))
    for name in _OF_THE_PAIR:
        pairs = put(pairs, name, pairs[f"rejected_{name}"])
    return pairs.select(step_pair_schema(table.schema).names)
