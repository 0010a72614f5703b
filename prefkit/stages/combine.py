"""Combine: several scores of a response become one, so that pairing has something to go by.

Scores of different scorers have different scales, so they are normalised first: within their prompt, over the whole
dataset, or against numbers that are kept in the recipe. Then they are added up (`linear`, `direction`), wanted up to a
point (`saturate`, `satisfy`, `dual`), looked at for what a response alone offers (`hypervolume`), weighed by the prompt
(`prompt-aware`), or taken as what groups of people think (`mean`, `maxmin`, `cvar`). The columns that went in stay.

Formulas and sources are in `prefkit.aggregators`. What is fitted to the dataset is not fitted to rows of the test split.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveFloat,
    model_validator,
)

from prefkit.aggregators import direction, groups, thresholds
from prefkit.aggregators.normalise import logit
from prefkit.columns import Columns, types
from prefkit.engines import Model
from prefkit.labels.op import may_fit
from prefkit.scorers.embedded import EMBEDDED, VECTOR, embedded
from prefkit.stage import Context, Cost, Flow, Holds, Kind, Stage
from prefkit.stages.combined import (
    Normalise,
    Sides,
    exclusive_volumes,
    normalised,
    spelled,
    weights_of_prompts,
    whole,
)
from prefkit.tables import floats, last_content, nullable, prompt_offsets, put

__all__ = ["Combine"]

_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
WEIGHTS = pa.list_(pa.float64())
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "weights": ("linear", "direction", "saturate", "satisfy", "mean", "cvar"),
    "angles": ("direction",),
    "thresholds": ("saturate", "satisfy", "dual"),
    "task": ("dual",),
    "equality": ("dual",),
    "over": ("maxmin",),
    "share": ("cvar",),
    "model": ("prompt-aware",),
    "target": ("prompt-aware",),
    "temperature": ("prompt-aware",),
    "ridge": ("prompt-aware",),
    "floor": ("prompt-aware",),
}
"""Which kinds have a setting."""


class _Made(NamedTuple):
    """A combined score a side, and the weights or direction of each row where they are no setting."""

    scores: list[np.ndarray]
    weights: np.ndarray | None = None
    errors: list[str | None] | None = None


@final
class Combine(Stage):
    """Make one score of several. Null where one of them is missing."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "combine"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = Flow(("response", "pair"))
    random: ClassVar[bool] = True

    strategy: Literal[
        "linear",
        "direction",
        "saturate",
        "satisfy",
        "dual",
        "hypervolume",
        "prompt-aware",
        "mean",
        "maxmin",
        "cvar",
    ] = Field("linear", alias="kind")
    """A weighed sum, or one along a `direction` of length 1. Up to thresholds: cut off there (`saturate`), minus the
    squared distance (`satisfy`), or with weights under which picks meet them (`dual`). What a response alone adds to its
    prompt's `hypervolume`. Weights by prompt (`prompt-aware`). Of groups: `mean`, the worst (`maxmin`), a worst share
    (`cvar`)."""
    of: Annotated[tuple[Annotated[str, Field(pattern=_NAME)], ...], Field(min_length=1)]
    """The scores to combine; of pairs without `chosen_` and `rejected_`."""
    into: Annotated[str, Field(validation_alias=AliasChoices("as", "into"), pattern=_NAME)] = "score"
    """Name of the column. Spelled `as` in a recipe."""
    at: Literal["response", "pair"] = "response"
    """Whether rows are responses, or pairs of which both sides are combined."""
    normalise: Annotated[Normalise, BeforeValidator(spelled)] = Normalise()
    """What is done to the scores first: `z`, `minmax`, `rank`, `logit`, or settings."""
    weights: dict[str, FiniteFloat] | None = None
    """A weight for each score, or a population for each group; equal ones by default."""
    angles: tuple[FiniteFloat, FiniteFloat] | None = None
    """With `direction` over two scores: draw an angle between these for each prompt, in degrees; 0 is all of the first
    score. The directions are kept as `<as>_direction`."""
    thresholds: dict[str, FiniteFloat] | None = None
    """How much is wanted of each score, after normalising."""
    task: str | None = None
    """With `dual`: the score to be best in as far as the thresholds are met; not normalised."""
    equality: bool = False
    """With `dual`: whether thresholds are to be met exactly, so that a weight may be negative."""
    over: Literal["response", "expectation"] = "response"
    """With `maxmin`: the worst group of each response, or weights that serve the group best that fares worst overall."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """With `cvar`: which worst share of the population counts."""
    model: Model | None = None
    """With `prompt-aware`: what embeds prompts."""
    target: Literal["level", "contrast"] = "level"
    """With `prompt-aware`: weigh what chosen is good at, or what it is better at than rejected."""
    temperature: PositiveFloat = 1.0
    """With `prompt-aware`: the lower, the more the strongest score counts."""
    ridge: PositiveFloat = 0.01
    """With `prompt-aware`: how strongly prompts are taken to be alike."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """With `prompt-aware`: how much of the weights is equal for all scores."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        for setting, kinds in _SETTINGS.items():
            given = getattr(self, setting) != type(self).model_fields[setting].default
            if given and self.strategy not in kinds:
                raise ValueError(f"kind '{self.strategy}' has no {setting}")
        if len(set(self.of)) < len(self.of):
            raise ValueError("a score comes twice in `of`")
        if self.into in self.of:
            raise ValueError(f"'{self.into}' is one of the scores that go in: set `as`")
        for setting in ("weights", "thresholds"):
            given = getattr(self, setting)
            if given is not None and set(given) != set(self.of):
                raise ValueError(f"{setting} must have a number for each score in `of`")
        reference = self.normalise.reference
        if reference is not None and set(reference) != set(self.of):
            raise ValueError("normalise: reference must have numbers for each score in `of`")
        return self

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if self.strategy in _SETTINGS["thresholds"] and self.thresholds is None:
            raise ValueError(f"kind '{self.strategy}' needs thresholds")
        if self.strategy == "dual" and self.task is None:
            raise ValueError("kind 'dual' needs a task: met thresholds say nothing of which response is best")
        if self.strategy == "prompt-aware" and (self.model is None or self.at == "response"):
            raise ValueError(
                "kind 'prompt-aware' needs a model and at: pair: preferred answers say the weights"
            )
        if self.angles is not None and (len(self.of) != 2 or self.weights is not None):
            raise ValueError("angles are between two scores, and take the place of weights")
        if (
            self.strategy == "direction"
            and self.angles is None
            and not any((self.weights or {"": 1}).values())
        ):
            raise ValueError("a direction needs a weight that is not 0")
        if self.strategy in ("mean", "cvar") and not _are_populations(self.weights):
            raise ValueError("populations of groups are at least 0, and one is above")
        in_pools = self.strategy in ("dual", "hypervolume") or self.over == "expectation"
        if self.at == "pair" and (in_pools or self.normalise.scope() == "group"):
            raise ValueError("a pair is not all responses of its prompt: combine before pairing")
        return self

    def reads(self) -> Columns:
        names = (*self.of, self.task) if self.task is not None else self.of
        scores = {f"{side}{name}": pa.float64() for side in self._sides() for name in names}
        also = types("prompt") if self.strategy == "prompt-aware" else {}
        return {**types("prompt_id"), **also, **scores}

    def writes(self) -> Columns:
        told = {f"{side}{self.into}": pa.float64() for side in self._sides()}
        return {**told, self._extra(): WEIGHTS} if self._extra() else told

    def touches(self) -> Collection[str]:
        return ("split",) if self.scope() == "global" else ()

    def scope(self) -> Kind:
        if self.strategy in ("dual", "prompt-aware") or self.over == "expectation":
            return "global"
        if self.strategy == "hypervolume" and self.normalise.scope() == "map":
            return "group"
        return self.normalise.scope()

    def draws(self) -> bool:
        return self.angles is not None

    def holds(self, width: Mapping[str, float]) -> Holds:
        numbers = 150.0 + 60.0 * len(self.of) * len(self._sides())
        if self.model is None:
            return Holds(numbers)
        return Holds(numbers + EMBEDDED * width["prompt"] + 2 * VECTOR)

    def cost(self) -> Cost:
        return Cost(calls=1.0) if self.model is not None else Cost()

    def looks(self) -> Collection[str]:
        return ("prompt",) if self.strategy == "prompt-aware" else ()

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        made = self._made(table, self._normalised(self._given(table)), ctx)
        for side, scores in zip(self._sides(), made.scores, strict=True):
            table = put(table, f"{side}{self.into}", nullable(scores))
            if missing := int((~np.isfinite(scores)).sum()):
                ctx.notes["combine/without-a-score"] += missing
        if self._extra():
            table = put(table, self._extra(), _lists(made.weights, table.num_rows))
        return table if made.errors is None else ctx.fail(table, made.errors)

    def _sides(self) -> tuple[str, ...]:
        return ("chosen_", "rejected_") if self.at == "pair" else ("",)

    def _extra(self) -> str:
        """Return the name of the column of weights that were fitted or drawn; empty if there are none."""
        if self.angles is not None:
            return f"{self.into}_direction"
        return f"{self.into}_weights" if self._is_fitted() else ""

    def _is_fitted(self) -> bool:
        return self.strategy in ("dual", "prompt-aware") or self.over == "expectation"

    def _given(self, table: pa.Table) -> Sides:
        runs = prompt_offsets(table)
        prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)
        fits = may_fit(table) if self.scope() == "global" else np.ones(table.num_rows, dtype=bool)
        return Sides([_matrix(table, side, self.of) for side in self._sides()], prompt, fits)

    def _normalised(self, given: Sides) -> Sides:
        how = self.normalise
        if how.kind == "none":
            scores = list(given.scores)
        elif how.kind == "logit":
            scores = [logit(each) for each in given.scores]
        else:
            kept = how.reference and [np.array(how.reference[name]) for name in self.of]
            scores = normalised(given, how.kind, by_prompt=how.within == "prompt", references=kept or None)
        if how.clip is not None:
            scores = [np.clip(each, *how.clip) for each in scores]
        return given._replace(scores=scores)

    def _made(self, table: pa.Table, given: Sides, ctx: Context) -> _Made:
        if not table.num_rows:
            return _Made([np.zeros(0) for _ in given.scores])
        if self.strategy == "hypervolume":
            return _Made([exclusive_volumes(given.scores[0], prompt_offsets(table))])
        if self.strategy == "prompt-aware":
            return self._by_prompt(table, given, ctx)
        if self._is_fitted():
            return self._fitted(table, given, ctx)
        if self.angles is not None:
            low, high = self.angles
            drawn = ctx.uniform(self, table["prompt_id"])
            toward = direction.from_angles(low + (high - low) * drawn)
            return _Made([direction.along(each, toward) for each in given.scores], toward)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large to be told becomes null
            return _Made([self._each(scores) for scores in given.scores])

    def _each(self, scores: np.ndarray) -> np.ndarray:
        """Combine where each row stands alone and all weights are settings."""
        weights = self._array(self.weights, 1.0)
        wanted = self._array(self.thresholds, 0.0)
        if self.strategy == "satisfy":
            return thresholds.satisfy(scores, wanted, weights)
        if self.strategy == "mean":
            return groups.mean(scores, weights)
        if self.strategy == "maxmin":
            return groups.worst(scores)
        if self.strategy == "cvar":
            return groups.cvar(scores, self.share, weights)
        if self.strategy == "saturate":
            scores = thresholds.saturate(scores, wanted)
        weights = direction.unit(weights) if self.strategy == "direction" else weights
        return direction.along(scores, np.broadcast_to(weights, scores.shape))

    def _fitted(self, table: pa.Table, given: Sides, ctx: Context) -> _Made:
        (scores,) = given.scores
        task = _matrix(table, "", () if self.task is None else (self.task,)).sum(axis=1)
        fits = given.fits & whole(scores) & np.isfinite(task)
        if self.strategy == "maxmin":
            found = groups.fit_maxmin(scores[fits], given.prompt[fits])
            told = groups.mean(scores, found.weights)
        else:
            wanted = self._array(self.thresholds, 0.0)
            found = thresholds.fit_dual(
                task[fits], scores[fits], given.prompt[fits], wanted, equality=self.equality
            )
            told = thresholds.mixed(task, scores, found.weights)
            missed = thresholds.missed(found, wanted, equality=self.equality)
            for name, is_missed in zip(self.of, missed, strict=True):
                ctx.notes[f"combine/threshold-missed/{name}"] += int(is_missed)
        return _Made([told], np.broadcast_to(found.weights, scores.shape))

    def _by_prompt(self, table: pa.Table, given: Sides, ctx: Context) -> _Made:
        assert self.model is not None
        (texts,) = embedded([last_content(table["prompt"])], self.model, ctx.engines)
        weights = weights_of_prompts(
            given,
            texts.vectors,
            contrast=self.target == "contrast",
            temperature=self.temperature,
            ridge=self.ridge,
            floor=self.floor,
        )
        scores = [direction.along(each, weights) for each in given.scores]
        return _Made(scores, weights, list(texts.errors))

    def _array(self, given: Mapping[str, float] | None, default: float) -> np.ndarray:
        return np.array([default if given is None else given[name] for name in self.of])


def _are_populations(weights: Mapping[str, float] | None) -> bool:
    return weights is None or (min(weights.values()) >= 0 and max(weights.values()) > 0)


def _matrix(table: pa.Table, side: str, names: Collection[str]) -> np.ndarray:
    """Return columns as float64 [rows, columns], NaN for what is missing or not finite."""
    columns = [floats(table[f"{side}{name}"]) for name in names]
    found = np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))
    return np.where(np.isfinite(found), found, np.nan)


def _lists(weights: np.ndarray | None, rows: int) -> pa.Array:
    """Return one list of numbers a row; null where one of them is missing."""
    if weights is None:
        return pa.nulls(rows, WEIGHTS)
    width = weights.shape[1]
    there = whole(weights)
    flat = pa.array(np.ascontiguousarray(weights[there]).ravel(), pa.float64())
    ends = np.concatenate([[0], np.cumsum(there * width)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), flat, mask=pa.array(~there))
