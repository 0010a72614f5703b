"""Masks: which tokens of a response count, read off the spans of characters that a row carries.

A token belongs to every span that it shares a character with. Spans are told apart by `kind`, so one row may carry
several sorts of them. The end-of-turn token covers no character; each mask says what becomes of it.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import Columns, types
from prefkit.objectives.piece import SIDES, Mask, Side, Span

__all__ = ["MASKS", "Everything", "Facts", "Phrases", "SpanWeights", "Steps"]


@final
class Everything(Mask):
    """Every scored token counts once."""

    name: ClassVar[str] = "everything"

    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        return np.ones(len(offsets))


class _Spans(Mask):
    kind: ClassVar[str]

    def reads(self) -> Columns:
        return types("chosen_spans", "rejected_spans")

    def refuse(self, table: pa.Table) -> str | None:
        kinds = {kind for side in SIDES for kind in pc.unique(_field(table, side, "kind")).to_pylist()}
        if self.kind in kinds:
            return None
        return f"mask '{self.name}' needs spans of kind '{self.kind}', and the rows have {sorted(kinds) or 'none'}"


@final
class Phrases(_Spans):
    """The tokens of the phrases in which the two responses differ.

    Source: Refined Regularized Preference Optimization (RRPO, NeurIPS 2025). A phrase that only one side has counts on
    that side alone.
    """

    name: ClassVar[str] = "phrases"
    kind: ClassVar[str] = "phrase"

    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        return _any(_within(_of(spans, self.kind), offsets)).astype(np.float64)


@final
class Facts(_Spans):
    """The tokens of chosen's true sentences and of rejected's false ones; a sentence is true if its value is 1.

    What is in no sentence (the end of the turn) counts on both sides. Source: Mask-DPO (ICLR 2025).
    """

    name: ClassVar[str] = "facts"
    kind: ClassVar[str] = "sentence"

    def refuse(self, table: pa.Table) -> str | None:
        for side in SIDES:
            values = _field(table, side, "value", self.kind)
            if values.null_count:
                return f"mask 'facts' tells true from false, and '{side}_spans' has sentences without a value"
            found = {value == 1 for value in pc.unique(values).to_pylist()}
            if found and (side == "chosen") not in found:
                named = "true" if side == "chosen" else "false"
                return f"mask 'facts' keeps nothing of {side}: column '{side}_spans' has no {named} sentence"
        return super().refuse(table)

    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        marked = _of(spans, self.kind)
        inside = _within(marked, offsets)
        wanted = np.asarray([(span["value"] == 1) == (side == "chosen") for span in marked], dtype=bool)
        counted: np.ndarray = _any(inside[wanted]) | ~_any(inside)
        return counted.astype(np.float64)


@final
class SpanWeights(_Spans):
    """Each token by the value of its span, 0 where there is none: sparse token weights in [0, 1].

    Spans of kind `kl-weight` weigh masked token terms where a row has any (independent masks), else the same ones do
    (a common mask). Source: SparsePO (2024).
    """

    name: ClassVar[str] = "weights"
    kind: ClassVar[str] = "weight"

    def refuse(self, table: pa.Table) -> str | None:
        for side in SIDES:
            bounds = pc.min_max(_field(table, side, "value", self.kind, "kl-weight")).as_py()
            if bounds["min"] is not None and not 0 <= bounds["min"] <= bounds["max"] <= 1:
                return f"mask 'weights' needs values in [0, 1], and '{side}_spans' has {bounds}"
        return super().refuse(table)

    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        return self._weights(_of(spans, self.kind), offsets)

    def term_tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        return self._weights(_of(spans, "kl-weight") or _of(spans, self.kind), offsets)

    def _weights(self, marked: Sequence[Span], offsets: np.ndarray) -> np.ndarray:
        values = np.asarray([span["value"] or 0.0 for span in marked]).reshape(-1, 1)
        return np.asarray((_within(marked, offsets) * values).max(0, initial=0.0))


@final
class Steps(_Spans):
    """The mean over reasoning steps of each step's sum: tokens of step k weigh W_k / sum of W.

    The end of the turn belongs to the last step. Source: Tree Preference Optimization (TPO, ICLR 2025); its released
    code up-weights steps that are similar to the best response's, which is `one-plus-cos`.
    """

    name: ClassVar[str] = "steps"
    kind: ClassVar[str] = "step"

    weigh: Literal["one", "one-plus-cos", "one-minus-cos"] = "one"
    """W: 1, or 1 plus or minus the span's value, the cosine of the step and the best response's same step."""

    def refuse(self, table: pa.Table) -> str | None:
        for side in SIDES if self.weigh != "one" else ():
            if _field(table, side, "value", self.kind).null_count:
                return f"mask 'steps' weighs by cosines, and '{side}_spans' has steps without a value"
        return super().refuse(table)

    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        marked = sorted(_of(spans, self.kind), key=lambda span: int(span["id"]))
        if not marked:
            return np.zeros(len(offsets))
        sign = {"one": 0.0, "one-plus-cos": 1.0, "one-minus-cos": -1.0}[self.weigh]
        weights = np.asarray([1 + sign * (span["value"] or 0.0) if sign else 1.0 for span in marked])
        inside = _within(marked, offsets)
        inside[-1] |= offsets[:, 0] < 0
        counted = inside * (weights / max(weights.sum(), 1e-9))[:, None]
        return np.asarray(counted.max(0))


def _field(table: pa.Table, side: Side, field: str, *kinds: str) -> pa.ChunkedArray:
    """Return a field of all spans of one side; of the kinds given, if any are."""
    spans = pc.list_flatten(table[f"{side}_spans"])
    if kinds:
        spans = spans.filter(pc.is_in(pc.struct_field(spans, "kind"), pa.array(kinds)))
    return pc.struct_field(spans, field)


def _of(spans: Sequence[Span], kind: str) -> list[Span]:
    return [span for span in spans if span["kind"] == kind]


def _within(spans: Sequence[Span], offsets: np.ndarray) -> np.ndarray:
    """Return which token shares a character with which span, bool [spans, tokens]."""
    starts = np.asarray([span["start"] for span in spans], dtype=np.int64).reshape(-1, 1)
    ends = np.asarray([span["end"] for span in spans], dtype=np.int64).reshape(-1, 1)
    inside: np.ndarray = (offsets[:, 0] < ends) & (offsets[:, 1] > starts) & (offsets[:, 0] >= 0)
    return inside


def _any(inside: np.ndarray) -> np.ndarray:
    return np.asarray(inside.any(0))


MASKS: tuple[type[Mask], ...] = (Everything, Phrases, Facts, SpanWeights, Steps)
