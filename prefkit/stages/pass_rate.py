"""Pass rate: how hard a prompt is for whoever answered it, from the share of responses that pass."""

from typing import ClassVar, final

import polars as pl
import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.tables import put, to_polars

__all__ = ["PassRate"]


@final
class PassRate(Stage):
    """Write `pass_rate`: the share of a prompt's scored responses with a score of at least `at_least`.

    The same for all responses of a prompt; null where none has a score.
    """

    name: ClassVar[str] = "pass-rate"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = RESPONSES

    by: str = "score"
    """Which score."""
    at_least: float = 1.0
    """The least score that passes."""

    def reads(self) -> Columns:
        return {**types("prompt_id"), self.by: pa.float64()}

    def writes(self) -> Columns:
        return types("pass_rate")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        frame = to_polars(table.select(["prompt_id", self.by]))
        passed = (pl.col(self.by) >= self.at_least).mean().over("prompt_id")
        return put(table, "pass_rate", frame.select(passed).to_series().to_arrow().cast(pa.float64()))
