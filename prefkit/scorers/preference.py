"""Preference: a model of which of two responses is better, that may go round in circles as people do.

Each response has a vector of 2k numbers, and of two the one is preferred by the sum, over their k planes, of how far
the other has to be turned to reach it. So a response is never preferred to itself, what one gains the other loses, and
stone, paper and scissors have a place, which no single score a response can give them. Comparisons mean something
for one prompt alone, and what a pool of responses makes of one of them depends on the pool.

How much of the preferences in a pool no ranking can explain is measured: the share of their squares that is left when
each response has the one score that fits best.
Source: Beyond Bradley-Terry Models: General Preference Modeling with Preference Representations (GPM, ICML 2025); the
pool's mean is the reward of A Minimaximalist Approach to RLHF (SPO, 2024); the share left over is the curl part of a
Hodge decomposition (Jiang et al. 2011).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from prefkit.columns import Columns, types
from prefkit.engines import Conversation, Failure, Model
from prefkit.estimators.preference import logistic
from prefkit.scorers.reward import matrix
from prefkit.scorers.scorer import F64, Scored, Scorer, World, ask
from prefkit.tables import nullable, prompt_offsets

__all__ = [
    "Preference",
    "PreferenceModel",
    "beats",
    "cyclic_triples",
    "cyclicity",
    "gate",
    "pool_means",
]

I32 = pa.int32()
_BLOCK = 1 << 22
"""Comparisons made at once: 32 MiB of float64."""


class PreferenceModel(BaseModel):
    """A reward model whose outputs are a preference vector."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model
    """A sequence-classification model with 2 `planes` outputs, two after two."""
    planes: PositiveInt = 1
    """How many planes the vector has: half the model's outputs."""
    temperature: PositiveFloat = 0.1
    """A preference of so much is odds of e to 1; what the model was trained with."""


@final
class Preference(Scorer):
    """Score pairs by how much, and how probably, chosen is preferred; responses by how often they beat their pool.

    Of a pair: `<as>_margin`, the skew-symmetric preference, and `<as>_p`. Of a response: the mean probability of beating
    each other response of its prompt, how many those are as `<as>_pool`, and as `<as>_cyclic` the share of the pool's
    preferences that no ranking explains.
    """

    of: PreferenceModel

    def reads(self) -> Columns:
        return types("prompt", "response")

    def columns(self, into: str) -> Columns:  # noqa: ARG002
        return {}

    def together(self, into: str) -> Columns:
        return {f"{into}_margin": F64, f"{into}_p": F64}

    def alone(self, into: str) -> Columns:
        return {into: F64, f"{into}_pool": I32, f"{into}_cyclic": F64}

    def groups(self) -> bool:
        return True

    def touches(self) -> Collection[str]:
        return ("tools",)

    def calls(self) -> float:
        return 1.0

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        def question(talks: Sequence[Conversation]) -> list[tuple[float, ...] | Failure]:
            return world.engines.rewards(self.of.model, talks)

        asked = ask(sides, question)
        vectors = [matrix(answers, self.of.model, 2 * self.of.planes) for answers in asked.answers]
        if len(sides) == 2:
            margin = beats(vectors[0], vectors[1])
            p = logistic(margin / self.of.temperature)
            told = {f"{into}_margin": nullable(margin), f"{into}_p": nullable(p)}
            return Scored([{}, {}], asked.errors, told)
        found = _in_pools(sides[0], vectors[0], self.of.temperature, world)
        columns = {
            into: nullable(found.rate),
            f"{into}_pool": pa.array(found.others, I32),
            f"{into}_cyclic": nullable(found.cyclic),
        }
        return Scored([columns], asked.errors)


def beats(one: np.ndarray, other: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return how much each first response is preferred: sum over planes of weight * (a d - b c). Shapes: [..., 2k]; [...].

    `weights` [..., k] are the planes' weights, all 1 by default. Exactly 0 for equal vectors, and exactly minus itself
    when the two change places. NaN stays. GPM, eq. for the preference score.
    """
    parts = one[..., ::2] * other[..., 1::2] - one[..., 1::2] * other[..., ::2]
    told: np.ndarray = (parts if weights is None else parts * weights).sum(axis=-1)
    return told


def gate(logits: np.ndarray) -> np.ndarray:
    """Return the planes' weights of a prompt: k softmax(logits), of mean 1. Shapes: [..., k] both.

    `logits` are what the model's gate makes of the prompt's last state, over the square root of its size.
    """
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    told: np.ndarray = logits.shape[-1] * shifted / shifted.sum(axis=-1, keepdims=True)
    return told


def pool_means(table: np.ndarray) -> np.ndarray:
    """Return the mean of each row over the others, the diagonal left out; NaN for a pool of one: [..., n, n] to [..., n].

    SPO (2024): of probabilities, the reward of a response among those that were sampled.
    """
    size = table.shape[-1]
    own = np.diagonal(table, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        told: np.ndarray = (table.sum(axis=-1) - own) / np.float64(size - 1)
    return told


def cyclicity(preferences: np.ndarray) -> np.ndarray:
    """Return the share of squared preferences that no ranking explains: [..., n, n] skew-symmetric to [...], in [0, 1].

    0 for differences of scores, 1 for stone, paper and scissors; NaN where nothing is preferred to anything. Logits of
    vote shares are fit to be looked at in this way too.
    """
    score = preferences.mean(axis=-1)
    left = preferences - (score[..., :, None] - score[..., None, :])
    with np.errstate(invalid="ignore"):
        told: np.ndarray = np.square(left).sum(axis=(-2, -1)) / np.square(preferences).sum(axis=(-2, -1))
    return told


def cyclic_triples(preferences: np.ndarray) -> np.ndarray:
    """Return how many threes of each pool go round in a circle, int64 [...]; a tie is in no circle."""
    wins = (preferences > 0).astype(np.int64)
    told: np.ndarray = np.trace(wins @ wins @ wins, axis1=-2, axis2=-1) // 3
    return told


class _Pools(NamedTuple):
    """What the pools make of each response, all [rows]."""

    rate: np.ndarray
    others: np.ndarray
    cyclic: np.ndarray


def _in_pools(rows: pa.Table, vectors: np.ndarray, temperature: float, world: World) -> _Pools:
    runs = prompt_offsets(rows)
    there = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    prompt = np.repeat(np.arange(len(runs.starts)), runs.lengths)[there]
    sizes = np.bincount(prompt, minlength=len(runs.starts))
    starts = np.cumsum(sizes) - sizes
    rate, others, cyclic = (
        np.full(len(vectors), np.nan),
        np.zeros(len(vectors), np.int32),
        np.full(len(vectors), np.nan),
    )
    for size in np.unique(sizes[sizes > 1]).tolist():
        first = starts[sizes == size]
        for part in np.array_split(first, -(-len(first) * size**2 * vectors.shape[1] // _BLOCK)):
            group = there[part[:, None] + np.arange(size)]
            preferred = beats(vectors[group][:, :, None], vectors[group][:, None, :])
            rate[group] = pool_means(logistic(preferred / temperature))
            others[group] = size - 1
            _count(preferred, world)
            if size > 2:
                cyclic[group] = cyclicity(preferred)[:, None]
    return _Pools(rate, others, cyclic)


def _count(preferred: np.ndarray, world: World) -> None:
    size = preferred.shape[-1]
    threes = len(preferred) * (size * (size - 1) * (size - 2) // 6)
    if threes:
        world.notes["score/triples"] += threes
        world.notes["score/cyclic-triples"] += int(cyclic_triples(preferred).sum())
