"""Noise: how many of the labels are wrong, and how likely each of them is.

Either from a belief in each label, of a scorer that was not trained on it and is calibrated on clean labels, or from how
often votes on one pair differ. Both are one number and its standard error; a note of the stage has both.
"""

from typing import ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.log_odds import log_odds_slope
from prefkit.estimators.noise import Calibration, Rate, confidence, fit_noise, rate_error, rate_from_votes
from prefkit.estimators.preference import logistic
from prefkit.labels.op import Op, World, may_fit
from prefkit.tables import floats, nullable, put
from prefkit.votes import tally

__all__ = ["Noise"]

_TINY = 1e-9


@final
class Noise(Op):
    """Write `flip_prob`, the probability that a label is wrong, and note the share of wrong labels with its interval.

    Found on rows outside the test split. Null where there is no belief, or no vote for a side.
    Source: Latent Collective Preference Optimization (LCPO, 2025) for beliefs; the rate of votes is derived here.
    """

    name: ClassVar[str] = "noise"

    by: Literal["p_chosen", "votes"] = "p_chosen"
    """`p_chosen`: a belief in the label as it is recorded, from a scorer that has not seen the label. One that has learned
    from these labels has their noise in it already, and finds none. `votes`: how often two of a pair differ, all votes being
    as good; ties are left out. Pairs on which people truly differ count as noise too."""
    annotators: Literal["all", "each"] = "all"
    """With `p_chosen`: one rate, or one for each `annotator` of 30 labels or more."""
    calibrate_on: str = ""
    """With `p_chosen`: a column with how probable people make it that chosen is better, null where nobody was asked. Finds
    the scale on which the belief's log-odds are right of clean labels."""

    @model_validator(mode="after")
    def _votes_need_no_belief(self) -> Self:
        if self.by == "votes" and (self.annotators != "all" or self.calibrate_on):
            raise ValueError("annotators and calibrate_on are for by 'p_chosen'")
        return self

    def reads(self) -> Columns:
        if self.by == "votes":
            return types("prompt_id", "votes")
        people = {self.calibrate_on: pa.float64()} if self.calibrate_on else {}
        return {
            **types("prompt_id", "p_chosen", *(["annotator"] if self.annotators == "each" else [])),
            **people,
        }

    def writes(self) -> Columns:
        return types("flip_prob")

    def is_global(self) -> bool:
        return True

    def touches(self) -> tuple[str, ...]:
        return ("split",)

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        told = self._of_votes if self.by == "votes" else self._of_beliefs
        flip = told(table, world) if table.num_rows else np.zeros(0)
        return put(table, "flip_prob", nullable(flip))

    def _of_votes(self, table: pa.Table, world: World) -> np.ndarray:
        votes = tally(table["votes"])
        fits = may_fit(table)
        found = rate_from_votes(votes.wins[fits], votes.losses[fits], _codes(table["prompt_id"])[fits])
        _tell(found, world)
        rate = max(found.rate, _TINY)
        lead = (votes.wins - votes.losses) * (np.log1p(-rate) - np.log(rate))
        return np.where(votes.wins + votes.losses > 0, logistic(-lead), np.nan)

    def _of_beliefs(self, table: pa.Table, world: World) -> np.ndarray:
        p, calibration = floats(table["p_chosen"]), None
        if self.calibrate_on:
            p, calibration = self._calibrated(p, table, world)
        fits = np.flatnonzero(np.isfinite(p) & may_fit(table))
        who = _codes(table["annotator"]) if self.annotators == "each" else np.zeros(len(p), np.int64)
        known, own = np.unique(who[fits], return_inverse=True)
        found = fit_noise(p[fits], own)
        if self.annotators == "each":
            world.notes["label/annotators with too few labels"] += int(found.is_pooled.sum())
        if calibration is not None:
            calibration = Calibration(calibration.margin[fits], calibration.verdict[fits])
        shared = np.where(found.is_pooled, len(known), np.arange(len(known)))[own]
        prompts = _codes(table["prompt_id"])[fits]
        error = rate_error(p[fits], found.reliability[own], shared, prompts, calibration)
        _tell(Rate(found.rate, error), world)
        place = np.minimum(np.searchsorted(known, who), len(known) - 1)
        reliability = np.where(known[place] == who, found.reliability[place], 1 - found.rate)
        return 1 - confidence(p, reliability)

    def _calibrated(self, p: np.ndarray, table: pa.Table, world: World) -> tuple[np.ndarray, Calibration]:
        """Return the belief on the scale that is right of clean labels, and what that was found on."""
        inside = np.clip(p, _TINY, 1 - _TINY)
        margin = np.log(inside) - np.log1p(-inside)
        said = np.where(may_fit(table) & np.isfinite(margin), floats(table[self.calibrate_on]), np.nan)
        slope = log_odds_slope(margin, said)
        world.notes[f"label/slope found: {slope:.6g}"] += 1
        world.notes["label/calibrated on rows"] += int(np.isfinite(said).sum())
        return logistic(slope * margin), Calibration(margin, said)


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Return the place of each word among all in order, null last: int64 [rows]."""
    names = pc.unique(column)
    return np.asarray(pc.index_in(column, names.take(pc.array_sort_indices(names))).to_numpy(), np.int64)


def _tell(found: Rate, world: World) -> None:
    low, high = (float(np.clip(found.rate + z * found.error, 0, 1)) for z in (-1.96, 1.96))
    world.notes[f"label/noise found: {found.rate:.4f} ({low:.4f} to {high:.4f})"] += 1
