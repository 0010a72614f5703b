"""Order: in which order pairs are trained on. Rows do not move: `rank` says where they would stand.

Two curricula go by the name of phases and are not the same. `prompt-rank` gives each prompt's easiest pair to the
first phase, its next to the second, so that no prompt comes twice in a phase; `global-quantile` cuts the whole
dataset into parts of equal size by difficulty. `thresholds` says outright what is easy.
"""

from itertools import pairwise
from typing import ClassVar, Literal, Self, final

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.ranking import ranked
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import floats, put

__all__ = ["Order"]


@final
class Order(Stage):
    """Write `rank`, 0 to N - 1, and `phase`, from 0. Rows without a finite value come last; ties go by id."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "order"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    strategy: Literal["sort", "phases", "shuffle"] = Field("sort", alias="kind")
    """`sort` by difficulty, `phases` of difficulty, or `shuffle` by the recipe's seed."""
    by: str = "margin"
    """The number that says how difficult a pair is."""
    easy: Literal["high", "low"] = "high"
    """Which end of it is easy: wide margins are, high perplexities are not."""
    easy_first: bool = True
    """Whether training goes from easy to hard."""
    phases: Literal["prompt-rank", "global-quantile", "thresholds"] = "global-quantile"
    """For `phases`: what makes a phase."""
    k: PositiveInt = 3
    """For `global-quantile`: how many phases."""
    thresholds: tuple[float, ...] = ()
    """For `thresholds`, from easy to hard: a pair is in the first phase whose threshold it reaches, else in the last."""
    within: Literal["sorted", "shuffled"] = "sorted"
    """For `phases`: the order inside a phase."""

    @model_validator(mode="after")
    def _thresholds_fit(self) -> Self:
        if bool(self.thresholds) != (self.strategy == "phases" and self.phases == "thresholds"):
            raise ValueError("thresholds and phases 'thresholds' go together")
        steps = [
            (one > other) == (self.easy == "high") and one != other
            for one, other in pairwise(self.thresholds)
        ]
        if not all(steps):
            raise ValueError(f"thresholds go from easy to hard, and {self.easy} is easy")
        return self

    def reads(self) -> Columns:
        return {} if self.strategy == "shuffle" else {self.by: pa.float64()}

    def writes(self) -> Columns:
        return types("phase", "rank")

    def draws(self) -> bool:
        return self.strategy == "shuffle" or (self.strategy == "phases" and self.within == "shuffled")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        order = self._shuffled(table, ctx) if self.strategy == "shuffle" else self._sorted(table, ctx)
        phase = np.zeros(len(order), np.int32)
        if self.strategy == "phases":
            phase = self._phases(table, order)
            inside = self._shuffled(table, ctx) if self.within == "shuffled" else order
            order = inside[np.argsort(phase[inside], kind="stable")]
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        return put(put(table, "phase", pa.array(phase)), "rank", pa.array(rank))

    def _sorted(self, table: pa.Table, ctx: Context) -> np.ndarray:
        """Return the rows as they are trained on; those without a value last."""
        nothing = int((~np.isfinite(floats(table[self.by]))).sum())
        if nothing:
            ctx.notes[f"order/no-{self.by}"] += nothing
        return ranked(table, self.by, descending=(self.easy == "high") == self.easy_first)

    def _shuffled(self, table: pa.Table, ctx: Context) -> np.ndarray:
        draw = ctx.uniform(self, table["id"].to_pylist())
        return ranked(table.select(["id"]).append_column("draw", pa.array(draw)), "draw")

    def _phases(self, table: pa.Table, order: np.ndarray) -> np.ndarray:
        """Return the phase of each row: int32 [rows]. `order` is the rows as they are trained on."""
        phase: np.ndarray = np.empty(len(order), np.int32)
        if self.phases == "global-quantile":
            phase[order] = np.arange(len(order)) * self.k // max(len(order), 1)
        elif self.phases == "prompt-rank":
            prompts = pl.Series(table["prompt_id"].take(pa.array(order))).to_frame("prompt")
            phase[order] = prompts.select(pl.int_range(pl.len()).over("prompt")).to_series().to_numpy()
        else:
            phase = self._below(floats(table[self.by]))
        return phase

    def _below(self, values: np.ndarray) -> np.ndarray:
        sign = 1.0 if self.easy == "high" else -1.0
        missed = (sign * values[:, None] < sign * np.asarray(self.thresholds)).sum(axis=1)
        phase = missed if self.easy_first else len(self.thresholds) - missed
        last: np.ndarray = np.where(np.isfinite(values), phase, len(self.thresholds)).astype(np.int32)
        return last
