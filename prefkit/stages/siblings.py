"""Siblings: pair the right and the wrong way on from one beginning, step against step.

Of a response that `continue` went on from: chosen is the beginning and the first step of a continuation that came out
right, rejected the beginning and the first step that was wrong. Both sides have the beginning, so under a loss of
summed log-probs it cancels, and `chosen_spans` and `rejected_spans` mark the step alone for those where it does not.

Source: Step-DPO (Lai et al., 2024), arXiv 2406.18629.
"""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, final

import numpy as np
import pyarrow as pa
from pydantic import Field

from prefkit.columns import Columns, types
from prefkit.conditioning.stepwise import step_after
from prefkit.stage import Context, Flow, Kind, Stage
from prefkit.stages.step_pairs import STEP_PAIR, step_pair_schema, step_pairs
from prefkit.tables import floats, last_content

__all__ = ["Siblings"]

_NO_SIBLING, _NOT_RIGHT, _SAME_STEP, _NO_STEP = "no-sibling", "not-right", "same-step", "no-step"


@final
class Siblings(Stage):
    """Pair the next step of each right continuation with that of the response it was continued from."""

    name: ClassVar[str] = "siblings"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("response",), "pair")

    by: str = "score"
    """Which score says whether a continuation came out right."""
    at_least: float = 1.0
    """The least score of a right one."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """What ends a step."""
    label: str = ""
    """What a step begins with, `{}` for its number, as it was told to `continue`."""

    def reads(self) -> Columns:
        return {
            **types("id", "prompt_id", "prompt", "response", "parent_id", "prefix_end", "step_index"),
            self.by: pa.float64(),
        }

    def writes(self) -> Columns:
        return STEP_PAIR

    def drops(self) -> Collection[str]:
        return (_NO_SIBLING, _NOT_RIGHT, _SAME_STEP, _NO_STEP)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        return step_pair_schema(schema)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        texts = [text or "" for text in last_content(table["response"]).to_pylist()]
        ends = table["prefix_end"].to_pylist()
        steps = [
            "" if end is None else step_after(text, end, self.separator, self.label)
            for text, end in zip(texts, ends, strict=True)
        ]
        chosen, rejected = self._matches(table, texts, steps, ctx)
        short = [text[: end or 0] + step for text, end, step in zip(texts, ends, steps, strict=True)]
        return step_pairs(table, short, chosen, rejected)

    def _matches(
        self, table: pa.Table, texts: list[str], steps: list[str], ctx: Context
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return who is chosen and who rejected, and set aside the rows that are in no pair."""
        places = {name: row for row, name in enumerate(table["id"].to_pylist())}
        right = (floats(table[self.by]) >= self.at_least).tolist()
        prompts, ends = table["prompt_id"].to_pylist(), table["prefix_end"].to_pylist()
        why: list[str | None] = [_NO_SIBLING] * table.num_rows
        made: list[tuple[int, int]] = []
        seen: set[Any] = set()
        # A Python loop: families are small and their texts are compared.
        for row, parent in enumerate(table["parent_id"].to_pylist()):
            at = None if parent is None else places.get(parent)
            if at is None:
                continue
            step, other = " ".join(steps[row].split()), " ".join(steps[at].split())
            once = (prompts[row], texts[row][: ends[row]], step, other)
            why[row] = _NOT_RIGHT if not right[row] else _NO_STEP if not (step and other) else None
            if why[row] is None and (step == other or once in seen):
                why[row] = _SAME_STEP
            if why[row] is None:
                why[at] = None
                seen.add(once)
                made.append((row, at))
        ctx.drop(table, why)
        found = np.asarray(made, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]
