"""Ties: which pairs are too close to call, by a rule whose threshold may be found on what people call ties."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.tie_threshold import fit_tie_parameter, threshold_at_agreement, threshold_at_rate
from prefkit.estimators.ties import davidson, rao_kupper
from prefkit.labels.op import Op, World, may_fit
from prefkit.tables import floats, put
from prefkit.votes import tally

__all__ = ["Tie"]

_ROUNDING = 1e-9  # .6 is not within .1 of one half
_FOUND = {"delta": "delta", "davidson": "nu", "rao-kupper": "kappa"}
"""Which setting calibration finds."""


class _Slice(NamedTuple):
    """Rows that people have labelled, of those something may be fitted to: all arrays are of these rows alone."""

    rows: np.ndarray
    """Row numbers, int64."""
    is_tie: np.ndarray
    """What people say, bool."""
    agrees: np.ndarray
    """Whether the side that the rule looks at is the one people prefer; False where it cannot be told, bool."""


@final
class Tie(Op):
    """Write `tie`; null where what decides is missing. `p_chosen` stays as it is.

    With `calibrate_on` or `agree_with`, the threshold is found on rows that people have labelled, outside the test split,
    and told in the notes of the stage, with how often the rule ties there and agrees with people elsewhere.
    """

    name: ClassVar[str] = "tie"
    later: ClassVar[frozenset[str]] = frozenset({"calibrate_on", "agree_with", "target"})

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
    calibrate_on: str = ""
    """A column that says whether people call a pair a tie, null where nobody was asked. Finds the `delta` under which as
    many pairs are ties there, or the `nu` or `kappa` under which as many are expected."""
    agree_with: str = ""
    """With `delta`: a column with how probable people make it that chosen is better, one half being a tie, null where
    nobody was asked. Finds the lowest `delta` at which decided pairs agree with decided people as often as `target`."""
    target: Annotated[float, Field(gt=0.5, le=1)] | None = None
    """With `agree_with`: how often."""

    @model_validator(mode="after")
    def _calibrates_one_thing(self) -> Self:
        if bool(self.agree_with) != (self.target is not None):
            raise ValueError("agree_with and target go together")
        if not (self.calibrate_on or self.agree_with):
            return self
        if self.calibrate_on and self.agree_with:
            raise ValueError("set calibrate_on or agree_with: either finds the threshold")
        if self.rule == "agree" or (self.agree_with and self.rule != "delta"):
            raise ValueError(f"rule '{self.rule}' has no threshold that could be found so")
        found = _FOUND[self.rule]
        if getattr(self, found) != type(self).model_fields[found].default:
            raise ValueError(f"{found} is found by calibrating, so it cannot be set")
        return self

    def reads(self) -> Columns:
        if self.rule == "agree":
            return types("votes")
        people = {self.calibrate_on: pa.bool_(), self.agree_with: pa.float64()}
        looked_at = self.on if self.rule == "delta" else "margin"
        return {**types(looked_at), **{name: kind for name, kind in people.items() if name}}

    def writes(self) -> Columns:
        return types("tie")

    def is_global(self) -> bool:
        return bool(self.calibrate_on or self.agree_with)

    def touches(self) -> tuple[str, ...]:
        return ("split",) if self.is_global() else ()

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        if self.rule == "agree":
            missing, is_tie = self._agreement(table)
        else:
            lead = self._lead(table)
            labelled = self._labelled(table, lead) if self.is_global() and table.num_rows else None
            threshold = self._threshold(lead, labelled)
            missing, is_tie = ~np.isfinite(lead), self._close(lead, threshold)
            if labelled is not None:
                self._tell(labelled, is_tie, threshold, world)
        world.notes["label/ties"] += int((is_tie & ~missing).sum())
        return put(table, "tie", pa.array(is_tie, pa.bool_(), mask=missing))

    def _lead(self, table: pa.Table) -> np.ndarray:
        """Return by how much chosen is ahead: above even, or the margin. NaN is missing."""
        if self.rule == "delta" and self.on == "p_chosen":
            return floats(table["p_chosen"]) - 0.5
        return floats(table["margin"])

    def _agreement(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        votes = tally(table["votes"])
        total = votes.wins + votes.ties + votes.losses
        leading = np.maximum(votes.wins, votes.losses)
        return total == 0, leading < self.agree * total - _ROUNDING

    def _close(self, lead: np.ndarray, threshold: float) -> np.ndarray:
        if self.rule == "delta":
            distance = np.abs(lead)
            near: np.ndarray = (distance < threshold - _ROUNDING) | (distance <= _ROUNDING)
            return near
        gap = np.where(np.isfinite(lead), lead, 0.0)
        odds = davidson(gap, threshold) if self.rule == "davidson" else rao_kupper(gap, threshold)
        close: np.ndarray = odds.tie > np.maximum(odds.win, odds.lose)
        return close

    def _labelled(self, table: pa.Table, lead: np.ndarray) -> _Slice:
        said = floats(table[self.calibrate_on or self.agree_with])
        rows = np.flatnonzero(np.isfinite(said) & np.isfinite(lead) & may_fit(table))
        if self.calibrate_on:
            return _Slice(rows, said[rows] > 0, np.zeros(len(rows), dtype=bool))
        return _Slice(rows, said[rows] == 0.5, np.sign(said[rows] - 0.5) == np.sign(lead[rows]))

    def _threshold(self, lead: np.ndarray, labelled: _Slice | None) -> float:
        if labelled is None:
            return {"delta": self.delta, "davidson": self.nu, "rao-kupper": self.kappa}[self.rule]
        if self.rule != "delta":
            assert self.rule != "agree"
            return fit_tie_parameter(lead[labelled.rows], labelled.is_tie, self.rule)
        distance = np.abs(lead[labelled.rows])
        distance = np.where(distance <= _ROUNDING, 0.0, distance)
        if self.target is None:
            return threshold_at_rate(distance, labelled.is_tie)
        sure = ~labelled.is_tie
        return threshold_at_agreement(distance[sure], labelled.agrees[sure], self.target)

    def _tell(self, labelled: _Slice, is_tie: np.ndarray, threshold: float, world: World) -> None:
        ties = is_tie[labelled.rows]
        world.notes[f"label/{_FOUND[self.rule]} found: {threshold:.6g}"] += 1
        world.notes["label/calibrated on rows"] += len(labelled.rows)
        world.notes["label/ties there by people"] += int(labelled.is_tie.sum())
        world.notes["label/ties there by rule"] += int(ties.sum())
        if self.agree_with:
            decided = ~ties & ~labelled.is_tie
            world.notes["label/decided there by both"] += int(decided.sum())
            world.notes["label/decided there alike"] += int((decided & labelled.agrees).sum())
