"""Score: how good each response is, by a reward model, by several, by log-probs, by a rule, or by people's ratings.

The number is written to a column that the step names (`as: helpfulness`), so several scorers stand side by side and
pairing carries each of them; `combine` makes one of them. What is not a finite number is null and counted: never a
number that stands for "broken". What each scorer does is in `prefkit.scorers`.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import (
    AliasChoices,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit.columns import COLUMNS, Columns, types
from prefkit.engines import Model
from prefkit.rules import AnyRule
from prefkit.scorers.canaries import watch
from prefkit.scorers.log_probs import Implicit, ImplicitReward, Likelihood, LikelihoodOf
from prefkit.scorers.plain import ByRatings, ByRule
from prefkit.scorers.preference import Preference, PreferenceModel
from prefkit.scorers.rankings import ByRankings
from prefkit.scorers.reward import Reward
from prefkit.scorers.scorer import Scorer, World
from prefkit.scorers.similarity import Nearness, Similarity
from prefkit.scorers.spread import Dropout, Dropping, Ensemble
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import put

__all__ = ["Score"]

Side = Literal["", "chosen", "rejected"]
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_FIRST = ("model", "rule", "ratings")
_LATER = ("ensemble", "dropout", "log_prob", "implicit", "preference", "similarity")
_DRAWN = 2**31
"""Seeds of engines are below this."""


@final
class Score(Stage):
    """Score responses, each by itself. Higher is better, but for a perplexity."""

    name: ClassVar[str] = "score"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("response", "pair"))
    random: ClassVar[bool] = True

    model: Model | None = None
    """A sequence-classification reward model with one output, its raw output being the score; or with `heads`."""
    heads: tuple[Annotated[str, Field(pattern=_NAME)], ...] = ()
    """With `model`: names of all its outputs, in its order. Each becomes a column of that name."""
    rule: AnyRule | None = None
    """A scorer that needs no model: `length`, or `{regex: {pattern: "..."}}`. `prefkit stages score` lists them."""
    ratings: Literal["mean", "median", "borda", "plackett-luce"] | None = None
    """Take the mean or median of the `ratings` column, and its standard deviation (n - 1) as `<name>_std`; or make one score of
    the orders that people's ratings put a prompt's responses in, whatever scales they use: `borda`, `plackett-luce`."""
    ensemble: Annotated[tuple[Model, ...], Field(min_length=2)] | None = None
    """Several reward models on one scale: their mean, its spread as `<name>_std`, how many gave a number as `<name>_n`; of
    pairs also the mean probability of chosen as `<name>_p`, and their disagreement in nats as `<name>_bald`."""
    dropout: Dropping | None = None
    """One reward model asked several times with some of its units dropped: columns as for an `ensemble`."""
    log_prob: LikelihoodOf | None = None
    """How likely a language model finds the response; its tokens as `<name>_tokens`."""
    implicit: ImplicitReward | None = None
    """How much likelier a policy finds the response than its reference does: the reward that DPO trains implicitly."""
    preference: PreferenceModel | None = None
    """A model of pairs whose preferences may go round in circles: `<name>_margin` and `<name>_p` of pairs, of responses
    the mean probability of beating the others of the prompt, `<name>_pool` and `<name>_cyclic`."""
    similarity: Nearness | None = None
    """The cosine of embeddings: to a reference answer, to the prompt, or of both responses of a pair."""
    into: Annotated[str, Field(validation_alias=AliasChoices("as", "into"), pattern=_NAME)] = "score"
    """Name of the column. Spelled `as` in a recipe."""
    at: Literal["response", "pair"] = "response"
    """Whether rows are responses, or pairs of which both sides are scored, as `chosen_<as>` and `rejected_<as>`."""
    canaries: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of responses of which a copy is scored too, to which something was done so that it is known which is better.
    They change no result; the card shows what they say of the scorer."""

    @model_validator(mode="after")
    def _has_one_scorer(self) -> Self:
        if sum(getattr(self, name) is not None for name in (*_FIRST, *_LATER)) != 1:
            names = ", ".join((*_FIRST, *_LATER)[:-1])
            raise ValueError(f"set exactly one of {names} and {_LATER[-1]}")
        return self

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.heads and self.model is None:
            raise ValueError("heads name the outputs of `model`")
        if self.heads and self.into != "score":
            raise ValueError("heads name the columns, so `as` has nothing to name")
        if len(set(self.heads)) < len(self.heads):
            raise ValueError("heads must have different names")
        return self

    @model_validator(mode="after")
    def _has_its_rows(self) -> Self:
        if self.at == "response" and self._scorer().of_pairs_alone():
            raise ValueError("the other response is that of a pair: set at: pair")
        if self.at == "pair" and self.ratings in ("borda", "plackett-luce"):
            raise ValueError(
                f"'{self.ratings}' is of all responses to a prompt: score them before they are paired"
            )
        return self

    @model_validator(mode="after")
    def _can_plant(self) -> Self:
        if self.canaries and (self.ratings is not None or self._scorer().of_pairs_alone()):
            raise ValueError("canaries are for scorers that read a response and give it a score of its own")
        return self

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is not used and came later, so that older configs keep their identity."""
        plain: dict[str, Any] = dump(self)
        unused = {name for name in _LATER if plain.get(name, ...) is None}
        unused |= {name for name in ("heads", "canaries") if not plain.get(name)}
        return {name: value for name, value in plain.items() if name not in unused}

    def reads(self) -> Columns:
        needed = self._scorer().reads()
        told = {_at(name, side): kind for name, kind in needed.items() for side in self._sides()}
        return {**told, **types("id")} if self.canaries else told

    def writes(self) -> Columns:
        scorer = self._scorer()
        if self.at == "response":
            return scorer.alone(self.into)
        sided = [(side, scorer.columns(self.into)) for side in self._sides()]
        told = {_sided(name, side): kind for side, columns in sided for name, kind in columns.items()}
        return {**told, **scorer.together(self.into)}

    def touches(self) -> Collection[str]:
        return self._scorer().touches()

    def scope(self) -> Kind:
        return "group" if self.at == "response" and self._scorer().groups() else "map"

    def draws(self) -> bool:
        return self._scorer().draws() or self.canaries > 0

    def cost(self) -> Cost:
        scorer = self._scorer()
        planted = self.canaries * (2 if scorer.groups() else 1)
        return Cost(calls=len(self._sides()) * scorer.calls() * (1 + planted))

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        def seeds(count: int) -> Sequence[int]:
            return [int(ctx.uniform(self, ["dropout"], draw)[0] * _DRAWN) for draw in range(count)]

        sides = self._sides()
        rows = [_rows(table, side) for side in sides]
        scorer, world = self._scorer(), World(ctx.engines, ctx.notes, seeds)
        scored = scorer.score(rows, self.into, world)
        if self.canaries:
            ids, names = table["id"].to_pylist(), self.heads or (self.into,)

            def draw(at: int, number: int) -> np.ndarray:
                return ctx.uniform(self, [f"canary|{sides[at]}|{id_}" for id_ in ids], number)

            told = watch(scorer, rows, scored, names, draw, self.canaries, world)
            ctx.notes.update({f"{self.name}/canary/{name}": n for name, n in told.items()})
        for side, columns in zip(sides, scored.sides, strict=True):
            for name, values in columns.items():
                table = put(table, _sided(name, side), self._finite(values, ctx))
        for name, values in scored.together.items():
            table = put(table, name, self._finite(values, ctx))
        return ctx.fail(table.select(self.becomes(table.schema).names), pa.array(scored.errors, pa.string()))

    def _sides(self) -> tuple[Side, ...]:
        return ("chosen", "rejected") if self.at == "pair" else ("",)

    def _scorer(self) -> Scorer:
        """Return what scores. Which one is set has been checked."""
        if self.model is not None:
            return Reward(model=self.model, heads=self.heads)
        if self.rule is not None:
            return ByRule(rule=self.rule)
        if self.ratings is not None:
            if self.ratings in ("borda", "plackett-luce"):
                return ByRankings(how=self.ratings)
            return ByRatings(how=self.ratings)
        if self.ensemble is not None:
            return Ensemble(models=self.ensemble)
        if self.dropout is not None:
            return Dropout(how=self.dropout)
        if self.log_prob is not None:
            return Likelihood(of=self.log_prob)
        if self.implicit is not None:
            return Implicit(of=self.implicit)
        if self.preference is not None:
            return Preference(of=self.preference)
        assert self.similarity is not None
        return Similarity(how=self.similarity)

    def _finite(self, values: pa.Array | pa.ChunkedArray, ctx: Context) -> pa.Array:
        """Turn what is not finite into null, and count it."""
        if not pa.types.is_floating(values.type):
            return values
        plain = values.to_numpy(zero_copy_only=False)
        odd = ~np.isfinite(plain) & np.asarray(values.is_valid())
        if odd.any():
            ctx.notes[f"{self.name}/not-finite"] += int(odd.sum())
        return pa.array(plain, pa.float64(), mask=~np.isfinite(plain))


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
