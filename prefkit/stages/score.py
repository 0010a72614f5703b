"""Score: how good each response is, as one number, from a reward model, a rule, or people's ratings.

The number is written to a column that the step names (`as: helpfulness`), so several scorers stand side by side and
pairing carries each of them. What is not a finite number is null and counted: never a number that stands for "broken".
"""

from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import AliasChoices, Field, model_validator

from prefkit.columns import COLUMNS, Columns, types
from prefkit.engines import Conversation, Failure, Model
from prefkit.errors import EngineError
from prefkit.rules import AnyRule
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put, to_polars

__all__ = ["Score"]

Side = Literal["", "chosen", "rejected"]


@final
class Score(Stage):
    """Score responses by one of: a reward model, a rule, the mean of their ratings. Higher is better."""

    name: ClassVar[str] = "score"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("response", "pair"))

    model: Model | None = None
    """A sequence-classification reward model with one output; its raw output is the score."""
    rule: AnyRule | None = None
    """A scorer that needs no model: `length`, or `{regex: {pattern: "..."}}`. `prefkit stages score` lists them."""
    ratings: Literal["mean", "median"] | None = None
    """Take the mean or median of the `ratings` column, and its standard deviation (n - 1) as `<name>_std`."""
    into: Annotated[
        str, Field(validation_alias=AliasChoices("as", "into"), pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = "score"
    """Name of the column. Spelled `as` in a recipe."""
    at: Literal["response", "pair"] = "response"
    """Whether rows are responses, or pairs of which both sides are scored, as `chosen_<as>` and `rejected_<as>`."""

    @model_validator(mode="after")
    def _has_one_scorer(self) -> Self:
        if sum(scorer is not None for scorer in (self.model, self.rule, self.ratings)) != 1:
            raise ValueError("set exactly one of model, rule and ratings")
        return self

    def reads(self) -> Columns:
        if self.model is not None:
            needed = types("prompt", "response")
        elif self.rule is not None:
            needed = self.rule.reads()
        else:
            needed = types("ratings")
        return {_at(name, side): kind for name, kind in needed.items() for side in self._sides()}

    def writes(self) -> Columns:
        names = [self.into, f"{self.into}_std"] if self.ratings else [self.into]
        return {_sided(name, side): pa.float64() for side in self._sides() for name in names}

    def touches(self) -> Collection[str]:
        return ("tools",) if self.model is not None else ()

    def cost(self) -> Cost:
        return Cost(calls=len(self._sides())) if self.model is not None else Cost()

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        errors: list[str | None] = [None] * table.num_rows
        for side in self._sides():
            for name, values in self._values(_rows(table, side), errors, ctx).items():
                table = put(table, _sided(name, side), self._finite(values, ctx))
        return ctx.fail(table.select(self.becomes(table.schema).names), pa.array(errors, pa.string()))

    def _sides(self) -> tuple[Side, ...]:
        return ("chosen", "rejected") if self.at == "pair" else ("",)

    def _values(self, rows: pa.Table, errors: list[str | None], ctx: Context) -> dict[str, pa.Array]:
        """Return the columns that one side gets, and note in `errors` which rows failed."""
        if self.rule is not None:
            return {self.into: self.rule.score(rows)}
        if self.model is not None:
            return {self.into: _rewards(self.model, rows, errors, ctx)}
        return _summary(rows, self.into, self.ratings or "mean")

    def _finite(self, values: pa.Array | pa.ChunkedArray, ctx: Context) -> pa.Array:
        """Turn what is not finite into null, and count it."""
        plain = values.to_numpy(zero_copy_only=False)
        odd = ~np.isfinite(plain) & np.asarray(values.is_valid())
        if odd.any():
            ctx.notes[f"{self.name}/not-finite"] += int(odd.sum())
        return pa.array(plain, pa.float64(), mask=~np.isfinite(plain))


def _rewards(model: Model, rows: pa.Table, errors: list[str | None], ctx: Context) -> pa.Array:
    values: list[float | None] = [None] * rows.num_rows
    tools = rows["tools"].to_pylist() if "tools" in rows.column_names else [None] * rows.num_rows
    talks = zip(message_tuples(rows["prompt"]), message_tuples(rows["response"]), tools, strict=True)
    # A Python loop: engines want Python values. A response that is null has no score and costs no call.
    asked = {at: Conversation(*talk) for at, talk in enumerate(talks) if talk[1]}
    answers = ctx.engines.rewards(model, list(asked.values())) if asked else []
    for at, answer in zip(asked, answers, strict=True):
        if isinstance(answer, Failure):
            errors[at] = answer.error
        elif len(answer) == 1:
            values[at] = answer[0]
        else:
            what = f"model '{model.id}' gives {len(answer)} numbers for a response, and a score is one"
            raise EngineError(what, hint="take a reward model with one output")
    return pa.array(values, pa.float64())


def _summary(rows: pa.Table, into: str, how: Literal["mean", "median"]) -> dict[str, pa.Array]:
    """Return the mean or median of each row's ratings, and their standard deviation; ratings that are null count not."""
    scores = to_polars(rows.select(["ratings"])).select(
        pl.col("ratings").list.eval(pl.element().struct.field("score").drop_nulls())
    )["ratings"]
    middle = scores.list.mean() if how == "mean" else scores.list.median()
    return {into: middle.to_arrow(), f"{into}_std": scores.list.std(ddof=1).to_arrow()}


def _rows(table: pa.Table, side: Side) -> pa.Table:
    """Return one side of pairs as response rows; response rows as they are."""
    if not side:
        return table
    names = {
        name.removeprefix(f"{side}_"): name for name in table.column_names if name.startswith(f"{side}_")
    }
    shared = {name: name for name in table.column_names if "response" in _levels(name)}
    picked = {**shared, **names, "response": side}
    return table.select(list(picked.values())).rename_columns(list(picked))


def _levels(name: str) -> Sequence[str]:
    return COLUMNS[name].levels if name in COLUMNS else ()


def _sided(name: str, side: Side) -> str:
    return f"{side}_{name}" if side else name


def _at(name: str, side: Side) -> str:
    """Return what a column of a response row is called in a row of pairs."""
    if not side or "pair" in _levels(name):
        return name
    return side if name == "response" else f"{side}_{name}"
