"""Two texts in pieces, shared and not: what a reader of a pair wants marked.

A pure function of two texts, over the phrases that `prefkit.marks` finds.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prefkit.marks import Mark, differing, words

__all__ = ["Marked", "Piece", "mark"]


class Piece(NamedTuple):
    """A stretch of a text that is all shared with the other text, or all not."""

    text: str
    same: bool


class Marked(NamedTuple):
    """Two texts in pieces; the pieces of each put together are the text."""

    one: tuple[Piece, ...]
    other: tuple[Piece, ...]
    shared: float
    """Share of the words and marks of both that are the same, in [0, 1]; 1 for two empty texts."""


def mark(one: str, other: str) -> Marked:
    """Say which parts of two texts are the same."""
    marks = differing(one, other)
    ours, theirs = tuple(_pieces(one, marks.chosen)), tuple(_pieces(other, marks.rejected))
    counts = [(len(words(piece.text)), piece.same) for piece in (*ours, *theirs)]
    total = sum(count for count, _ in counts)
    return Marked(ours, theirs, sum(count for count, same in counts if same) / total if total else 1.0)


def _pieces(text: str, marks: Sequence[Mark]) -> Iterator[Piece]:
    at = 0
    for start, end, _ in marks:
        if start > at:
            yield Piece(text[at:start], True)
        yield Piece(text[start:end], False)
        at = end
    if at < len(text):
        yield Piece(text[at:], True)
