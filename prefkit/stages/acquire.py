"""Acquire: which rows are worth asking a judge or a person about, under a budget of calls.

Most of the budget goes to the rows of most value; a share of it to rows drawn from all others, whatever their value. How
likely each row was to be chosen is kept as `acq_prob`: a label model or a card that weights by one over it sees the whole
pool again, and without it what is known of the chosen rows is known of the oddest ones alone.

A larger budget chooses the same rows and more. The memory that vectors need is 8 bytes for each number of each row.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.engines import Model
from prefkit.estimators.acquisition import (
    bald,
    d_optimal,
    diverse,
    entropy,
    inclusion,
    least_confidence,
    logit_variance,
)
from prefkit.estimators.preference import logistic
from prefkit.gaps import reads_scores, score_gaps
from prefkit.near.vectors import unit_vectors
from prefkit.ranking import ranked, share_of
from prefkit.scorers.embedded import EMBEDDED, VECTOR, embedded
from prefkit.stage import ANY, Context, Cost, Flow, Holds, Kind, Stage, level_of
from prefkit.stages.choice import several
from prefkit.tables import floats, nullable, put, word_where
from prefkit.texts import contents

__all__ = ["Acquire"]

_ENSEMBLE = ("bald", "variance")
_ABOUT = {"prompt": ("prompt",), "response": ("response",), "pair": ("chosen", "rejected")}


@final
class Acquire(Stage):
    """Keep the rows whose labels would teach most, and some drawn from the others; say how likely each was to be kept."""

    name: ClassVar[str] = "acquire"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = ANY
    random: ClassVar[bool] = True

    by: Literal["entropy", "least-confidence", "bald", "variance", "gap", "d-optimal", "column", "random"] = (
        "entropy"
    )
    """What a label is worth: uncertainty of p (`entropy`, `least-confidence`), disagreement of scorers (`bald`, `variance` of
    their logits), the size of the score `gap`, information about a linear model of embeddings (`d-optimal`), a `column`
    where more is better, or nothing (`random`)."""
    scores: Annotated[tuple[str, ...], BeforeValidator(several)] = ()
    """Pairs: scores of either side, each a scorer's belief logistic(gap / temperature). Left out: `p_chosen`."""
    temperature: PositiveFloat = 1.0
    """What a gap is divided by."""
    column: str | None = None
    """With `column`: a number, such as the entropy of a policy's answers to a prompt."""
    budget: PositiveInt
    """Calls that may be made."""
    calls: PositiveInt = 2
    """Calls a row: two where a judge is asked in both orders."""
    explore: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the chosen rows that is drawn from all others."""
    diverse: Model | None = None
    """A model that embeds: rows near to chosen ones count less. `d-optimal` needs it."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.by in _ENSEMBLE and len(self.scores) < 2:
            raise ValueError(f"'{self.by}' needs two scores or more")
        if self.by == "gap" and not self.scores:
            raise ValueError("'gap' needs scores")
        if (self.by == "column") != (self.column is not None):
            raise ValueError("by 'column' and column go together")
        if self.by == "d-optimal" and self.diverse is None:
            raise ValueError("'d-optimal' needs a model that embeds, in diverse")
        if self.by in {"random", "column"} and self.scores:
            raise ValueError(f"'{self.by}' has no scores")
        return self

    def reads(self) -> Columns:
        if self.by == "random":
            return {}
        if self.column is not None:
            return {self.column: pa.float64()}
        pairs = types("chosen", "rejected")
        if not self.scores:
            return {**pairs, **types("p_chosen")}
        return {
            **pairs,
            **{name: kind for score in self.scores for name, kind in reads_scores(score).items()},
        }

    def writes(self) -> Columns:
        return types("acq_score", "acq_rank", "acq_prob")

    def drops(self) -> Collection[str]:
        return ("not-acquired",)

    def holds(self, width: Mapping[str, float]) -> Holds:
        if self.diverse is None:
            return Holds(150.0 + 16.0 * len(self.scores))
        texts = sum(width.get(name, 0.0) for name in ("prompt", "response", "chosen", "rejected"))
        return Holds(EMBEDDED * texts + 4 * VECTOR, "without `diverse` it holds 150 bytes a row")

    def cost(self) -> Cost:
        return Cost() if self.diverse is None else Cost(calls=2.0 if self.by == "d-optimal" else 3.0)

    def looks(self) -> Collection[str]:
        return () if self.diverse is None else ("prompt", "response", "chosen", "rejected")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        value = self._value(table)
        wanted = min(self.budget // self.calls, table.num_rows)
        ready = np.full(table.num_rows, self.by != "random") & np.isfinite(value)
        greedy = min(wanted - share_of(wanted, self.explore), int(ready.sum()))
        best = self._greedy(table, np.where(ready, value, np.nan), greedy, ctx)
        rest = np.ones(table.num_rows, dtype=bool)
        rest[best.rows] = False
        draw = ctx.uniform(self, table["id"])
        order = ranked(table.select(["id"]).append_column("draw", pa.array(draw)), "draw")
        drawn = order[rest[order]][: wanted - len(best.rows)]
        chosen = np.concatenate([best.rows, drawn])
        rank = np.full(table.num_rows, -1, np.int64)
        rank[chosen] = np.arange(len(chosen))
        sure, by_chance = inclusion(table.num_rows, len(best.rows), len(drawn))
        table = put(table, "acq_score", nullable(value))
        table = put(table, "acq_rank", pa.array(rank, mask=rank < 0))
        table = put(table, "acq_prob", pa.array(np.where(rest, by_chance, sure)))
        ctx.notes["acquire/by-value"] += len(best.rows)
        ctx.notes["acquire/explored"] += len(drawn)
        if len(best.unembedded):
            ctx.notes["acquire/without-embedding"] += len(best.unembedded)
        return ctx.drop(table, word_where(rank < 0, "not-acquired"))

    def _value(self, table: pa.Table) -> np.ndarray:
        """Return what a label of each row is worth: float64 [rows], NaN where it cannot be said."""
        if self.by == "random":
            return np.full(table.num_rows, np.nan)
        if self.column is not None:
            return floats(table[self.column])
        if self.by == "gap":
            gap: np.ndarray = np.abs(np.mean([score_gaps(table, score) for score in self.scores], axis=0))
            return gap
        members = self._beliefs(table)
        if self.by == "bald":
            return bald(members)
        if self.by == "variance":
            return logit_variance(members)
        mean: np.ndarray = members.mean(axis=1)
        return least_confidence(mean) if self.by == "least-confidence" else entropy(mean)

    def _beliefs(self, table: pa.Table) -> np.ndarray:
        """Return what each scorer believes: float64 [rows, scorers]."""
        if not self.scores:
            return floats(table["p_chosen"])[:, None]
        gaps = [score_gaps(table, score) / self.temperature for score in self.scores]
        return np.stack([logistic(gap) for gap in gaps], axis=1)

    def _greedy(self, table: pa.Table, value: np.ndarray, count: int, ctx: Context) -> "_Best":
        """Return the rows of most value in the order of choosing. Ties go by id, so the order of rows never matters."""
        column = put(table.select(["id"]), "value", nullable(value))
        order = ranked(column, "value", descending=True)
        if self.diverse is None or not table.num_rows:
            return _Best(order[:count], np.zeros(0, np.int64))
        vectors = self._vectors(table, self.diverse, ctx)
        gone = np.flatnonzero(np.isnan(vectors).any(axis=1))
        if self.by == "d-optimal":
            p = self._beliefs(table).mean(axis=1)
            return _Best(order[d_optimal(vectors[order], p[order], count)], gone)
        shift = np.where(np.isfinite(value), value - min(0.0, float(np.nanmin(value, initial=0.0))), np.nan)
        return _Best(order[diverse(shift[order], vectors[order], count)], gone)

    def _vectors(self, table: pa.Table, model: Model, ctx: Context) -> np.ndarray:
        """Return what a row is about, at length 1; for `d-optimal` by how much its two sides differ: float64 [rows, size]."""
        sides = _ABOUT[level_of(table.schema)]
        names = sides if self.by == "d-optimal" else dict.fromkeys(("prompt", *sides))
        asked = embedded([contents(table[name]) for name in names], model, ctx.engines)
        if self.by == "d-optimal":
            found: np.ndarray = asked[0].vectors - asked[1].vectors
            return found
        missing: np.ndarray = np.logical_or.reduce([np.isnan(each.vectors).any(axis=1) for each in asked])
        together = unit_vectors(np.concatenate([np.nan_to_num(each.vectors) for each in asked], axis=1))
        return np.where(missing[:, None], np.nan, together.astype(np.float64))


class _Best(NamedTuple):
    rows: np.ndarray
    """int64 [chosen]"""
    unembedded: np.ndarray
    """Rows that no vector is known of, and that can only be drawn: int64."""
