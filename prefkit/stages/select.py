"""Select: keep some of each prompt's scored responses, before anyone is paired with anyone.

    best-of-n   those with the highest scores
    rso         a sample of the policy that the scores call for: statistical rejection sampling

Rejection sampling keeps what a policy tuned on these scores would have written, at the temperature `beta`: near 0 the
best ones, far above the scores' spread any. Responses leave in the order they were kept in, which `pair` of kind
`first-round` or `tournament` goes by. The scores decide who stays and not who wins: label the pairs by a judge.
"""

from collections.abc import Collection
from typing import ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.selection import Kept, best_of, rejection_sampled
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.stages.sample import REPEATED
from prefkit.tables import floats, nullable, prompt_offsets, put
from prefkit.texts import digests, same_codes

__all__ = ["Select"]

_BETA = 0.5
_UNSCORED, _LEFT = "no-score", "not-selected"


@final
class Select(Stage):
    """Keep `n` of the responses to each prompt, by their scores.

    Source: rso, Liu et al. (2024), Statistical Rejection Sampling Improves Preference Optimization.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "select"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = RESPONSES
    random: ClassVar[bool] = True

    strategy: Literal["best-of-n", "rso"] = Field("best-of-n", alias="kind")
    """How: the highest scores, or rejection sampling."""
    by: str = "score"
    """Which score decides; higher is better. Responses without a finite one go."""
    n: PositiveInt = 8
    """How many responses of a prompt stay, where there are as many different ones."""
    beta: PositiveFloat | None = None
    """With `rso`: the temperature, in units of the score; 0.5 unless said otherwise."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if self.beta is not None and self.strategy != "rso":
            raise ValueError(f"kind '{self.strategy}' has no beta")
        return self

    def reads(self) -> Columns:
        return {**types("id", "prompt_id", "response"), self.by: pa.float64()}

    def writes(self) -> Columns:
        return types("accept_order", "accept_prob")

    def drops(self) -> Collection[str]:
        return (REPEATED, _UNSCORED, _LEFT)

    def draws(self) -> bool:
        return self.strategy == "rso"

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        runs, score = prompt_offsets(table), floats(table[self.by])
        prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)
        text = same_codes(digests(table["response"]), prompt)
        ids = table["id"].to_pylist()
        turn = ctx.uniform(self, ids) if self.draws() else np.arange(len(ids))
        # Seeded, because pairs are made in turn; and a repeated text is the one that has a score.
        visited = np.lexsort((turn, ~np.isfinite(score), prompt))
        repeats = np.ones(len(ids), dtype=bool)
        repeats[visited[np.unique(text[visited], return_index=True)[1]]] = False
        fit = visited[(~repeats & np.isfinite(score))[visited]]
        starts = np.flatnonzero(np.append(True, np.diff(prompt[fit]) != 0)[: len(fit)])
        kept = self._keep(score[fit], starts, [ids[at] for at in fit], ctx)
        order, chance = np.full(len(ids), -1), np.full(len(ids), np.nan)
        order[fit], chance[fit] = kept.place, kept.chance
        table = put(table, "accept_order", pa.array(order.astype(np.int32), mask=order < 0))
        table = put(table, "accept_prob", nullable(chance))
        reasons = np.where(repeats, REPEATED, np.where(np.isfinite(score), _LEFT, _UNSCORED))
        table = ctx.drop(table, pa.array(reasons, pa.string(), mask=order >= 0))
        return table.take(np.lexsort((order[order >= 0], prompt[order >= 0])))

    def _keep(self, scores: np.ndarray, starts: np.ndarray, ids: list[str], ctx: Context) -> Kept:
        if self.strategy == "best-of-n":
            return best_of(scores, starts, self.n)

        def draws(turn: int) -> np.ndarray:
            return ctx.uniform(self, ids, turn + 1)  # draw 0 is the order of visits

        return rejection_sampled(scores, starts, self.n, self.beta or _BETA, draws)
