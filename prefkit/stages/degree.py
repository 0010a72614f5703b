"""Degree: pairs whose responses have lost a growing share of what they say, for a model to learn how much is missing.

Which words go is decided within each text, by a rule without any statistics of the data, so that a row comes out the
same in any shard and any language: distinct words are ranked by length, longest first, and of equal ones the first in
the text; a degree takes out the first so many of that ranking wherever they stand. Short words, which hold sentences
together, stay longest. The words gone at one degree are gone at the next.

Nobody has judged the shortened texts: all that was said of the responses (scores, votes, log-probs) is null on their
rows, and they are no answers to learn from: `filter: { keep: { column: degree, max: 0 } }` takes them out again.

Source: Self-supervised Preference Optimization (SPO, EMNLP Findings 2024), which extracts keywords; ours are by length.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AfterValidator, Field

from prefkit.columns import COLUMNS, MESSAGES, Columns, types
from prefkit.marks import WORD
from prefkit.rng import child_ids
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import put

__all__ = ["Degree", "shortened"]

SIDES = ("chosen", "rejected")
_WORD = re.compile(f"({WORD})")
_SPACES = re.compile(r"[^\S\n]+")
_BREAK = re.compile(r" ?\n ?")
_OF_THE_PAIR = ("annotator", "dimension", "trace_mode", "phase")
"""Pair-level columns that say nothing of the texts."""


def _rising(levels: tuple[float, ...]) -> tuple[float, ...]:
    if levels[0] != 0 or any(after <= before for before, after in pairwise(levels)):
        raise ValueError("levels begin with 0 and rise")
    return levels


@final
class Degree(Stage):
    """Add to each pair copies that have lost a growing share of the distinct words of both responses."""

    name: ClassVar[str] = "degree"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("pair",), "pair")

    levels: Annotated[
        tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=2), AfterValidator(_rising)
    ] = (0.0, 1 / 3, 2 / 3)
    """The share of words that each degree takes out; degree 0 takes none and is the pair as it was."""

    def reads(self) -> Columns:
        return types("id", "chosen", "rejected", "chosen_id", "rejected_id")

    def writes(self) -> Columns:
        return types("id", "chosen", "rejected", "chosen_id", "rejected_id", "degree", "pair_group")

    def cost(self) -> Cost:
        return Cost(rows=len(self.levels))

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        sides = [[self._copies(row) for row in table[side].to_pylist()] for side in SIDES]
        # Both sides of a pair have copies or neither has: a degree must mean the same on both.
        whole = np.asarray([bool(one and other) for one, other in zip(*sides, strict=True)], dtype=bool)
        if not whole.all():
            ctx.notes["degree/too-few-words"] += int((~whole).sum())
        counts = np.where(whole, len(self.levels), 1)
        pair = np.repeat(np.arange(len(counts)), counts)
        degree = (np.arange(len(pair)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.int32)
        rows = table.take(pa.array(pair))
        rows = put(rows, "pair_group", rows["id"])
        for name in ("id", "chosen_id", "rejected_id"):
            rows = put(rows, name, _derived(rows[name], degree))
        for side, copies in zip(SIDES, sides, strict=True):
            made = [copies[at][k - 1] if k else None for at, k in zip(pair, degree, strict=True)]
            rows = put(rows, side, pc.coalesce(pa.array(made, MESSAGES), rows[side]))
        return _unsaid(put(rows, "degree", pa.array(degree)), pa.array(degree > 0))

    def _copies(self, response: "_Response | None") -> "list[_Response]":
        """Return a response at every degree above 0; none if it has too few words to tell all degrees apart."""
        if not response:
            return []
        made = shortened(response[-1]["content"] or "", self.levels[1:])
        return [[*response[:-1], {**response[-1], "content": text}] for text in made]


_Response = list[dict[str, str | None]]


def shortened(text: str, levels: Sequence[float]) -> list[str]:
    """Return a text with each share of its distinct words taken out; nothing where two degrees would be the same.

    Runs of spaces become one, and none stands at either end of a line: a gap would give the degree away.
    """
    parts = _WORD.split(text)  # what is between words, word, what is between words, ...
    folded = [word.casefold() for word in parts[1::2]]
    ranked = sorted(dict.fromkeys(folded), key=lambda word: -len(word))
    counts = [int(share * len(ranked) + 1e-9) for share in levels]
    if len({0, *counts}) <= len(counts):
        return []
    return [_without(parts, folded, frozenset(ranked[:count])) for count in counts]


def _without(parts: Sequence[str], folded: Sequence[str], gone: frozenset[str]) -> str:
    left = list(parts)
    left[1::2] = ["" if key in gone else word for word, key in zip(parts[1::2], folded, strict=True)]
    return _BREAK.sub("\n", _SPACES.sub(" ", "".join(left))).strip(" ")


def _derived(ids: pa.ChunkedArray, degree: np.ndarray) -> pa.Array:
    """Return the ids of the copies; those of degree 0 stay."""
    parents = ids.to_pylist()
    made = child_ids("degree", parents, map(str, degree.tolist()))
    return pa.array(
        [new if k else old for old, new, k in zip(parents, made, degree, strict=True)], pa.string()
    )


def _unsaid(table: pa.Table, derived: pa.Array) -> pa.Table:
    """Make null, on derived rows, whatever is said of the responses."""
    for name in table.column_names:
        if _is_said(name):
            nothing = pa.nulls(table.num_rows, table.schema.field(name).type)
            table = put(table, name, pc.if_else(derived, nothing, table[name]))
    return table


def _is_said(name: str) -> bool:
    if name in {"chosen_id", "rejected_id", "degree", "pair_group", *_OF_THE_PAIR}:
        return False
    said_of_pair = name in COLUMNS and COLUMNS[name].levels == ("pair",)
    return name not in SIDES and (said_of_pair or name.startswith(("chosen_", "rejected_")))
