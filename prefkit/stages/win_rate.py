"""Win rate: how often each response would beat one drawn from all responses to its prompt, or from the others.

It is what self-play on preferences learns from: a target for each response alone, where a pair's probability only
says how two of them compare. A win rate is of the group it was measured in, so it is never compared across prompts.
"""

from typing import Any, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
from pydantic import PositiveFloat, SerializerFunctionWrapHandler, model_serializer

from prefkit.columns import Columns, types
from prefkit.judging.records import win_rate_from
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.tables import floats, nullable, prompt_offsets, put

__all__ = ["WinRate"]

_BLOCK = 1 << 22
"""Comparisons made at once: 32 MiB of float64."""


@final
class WinRate(Stage):
    """Write `win_rate`: the mean over the prompt's responses of `sigmoid(scale * (own score - that one's score))`.

    The comparison with itself counts one half, so the win rates of a prompt average to one half; so they do where it is
    left out. Responses without a finite score have none and count for none. Source: Self-Play Preference Optimization
    (SPPO, 2024); A Minimaximalist Approach to RLHF (SPO, 2024) leaves out itself.
    """

    name: ClassVar[str] = "win-rate"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = RESPONSES

    by: str = "score"
    """Which score; a difference of 1 / `scale` is odds of e to 1. With `judgements`, what a judge said of each two."""
    scale: PositiveFloat = 1.0
    """Multiplies score differences."""
    against: Literal["all", "others"] = "all"
    """Whether the responses it meets include itself. Without, the only response of a prompt has no win rate."""

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a setting that came later where it says nothing, so that older configs keep their identity."""
        plain: dict[str, Any] = dump(self)
        return {name: value for name, value in plain.items() if (name, value) != ("against", "all")}

    def reads(self) -> Columns:
        if self.by == "judgements":
            return types("id", "prompt_id", "judgements")
        return {**types("prompt_id"), self.by: pa.float64()}

    def writes(self) -> Columns:
        return types("win_rate")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        if self.by == "judgements":
            return put(table, "win_rate", nullable(win_rate_from(table)))
        runs = prompt_offsets(table)
        with np.errstate(over="ignore"):  # what is not finite any more takes no part
            score = self.scale * floats(table[self.by])
        rows = np.flatnonzero(np.isfinite(score))
        prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)[rows]
        sizes = np.bincount(prompt, minlength=len(runs.starts))
        starts = np.cumsum(sizes) - sizes
        rate = np.full(len(score), np.nan)
        for size in np.unique(sizes[sizes > 0]).tolist():
            first = starts[sizes == size]
            ctx.notes[f"win-rate/prompts-with-{size}-responses"] += len(first)
            for part in np.array_split(first, -(-len(first) * size**2 // _BLOCK)):
                group = rows[part[:, None] + np.arange(size)]
                rate[group] = self._of_pool(_rates(score[group]))
        return put(table, "win_rate", nullable(rate))

    def _of_pool(self, rates: np.ndarray) -> np.ndarray:
        size = rates.shape[1]
        if self.against == "all":
            return rates
        with np.errstate(invalid="ignore"):  # of a response that is alone
            others: np.ndarray = (rates * size - 0.5) / np.float64(size - 1)
        return others


def _rates(scores: np.ndarray) -> np.ndarray:
    """Return the mean probability with which each score beats those of its row, float64 [prompts, responses]."""
    with np.errstate(
        over="ignore"
    ):  # of scores near the largest number: the difference is infinite, its sigmoid is not
        gaps = scores[:, :, None] - scores[:, None, :]
        wins: np.ndarray = 0.5 + 0.5 * np.tanh(gaps / 2)
    return np.asarray(wins.mean(axis=2))
