"""Revisions: how much of a text another one keeps, and what is put in place of what.

    edit ratio    share of the words of both texts that have no place in the other, 0 for the same words in order
    corruption    each sentence keeps its first words and ends another way

Sources: minimal revisions, CLAIR (D'Oosterlinck et al., 2024), arXiv 2408.06266; sentence-wise corruption by a model that
is kept from its context, BDHS (Amirloo et al., 2024), arXiv 2407.02477.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefkit.engines import Message
from prefkit.marks import differing, sentences, words

__all__ = ["HIDDEN", "Cut", "cut_sentences", "edit_ratio", "impaired", "joined", "kept_mask"]

HIDDEN = "[...]"
_ENDS = ".!?…。！？"


class Cut(NamedTuple):
    """A sentence that is to end another way."""

    before: str
    """The text before it, as it was."""
    head: str
    """Its first words."""
    tail: str
    """The rest of it."""


def edit_ratio(one: str, other: str) -> float:
    """Return the share of the words of two texts that the other does not have in its place, in [0, 1]."""
    sides = zip((one, other), differing(one, other), strict=True)
    total = len(words(one)) + len(words(other))
    changed = sum(len(words(text[mark.start : mark.end])) for text, marks in sides for mark in marks)
    return changed / total if total else 0.0


def kept_mask(draws: np.ndarray, threshold: float) -> np.ndarray:
    """Return which parts of a context stay, bool [parts]: those whose number in [0, 1) reaches the threshold."""
    kept: np.ndarray = draws >= threshold
    return kept


def impaired(prompt: Sequence[Message], draws: Sequence[float], threshold: float) -> tuple[Message, ...]:
    """Return a prompt in which the sentences below the threshold are hidden; a number a sentence, turn after turn."""
    kept, at, found = kept_mask(np.asarray(draws), threshold), 0, []
    for turn in prompt:
        text = turn.content or ""
        parts = sentences(text)
        said = [
            text[part.start : part.end].strip() if kept[at + n] else HIDDEN for n, part in enumerate(parts)
        ]
        at += len(parts)
        plain = [one for n, one in enumerate(said) if one != HIDDEN or n == 0 or said[n - 1] != HIDDEN]
        found.append(Message(turn.role, " ".join(plain) or HIDDEN))
    return tuple(found)


def cut_sentences(text: str, draws: Sequence[float]) -> list[Cut]:
    """Cut each sentence at a word, its first one or later, by a number in [0, 1) each."""
    cuts = []
    for mark, draw in zip(sentences(text), draws, strict=True):
        whole = text[mark.start : mark.end]
        ends = [
            at + 1
            for at, sign in enumerate(whole.rstrip())
            if whole[at + 1 : at + 2].isspace() and not sign.isspace()
        ]
        ends = [end for end in ends if end < len(whole.rstrip())] or [len(whole.rstrip())]
        head = whole[: ends[int(draw * len(ends))]]
        cuts.append(Cut(text[: mark.start], head, whole[len(head) :]))
    return cuts


def joined(cuts: Sequence[Cut], tails: Sequence[str]) -> str:
    """Return a text whose sentences begin as they were and end as they are told, each with a mark and the space it had.

    Of a tail the first sentence counts; the others would change how many there are.
    """
    return "".join(cut.head + _one_tail(cut, tail) for cut, tail in zip(cuts, tails, strict=True))


def _one_tail(cut: Cut, tail: str) -> str:
    bare = cut.tail.rstrip()
    space = cut.tail[len(bare) :] if bare else (cut.tail or "")
    said = (
        " ".join((cut.head.split()[-1] + " " + " ".join(tail.split())).split()) if cut.head.split() else tail
    )
    first = sentences(said)
    said = said[: first[0].end].strip() if first else said
    last = cut.head.split()[-1] if cut.head.split() else ""
    said = said.removeprefix(last).rstrip()
    if bare and bare[-1] in _ENDS and not said.endswith(tuple(_ENDS)):
        said = said.rstrip(",;:") + bare[-1]
    return said + space
