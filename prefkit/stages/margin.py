"""Margin: how much better the chosen answer is, from the scores kept at pairing time or from the votes."""

from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat

from prefkit.columns import Columns, types
from prefkit.estimators.preference import length_slope, spread
from prefkit.gaps import reads_scores, score_gaps
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import nullable, put
from prefkit.texts import characters
from prefkit.votes import tally

__all__ = ["Margin"]


@final
class Margin(Stage):
    """Write `margin`: by how much chosen is better; null where a score is missing or not finite."""

    name: ClassVar[str] = "margin"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS

    source: Literal["scores", "votes"] = "scores"
    """`scores`: chosen score - rejected score. `votes`: the mean strength of the votes."""
    by: str = "score"
    """Which score: reads `chosen_<by>` and `rejected_<by>`."""
    transform: Literal["raw", "standardise", "residual-length"] = "raw"
    """`standardise`: in units of the dataset's spread. `residual-length`: without what the length difference explains."""
    scale: PositiveFloat = 1.0
    """Multiplies the margin."""
    clip: PositiveFloat | None = None
    """Keeps the margin within this distance of zero, after everything else."""

    def reads(self) -> Columns:
        if self.source == "votes":
            return types("votes")
        return reads_scores(self.by)

    def writes(self) -> Columns:
        return types("margin")

    def scope(self) -> Kind:
        return "map" if self.transform == "raw" else "global"

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        margin = self.scale * self._transformed(self._raw(table), table)
        if self.clip is not None:
            margin = np.clip(margin, -self.clip, self.clip)
        return put(table, "margin", nullable(margin))

    def _raw(self, table: pa.Table) -> np.ndarray:
        if self.source == "votes":
            return tally(table["votes"]).mean_strength
        return score_gaps(table, self.by)

    def _transformed(self, margin: np.ndarray, table: pa.Table) -> np.ndarray:
        if self.transform == "standardise":
            margin = margin / spread(margin)
        if self.transform == "residual-length":
            gap = characters(table["chosen"]) - characters(table["rejected"])
            margin = margin - length_slope(margin, gap) * gap
        return margin
