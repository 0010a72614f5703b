"""Margin: how much better the chosen answer is, from the scores kept at pairing time or from the votes."""

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, SerializerFunctionWrapHandler, model_serializer, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.log_odds import log_odds_slope
from prefkit.estimators.preference import length_slope, spread
from prefkit.gaps import reads_scores, score_gaps
from prefkit.labels.op import may_fit
from prefkit.stage import PAIRS, Context, Flow, Holds, Kind, Stage
from prefkit.tables import floats, nullable, put
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
    transform: Literal["raw", "standardise", "residual-length", "log-odds"] = "raw"
    """`standardise`: in units of the dataset's spread. `residual-length`: without what the length difference explains.
    `log-odds`: on the scale on which logistic(margin) fits verdicts, as objectives with a `margin-adaptive` weight need."""
    scale: PositiveFloat = 1.0
    """Multiplies the margin."""
    clip: PositiveFloat | None = None
    """Keeps the margin within this distance of zero, after everything else."""

    calibrate_on: str = ""
    """With `log-odds`: a column with how probable people make it that chosen is better, null where nobody was asked, on rows
    the scorer was not trained on. Left out, chosen is taken for what people prefer. Not fitted to the test split."""

    @model_validator(mode="after")
    def _calibrates_to_something(self) -> Self:
        if self.calibrate_on and self.transform != "log-odds":
            raise ValueError("calibrate_on and transform 'log-odds' go together")
        return self

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a setting that came later, so that older configs keep their identity."""
        plain: dict[str, Any] = dump(self)
        return {name: value for name, value in plain.items() if name != "calibrate_on" or value}

    def reads(self) -> Columns:
        needed = types("votes") if self.source == "votes" else reads_scores(self.by)
        return {**needed, self.calibrate_on: pa.float64()} if self.calibrate_on else needed

    def writes(self) -> Columns:
        return types("margin")

    def touches(self) -> Collection[str]:
        return ("split",) if self.transform == "log-odds" else ()

    def scope(self) -> Kind:
        return "map" if self.transform == "raw" else "global"

    def looks(self) -> Collection[str]:
        return ("chosen", "rejected") if self.transform == "residual-length" else ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(120.0 + (6 * width["votes"] if self.source == "votes" else 0.0))

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        margin = self.scale * self._transformed(self._raw(table), table, ctx)
        if self.clip is not None:
            margin = np.clip(margin, -self.clip, self.clip)
        return put(table, "margin", nullable(margin))

    def _raw(self, table: pa.Table) -> np.ndarray:
        if self.source == "votes":
            return tally(table["votes"]).mean_strength
        return score_gaps(table, self.by)

    def _transformed(self, margin: np.ndarray, table: pa.Table, ctx: Context) -> np.ndarray:
        if self.transform == "log-odds" and table.num_rows:
            margin = margin * self._slope(margin, table, ctx)
        if self.transform == "standardise":
            margin = margin / spread(margin)
        if self.transform == "residual-length":
            gap = characters(table["chosen"]) - characters(table["rejected"])
            margin = margin - length_slope(margin, gap) * gap
        return margin

    def _slope(self, margin: np.ndarray, table: pa.Table, ctx: Context) -> float:
        told = floats(table[self.calibrate_on]) if self.calibrate_on else np.ones(table.num_rows)
        told = np.where(may_fit(table), told, np.nan)
        slope = log_odds_slope(margin, told)
        ctx.notes[f"margin/log-odds a unit: {slope:.6g}"] += 1
        ctx.notes["margin/calibrated on rows"] += int((np.isfinite(told) & np.isfinite(margin)).sum())
        return slope
