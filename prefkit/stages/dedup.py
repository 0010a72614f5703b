"""Dedup: rows that say the same thing as another row, after case and whitespace are made alike.

Texts are compared by 128 bits of hash, so what a dataset needs in memory is 16 bytes a row.
"""

from collections.abc import Collection
from typing import ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from prefkit.columns import MESSAGES, Columns
from prefkit.ranking import ranked
from prefkit.stage import ANY, Context, Flow, Kind, Stage
from prefkit.texts import digests, same_codes

__all__ = ["Dedup"]


@final
class Dedup(Stage):
    """Drop rows whose text is that of another row."""

    name: ClassVar[str] = "dedup"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY

    by: Literal["prompt", "response", "chosen", "pair"] = "prompt"
    """What must not come twice. By `prompt`, one prompt of several that read the same keeps all its rows."""
    within: Literal["prompt", "dataset"] = "prompt"
    """Where it must not come twice; by `prompt` always in the dataset."""
    keep: Literal["first", "best"] = "first"
    """Which of the rows stays: the first, or the one with the highest score; ties go by id."""
    score: str = "score"
    """With `best`: the column that says how good a row is."""

    @model_validator(mode="after")
    def _best_has_a_score(self) -> Self:
        if self.by == "prompt" and self.keep == "best":
            raise ValueError("by prompt, the first is kept: a prompt has no score")
        return self

    def reads(self) -> Columns:
        needed = dict.fromkeys(self._texts(), MESSAGES)
        return {**needed, self.score: pa.float64()} if self.keep == "best" else needed

    def writes(self) -> Columns:
        return {}

    def touches(self) -> Collection[str]:
        return ("tools",) if self.by == "prompt" else ()

    def drops(self) -> Collection[str]:
        return ("duplicate",)

    def scope(self) -> Kind:
        return "global" if self.by == "prompt" or self.within == "dataset" else "group"

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        keys = [digests(table[name], fold_case=True, with_roles=True) for name in self._texts()]
        prompt = _numbered(table["prompt_id"])
        if self.by == "prompt":
            tools = [_numbered(table["tools"])] if "tools" in table.column_names else []
            codes = same_codes(*keys, *tools)
            stays = prompt == prompt[_first(codes, np.arange(len(codes)))]
        else:
            codes = same_codes(*keys, *([prompt] if self.within == "prompt" else []))
            order = np.arange(len(codes))
            if self.keep == "best":
                order = ranked(table, self.score, descending=True)
            stays = _first(codes, order) == np.arange(len(codes))
        return ctx.drop(table, pc.if_else(pa.array(stays), None, "duplicate"))

    def _texts(self) -> tuple[str, ...]:
        return ("chosen", "rejected") if self.by == "pair" else (self.by,)


def _numbered(column: pa.ChunkedArray) -> np.ndarray:
    """Return one number a value: int64 [rows]; -1 for null."""
    codes = pc.index_in(column, pc.unique(column).drop_null())
    numbers: np.ndarray = pc.fill_null(codes, -1).to_numpy().astype(np.int64)
    return numbers


def _first(codes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return, for each row, which row of its code comes first in this order: int64 [rows]."""
    first: np.ndarray = np.zeros(int(codes.max()) + 1 if len(codes) else 0, np.int64)
    first[codes[order[::-1]]] = order[::-1]  # reversed, so that the first is written last
    found: np.ndarray = first[codes]
    return found
