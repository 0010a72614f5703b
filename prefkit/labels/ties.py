"""Ties: which pairs are too close to call."""

from typing import Annotated, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat

from prefkit.columns import Columns, types
from prefkit.estimators.ties import davidson, rao_kupper
from prefkit.labels.op import Op, World
from prefkit.tables import floats, put
from prefkit.votes import tally

__all__ = ["Tie"]

_ROUNDING = 1e-9  # .6 is not within .1 of one half


@final
class Tie(Op):
    """Write `tie`; null where what decides is missing. `p_chosen` stays as it is."""

    name: ClassVar[str] = "tie"

    rule: Literal["delta", "agree", "davidson", "rao-kupper"] = "delta"
    """`delta`: too close to even. `agree`: too few votes on one side. `davidson` and `rao-kupper`: by their models, with
    `margin` as the difference in strength, a tie is the most probable outcome."""
    delta: NonNegativeFloat = 0.0
    """With `delta`: a tie is nearer to even than this. At 0 only an even pair is one."""
    on: Literal["p_chosen", "margin"] = "p_chosen"
    """With `delta`: whether |p_chosen - 1/2| or |margin| is looked at."""
    agree: Annotated[float, Field(gt=0.5, le=1)] = 1.0
    """With `agree`: the share of votes that the winning side needs. At 1 they must be unanimous."""
    nu: NonNegativeFloat = 2.0
    """With `davidson`: how readily equals tie; win, loss and tie of equals are as 1 : 1 : nu."""
    kappa: Annotated[float, Field(ge=1)] = 3.0
    """With `rao-kupper`: how readily equals tie; at 1 never, at 3 every other time."""

    def reads(self) -> Columns:
        if self.rule == "agree":
            return types("votes")
        return types(self.on if self.rule == "delta" else "margin")

    def writes(self) -> Columns:
        return types("tie")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        if self.rule == "agree":
            missing, is_tie = self._agreement(table)
        else:
            missing, is_tie = self._distance(table) if self.rule == "delta" else self._model(table)
        world.notes["label/ties"] += int((is_tie & ~missing).sum())
        return put(table, "tie", pa.array(is_tie, pa.bool_(), mask=missing))

    def _distance(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        even = 0.5 if self.on == "p_chosen" else 0.0
        distance = np.abs(floats(table[self.on]) - even)
        is_tie = (distance < self.delta - _ROUNDING) | (distance <= _ROUNDING)
        return ~np.isfinite(distance), is_tie

    def _agreement(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        votes = tally(table["votes"])
        total = votes.wins + votes.ties + votes.losses
        leading = np.maximum(votes.wins, votes.losses)
        return total == 0, leading < self.agree * total - _ROUNDING

    def _model(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        margin = floats(table["margin"])
        missing = ~np.isfinite(margin)
        gap = np.where(missing, 0.0, margin)
        odds = davidson(gap, self.nu) if self.rule == "davidson" else rao_kupper(gap, self.kappa)
        return missing, odds.tie > np.maximum(odds.win, odds.lose)
