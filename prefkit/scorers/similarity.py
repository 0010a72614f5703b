"""Similarity: how near in meaning a response is to a trusted answer, to its prompt, or to the other response of its pair.

It is the cosine of two embeddings. Of a prompt with several turns the last one is embedded, since that is what is
answered and embedding models read little. Two responses that mean the same make a pair that teaches nothing.
"""

from collections.abc import Sequence
from typing import Literal, final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from prefkit.columns import Columns, types
from prefkit.engines import Model
from prefkit.scorers.embedded import cosines, embedded
from prefkit.scorers.scorer import F64, Scored, Scorer, World
from prefkit.tables import last_content

__all__ = ["Nearness", "Similarity"]


class Nearness(BaseModel):
    """What a response is compared with, and by which model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Model
    """A sentence-embedding model."""
    to: Literal["reference-answer", "prompt", "other"] = "reference-answer"
    """The column `reference_answer`, the prompt's last turn, or, of pairs, the other response: one number a pair."""


@final
class Similarity(Scorer):
    """Score by the cosine of embeddings, in [-1, 1]."""

    how: Nearness

    def reads(self) -> Columns:
        also = {"reference-answer": ("reference_answer",), "prompt": ("prompt",), "other": ()}[self.how.to]
        return types("response", *also)

    def columns(self, into: str) -> Columns:
        return {} if self.how.to == "other" else {into: F64}

    def together(self, into: str) -> Columns:
        return {into: F64} if self.how.to == "other" else {}

    def of_pairs_alone(self) -> bool:
        return self.how.to == "other"

    def calls(self) -> float:
        return 1.0 if self.how.to == "other" else 2.0

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        texts = [last_content(side["response"]) for side in sides]
        if self.how.to == "other":
            one, other = embedded(texts, self.how.model, world.engines)
            errors = [first or second for first, second in zip(one.errors, other.errors, strict=True)]
            return Scored([{}, {}], errors, {into: _told(one.vectors, other.vectors)})
        wanted = (
            sides[0]["reference_answer"]
            if self.how.to == "reference-answer"
            else last_content(sides[0]["prompt"])
        )
        *found, goal = embedded([*texts, wanted], self.how.model, world.engines)
        columns = [{into: _told(each.vectors, goal.vectors)} for each in found]
        whys = zip(goal.errors, *(each.errors for each in found), strict=True)
        return Scored(columns, [next((why for why in some if why), None) for some in whys])


def _told(one: np.ndarray, other: np.ndarray) -> pa.Array:
    told = cosines(one, other)
    unasked = np.isnan(one).all(axis=1) | np.isnan(other).all(axis=1)
    return pa.array(told, F64, mask=unasked)
