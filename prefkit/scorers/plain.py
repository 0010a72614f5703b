"""Scorers without a model: a rule, or what people's ratings come to."""

from collections.abc import Sequence
from typing import Literal, final

import polars as pl
import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.rules import AnyRule, judged
from prefkit.scorers.scorer import F64, Scored, Scorer, World
from prefkit.tables import to_polars

__all__ = ["ByRatings", "ByRule"]


@final
class ByRule(Scorer):
    """Score by a rule."""

    rule: AnyRule

    def reads(self) -> Columns:
        return self.rule.reads()

    def columns(self, into: str) -> Columns:
        return {into: F64}

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        found = [judged(self.rule, side) for side in sides]
        for each in found:
            world.notes.update({f"score/{reason}": count for reason, count in each.notes.items()})
        return Scored([{into: each.scores} for each in found], [None] * sides[0].num_rows)


@final
class ByRatings(Scorer):
    """Score by the mean or median of the ratings."""

    how: Literal["mean", "median"]

    def reads(self) -> Columns:
        return types("ratings")

    def columns(self, into: str) -> Columns:
        return {into: F64, f"{into}_std": F64}

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:  # noqa: ARG002
        return Scored([_summary(side, into, self.how) for side in sides], [None] * sides[0].num_rows)


def _summary(rows: pa.Table, into: str, how: Literal["mean", "median"]) -> dict[str, pa.Array]:
    """Return the mean or median of each row's ratings, and their standard deviation; ratings that are null count not."""
    scores = to_polars(rows.select(["ratings"])).select(
        pl.col("ratings").list.eval(pl.element().struct.field("score").drop_nulls())
    )["ratings"]
    middle = scores.list.mean() if how == "mean" else scores.list.median()
    return {into: middle.to_arrow(), f"{into}_std": scores.list.std(ddof=1).to_arrow()}
