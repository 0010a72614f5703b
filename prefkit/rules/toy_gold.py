"""Toy gold: the exact worth of an answer in the toy world."""

from typing import ClassVar, final

import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.rules.rule import Rule
from prefkit.tables import last_content

__all__ = ["ToyGold"]


@final
class ToyGold(Rule):
    """Score by the toy world's gold reward, in [0, 1]. Raises DataError for a prompt that is not of that world."""

    name: ClassVar[str] = "toy-gold"

    def reads(self) -> Columns:
        return types("prompt", "response")

    def score(self, table: pa.Table) -> pa.Array:
        from prefkit.toy import gold

        prompts, answers = (
            last_content(table["prompt"]).to_pylist(),
            last_content(table["response"]).to_pylist(),
        )
        # A Python loop: each answer is parsed on its own.
        rewards = [
            None if prompt is None or answer is None else gold(prompt, answer).reward
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return pa.array(rewards, pa.float64())
