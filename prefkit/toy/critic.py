"""The critic: says in English why one answer is better than another, and never says what is not so.

A rationale is worth training on only if it is true. So this one is written from what `grading` reads out of the two
texts: a general rationale names the criteria in which the better answer is ahead, a specific one quotes the places.
Where the other answer is ahead it says so, and where the label is wrong it does not invent a reason.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from prefkit.errors import DataError
from prefkit.toy.grading import (
    NOTE_WEIGHTS,
    STEPS_WEIGHTS,
    Criterion,
    Gold,
    NoteAnswer,
    Step,
    StepsAnswer,
    gold,
    leading_steps,
    read_note_answer,
    read_steps_answer,
)
from prefkit.toy.world import Note, Steps, join_words, read_prompt, write_lines

__all__ = ["Kind", "explain", "rationale"]

Kind = Literal["general", "specific"]


def rationale(messages: Sequence[tuple[str, str]]) -> str:
    """Answer a request for a rationale: (role, content) messages, of which the last one asks.

    It holds the texts between the lines `<prompt>`, `<response_1>`, `<response_2>` and their closing lines, and the
    lines `Better: 1` or `Better: 2` and `Kind: general` or `Kind: specific`.
    Raises: DataError if one of them is missing, or if the toy world did not write the prompt.
    """
    request = messages[-1][1] if messages else ""
    responses = [_between(request, "response_1"), _between(request, "response_2")]
    better = int(_line(request, "Better", "1|2")) - 1
    kind: Kind = "general" if _line(request, "Kind", "general|specific") == "general" else "specific"
    return explain(_between(request, "prompt"), responses[better], responses[1 - better], kind)


def explain(prompt: str, better: str, other: str, kind: Kind) -> str:
    """Say why `better` is preferred to `other`: in general, or specifically with quotes.

    Raises: DataError if the toy world did not write the prompt.
    """
    contrast = _compare(gold(prompt, better), gold(prompt, other))
    return _generally(contrast) if kind == "general" else _specifically(contrast, prompt, better, other)


class _Contrast(NamedTuple):
    """The criteria in which one answer is ahead of the other, the weightiest difference first."""

    ahead: list[Criterion]
    behind: list[Criterion]


def _compare(better: Gold, other: Gold) -> _Contrast:
    weights = STEPS_WEIGHTS if "steps" in better.criteria else NOTE_WEIGHTS
    leads = {
        name: weight * (better.criteria[name] - other.criteria[name]) for name, weight in weights.items()
    }
    order = sorted(leads, key=lambda name: -abs(leads[name]))
    return _Contrast([name for name in order if leads[name] > 0], [name for name in order if leads[name] < 0])


# In general

_STRENGTHS: Final[Mapping[Criterion, str]] = {
    "items": "keeps closer to the list of items in the request",
    "total": "states the correct total",
    "tone": "holds the requested tone more consistently",
    "focus": "is complete and adds nothing that was not asked for",
    "name": "addresses the right person",
    "day": "gives the right day",
    "steps": "gets further through the addition without a mistake",
    "answer": "arrives at the correct sum",
}


def _generally(contrast: _Contrast) -> str:
    """Say it in at most two sentences and without a quote."""
    strengths, weaknesses = _list_strengths(contrast.ahead), _list_strengths(contrast.behind)
    if not contrast.ahead and not contrast.behind:
        return "Both answers meet the request equally well, so the preference rests on taste alone."
    if not contrast.ahead:
        return f"The preference is hard to justify by the request: the other answer {weaknesses}."
    if not contrast.behind:
        return f"The better answer {strengths}."
    return f"The better answer {strengths}. To its credit, the other answer {weaknesses}."


def _list_strengths(names: list[Criterion]) -> str:
    return join_words([_STRENGTHS[name] for name in names]) if names else ""


# Specifically


def _specifically(contrast: _Contrast, prompt: str, better: str, other: str) -> str:
    """Quote both answers at the three weightiest differences, then at what speaks against the preference."""
    points = _points(prompt, better, other)
    sentences = [points[name]() for name in contrast.ahead[:3]]
    sentences += [f"Against the preference: {points[name]()}" for name in contrast.behind[:1]]
    if not contrast.ahead:
        sentences.insert(0, "Nothing in the request speaks for the better answer.")
    if not any('"' in sentence for sentence in sentences):
        sentences.append(
            f"The better answer begins with {_start(better)}, the other one with {_start(other)}."
        )
    return " ".join(sentences)


def _start(answer: str) -> str:
    return _quote(" ".join(answer.split(" ")[:3]))


_Points = Mapping[Criterion, Callable[[], str]]


def _points(prompt: str, better: str, other: str) -> _Points:
    task = read_prompt(prompt)
    if isinstance(task, Steps):
        return _steps_points(task, read_steps_answer(better), read_steps_answer(other))
    return _note_points(task, read_note_answer(better), read_note_answer(other))


def _note_points(note: Note, better: NoteAnswer, other: NoteAnswer) -> _Points:
    total = sum(line.number for line in note.lines)
    asked = write_lines(note.lines)
    return {
        "items": lambda: _point(f"The request lists {asked}", "has", _order(better), _order(other)),
        "total": lambda: _point(f"The items add up to {total}", "says", _sum(better), _sum(other)),
        "tone": lambda: _point(
            f"A {note.tone} note was asked for", "has", _tone(note, better), _tone(note, other)
        ),
        "focus": lambda: _focus_point(_gaps(better), _gaps(other)),
        "name": lambda: _point(
            f"The note is for {note.name}", "addresses", _quote(better.name), _quote(other.name)
        ),
        "day": lambda: _point(f"The day is {note.day}", "says", _days(better), _days(other)),
    }


def _steps_points(task: Steps, better: StepsAnswer, other: StepsAnswer) -> _Points:
    return {
        "steps": lambda: (
            f"The better answer {_progress(task, better)}, while the other one {_progress(task, other)}."
        ),
        "answer": lambda: _point(f"The sum is {sum(task.terms)}", "gives", _answer(better), _answer(other)),
        "focus": lambda: _focus_point(_steps_gaps(task, better), _steps_gaps(task, other)),
    }


def _point(asked: str, verb: str, better: str, other: str) -> str:
    return f"{asked}: the better answer {verb} {better}, the other one {verb} {other}."


def _quote(text: str | None) -> str:
    return f'"{text}"' if text else "nothing"


def _quotes(texts: Sequence[str]) -> str:
    return join_words([_quote(text) for text in texts]) if texts else "nothing"


def _order(answer: NoteAnswer) -> str:
    return _quotes([f"{count} {item}" for count, item in answer.lines])


def _sum(answer: NoteAnswer) -> str:
    if answer.total:
        return _quote(answer.total.text)
    return "nothing of it" if answer.sum is None else _quote(str(answer.sum))


def _days(answer: NoteAnswer) -> str:
    return _quotes(answer.days)


def _tone(note: Note, answer: NoteAnswer) -> str:
    parts = [part for part in answer.parts() if part]
    others = [part.text for part in parts if part.tone != note.tone]
    share = f"{len(parts) - len(others)} of 4 parts in that tone"
    return f"{share}, not {_quotes(others)}" if others else share


def _answer(answer: StepsAnswer) -> str:
    return "none" if answer.answer is None else _quote(f"Answer: {answer.answer}.")


def _progress(task: Steps, answer: StepsAnswer) -> str:
    right = leading_steps(task, answer)
    if right == len(task.terms) - 1:
        return f"makes every step right, up to {_quote(str(answer.steps[right - 1]))}"
    if right == len(answer.steps):
        return f"stops after {_quote(str(answer.steps[-1]))}" if right else "makes no step"
    total = sum(task.terms[: right + 1])
    due = Step(total, task.terms[right + 1], total + task.terms[right + 1])
    return f"goes wrong at {_quote(str(answer.steps[right]))} where {str(due)[:-1]} was due"


# What keeps an answer from being its parts and nothing else.


def _focus_point(better: list[str], other: list[str]) -> str:
    """Say what is wrong with the one answer that lost the criterion; the one that has it has no gaps."""
    who, gaps = ("other", other) if other else ("better", better)
    return f"The {who} answer {join_words(gaps)}."


def _gaps(answer: NoteAnswer) -> list[str]:
    names = ("opening", "request", "total", "closing")
    missing = [f"proper {name}" for name, part in zip(names, answer.parts(), strict=True) if part is None]
    return [*_additions(answer.rest), *(f"has no {name}" for name in missing)]


def _steps_gaps(task: Steps, answer: StepsAnswer) -> list[str]:
    made, needed = len(answer.steps), len(task.terms) - 1
    gaps = _additions(answer.rest)
    gaps += [f"makes {made} of {needed} steps"] if made != needed else []
    return gaps + (["has no line with the answer"] if answer.answer is None else [])


def _additions(rest: tuple[str, ...]) -> list[str]:
    return [f"says {_quotes(rest)}, which is no part of what was asked for"] if rest else []


# Reading the request


def _between(request: str, tag: str) -> str:
    match = re.search(rf"^<{tag}>\n(.*?)\n?^</{tag}>", request, re.DOTALL | re.MULTILINE)
    if match is None:
        raise _unreadable(f"no lines <{tag}> and </{tag}>")
    return match[1].strip()


def _line(request: str, key: str, values: str) -> str:
    # The last one, as an answer above it could hold a line that looks the same.
    found = re.findall(rf"^{key}: ({values})\s*$", request, re.MULTILINE)
    if not found:
        raise _unreadable(f"no line '{key}: {values.replace('|', f' or {key}: ')}'")
    return str(found[-1])


def _unreadable(what: str) -> DataError:
    return DataError(
        f"the toy critic cannot read the request: it has {what}",
        hint="prefkit/toy-critic answers the rationale stage only; take another model for other requests",
    )
