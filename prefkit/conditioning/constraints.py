"""Constraints: demands on the form of an answer that a program can check, so that nobody has to be believed.

Each kind has a wording and a check. Constraints of a pair are read off its texts: all hold for one answer and none for
the other, so they cannot contradict each other. Words are what stands between white space; mentioned words are compared
without regard to case.

Source: multi-level aware preference learning, MAPL (Sun et al., 2025), arXiv 2505.12845.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prefkit.engines import Message
from prefkit.prompts import fill, template

__all__ = ["KINDS", "Constraint", "demanded", "holds", "picked", "telling"]

_LEAST_LETTERS = 4
_WORD = re.compile(r"[^\W\d_]+")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S", re.MULTILINE)


class Constraint(NamedTuple):
    """One demand: its kind and what it is about, a number or a word; empty where the kind says all."""

    kind: str
    argument: str = ""

    def words(self) -> str:
        """Return how it is worded in a prompt."""
        return KINDS[self.kind].wording.replace("{}", self.argument)


class _Kind(NamedTuple):
    wording: str
    check: Callable[[str, str], bool]
    """(text, argument) -> whether it holds."""


def _count(text: str) -> int:
    return len(text.split())


def _mentions(text: str, word: str) -> bool:
    return word in {found.casefold() for found in _WORD.findall(text)}


def _bullets(text: str) -> int:
    return len(_BULLET.findall(text))


KINDS: Mapping[str, _Kind] = {
    "least-words": _Kind("Use at least {} words.", lambda text, n: _count(text) >= int(n)),
    "most-words": _Kind("Use at most {} words.", lambda text, n: _count(text) <= int(n)),
    "mention": _Kind('Mention the word "{}".', _mentions),
    "avoid": _Kind('Do not use the word "{}".', lambda text, word: not _mentions(text, word)),
    "least-bullets": _Kind("Give a list of at least {} points.", lambda text, n: _bullets(text) >= int(n)),
    "no-bullets": _Kind("Do not use a list.", lambda text, _: not _bullets(text)),
    "lower-case": _Kind("Use no capital letters.", lambda text, _: text == text.lower()),
    "no-commas": _Kind("Use no commas.", lambda text, _: "," not in text),
    "no-digits": _Kind("Use no digits.", lambda text, _: not any(map(str.isdigit, text))),
    "question-last": _Kind("End with a question.", lambda text, _: text.rstrip().endswith("?")),
}


def holds(constraint: Constraint, text: str) -> bool:
    """Say whether a text meets a constraint."""
    return KINDS[constraint.kind].check(text, constraint.argument)


def telling(text: str, other: str) -> list[Constraint]:
    """Return constraints, at most one a kind and word, that `text` meets and `other` does not, in a fixed order."""
    return [one for one in _candidates(text, other) if holds(one, text) and not holds(one, other)]


def picked(constraints: Sequence[Constraint], draws: Sequence[float], most: int) -> list[Constraint]:
    """Return up to `most` of them of different kinds, by a number in [0, 1) each: the lowest first."""
    found: dict[str, Constraint] = {}
    for _, one in sorted(zip(draws, constraints, strict=False)):
        if len(found) < most:
            found.setdefault(one.kind, one)
    return list(found.values())


def demanded(prompt: Sequence[Message], constraints: Sequence[Constraint]) -> tuple[Message, ...]:
    """Return a prompt whose last user turn ends with constraints."""
    text = fill(
        template("condition.constraints.v1"),
        {"constraints": "\n".join(f"- {c.words()}" for c in constraints)},
    )
    at = max((at for at, turn in enumerate(prompt) if turn.role == "user"), default=None)
    if at is None:
        return (*prompt, Message("user", text))
    turn = prompt[at]
    return (*prompt[:at], Message(turn.role, f"{turn.content or ''}\n\n{text}".lstrip()), *prompt[at + 1 :])


def _candidates(text: str, other: str) -> list[Constraint]:
    one, two = _count(text), _count(other)
    found = [Constraint("least-words", str(_between(two, one)))] if one > two else []
    found += [Constraint("most-words", str(_between(one, two) - 1))] if one < two else []
    own, others = ({w.casefold(): None for w in _WORD.findall(side)} for side in (text, other))
    found += [Constraint("mention", w) for w in own if w not in others and len(w) >= _LEAST_LETTERS]
    found += [Constraint("avoid", w) for w in others if w not in own and len(w) >= _LEAST_LETTERS]
    if _bullets(text) > _bullets(other):
        found.append(Constraint("least-bullets", str(_bullets(text))))
    bare = ("no-bullets", "lower-case", "no-commas", "no-digits", "question-last")
    return found + [Constraint(kind) for kind in bare]


def _between(low: int, high: int) -> int:
    """Return a number above `low` and up to `high`, about the middle; from 20 on a round one if there is one."""
    middle = (low + high + 1) // 2
    rounded = round(middle, -1) if middle >= 20 else middle
    return rounded if low < rounded <= high else middle
