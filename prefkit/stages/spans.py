"""Spans: which characters of both responses are a differing phrase, a sentence or a step, for objectives that mask.

What is kept is offsets, never text: each tokenizer finds its own tokens under them. Several kinds may stand side by
side in a row, one `spans` step each; a step replaces those of its own kind alone.

Methods: phrases, Refined Regularized Preference Optimization (RRPO, NeurIPS 2025); sentences, Mask-DPO (ICLR 2025);
steps, Tree Preference Optimization (TPO, ICLR 2025). Whether a sentence is true, and how near a step is to the best
response's, is for a judge to say: their values are null here.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ConfigDict, Field, PositiveInt, model_validator

from prefkit.columns import SPANS, Columns, types
from prefkit.marks import MOST_WORDS, Mark, Marks, differing, sentences, steps, words
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import last_content, put

__all__ = ["Spans"]

SIDES = ("chosen", "rejected")
NO_SPAN = "no-span"


@final
class Spans(Stage):
    """Mark the differing phrases, the sentences or the steps of both responses of a pair, by character offsets."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "spans"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS

    what: Literal["phrase", "sentence", "step"] = Field("phrase", alias="kind")
    """`phrase`: where the two texts differ, word by word; `sentence`; `step`: what stands between separators."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """For `step`: what ends a step."""
    most: PositiveInt | None = None
    """For `step`: how many a response has at most; what is deeper belongs to its last."""
    without: Literal["keep", "drop"] = "keep"
    """What becomes of a pair neither of whose sides has a span of this kind; it is counted either way."""

    @model_validator(mode="after")
    def _settings_of_steps(self) -> Self:
        if self.what != "step" and (self.separator != "\n" or self.most is not None):
            raise ValueError("separator and most are for kind 'step'")
        return self

    def reads(self) -> Columns:
        return types("chosen", "rejected")

    def writes(self) -> Columns:
        return types("chosen_spans", "rejected_spans")

    def touches(self) -> Collection[str]:
        return tuple(self.writes())

    def drops(self) -> Collection[str]:
        return (NO_SPAN,) if self.without == "drop" else ()

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        texts = [pc.fill_null(last_content(table[side]), "").to_pylist() for side in SIDES]
        # A Python loop: expressions and alignments have no vectorised form; 2 milliseconds for two texts of 1,200 words.
        marks = [self._marks(*pair) for pair in zip(*texts, strict=True)]
        marked = np.asarray([any(one) for one in marks], dtype=bool)
        for at, side in enumerate(SIDES):
            found = self._spans([one[at] for one in marks])
            table = put(table, f"{side}_spans", _beside(found, table, f"{side}_spans", self.what))
        if self.what == "phrase":
            _count(ctx, "spans/too-long-to-compare", sum(map(_is_long, *texts)))
        if self.without == "drop":
            return ctx.drop(table, [None if has else NO_SPAN for has in marked])
        _count(ctx, f"spans/no-{self.what}", int((~marked).sum()))
        return table

    def _marks(self, chosen: str, rejected: str) -> Marks:
        if self.what == "phrase":
            return differing(chosen, rejected)
        if self.what == "sentence":
            return Marks(sentences(chosen), sentences(rejected))
        return Marks(*(steps(text, self.separator, self.most) for text in (chosen, rejected)))

    def _spans(self, marks: Sequence[Sequence[Mark]]) -> pa.ListArray:
        flat = np.asarray([mark for row in marks for mark in row], np.int32).reshape(-1, 3)
        nothing = pa.nulls(len(flat), pa.float64())
        kinds = pa.repeat(pa.scalar(self.what, pa.string()), len(flat))
        fields = [pa.array(flat[:, 0]), pa.array(flat[:, 1]), kinds, pa.array(flat[:, 2]), nothing]
        ends = np.concatenate([[0], np.cumsum([len(row) for row in marks])]).astype(np.int32)
        return pa.ListArray.from_arrays(
            pa.array(ends), pa.StructArray.from_arrays(fields, fields=list(SPANS.value_type))
        ).cast(SPANS)


def _count(ctx: Context, note: str, count: int) -> None:
    if count:
        ctx.notes[note] += count


def _is_long(*texts: str) -> bool:
    """Say whether a text has more words than are compared; one of fewer characters need not be counted."""
    return any(len(text) > MOST_WORDS and len(words(text)) > MOST_WORDS for text in texts)


def _beside(found: pa.ListArray, table: pa.Table, name: str, kind: str) -> pa.Array:
    """Return the spans found, behind those of other kinds that the rows have already."""
    if name not in table.column_names:
        return found
    before = [[span for span in row or () if span["kind"] != kind] for row in table[name].to_pylist()]
    if not any(before):
        return found
    both = [kept + new for kept, new in zip(before, found.to_pylist(), strict=True)]
    return pa.array(both, SPANS)
