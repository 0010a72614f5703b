"""The critic: says in English why one answer is better than another, and never says what is not so.

A rationale is worth training on only if it is true. So this one is written from what `grading` reads out of the two
texts: a general rationale names the criteria in which the better answer is ahead, a specific one quotes the places.
Where the other answer is ahead it says so, and where the label is wrong it does not invent a reason. Of an answer that
is shown alone it says what it does and what it fails to do, in the order in which that explains how it stands.
"""

import re
from collections.abc import Mapping, Sequence
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
from prefkit.toy.world import Note, Steps, Task, join_words, read_prompt, write_lines

__all__ = ["Kind", "Standing", "explain", "explain_alone", "rationale"]

Kind = Literal["general", "specific"]
Standing = Literal["better", "worse"]


def rationale(messages: Sequence[tuple[str, str]]) -> str:
    """Answer a request for a rationale: (role, content) messages, of which the last one asks.

    It holds the texts between the lines `<prompt>`, `<response_1>`, `<response_2>` and their closing lines, and the
    lines `Better: 1` or `Better: 2` and `Kind: general` or `Kind: specific`; or, of one response that is shown alone,
    `<response>` and the line `Standing: better` or `Standing: worse`.
    Raises: DataError if one of them is missing, or if the toy world did not write the prompt.
    """
    request = messages[-1][1] if messages else ""
    if _ALONE.search(request):
        return _rationale_alone(request)
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


def _rationale_alone(request: str) -> str:
    standing: Standing = "better" if _line(request, "Standing", "better|worse") == "better" else "worse"
    kind: Kind = "general" if _line(request, "Kind", "general|specific") == "general" else "specific"
    return explain_alone(_between(request, "prompt"), _between(request, "response"), standing, kind)


def explain_alone(prompt: str, answer: str, standing: Standing, kind: Kind) -> str:
    """Say of one answer, without the other, what speaks for it or against it: in general, or with quotes.

    Raises: DataError if the toy world did not write the prompt.
    """
    weights, criteria = _weights(found := gold(prompt, answer)), found.criteria
    order = sorted(weights, key=lambda name: -weights[name])
    merits, faults = (
        [name for name in order if (criteria[name] == 1) == is_full] for is_full in (True, False)
    )
    if kind == "general":
        return _generally_alone(merits, faults, standing)
    return _specifically_alone(
        prompt, answer, *((merits, faults) if standing == "better" else (faults, merits))
    )


class _Contrast(NamedTuple):
    """The criteria in which one answer is ahead of the other, the weightiest difference first."""

    ahead: list[Criterion]
    behind: list[Criterion]


def _compare(better: Gold, other: Gold) -> _Contrast:
    leads = {
        name: weight * (better.criteria[name] - other.criteria[name])
        for name, weight in _weights(better).items()
    }
    order = sorted(leads, key=lambda name: -abs(leads[name]))
    return _Contrast([name for name in order if leads[name] > 0], [name for name in order if leads[name] < 0])


def _weights(found: Gold) -> Mapping[Criterion, float]:
    return STEPS_WEIGHTS if "steps" in found.criteria else NOTE_WEIGHTS


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


_MERITS: Final[Mapping[Criterion, str]] = {
    "items": "keeps to the list of items in the request",
    "total": "states the correct total",
    "tone": "holds the requested tone throughout",
    "focus": "is complete and adds nothing that was not asked for",
    "name": "addresses the right person",
    "day": "gives the right day",
    "steps": "makes every step of the addition without a mistake",
    "answer": "arrives at the correct sum",
}
_FAULTS: Final[Mapping[Criterion, str]] = {
    "items": "departs from the list of items in the request",
    "total": "fails to state the correct total",
    "tone": "falls out of the requested tone",
    "focus": "leaves something out or adds what was not asked for",
    "name": "fails to address the right person",
    "day": "fails to give the right day and no other",
    "steps": "makes a mistake in the addition or stops before its end",
    "answer": "does not arrive at the correct sum",
}


def _generally_alone(merits: list[Criterion], faults: list[Criterion], standing: Standing) -> str:
    good, bad = _joined([_MERITS[name] for name in merits]), _joined([_FAULTS[name] for name in faults])
    if standing == "better":
        if not merits:
            return f"Nothing in the request speaks for the response, as it {bad}."
        return f"The response {good}." + (f" Against it speaks that it {bad}." if faults else "")
    if not faults:
        return f"Nothing in the request speaks against the response, as it {good}."
    return f"The response {bad}." + (f" To its credit, it {good}." if merits else "")


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
    return _joined([_STRENGTHS[name] for name in names])


def _joined(words: list[str]) -> str:
    return join_words(words) if words else ""


# Specifically


def _specifically(contrast: _Contrast, prompt: str, better: str, other: str) -> str:
    """Quote both answers at the three weightiest differences, then at what speaks against the preference."""
    points = _points(prompt, better, other)
    sentences = [points[name] for name in contrast.ahead[:3]]
    sentences += [f"Against the preference: {points[name]}" for name in contrast.behind[:1]]
    if not contrast.ahead:
        sentences.insert(0, "Nothing in the request speaks for the better answer.")
    if not any('"' in sentence for sentence in sentences):
        sentences.append(
            f"The better answer begins with {_start(better)}, the other one with {_start(other)}."
        )
    return " ".join(sentences)


def _start(answer: str) -> str:
    return _quote(" ".join(answer.split(" ")[:3]))


def _specifically_alone(prompt: str, answer: str, first: list[Criterion], then: list[Criterion]) -> str:
    """Quote an answer at the three weightiest criteria that explain how it stands, then at one that does not."""
    task = read_prompt(prompt)
    asked, said = _asked(task), _said(task, answer)
    points = [
        f"{asked[name]}: the response {said[name]}." if name in asked else f"The response {said[name]}."
        for name in (*first[:3], *then[:1])
    ]
    if not any('"' in point for point in points):
        points.append(f"The response begins with {_start(answer)}.")
    return " ".join(points).replace(_quote(answer), _start(answer))  # a rationale is no copy of the answer


def _points(prompt: str, better: str, other: str) -> Mapping[Criterion, str]:
    """Say of each criterion what both answers make of it."""
    task = read_prompt(prompt)
    one, two = _said(task, better), _said(task, other)
    found = {
        name: f"{asked}: the better answer {one[name]}, the other one {two[name]}."
        for name, asked in _asked(task).items()
    }
    # the one that has it has nothing that could be quoted
    who, gaps = ("better", one["focus"]) if two["focus"] == _WHOLE else ("other", two["focus"])
    found["focus"] = f"The {who} answer {gaps}."
    if "steps" in one:
        found["steps"] = f"The better answer {one['steps']}, while the other one {two['steps']}."
    return found


def _asked(task: Task) -> dict[Criterion, str]:
    """Return what was due by those criteria for which that can be said in a few words."""
    if isinstance(task, Steps):
        return {"answer": f"The sum is {sum(task.terms)}"}
    return {
        "items": f"The request lists {write_lines(task.lines)}",
        "total": f"The items add up to {sum(line.number for line in task.lines)}",
        "tone": f"A {task.tone} note was asked for",
        "name": f"The note is for {task.name}",
        "day": f"The day is {task.day}",
    }


def _said(task: Task, text: str) -> dict[Criterion, str]:
    """Return what an answer does about each criterion: what follows `the answer`."""
    if isinstance(task, Steps):
        sums = read_steps_answer(text)
        return {
            "steps": _progress(task, sums),
            "answer": f"gives {_answer(sums)}",
            "focus": _joined(_steps_gaps(task, sums)) or _WHOLE,
        }
    note = read_note_answer(text)
    return {
        "items": f"has {_order(note)}",
        "total": f"says {_sum(note)}",
        "tone": f"has {_tone(task, note)}",
        "name": f"addresses {_quote(note.name)}",
        "day": f"says {_days(note)}",
        "focus": _joined(_gaps(note)) or _WHOLE,
    }


_WHOLE = "has every part and nothing else"


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

_ALONE: Final = re.compile(
    r"^Standing: (?:better|worse)\s*$(?!.*^Better: [12]\s*$)", re.MULTILINE | re.DOTALL
)


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
        hint="prefkit/toy-critic answers the rationale and judge stages only; take another model for other requests",
    )
