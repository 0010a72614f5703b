"""Reward models: a sequence-classification model whose outputs are scores, one or several.

A reward model's level is its own and differs from prompt to prompt, so its scores are compared within a prompt only;
across models they are compared after `combine` has normalised them.
"""

from collections.abc import Collection, Sequence
from typing import final

import numpy as np
import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.engines import Conversation, Failure, Model
from prefkit.errors import EngineError
from prefkit.scorers.scorer import F64, Scored, Scorer, World, ask

__all__ = ["Reward", "matrix"]


@final
class Reward(Scorer):
    """Score by a reward model: the raw output of its head, or one score for each output that is named."""

    model: Model
    heads: tuple[str, ...] = ()

    def reads(self) -> Columns:
        return types("prompt", "response")

    def columns(self, into: str) -> Columns:
        return dict.fromkeys(self.heads or (into,), F64)

    def touches(self) -> Collection[str]:
        return ("tools",)

    def calls(self) -> float:
        return 1.0

    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        names = self.heads or (into,)

        def question(talks: Sequence[Conversation]) -> list[tuple[float, ...] | Failure]:
            return world.engines.rewards(self.model, talks)

        asked = ask(sides, question)
        numbers = [matrix(answers, self.model, len(names)) for answers in asked.answers]
        told = [{name: pa.array(each[:, at], F64) for at, name in enumerate(names)} for each in numbers]
        nulls = [np.array([answer is None for answer in answers], dtype=bool) for answers in asked.answers]
        masked = [
            {name: pa.array(column.to_numpy(), F64, mask=null) for name, column in side.items()}
            for side, null in zip(told, nulls, strict=True)
        ]
        return Scored(masked, asked.errors)


def matrix(answers: Sequence[object], model: Model, width: int) -> np.ndarray:
    """Return answers of a reward head as float64 [rows, width], NaN where there is none.

    Raises: EngineError if the head has not `width` outputs.
    """
    found = np.full((len(answers), width), np.nan)
    # A Python loop: engines give Python values.
    for at, answer in enumerate(answers):
        if not isinstance(answer, tuple):
            continue
        if len(answer) != width:
            raise _other_width(model, len(answer), width)
        found[at] = answer
    return found


def _other_width(model: Model, given: int, wanted: int) -> EngineError:
    gives = f"model '{model.id}' gives {given} numbers for a response"
    if wanted == 1:
        hint = "take a reward model with one output, or name them all: heads: [helpfulness, ...]"
        return EngineError(f"{gives}, and a score is one", hint=hint)
    return EngineError(f"{gives}, and {wanted} are named", hint="name every output, in the model's order")
