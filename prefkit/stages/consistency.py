"""Consistency: how far two scorers order the responses of a prompt alike, as a measure of how far to trust either.

It needs all responses of a prompt, so it stands before `pair`; `label: {ops: [consistency]}` makes a soft label of it.
"""

from typing import Annotated, ClassVar, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.rank_agreement import How, consistency
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.tables import floats, nullable, prompt_offsets, put

__all__ = ["Consistency"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


@final
class Consistency(Stage):
    """Write `consistency` of two scores in [0, 1]: 1 where they order the prompt's responses alike, 0 the other way round.

    One half where a scorer finds all even; null where fewer than two responses have both scores. Source: CREAM (2025).
    """

    name: ClassVar[str] = "consistency"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = RESPONSES

    of: tuple[Name, Name]
    """The two scores: those of the current and of the previous policy, say."""
    how: How = "kendall"
    """(tau-b + 1) / 2, the same with Spearman's rank correlation, or 1 where best and worst response are the same
    (`extremes`)."""

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        if self.of[0] == self.of[1]:
            raise ValueError("a score always agrees with itself")
        return self

    def reads(self) -> Columns:
        return {**types("prompt_id"), **dict.fromkeys(self.of, pa.float64())}

    def writes(self) -> Columns:
        return types("consistency")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        runs = prompt_offsets(table)
        one, other = (floats(table[name]) for name in self.of)
        told = consistency(one, other, runs.starts, runs.lengths, self.how)
        ctx.notes["consistency/prompts"] += len(told)
        ctx.notes["consistency/prompts without"] += int(np.isnan(told).sum())
        return put(table, "consistency", nullable(np.repeat(told, runs.lengths)))
