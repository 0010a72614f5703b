"""Redact: personal data gives way to its kind in brackets, in prompt and answers alike.

What a column counted in the old text (tokens, log-probs, spans) is null afterwards where a text has changed, so that
nothing stale goes on. The id of a prompt stays: it says which prompt it was. Redact early, since what a judge or a writer of
rationales has quoted is kept as it came.
"""

from collections import Counter
from collections.abc import Collection
from typing import Annotated, ClassVar, final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field

from prefkit.columns import MESSAGES, Columns
from prefkit.quality.personal import KINDS, Personal, redacted, suspects
from prefkit.stage import ANY, Context, Flow, Kind, Stage
from prefkit.stages.choice import several
from prefkit.tables import put

__all__ = ["Redact"]

_TEXTS = ("prompt", "response", "chosen", "rejected")
_STALE = {
    "prompt": ("sampler_logp", "ref_chosen_logp", "ref_rejected_logp", "ref_history"),
    "response": ("n_tokens", "sampler_logp", "spans"),
    "chosen": ("chosen_spans", "ref_chosen_logp", "ref_history", "chosen_teacher", "chosen_n_tokens"),
    "rejected": (
        "rejected_spans",
        "ref_rejected_logp",
        "ref_history",
        "rejected_teacher",
        "rejected_advantage",
        "rejected_n_tokens",
    ),
}
"""What is said of a text and no longer holds when it changes."""


@final
class Redact(Stage):
    """Replace personal data by its kind, `[email]`, in every text of a row."""

    name: ClassVar[str] = "redact"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = ANY

    what: Annotated[tuple[Personal, ...], BeforeValidator(several), Field(min_length=1)] = KINDS
    """Kinds: `email`, `key`, `iban`, `card`, `ip`, `phone`."""

    def reads(self) -> Columns:
        return {"prompt": MESSAGES}

    def writes(self) -> Columns:
        return {"prompt": MESSAGES}

    def touches(self) -> Collection[str]:
        return (*_TEXTS, *{name for names in _STALE.values() for name in names})

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        found: Counter[str] = Counter()
        any_changed = np.zeros(table.num_rows, dtype=bool)
        for name in _TEXTS:
            if name not in table.column_names:
                continue
            column, changed = _clean(table[name], self.what, found)
            table = put(table, name, column) if changed.any() else table
            any_changed |= changed
            for stale in _STALE[name]:
                if stale in table.column_names and changed.any():
                    table = put(table, stale, _without(table[stale], changed))
        if any_changed.any():
            ctx.notes["redact/rows"] += int(any_changed.sum())
        ctx.notes.update({f"redact/{kind}": count for kind, count in found.items()})
        return table


def _clean(
    messages: pa.ChunkedArray, kinds: tuple[Personal, ...], found: Counter[str]
) -> tuple[pa.Array, np.ndarray]:
    """Return conversations without personal data, and which have changed: bool [rows]. Counts what was replaced."""
    array = pa.concat_arrays(messages.chunks) if messages.num_chunks else pa.array([], MESSAGES)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    turns = array.flatten()
    texts = pl.Series(turns.field("content"))
    hit = np.flatnonzero(suspects(texts, kinds))
    told: dict[int, str] = {}
    for turn in hit:  # the few that a loose look has left
        text, replaced = redacted(texts[int(turn)], kinds)
        if replaced:
            told[int(turn)] = text
            found.update(replaced)
    changed = np.zeros(len(array), dtype=bool)
    if not told:
        return array, changed
    changed[np.repeat(np.arange(len(array)), lengths)[list(told)]] = True
    mask = np.zeros(len(turns), dtype=bool)
    mask[list(told)] = True
    contents = pc.replace_with_mask(
        turns.field("content"), pa.array(mask), pa.array(list(told.values()), pa.string())
    )
    fields = [turns.field("role"), contents]
    struct = pa.StructArray.from_arrays(fields, fields=list(MESSAGES.value_type))
    missing = np.append(array.is_null().to_numpy(zero_copy_only=False), False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32), mask=missing)
    return pa.ListArray.from_arrays(offsets, struct).cast(MESSAGES), changed


def _without(column: pa.ChunkedArray, rows: np.ndarray) -> pa.ChunkedArray:
    """Return a column with null in these rows, bool [rows]; of any type."""
    return column.take(pa.array(np.arange(len(rows)), mask=rows))
