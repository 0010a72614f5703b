"""Canaries: judgements whose right answer is known, hidden in a judge's work.

A response meets a copy of itself to which something was done. Of an identical copy neither is better; a copy that is
cut off half way, or says another number, or says not where it said nothing of the kind, is worse; one padded with
sentences that say nothing is not better. And a pair that is shown with its sides exchanged has the verdict that it has.
What is measured so needs no labels, and a judge cannot tell these asks from the others: they carry no sign.

A wrong-fact copy of a wrong response may happen to be right, so a perfect judge is near 100 %, not at it.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from prefkit.judging.tasks import Ask, Outcome, Side

__all__ = ["KINDS", "Canary", "Kind", "copy_of", "expected", "grade", "plant"]

Kind = Literal["identical", "swapped", "truncated", "padded", "wrong-fact"]
KINDS: tuple[Kind, ...] = ("identical", "swapped", "truncated", "padded", "wrong-fact")
_LEAST_WORDS = 6
_WORD = re.compile(r"\S+\s*")
_DIGITS = re.compile(r"\d+")
_VERB = re.compile(r"\b(is|are|was|were|can|will|should|must|does|did|has|have)\b(?! not\b)", re.IGNORECASE)
_EMPTY_WORDS = (
    "To say it once more, what stands above is what there is to say here.",
    "All of this should be seen in its context, as is so often the case.",
    "There are, of course, many ways of looking at a matter like this one.",
    "With that in mind, it is worth bearing in mind what was said before.",
    "In short, and taking everything together, that is the long and the short of it.",
)


class Canary(NamedTuple):
    """A planted comparison: a response and its copy."""

    kind: Kind
    one: Side
    copy: Side


def copy_of(text: str, kind: Kind, draw: float) -> str | None:
    """Return what the canary makes of a text, or None if nothing can be made of it. `draw` is in [0, 1)."""
    if kind == "identical":
        return text
    if kind == "truncated":
        words = _WORD.findall(text)
        return "".join(words[: len(words) // 2]).rstrip() if len(words) >= _LEAST_WORDS else None
    if kind == "padded":
        return _padded(text, draw) if text.strip() else None
    return _untrue(text, draw)


def plant(side: Side, draws: Sequence[float], kinds: Sequence[Kind] = KINDS) -> Canary:
    """Return the canary of a response: the first kind that can be made of it, from a drawn one on."""
    start = int(draws[0] * len(kinds))
    for kind in (*kinds[start:], *kinds[:start]):
        if kind == "swapped":
            return Canary(kind, side, side)
        text = copy_of(side.text, kind, draws[1])
        if text is not None:
            return Canary(kind, side, side._replace(id=f"{side.id}/{kind}", text=text))
    return Canary("identical", side, side._replace(id=f"{side.id}/identical"))


def expected(kind: Kind) -> frozenset[str]:
    """Return what may win: `original`, `copy` or `tie`."""
    if kind == "identical":
        return frozenset({"tie"})
    return frozenset({"original", "tie"}) if kind == "padded" else frozenset({"original"})


def grade(ask: Ask, outcome: Outcome, original: str) -> Counter[str]:
    """Count what a judge said of one canary: who won, and whether it was shown first.

    `original` is the id of the response that wins if the judge is right; empty where a tie is right, of a pair that is
    a tie with its sides exchanged.
    """
    if outcome.error is not None:
        return Counter({f"{ask.canary}/failed": 1})
    value = outcome.value
    if isinstance(value, tuple):
        value = "first" if value[0] == 0 else "second"
    if value is None:
        return Counter({f"{ask.canary}/unread": 1})
    if value == "tie":
        return Counter({f"{ask.canary}/{'tie' if original else 'original'}": 1})
    winner = ask.sides[0 if value == "first" else 1].id
    return Counter({f"{ask.canary}/{'original' if winner == original else 'copy'}": 1, value: 1})


def _padded(text: str, draw: float) -> str:
    """Return a text with sentences that say nothing, until it is half as long again."""
    said, at = [text.rstrip()], int(draw * len(_EMPTY_WORDS))
    while len(said) == 1 or sum(map(len, said[1:])) < len(text) / 2:
        said.append(_EMPTY_WORDS[(at + len(said)) % len(_EMPTY_WORDS)])
    return f"{said[0]}\n\n{' '.join(said[1:])}"


def _untrue(text: str, draw: float) -> str | None:
    """Return a text with its last number changed, or without numbers with a verb denied; None where there is neither."""
    numbers = [found for found in _DIGITS.finditer(text) if len(found[0]) < 19]
    if numbers:
        last = numbers[-1]
        value = str(int(last[0]) + 1 + int(draw * 8))
        return text[: last.start()] + value + text[last.end() :]
    verb = _VERB.search(text)
    return f"{text[: verb.end()]} not{text[verb.end() :]}" if verb else None
