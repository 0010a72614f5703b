"""The gold reward: what an answer is truly worth, from the texts of prompt and answer alone.

Every text gets a reward, graded by named criteria, so that answers differ by more than right and wrong: margins,
ties and near misses all occur. Reading is lenient part by part (a day counts wherever it stands) and strict as a
whole: `focus` is lost as soon as anything stands in the answer that no part of it accounts for, or a part is
missing, as in an answer that was cut off. The reward is exact and knows nothing of any proxy: a reward model or a
judge is measured against it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from prefkit.toy.world import DAYS, NAMES, PHRASES, TONES, Line, Note, Steps, Tone, read_prompt

__all__ = [
    "NOTE_WEIGHTS",
    "STEPS_WEIGHTS",
    "Criterion",
    "Gold",
    "NoteAnswer",
    "Part",
    "Step",
    "StepsAnswer",
    "gold",
    "leading_steps",
    "read_note_answer",
    "read_steps_answer",
]

Criterion = Literal["items", "total", "tone", "focus", "name", "day", "steps", "answer"]

NOTE_WEIGHTS: Final[Mapping[Criterion, float]] = {
    "items": 0.35,
    "total": 0.15,
    "tone": 0.15,
    "focus": 0.15,
    "name": 0.10,
    "day": 0.10,
}
STEPS_WEIGHTS: Final[Mapping[Criterion, float]] = {"steps": 0.50, "answer": 0.35, "focus": 0.15}


class Gold(NamedTuple):
    """The true worth of an answer, in [0, 1], and what it is made of."""

    reward: float
    """The weighted mean of the criteria: `NOTE_WEIGHTS` or `STEPS_WEIGHTS`."""
    criteria: Mapping[Criterion, float]
    """Each in [0, 1]."""


def gold(prompt: str, answer: str) -> Gold:
    """Grade an answer to a prompt of the toy world.

    Raises: DataError if this world did not write the prompt.
    """
    task = read_prompt(prompt)
    if isinstance(task, Steps):
        return _weigh(_grade_steps(task, read_steps_answer(answer)), STEPS_WEIGHTS)
    return _weigh(_grade_note(task, read_note_answer(answer)), NOTE_WEIGHTS)


def _weigh(criteria: Mapping[Criterion, float], weights: Mapping[Criterion, float]) -> Gold:
    # Rounded, so that equal answers tie exactly whatever the order of the sum.
    return Gold(round(sum(weight * criteria[name] for name, weight in weights.items()), 6), criteria)


# Notes


class Part(NamedTuple):
    """A sentence of a note, and the tone that it is written in."""

    tone: Tone
    text: str


class NoteAnswer(NamedTuple):
    """What a text says, read as a note; None where it says nothing of it."""

    opening: Part | None
    request: Part | None
    total: Part | None
    closing: Part | None
    name: str | None
    lines: tuple[Line, ...]
    """Whatever it counts, in its order, other than the total."""
    days: tuple[str, ...]
    """Every day that it mentions, each once."""
    sum: int | None
    rest: tuple[str, ...]
    """What stands before, between and after its four parts."""

    def parts(self) -> tuple[Part | None, ...]:
        """Return the four parts in the order of a note."""
        return (self.opening, self.request, self.total, self.closing)


def read_note_answer(text: str) -> NoteAnswer:
    """Read any text as a note."""
    found = {part: pattern.search(text) for part, pattern in _PARTS.items()}
    opening, request, total, closing = map(_as_part, found.values())
    name, number = _NAME.search(text), _SUM.search(text)
    return NoteAnswer(
        opening=opening,
        request=request,
        total=total,
        closing=closing,
        name=name and name[0],
        lines=tuple(Line(int(count), item) for count, item in _COUNTED.findall(_SUM.sub("", text))),
        days=tuple(day for day in DAYS if day in text),
        sum=number and int(number[1]),
        rest=_without(text, [match for match in found.values() if match]),
    )


def _grade_note(note: Note, answer: NoteAnswer) -> dict[Criterion, float]:
    """Grade each criterion; an item too much costs half of what an item right earns."""
    right = len(set(note.lines) & set(answer.lines))
    surplus = len(answer.lines) - right
    parts = answer.parts()
    return {
        "items": max(0.0, (right - 0.5 * surplus) / len(note.lines)),
        "total": float(answer.sum == sum(line.number for line in note.lines)),
        "tone": sum(part is not None and part.tone == note.tone for part in parts) / len(parts),
        "focus": float(None not in parts and not answer.rest),
        "name": float(answer.name == note.name),
        "day": float(answer.days == (note.day,)),
    }


# No leading zero, so that the text can be quoted from the number; nine digits, so that no text is too long to read.
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,8})"
_BLANKS: Final = {
    "name": rf"(?:{'|'.join(NAMES)})",
    "lines": rf"{_NUMBER} [a-z]+(?:, {_NUMBER} [a-z]+)*(?: and {_NUMBER} [a-z]+)?",
    "day": rf"(?:{'|'.join(DAYS)})",
    "total": _NUMBER,
}


def _pattern(part: str, frame: str) -> re.Pattern[str]:
    """Match a part of a note in any tone; the group that matched is named like its tone."""
    tones = (rf"(?P<{tone}>{'|'.join(_wordings(tone, part))})" for tone in TONES)
    return re.compile(frame.format("|".join(tones)))


def _wordings(tone: Tone, part: str) -> Iterator[str]:
    for wording in PHRASES[tone]._asdict()[part]:
        # Escaped for its stops and question marks, whose braces then have to come back.
        yield re.escape(wording).replace(r"\{", "{").replace(r"\}", "}").format(**_BLANKS)


_PARTS: Final = {
    "opening": _pattern("opening", r"\A\s*(?:{})"),
    "request": _pattern("request", r"\b(?:{})"),
    "total": _pattern("total", r"\b(?:{})"),
    "closing": _pattern("closing", r"\b(?:{})\s*\Z"),
}
_NAME: Final = re.compile(rf"\b{_BLANKS['name']}\b")
_SUM: Final = re.compile(rf"\b(?:This is|That makes|Total) ({_NUMBER})\b")
_COUNTED: Final = re.compile(rf"\b({_NUMBER}) ([a-z]+)\b")


def _as_part(match: re.Match[str] | None) -> Part | None:
    if match is None:
        return None
    return Part(next(tone for tone in TONES if match[tone] is not None), match[0].strip())


# Sums


class Step(NamedTuple):
    """One addition as an answer writes it."""

    left: int
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} + {self.right} = {self.result}."


class StepsAnswer(NamedTuple):
    """What a text says, read as a sum; None where it says nothing of it."""

    steps: tuple[Step, ...]
    answer: int | None
    rest: tuple[str, ...]
    """What stands before, between and after its steps and its answer."""


def read_steps_answer(text: str) -> StepsAnswer:
    """Read any text as a sum."""
    steps, answer = list(_STEP.finditer(text)), _ANSWER.search(text)
    return StepsAnswer(
        steps=tuple(Step(*map(int, step.groups())) for step in steps),
        answer=answer and int(answer[1]),
        rest=_without(text, [*steps, *([answer] if answer else [])]),
    )


def leading_steps(task: Steps, answer: StepsAnswer) -> int:
    """Count the steps that are right before the first that is wrong or missing."""
    total = task.terms[0]
    for count, (term, step) in enumerate(zip(task.terms[1:], answer.steps, strict=False)):
        if step != Step(total, term, total + term):
            return count
        total += term
    return min(len(task.terms) - 1, len(answer.steps))


def _grade_steps(task: Steps, answer: StepsAnswer) -> dict[Criterion, float]:
    needed = len(task.terms) - 1
    is_whole = len(answer.steps) == needed and answer.answer is not None
    return {
        "steps": leading_steps(task, answer) / needed,
        "answer": float(answer.answer == sum(task.terms)),
        "focus": float(is_whole and not answer.rest),
    }


_STEP: Final = re.compile(rf"\b({_NUMBER}) \+ ({_NUMBER}) = ({_NUMBER})\.")
_ANSWER: Final = re.compile(rf"\bAnswer: ({_NUMBER})\.")


def _without(text: str, matches: list[re.Match[str]]) -> tuple[str, ...]:
    """Cut the matches out of the text; what they overlap in is cut once."""
    pieces, start = [], 0
    for match in sorted(matches, key=lambda match: match.start()):
        pieces.append(text[start : match.start()])
        start = max(start, match.end())
    return tuple(piece.strip() for piece in [*pieces, text[start:]] if piece.strip())
