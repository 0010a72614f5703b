"""Balance: pairs go until a feature of style is as often on the rejected side as on the chosen one.

If chosen is the longer side in seven pairs of ten, a model can learn length and be right in seven of ten. Dropping pairs of the
larger side, drawn within strata, leaves a share of one half in each. With several `bins` the strata are also cut by how
large the difference is, so that its size does not give the label away either; that costs more pairs.
"""

from collections.abc import Collection, Mapping
from typing import ClassVar, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.quality.style import FEATURES, feature
from prefkit.ranking import ranked
from prefkit.stage import PAIRS, Context, Flow, Holds, Kind, Stage
from prefkit.tables import word_where

__all__ = ["Balance"]


@final
class Balance(Stage):
    """Drop pairs until chosen has more of a feature in one half of them; which ones is drawn."""

    name: ClassVar[str] = "balance"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    of: str = "length"
    """What to balance: `length` in characters, `refusal`, `bullets`, or another feature of `prefkit.quality.style`."""
    by: str | None = None
    """The column of strata, a word: each is balanced on its own."""
    bins: PositiveInt = 1
    """How many strata of about equal size the difference of both sides is cut into, by its size."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.of not in FEATURES:
            raise ValueError(f"no feature '{self.of}'; there are: {', '.join(FEATURES)}")
        return self

    def reads(self) -> Columns:
        words = {} if self.by is None else {self.by: pa.string()}
        return {**types("chosen", "rejected"), **words}

    def writes(self) -> Columns:
        return {}

    def drops(self) -> Collection[str]:
        return (f"more-{self.of}-in-chosen", f"less-{self.of}-in-chosen")

    def looks(self) -> Collection[str]:
        return ("chosen", "rejected")

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(130.0)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        gap = feature(table["chosen"], self.of) - feature(table["rejected"], self.of)
        strata = np.zeros(table.num_rows, np.int64)
        if self.by is not None:
            words = pc.dictionary_encode(pc.fill_null(table[self.by], "")).combine_chunks()
            strata = words.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        strata = strata * self.bins + _binned(np.abs(gap), self.bins)
        draw = pa.array(ctx.uniform(self, table["id"]))
        goes = surplus(gap, strata, ranked(table.select(["id"]).append_column("draw", draw), "draw"))
        more, less = (
            word_where(goes & side, word)
            for side, word in zip((gap > 0, gap <= 0), self.drops(), strict=True)
        )
        return ctx.drop(table, pc.coalesce(more, less))


def surplus(gap: np.ndarray, strata: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return which pairs go so that in each stratum as many gaps are above zero as below: bool [pairs].

    Shapes: `gap` float64 [pairs]; `strata` int64 [pairs]; `order` int64 [pairs]: of the larger side those stay that come first.
    Gaps of zero stay. In each stratum one side keeps all.
    """
    size = int(strata.max(initial=-1)) + 1
    counts = [np.bincount(strata[side], minlength=size) for side in (gap > 0, gap < 0)]
    room = np.minimum(*counts)
    goes: np.ndarray = np.zeros(len(gap), dtype=bool)
    for side, count in zip((gap > 0, gap < 0), counts, strict=True):
        rows = order[side[order]]
        rows = rows[np.argsort(strata[rows], kind="stable")]
        place = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        goes[rows[place >= room[strata[rows]]]] = True
    return goes


def _binned(size: np.ndarray, bins: int) -> np.ndarray:
    """Return in which of so many quantiles of the sizes above zero each lies: int64 [rows]."""
    there = size[size > 0]
    if bins == 1 or not len(there):
        return np.zeros(len(size), np.int64)
    edges = np.quantile(there, np.arange(1, bins) / bins)
    found: np.ndarray = np.searchsorted(edges, size, side="right").astype(np.int64)
    return found
