"""Marks: which characters of a text are a differing phrase, a sentence or a step.

Offsets count characters, so that any tokenizer can find its tokens later, whatever it makes of spaces. Words are
compared, not characters: what a model writes differently is words, and half a word means nothing.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

__all__ = ["MOST_WORDS", "WORD", "Mark", "Marks", "differing", "sentences", "steps", "words"]

MOST_WORDS = 20_000
"""Of one side. The comparison of two texts of so many words takes 0.3 s and 50 MB; longer ones are one phrase."""

_IDEOGRAPHS = "\u2e80-\u9fff\uf900-\ufaff"
WORD = rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+"
"""A run of letters and digits, or an ideograph, as a regular expression."""
_WORD = re.compile(rf"{WORD}|[^\w\s]")
_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+[”’」』）]*|(?=\n)")
_ABBREVIATED = "e\\.g|i\\.e|etc|vs|cf|mr|mrs|ms|dr|prof|st|fig|eq"
_NO_END = re.compile(rf"(?:(?:^|[\s(])(?:[^\W\d_]|{_ABBREVIATED})|(?:^|\n)[ \t]*\d+)\.$", re.IGNORECASE)
_LONGEST_NO_END = 12


class Mark(NamedTuple):
    """Characters [start, end) of a text."""

    start: int
    end: int
    id: int


class Marks(NamedTuple):
    """The marks of both sides of a pair."""

    chosen: list[Mark]
    rejected: list[Mark]


def differing(chosen: str, rejected: str) -> Marks:
    """Return the phrases in which two texts differ, by a longest common subsequence of their words.

    Phrases that stand in each other's place share an id; a phrase that only one side has keeps its own. Ids count from
    1 in the order of the texts. Spaces are not compared.
    """
    spans = [[match.span() for match in _WORD.finditer(text)] for text in (chosen, rejected)]
    found = Marks([], [])
    for number, gaps in enumerate(_unmatched(words(chosen), words(rejected)), start=1):
        for marks, side, (start, end) in zip(found, spans, gaps, strict=True):
            if end > start:
                marks.append(Mark(side[start][0], side[end - 1][1], number))
    return found


def sentences(text: str) -> list[Mark]:
    """Return a text's sentences, numbered from 1, without a gap between them.

    A sentence ends with its mark and a space, or with its line; initials, numbers of a list and the commonest
    abbreviations end none. Line breaks belong to the sentence before them and other spaces to the one behind, as
    tokenizers have it. What has no letter or digit joins the sentence before it.
    """
    ends = (match.end() for match in _END.finditer(text) if not match[0] or not _goes_on(text, match.end()))
    return _cut(text, [_after_lines(text, end) for end in ends])


def steps(text: str, separator: str = "\n", most: int | None = None) -> list[Mark]:
    """Return the parts of a text between separators, numbered by depth from 1, without a gap between them.

    A separator belongs to the step before it, and so do blank parts. With `most`, all that is deeper joins the last.
    """
    found = _cut(text, [match.end() for match in re.finditer(re.escape(separator), text)])
    if most is not None and len(found) > most:
        return [*found[: most - 1], Mark(found[most - 1].start, found[-1].end, most)]
    return found


def words(text: str) -> list[str]:
    """Return the words of a text: runs of letters and digits, and whatever else is no space, one by one."""
    return _WORD.findall(text)


class _Gap(NamedTuple):
    """Words [start, end) of each side that stand between the same two words; one of them may be none."""

    one: tuple[int, int]
    other: tuple[int, int]


def _unmatched(one: Sequence[str], other: Sequence[str]) -> Iterator[_Gap]:
    """Yield what is not common to two lists of words."""
    short = min(len(one), len(other))
    head = next((at for at in range(short) if one[at] != other[at]), short)
    tail = next((at for at in range(short - head) if one[-1 - at] != other[-1 - at]), short - head)
    first, second = one[head : len(one) - tail], other[head : len(other) - tail]
    common = [] if max(len(first), len(second)) > MOST_WORDS else _common(first, second)
    a = b = 0
    for c, d in [*common, (len(first), len(second))]:
        if c > a or d > b:
            yield _Gap((head + a, head + c), (head + b, head + d))
        a, b = c + 1, d + 1


def _common(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of a longest common subsequence, by rows of bits.

    Bit c of row r is 0 where the length for r words of `other` grows with word c of `one`. A row follows from the last
    one by an addition, whose carry moves each 0 to the first match behind the 0 before it. Source: Hyyrö, Bit-parallel
    LCS-length computation revisited (2004).
    """
    places: dict[str, int] = {}
    for at, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << at
    full = (1 << len(one)) - 1
    rows = [full]
    for word in other:
        before = rows[-1]
        hit = before & places.get(word, 0)
        rows.append(((before + hit) | (before - hit)) & full)
    found, row, column = [], len(other), len(one)
    while row and column:
        bit = 1 << column - 1
        if rows[row] & bit:
            column -= 1
        else:
            row -= 1
            if rows[row] & bit:
                column -= 1
                found.append((column, row))
    return found[::-1]


def _cut(text: str, places: Sequence[int]) -> list[Mark]:
    """Cut a text at some places; a part without a letter or digit joins the part before it, or else the next."""
    edges = [0]
    for place in [*sorted(set(places)), len(text)]:
        if any(map(str.isalnum, text[edges[-1] : place])):
            edges.append(place)
        elif len(edges) > 1:
            edges[-1] = place
    return [Mark(start, end, at + 1) for at, (start, end) in enumerate(pairwise(edges))]


def _goes_on(text: str, end: int) -> bool:
    """Say whether the full stop that ends here is that of an abbreviation or of a number in a list."""
    return _NO_END.search(text[max(0, end - _LONGEST_NO_END) : end]) is not None


def _after_lines(text: str, place: int) -> int:
    """Return the place behind the line breaks that follow, or the same place if none does."""
    space = re.compile(r"\s*\n").match(text, place)
    return space.end() if space else place
