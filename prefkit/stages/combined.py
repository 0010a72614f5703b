"""What the `combine` stage makes of columns once they are arrays: which aggregator is asked what.

Sides are the responses themselves, or chosen and rejected of pairs. Matrices are float64 [rows, objectives], NaN where
a score is missing or not finite; a row that lacks one has no combined score and takes no part in any fit.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from prefkit.aggregators import hypervolume, normalise
from prefkit.aggregators.normalise import Kind as Compared
from prefkit.aggregators.prompt_weights import fit_prompt_weights, predict_weights, targets
from prefkit.stage import Kind
from prefkit.tables import Runs

__all__ = ["Normalise", "Sides", "exclusive_volumes", "normalised", "spelled", "weights_of_prompts", "whole"]

_ROOM = 0.1
"""How far below a prompt's lowest score the reference point lies, in ranges of its scores."""


class Normalise(BaseModel):
    """How scores are made alike before they are combined."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["none", "z", "minmax", "rank", "logit"] = "none"
    """Standard scores, between 0 and 1, ranks between 0 and 1, or log-odds of scores between 0 and 1."""
    within: Literal["prompt", "dataset"] = "prompt"
    """What `z`, `minmax` and `rank` compare a score with: its prompt's, or all of the dataset but the test split's."""
    reference: dict[str, Annotated[tuple[FiniteFloat, ...], Field(min_length=2)]] | None = None
    """Numbers to compare with instead, by column: scores of another dataset, so that two datasets have one scale."""
    clip: tuple[FiniteFloat, FiniteFloat] | None = None
    """Bounds of the normalised score."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.reference is not None and self.kind in ("none", "logit"):
            raise ValueError(f"normalise: kind '{self.kind}' compares with nothing, so it has no reference")
        if self.clip is not None and self.clip[0] >= self.clip[1]:
            raise ValueError("normalise: clip is a lower and an upper bound")
        return self

    def scope(self) -> Kind:
        """Return what a score is compared with."""
        if self.kind in ("none", "logit") or self.reference is not None:
            return "map"
        return "group" if self.within == "prompt" else "global"


def spelled(value: object) -> object:
    """Read a kind alone as settings that say nothing else."""
    return {"kind": value} if isinstance(value, str) else value


class Sides(NamedTuple):
    """Scores of every side, and what belongs to their rows."""

    scores: Sequence[np.ndarray]
    """One a side, float64 [rows, objectives]."""
    prompt: np.ndarray
    """Number of the prompt, int64 [rows], never falling."""
    fits: np.ndarray
    """Whether a row may be fitted to, bool [rows]: those of the test split may not."""


def whole(scores: np.ndarray) -> np.ndarray:
    """Return which rows lack nothing: bool [rows]."""
    told: np.ndarray = np.isfinite(scores).all(axis=1)
    return told


def normalised(
    sides: Sides, kind: Compared, *, by_prompt: bool, references: Sequence[np.ndarray] | None
) -> list[np.ndarray]:
    """Return every side normalised, objective by objective.

    With `references`, against those numbers; by prompt, against the prompt's other responses, which there is one side
    of; else against all rows of all sides that may be fitted to.
    """
    made = [np.full_like(each, np.nan) for each in sides.scores]
    for at in range(sides.scores[0].shape[1]):
        columns = [each[:, at] for each in sides.scores]
        if references is None and by_prompt:
            made[0][:, at] = normalise.by_group(kind, columns[0], sides.prompt)
            continue
        reference = references[at] if references is not None else _known(columns, sides.fits)
        for each, column in zip(made, columns, strict=True):
            if len(reference):
                each[:, at] = normalise.by_reference(kind, column, reference)
    return made


def exclusive_volumes(scores: np.ndarray, runs: Runs) -> np.ndarray:
    """Return what each response alone adds to the hypervolume of its prompt's: float64 [rows].

    The reference point lies a tenth of the prompt's range below its lowest score; an objective on which all are equal
    has a width of 1.
    """
    there = np.flatnonzero(whole(scores))
    prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)[there]
    sizes = np.bincount(prompt, minlength=len(runs.starts))
    starts = np.cumsum(sizes) - sizes
    told = np.full(len(scores), np.nan)
    for size in np.unique(sizes[sizes > 0]).tolist():
        group = there[starts[sizes == size][:, None] + np.arange(size)]
        points = scores[group]
        low, high = points.min(axis=1), points.max(axis=1)
        reference = low - np.where(high > low, _ROOM * (high - low), 1.0)
        told[group] = hypervolume.exclusive(points, reference)
    return told


def weights_of_prompts(
    sides: Sides, vectors: np.ndarray, *, contrast: bool, temperature: float, ridge: float, floor: float
) -> np.ndarray:
    """Return weights of the objectives for each pair's prompt: float64 [rows, objectives], NaN without a vector.

    Shapes: `vectors` [rows, size], of the prompts. The fit is to rows that lack nothing and are not of the test split.
    """
    chosen, rejected = sides.scores
    strong = chosen - rejected if contrast else chosen
    known = np.isfinite(vectors).all(axis=1)
    fits = sides.fits & known & whole(strong)
    head = fit_prompt_weights(vectors[fits], targets(strong[fits], temperature), ridge)
    told = np.full(chosen.shape, np.nan)
    told[known] = predict_weights(head, vectors[known], floor)
    return told


def _known(columns: Sequence[np.ndarray], fits: np.ndarray) -> np.ndarray:
    some = np.concatenate([column[fits] for column in columns])
    told: np.ndarray = some[np.isfinite(some)]
    return told
