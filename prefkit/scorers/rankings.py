"""Rankings: each person's ratings taken as an order of a prompt's responses, and all orders made into one score.

People use scales differently, and their means mix who rated with what was rated; an order does not. Equal ratings of a
person are ordered both ways, half each. A response that nobody rated beside another has no score.

Source: Borda (1781); Plackett (1975), Applied Statistics 24.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, final

import numpy as np
import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.estimators.bradley_terry import PER_PROMPT
from prefkit.estimators.counting import borda
from prefkit.estimators.plackett_luce import fit_plackett_luce, rankings_of
from prefkit.scorers.scorer import F64, Scored, Scorer, World
from prefkit.tables import nullable, prompt_offsets

__all__ = ["ByRankings"]


@final
class ByRankings(Scorer):
    """Score the responses of a prompt by the orders that people's ratings put them in.

    `borda`: the mean share of the other responses that it stands above, in [0, 1]. `plackett-luce`: strengths in nats of
    mean 0, under a prior of mean 0 and variance 10.
    """

    how: Literal["borda", "plackett-luce"]

    def reads(self) -> Columns:
        return types("ratings", "prompt_id")

    def columns(self, into: str) -> Columns:
        return {into: F64}

    def groups(self) -> bool:
        return True

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:  # noqa: ARG002
        (rows,) = sides
        runs = prompt_offsets(rows)
        ratings = rows["ratings"].to_pylist()
        scores = np.full(rows.num_rows, np.nan)
        # A Python loop over prompts: each is a fit of its own, and pools are small.
        for start, length in zip(runs.starts.tolist(), runs.lengths.tolist(), strict=True):
            orders = [order for order in _orders(ratings[start : start + length]) if len(order) > 1]
            if orders:
                scores[start : start + length] = self._strengths(orders, length)
        return Scored([{into: nullable(scores)}], [None] * rows.num_rows)

    def _strengths(self, orders: Sequence[Sequence[int]], items: int) -> np.ndarray:
        rankings = rankings_of(orders, items=items)
        if self.how == "borda":
            return borda(rankings)
        fitted = fit_plackett_luce(rankings, np.full(len(orders), 0.5), PER_PROMPT).strength
        ranked = np.isin(np.arange(items), rankings.item)
        told: np.ndarray = np.where(ranked, fitted, np.nan)
        return told


def _orders(ratings: Sequence[Sequence[dict[str, object]] | None]) -> Iterator[list[int]]:
    """Yield two orders a person, best response first: equal ones as they come, and the other way round."""
    given: dict[object, dict[int, float]] = {}
    for at, each in enumerate(ratings):
        for rating in each or ():
            score = rating["score"]
            if isinstance(score, float) and np.isfinite(score):
                given.setdefault(rating["annotator"], {})[at] = score
    for scores in given.values():
        yield sorted(scores, key=lambda at: (-scores[at], at))
        yield sorted(scores, key=lambda at: (-scores[at], -at))
