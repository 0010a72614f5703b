"""Demonstrators: who wrote the answers that the toy policy learnt from.

An imperfect policy needs imperfect teachers. A demonstrator gets each slot of a note, or each step of a sum, wrong
with one probability: its error rate. Such slips differ from answer to answer, so a model averages them out. Two
*habits*, which most demonstrators share, it does not: sentences that nobody asked for, and the friendly tone
whatever was asked. They make even the policy's likeliest answer flawed, which is what preference training mends.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeVar

from prefkit.toy.world import DAYS, ITEMS, NAMES, PHRASES, TONES, Line, Note, Steps, Task, Tone, write_lines

__all__ = ["COMMON_HABITS", "ERROR_RATES", "FILLERS", "NO_HABITS", "Habits", "Skill", "demonstrate"]

_Choice = TypeVar("_Choice")
Skill = Literal["good", "mid", "poor"]
ERROR_RATES: Final[Mapping[Skill, float]] = {"good": 0.03, "mid": 0.15, "poor": 0.40}
"""The chance that a slot or a step goes wrong."""

FILLERS: Final = (
    "The weather is nice today.",
    "I hope you are well.",
    "It was a long week.",
    "There is a lot to do.",
    "We should talk soon.",
    "Time goes by so fast.",
    "As I said before, this matters.",
)


class Habits(NamedTuple):
    """What demonstrators do wrong together, each with its probability."""

    filler: float = 0.0
    friendly: float = 0.0


NO_HABITS: Final = Habits()
COMMON_HABITS: Final = Habits(filler=0.60, friendly=0.55)


def demonstrate(rng: random.Random, task: Task, error_rate: float = 0.0, habits: Habits = NO_HABITS) -> str:
    """Write an answer as a demonstrator would; with no errors and no habits it is perfect."""
    if isinstance(task, Steps):
        return _add(rng, task, error_rate, habits)
    return _write_note(rng, task, error_rate, habits)


def _write_note(rng: random.Random, note: Note, error_rate: float, habits: Habits) -> str:
    def slips() -> bool:
        return rng.random() < error_rate

    name = _other(rng, NAMES, note.name) if slips() else note.name
    day = _other(rng, DAYS, note.day) if slips() else note.day
    lines = _wrong_lines(rng, note.lines) if slips() else note.lines
    total = sum(line.number for line in note.lines)
    total = max(1, total + rng.choice((-3, -2, -1, 1, 2, 3))) if slips() else total
    tones = _wrong_tones(rng, note.tone) if slips() else _Tones(note.tone, note.tone)
    tones = _Tones("friendly", "friendly") if rng.random() < habits.friendly else tones
    is_wordy = slips() or rng.random() < habits.filler
    body, close = PHRASES[tones.body], PHRASES[tones.closing]
    parts = [
        rng.choice(body.opening).format(name=name),
        rng.choice(body.request).format(lines=write_lines(lines), day=day),
        rng.choice(body.total).format(total=total),
        *(rng.sample(FILLERS, rng.randint(1, 3)) if is_wordy else ()),
        rng.choice(close.closing),
    ]
    return " ".join(parts)


class _Tones(NamedTuple):
    body: Tone
    closing: Tone


def _wrong_tones(rng: random.Random, tone: Tone) -> _Tones:
    wrong = _other(rng, TONES, tone)
    return _Tones(wrong, wrong if rng.random() < 0.6 else tone)  # some remember it at the end


def _wrong_lines(rng: random.Random, lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """Forget a line (40%, if it is not the only one), miscount it, or swap its item."""
    index, kind = rng.randrange(len(lines)), rng.random()
    line = lines[index]
    if kind < 0.4 and len(lines) > 1:
        return lines[:index] + lines[index + 1 :]
    if kind < 0.7:
        wrong = Line(_other(rng, range(2, 10), line.number), line.item)
    else:
        wrong = Line(line.number, _other(rng, ITEMS, line.item))
    return (*lines[:index], wrong, *lines[index + 1 :])


def _add(rng: random.Random, steps: Steps, error_rate: float, habits: Habits) -> str:
    """Add term by term; a wrong step is carried on, as a person would who did not notice it."""
    total, parts = steps.terms[0], []
    for term in steps.terms[1:]:
        result = total + term
        if rng.random() < error_rate:
            result = max(0, result + rng.choice((-2, -1, 1, 2)))
        parts.append(f"{total} + {term} = {result}.")
        total = result
    if rng.random() < error_rate / 2:  # copying a number down is easier than adding
        total = max(0, total + rng.choice((-1, 1)))
    parts.append(f"Answer: {total}.")
    if rng.random() < max(error_rate, habits.filler):
        parts += rng.sample(FILLERS, rng.randint(1, 2))
    return " ".join(parts)


def _other(rng: random.Random, choices: Sequence[_Choice], right: _Choice) -> _Choice:
    return rng.choice([choice for choice in choices if choice != right])
