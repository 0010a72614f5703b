"""How sure a score is: several models asked about it, or one model several times with some of its units dropped.

Either way each member scores every response, and what is kept is their mean, how far they are apart, and how many
there were. A member that gives no number leaves no mean: one of the others alone would be another scorer. Of pairs,
each member says how probable it finds that chosen is better; the mean of that is a probability in which doubt counts,
and the information in asking for another member (BALD, in [0, ln 2]) tells doubt from a close call. A pair that every
member finds even has a BALD of 0: it is certain that it is a tie.
Source: Uncertainty-enhanced Preference Optimization (UPO, 2024) for BALD of preferences by dropout; Secrets of RLHF in
Large Language Models II (2024) for ensembles.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Annotated, Self, final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

from prefkit.columns import Columns, types
from prefkit.engines import Conversation, Model
from prefkit.engines.thinned import Thinned, thinned_rewards
from prefkit.estimators.preference import logistic
from prefkit.scorers.reward import matrix
from prefkit.scorers.scorer import F64, Asked, Scored, Scorer, World, ask
from prefkit.tables import nullable

__all__ = ["Dropout", "Ensemble", "bald", "flip_belief", "sampling_shares"]

I32 = pa.int32()


class Dropping(BaseModel):
    """How a reward model is asked several times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model
    """A reward model with one output that was trained with dropout, or `head`."""
    passes: Annotated[int, Field(ge=2)] = 10
    """How often it is asked, each time with other units dropped."""
    head: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of what enters the reward head that is dropped, for models that have no dropout of their own."""


@final
class Ensemble(Scorer):
    """Score by several reward models on one scale."""

    models: Annotated[tuple[Model, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        if len(set(self.models)) < len(self.models):
            raise ValueError("a model is in the ensemble twice, which tells nothing new")
        return self

    def reads(self) -> Columns:
        return types("prompt", "response")

    def columns(self, into: str) -> Columns:
        return _columns(into)

    def together(self, into: str) -> Columns:
        return _together(into)

    def touches(self) -> Collection[str]:
        return ("tools",)

    def calls(self) -> float:
        return float(len(self.models))

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        asked = [ask(sides, partial(world.engines.rewards, model)) for model in self.models]
        return _scored(asked, self.models, sides, into, world)


@final
class Dropout(Scorer):
    """Score by one reward model, several times, with some of its units dropped."""

    how: Dropping

    def reads(self) -> Columns:
        return types("prompt", "response")

    def columns(self, into: str) -> Columns:
        return _columns(into)

    def together(self, into: str) -> Columns:
        return _together(into)

    def draws(self) -> bool:
        return True

    def touches(self) -> Collection[str]:
        return ("tools",)

    def calls(self) -> float:
        return float(self.how.passes)

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        def once(seed: int) -> Asked:
            def question(talks: Sequence[Conversation]) -> list[object]:
                passes = [Thinned(talk, seed, self.how.head) for talk in talks]
                return list(thinned_rewards(world.engines, self.how.model, passes))

            return ask(sides, question)

        asked = [once(seed) for seed in world.draws(self.how.passes)]
        return _scored(asked, [self.how.model] * len(asked), sides, into, world)


def bald(p: np.ndarray) -> np.ndarray:
    """Return what asking another member would tell, in nats, in [0, ln 2]: H(mean p) - mean H(p), over the last axis.

    Source: Bayesian active learning by disagreement (Houlsby et al. 2011); natural logarithm.
    """
    told: np.ndarray = np.maximum(_entropy(p.mean(axis=-1)) - _entropy(p).mean(axis=-1), 0.0)
    return told


def flip_belief(information: np.ndarray) -> np.ndarray:
    """Return the belief that a label is wrong, from BALD: 0 where members agree, at most one half."""
    told: np.ndarray = 0.5 * information / np.log(2)
    return told


def sampling_shares(information: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
    """Return each pair's share when reliable ones are drawn, (1 - B)^sharpness over its sum: [pairs] both.

    Low information alone is no reliability: a pair that is even on every pass has the least. UPO, eq. for P.
    """
    kept = (1 - information) ** sharpness
    told: np.ndarray = kept / kept.sum()
    return told


def _entropy(p: np.ndarray) -> np.ndarray:
    inside = np.clip(p, 1e-300, 1.0), np.clip(1 - p, 1e-300, 1.0)
    told: np.ndarray = -(p * np.log(inside[0]) + (1 - p) * np.log(inside[1]))
    return told


def _columns(into: str) -> Columns:
    return {into: F64, f"{into}_std": F64, f"{into}_n": I32}


def _together(into: str) -> Columns:
    return {f"{into}_p": F64, f"{into}_bald": F64}


def _scored(
    asked: Sequence[Asked], models: Sequence[Model], sides: Sequence[pa.Table], into: str, world: World
) -> Scored:
    errors = [
        next((why for why in whys if why), None) for whys in zip(*(one.errors for one in asked), strict=True)
    ]
    members = [
        np.stack(
            [matrix(one.answers[at], model, 1)[:, 0] for one, model in zip(asked, models, strict=True)],
            axis=1,
        )
        for at in range(len(sides))
    ]
    columns = [_summary(each, into) for each in members]
    fine = np.array([error is None for error in errors], dtype=bool)
    for at, each in enumerate(members):
        given = np.array([answer is not None for answer in asked[0].answers[at]], dtype=bool)
        if short := int((given & fine & ~np.isfinite(each).all(axis=1)).sum()):
            world.notes["score/missing-member"] += short
    if len(members) == 1:
        return Scored(columns, errors)
    with np.errstate(over="ignore", invalid="ignore"):
        p = logistic(members[0] - members[1])
    together = {f"{into}_p": nullable(p.mean(axis=1)), f"{into}_bald": nullable(bald(p))}
    return Scored(columns, errors, together)


def _summary(members: np.ndarray, into: str) -> Mapping[str, pa.Array]:
    """Return mean, spread (n - 1) and number of members that gave a number. Shape: [rows, members]."""
    there = np.isfinite(members)
    whole = there.all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = np.where(whole, members.mean(axis=1), np.nan)
        apart = np.where(whole, members.std(axis=1, ddof=1), np.nan)
    # members that are all equal are 0 apart, whatever their mean was rounded to
    apart = np.where(whole & (members == members[:, :1]).all(axis=1), 0.0, apart)
    counts = pa.array(there.sum(axis=1), I32)
    return {into: nullable(middle), f"{into}_std": nullable(apart), f"{into}_n": counts}
