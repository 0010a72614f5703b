"""Reference answer: take a prompt's trusted answer from the response of a trusted writer.

Published sets of solutions often hold the human solution as one more response. A verifier wants its final answer as a
property of the prompt.
"""

from typing import ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from prefkit.columns import Columns, types
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.tables import last_content, prompt_offsets, put

__all__ = ["ReferenceAnswer"]


@final
class ReferenceAnswer(Stage):
    """Write `reference_answer` for all rows of a prompt, from the response that `writer` gave to it."""

    name: ClassVar[str] = "reference-answer"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = RESPONSES

    writer: str = Field(min_length=1)
    """Whose response is trusted, as the column `model` says; of several, the first with an answer."""
    marker: str = Field("", max_length=64)
    """What the answer comes after, to the end of its line; the last occurrence counts. Empty: the whole response."""

    def reads(self) -> Columns:
        return types("prompt_id", "response", "model")

    def writes(self) -> Columns:
        return types("reference_answer")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        runs = prompt_offsets(table)
        trusted = pc.fill_null(pc.equal(table["model"], self.writer), fill_value=False).to_numpy()
        answers = self._answers(last_content(table["response"]))
        usable = trusted & answers.is_valid().to_numpy(zero_copy_only=False)
        # The first usable row of each prompt: the smallest row number, or one past the end where there is none.
        places = np.where(usable, np.arange(len(table)), len(table))
        first = np.minimum.reduceat(places, runs.starts) if len(table) else places
        without = int((first == len(table)).sum())
        if without:
            ctx.notes["reference-answer/prompts-without"] += without
        rows = pa.array(np.repeat(first, runs.lengths), mask=np.repeat(first == len(table), runs.lengths))
        return put(table, "reference_answer", answers.take(rows).cast(pa.string()))

    def _answers(self, texts: pa.Array) -> pa.Array:
        """Return what follows the marker in each text: string, null where nothing does."""
        if self.marker:
            pieces = pc.split_pattern(texts, self.marker, max_splits=1, reverse=True)
            tails = pc.if_else(pc.greater(pc.list_value_length(pieces), 1), _last(pieces), None)
            texts = pc.list_element(pc.split_pattern(pc.utf8_trim_whitespace(tails), "\n", max_splits=1), 0)
        trimmed = pc.utf8_trim_whitespace(texts)
        return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def _last(pieces: pa.Array) -> pa.Array:
    """Return the last item of each non-empty list; null for null."""
    ends = np.cumsum(pc.fill_null(pc.list_value_length(pieces), 0).to_numpy(zero_copy_only=False))
    valid = pieces.is_valid().to_numpy(zero_copy_only=False)
    return pieces.flatten().take(pa.array(np.maximum(ends - 1, 0), mask=~valid))
