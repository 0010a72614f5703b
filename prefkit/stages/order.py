"""Order: in which order pairs are trained on. Rows do not move: `rank` says where they would stand.

Two curricula go by the name of phases and are not the same. `prompt-rank` gives each prompt's easiest pair to the
first phase, its next to the second, so that no prompt comes twice in a phase; `global-quantile` cuts the whole
dataset into parts of equal size by difficulty. `thresholds` says outright what is easy.

`split` sends pairs different ways: easy ones to preference training, hard ones where `hard_route` says, those whose
margin contradicts the label where `on_disagree` says. `interleave` takes one pair of each of `k` parts in turn, so that
every stretch of training has easy and hard pairs alike.

Sources: phases, Curry-DPO (2024); split, MPO, Gou and Nguyen (2024); hard pairs to SFT, MixDPO (2026).
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    ConfigDict,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit.columns import Columns, types
from prefkit.labels.direction import CLAIMS, SIDES, sides, turn_round
from prefkit.ranking import ranked
from prefkit.stage import PAIRS, Context, Flow, Holds, Kind, Stage
from prefkit.tables import floats, nullable, numbered, put, word_where

__all__ = ["Order"]

_DISAGREES, _NO_VALUE = "disagree", "no-value"
_OF_SPLIT = {"gamma": None, "quantile": None, "on_disagree": "drop", "hard_route": "resample"}
"""Settings that only `split` has, with what they are left alone."""


@final
class Order(Stage):
    """Write `rank`, 0 to N - 1, and `phase`, from 0. Rows without a finite value come last; ties go by id."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "order"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    strategy: Literal["sort", "phases", "shuffle", "split", "interleave"] = Field("sort", alias="kind")
    """`sort` by difficulty, `phases` of difficulty, `shuffle` by the recipe's seed, `split` into easy and hard with a
    `route` each, or `interleave` easy and hard."""
    by: str = "margin"
    """The number that says how difficult a pair is."""
    easy: Literal["high", "low"] = "high"
    """Which end of it is easy: wide margins are, high perplexities are not."""
    easy_first: bool = True
    """Whether training goes from easy to hard."""
    phases: Literal["prompt-rank", "global-quantile", "thresholds"] = "global-quantile"
    """For `phases`: what makes a phase."""
    k: PositiveInt = 3
    """For `global-quantile` and `interleave`: how many phases, or parts."""
    thresholds: tuple[float, ...] = ()
    """For `thresholds`, from easy to hard: a pair is in the first phase whose threshold it reaches, else in the last."""
    within: Literal["sorted", "shuffled"] = "sorted"
    """For `phases`: the order inside a phase."""
    gamma: float | None = None
    """For `split`: a pair is easy if its value reaches this. Left out: by `quantile`."""
    quantile: Annotated[float, Field(ge=0, le=1)] | None = None
    """For `split` without gamma: which quantile of the values that agree with their label is the limit, 0.5 unless said
    otherwise."""
    on_disagree: Literal["drop", "flip", "hard"] = "drop"
    """For `split` by high values: what becomes of a pair below zero, whose label the value contradicts."""
    hard_route: Literal["dpo", "sft", "resample"] = "resample"
    """For `split`: the route of hard pairs. `sft`: learn from chosen alone; `resample`: sample the prompt anew."""

    @model_serializer(mode="wrap")
    def _without_settings_of_split(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what only `split` has, so that the identity of other orders does not know of it."""
        plain: dict[str, Any] = dump(self)
        return plain if self.strategy == "split" else {k: v for k, v in plain.items() if k not in _OF_SPLIT}

    @model_validator(mode="after")
    def _split_fits(self) -> Self:
        said: dict[str, Any] = {"gamma": self.gamma, "quantile": self.quantile}
        said |= {"on_disagree": self.on_disagree, "hard_route": self.hard_route}
        of_split = [name for name, value in said.items() if value != _OF_SPLIT[name]]
        if self.strategy != "split" and of_split:
            raise ValueError(f"{', '.join(of_split)}: for kind 'split' only")
        if self.gamma is not None and self.quantile is not None:
            raise ValueError("split takes either gamma or quantile")
        if self.gamma is not None and self.gamma < 0 and self.easy == "high":
            raise ValueError("gamma is below zero, where a value contradicts its label")
        if self.easy == "low" and self.on_disagree != "drop":
            raise ValueError("a value that is low where a pair is easy contradicts no label")
        return self

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
        if self.strategy != "split":
            return types("phase", "rank")
        return types("phase", "rank", "route", *(["flipped"] if self._turns() else []))

    def touches(self) -> Collection[str]:
        return (*SIDES, *CLAIMS, self.by) if self._turns() else ()

    def drops(self) -> Collection[str]:
        if self.strategy != "split":
            return ()
        return (_NO_VALUE, _DISAGREES) if self._drops_disagreeing() else (_NO_VALUE,)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        if self._turns():
            sides(schema)
        return super().becomes(schema)

    def draws(self) -> bool:
        return self.strategy == "shuffle" or (self.strategy == "phases" and self.within == "shuffled")

    def looks(self) -> Collection[str]:
        return ()

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(160.0 if self.strategy == "phases" else 110.0)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if self.strategy == "split":
            return self._split(table, ctx)
        order = self._shuffled(table, ctx) if self.strategy == "shuffle" else self._sorted(table, ctx)
        phase = np.zeros(len(order), np.int32)
        if self.strategy == "phases":
            phase = self._phases(table, order)
            inside = self._shuffled(table, ctx) if self.within == "shuffled" else order
            order = inside[np.argsort(phase[inside], kind="stable")]
        if self.strategy == "interleave":
            part = np.arange(len(order)) * self.k // max(len(order), 1)
            turn = np.arange(len(order)) - np.searchsorted(part, part)
            order = order[np.lexsort((part, turn))]
        return _placed(table, phase, order)

    def _split(self, table: pa.Table, ctx: Context) -> pa.Table:
        """Write routes and leave out the pairs that have none."""
        value = floats(table[self.by])
        there = np.isfinite(value)
        against = there & (value < 0) & (self.easy == "high")
        if self._turns():
            ctx.notes["order/flipped"] += int(against.sum())
            table = turn_round(table, against)
            value = np.where(against, -value, value)
            if self.by not in {"margin", "p_chosen"}:
                table = put(table, self.by, nullable(value))
        goes = against & self._drops_disagreeing()
        table = ctx.drop(table, pc.coalesce(word_where(goes, _DISAGREES), word_where(~there, _NO_VALUE)))
        value = value[there & ~goes]
        hard = self._is_hard(value)
        route = pc.if_else(pa.array(hard), self.hard_route, "dpo").cast(pa.string())
        for name, count in (("easy", int((~hard).sum())), ("hard", int(hard.sum()))):
            if count:
                ctx.notes[f"order/{name}"] += count
        order = ranked(table, self.by, descending=(self.easy == "high") == self.easy_first)
        phase = np.where(hard, self.easy_first, not self.easy_first).astype(np.int32)
        order = order[np.argsort(phase[order], kind="stable")]
        return put(_placed(table, phase, order), "route", route)

    def _is_hard(self, value: np.ndarray) -> np.ndarray:
        """Say of each finite value whether its pair is hard: bool [rows]."""
        sign = 1.0 if self.easy == "high" else -1.0
        limit = self.gamma
        if limit is None:
            agreeing = value[value > 0] if self.easy == "high" else value
            limit = float(np.quantile(agreeing, _share(self.quantile))) if len(agreeing) else 0.0
        hard: np.ndarray = sign * value < sign * limit
        return hard

    def _turns(self) -> bool:
        return self.strategy == "split" and self.easy == "high" and self.on_disagree == "flip"

    def _drops_disagreeing(self) -> bool:
        return self.easy == "high" and self.on_disagree == "drop"

    def _sorted(self, table: pa.Table, ctx: Context) -> np.ndarray:
        """Return the rows as they are trained on; those without a value last."""
        nothing = int((~np.isfinite(floats(table[self.by]))).sum())
        if nothing:
            ctx.notes[f"order/no-{self.by}"] += nothing
        return ranked(table, self.by, descending=(self.easy == "high") == self.easy_first)

    def _shuffled(self, table: pa.Table, ctx: Context) -> np.ndarray:
        draw = ctx.uniform(self, table["id"])
        return ranked(table.select(["id"]).append_column("draw", pa.array(draw)), "draw")

    def _phases(self, table: pa.Table, order: np.ndarray) -> np.ndarray:
        """Return the phase of each row: int32 [rows]. `order` is the rows as they are trained on."""
        phase: np.ndarray = np.empty(len(order), np.int32)
        if self.phases == "global-quantile":
            phase[order] = np.arange(len(order)) * self.k // max(len(order), 1)
        elif self.phases == "prompt-rank":
            prompts = pl.Series(numbered(table["prompt_id"])[order]).to_frame("prompt")
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


def _placed(table: pa.Table, phase: np.ndarray, order: np.ndarray) -> pa.Table:
    """Write the phase of each row, and its place in this order of training."""
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return put(put(table, "phase", pa.array(phase)), "rank", pa.array(rank))


def _share(quantile: float | None) -> float:
    return 0.5 if quantile is None else quantile
