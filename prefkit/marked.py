"""Where two texts differ, word by word: what a reader of a pair wants marked.

A pure function of two texts. Words, single marks and runs of space are tokens; runs of space are equal, whatever they
are made of. What two texts share at both ends is set aside first, since sides of a pair often begin alike. Matching takes time
with the product of what is left, so very long and different texts are compared by which words the other text has as
often, wherever they stand: what is then marked is surely missing there, but moved words are not marked.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import NamedTuple

__all__ = ["Marked", "Piece", "mark"]

_TOKENS = re.compile(r"\w+|[^\w\s]|\s+")
_MOST = 1_500_000
"""Products of numbers of tokens that are matched word by word: at most about half a second."""


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
    ours, theirs = _TOKENS.findall(one), _TOKENS.findall(other)
    flags = _same(_keys(ours), _keys(theirs))
    words = [
        same
        for tokens, part in zip((ours, theirs), flags, strict=True)
        for token, same in zip(tokens, part, strict=True)
        if not token.isspace()
    ]
    shared = sum(words) / len(words) if words else 1.0
    return Marked(_pieces(ours, flags.one), _pieces(theirs, flags.other), shared)


class _Flags(NamedTuple):
    """Whether each token is shared."""

    one: list[bool]
    other: list[bool]


def _keys(tokens: Sequence[str]) -> list[str]:
    return [" " if token.isspace() else token for token in tokens]


def _same(one: Sequence[str], other: Sequence[str]) -> _Flags:
    least = min(len(one), len(other))
    head = next((at for at in range(least) if one[at] != other[at]), least)
    tail = next((at for at in range(least - head) if one[-1 - at] != other[-1 - at]), least - head)
    middle = _matched(one[head : len(one) - tail], other[head : len(other) - tail])
    return _Flags(
        *([True] * head + inside + [True] * tail for inside in (middle.one, middle.other)),
    )


def _matched(one: Sequence[str], other: Sequence[str]) -> _Flags:
    if not one or not other:
        return _Flags([False] * len(one), [False] * len(other))
    if len(one) * len(other) > _MOST:
        return _by_words(one, other)
    found = _Flags([False] * len(one), [False] * len(other))
    for ours, theirs, size in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks():
        found.one[ours : ours + size] = [True] * size
        found.other[theirs : theirs + size] = [True] * size
    return found


def _by_words(one: Sequence[str], other: Sequence[str]) -> _Flags:
    """Take a token as shared where the other text has one for it, wherever that stands."""
    return _Flags(*(list(_there(mine, Counter(theirs))) for mine, theirs in ((one, other), (other, one))))


def _there(tokens: Sequence[str], left: Counter[str]) -> Iterator[bool]:
    for token in tokens:
        left[token] -= 1
        yield left[token] >= 0


def _pieces(tokens: Sequence[str], flags: Sequence[bool]) -> tuple[Piece, ...]:
    """Join tokens of one kind; space between two that differ differs too, so that a changed phrase is one piece."""
    marks = list(flags)
    for at in range(1, len(tokens) - 1):
        if tokens[at].isspace() and not marks[at - 1] and not flags[at + 1]:
            marks[at] = False
    runs = groupby(zip(tokens, marks, strict=True), key=lambda entry: entry[1])
    return tuple(Piece("".join(token for token, _ in run), same) for same, run in runs)
