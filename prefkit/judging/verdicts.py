"""Verdicts: what a judge's answer says, or why it says nothing.

A parser reads the judge's own words and nothing else: thoughts are taken out, and a verdict that stands in quotation
marks is somebody else's. The last verdict counts, as judges weigh before they decide; two final lines that differ, or
a last line that names both, is no verdict. What cannot be read is a flaw by name, never a guess.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import exp
from typing import Generic, NamedTuple, TypeVar

from prefkit.engines import Completion

__all__ = [
    "FLAWS",
    "Reading",
    "choice",
    "first_error",
    "number",
    "odds",
    "ranking",
    "read",
    "without_thoughts",
]

FLAWS = ("empty", "cut-off", "refusal", "no-verdict", "contradictory")
"""Why an answer cannot be read, beside `tie-not-allowed`."""

V = TypeVar("V")

_THOUGHT = r"(?:think|thinking|thought|thoughts|reasoning|reflection)"
_TAGS = re.compile(rf"<(/?){_THOUGHT}\b[^>]{{0,200}}>", re.IGNORECASE)
_SEARCHED = 20_000
"""Characters at the end of an answer in which a verdict is looked for; an answer may have ten million."""
_BRACKETS = re.compile(r"\[\[([^\[\]]{1,4000})\]\]")
_KEYS = (
    "verdict",
    "winner",
    "choice",
    "decision",
    "answer",
    "score",
    "rating",
    "grade",
    "ranking",
    "rank",
    "step",
)
_LABELLED = re.compile(
    rf"\W*(?:(?:my|the|so|final|overall)\s+){{0,3}}(?:{'|'.join(_KEYS)})\W*(?:\bis\b\s*)?[:=]\s*(.+)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\b(?:i\s+(?:cannot|can['’]t|can\s+not|won['’]t|will\s+not|am\s+(?:not\s+able|unable)\s+to)|i['’]m\s+(?:sorry|unable)|"
    r"as\s+an?\s+(?:ai|language\s+model))\b",
    re.IGNORECASE,
)
_DRESS = " \t\r*_`~#|\"'“”‘’«».,;:!()[]{}"
_QUOTES = "\"'`“”‘’«»"
_CHOICE = re.compile(
    r"(?:the\s+)?(?:(?:response|answer|assistant|option|candidate|model)\s+)?([abc])", re.IGNORECASE
)
_TIES = frozenset({"tie", "tied", "a tie", "equal", "draw", "same"})
_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?)(?:\s*/\s*(\d+(?:\.\d+)?))?")
_STEP = re.compile(
    r"step\s*(\d{1,9})\W{0,4}\s*(?:is\s+)?(correct|right|neutral|incorrect|wrong)\b", re.IGNORECASE
)


class Reading(NamedTuple, Generic[V]):
    """What an answer says: a value, or why there is none."""

    value: V | None
    flaw: str | None = None


class _Said(NamedTuple, Generic[V]):
    value: V
    line: int
    is_final: bool
    """Whether the line holds nothing else."""


def read(answer: Completion, meaning: Callable[[str], V | None]) -> Reading[V]:
    """Return the verdict of an answer. `meaning` says what a bare verdict means, and None of what is none."""
    text = without_thoughts(answer.text).strip()[-_SEARCHED:]
    if not text.strip():
        return Reading(None, "cut-off" if answer.finish == "length" else "empty")
    found = sorted(_said(text, meaning), key=lambda one: one.line)
    if not found:
        if answer.finish == "length":
            return Reading(None, "cut-off")
        return Reading(None, "refusal" if _REFUSAL.search(text) else "no-verdict")
    finals = [one.value for one in found if one.is_final]
    last = [one.value for one in found if one.line == found[-1].line]
    if any(value != finals[0] for value in finals) or any(value != last[0] for value in last):
        return Reading(None, "contradictory")
    return Reading(last[0])


def without_thoughts(text: str) -> str:
    """Return an answer without what its model thought before: closed, never closed, or opened by its template."""
    kept: list[str] = []
    start, is_thought = 0, False
    for tag in _TAGS.finditer(text):
        if tag[1] and not is_thought:  # opened by the template: all before it was thought
            kept = []
        elif not tag[1] and not is_thought:
            kept.append(text[start : tag.start()])
        is_thought, start = not tag[1], tag.end()
    return "".join(kept) if is_thought else "".join(kept) + text[start:]


def choice(text: str) -> str | None:
    """Return `first`, `second` or `tie`: A, B or C, as `Answer A` too, in whatever case and dress."""
    bare = text.strip(_DRESS)
    if bare.casefold() in _TIES:
        return "tie"
    found = _CHOICE.fullmatch(bare)
    return {"a": "first", "b": "second", "c": "tie"}[found[1].lower()] if found else None


def number(low: float, high: float) -> Callable[[str], float | None]:
    """Return what reads a number from `low` to `high`: `7`, `7.5`, `7/10`. What is out of range is none."""

    def meaning(text: str) -> float | None:
        found = _NUMBER.fullmatch(text.strip(_DRESS))
        if found is None or (found[2] is not None and float(found[2]) != high):
            return None
        return float(found[1]) if low <= float(found[1]) <= high else None

    return meaning


def ranking(count: int) -> Callable[[str], tuple[int, ...] | None]:
    """Return what reads `3 > 1 > 2` as (2, 0, 1): every one of `count` exactly once, best first."""

    def meaning(text: str) -> tuple[int, ...] | None:
        parts = [part.strip(_DRESS) for part in re.split(r"[>,]", text.strip(_DRESS))]
        if not all(_is_whole(part) for part in parts):
            return None
        places = tuple(int(part) - 1 for part in parts)
        return places if sorted(places) == list(range(count)) else None

    return meaning


def _is_whole(text: str) -> bool:
    """Say whether a text is a whole number, short enough to be one of something."""
    return text.isascii() and text.isdigit() and len(text) < 10


def first_error(count: int) -> Callable[[str], int | None]:
    """Return what reads which of `count` steps is the first wrong one, 0 for none.

    Either the number alone, or `Step 1: correct; Step 2: incorrect`; a neutral step counts as wrong there.
    Source: Step-DPO (2024), the localiser's last line.
    """

    def meaning(text: str) -> int | None:
        bare = text.strip(_DRESS)
        if _is_whole(bare):
            return int(bare) if int(bare) <= count else None
        steps = _STEP.findall(bare)
        if not steps or any(not 1 <= int(at) <= count for at, _ in steps):
            return None
        wrong = [int(at) for at, word in steps if word.lower() not in {"correct", "right"}]
        return wrong[0] if wrong else 0

    return meaning


def odds(
    tops: Sequence[Sequence[tuple[str, float]]] | None, labels: Sequence[str]
) -> tuple[float, ...] | None:
    """Return the share of probability of each label where the answer begins, or None if it is not known.

    `tops` are the likeliest tokens of each place with their log-probs. A token counts for a label in whatever case and
    dress (` A`, `a`, `[[A`); the place is the first at which labels have half of what is told.
    """
    places = {label.casefold(): at for at, label in enumerate(labels)}
    for place in tops or ():
        mass, total = [0.0] * len(labels), 0.0
        for token, logp in place:
            bare = token.strip(_DRESS + "\n").casefold()
            total += exp(min(logp, 0.0))
            if bare in places:
                mass[places[bare]] += exp(min(logp, 0.0))
        if sum(mass) > total / 2:
            return tuple(each / sum(mass) for each in mass)
    return None


def _said(text: str, meaning: Callable[[str], V | None]) -> Iterator[_Said[V]]:
    """Yield every verdict in a text. Bare words count only where nothing says that it is a verdict."""
    objects = list(_objects(text))
    told = [one for each in objects for one in _keyed(each, text, meaning)]
    lines = _without(text, objects).split("\n")
    marked = [*told, *_bracketed(lines, meaning), *_labelled(lines, meaning)]
    yield from marked
    if marked:
        return
    filled = [at for at, line in enumerate(lines) if line.strip()]
    for at in dict.fromkeys((*filled[:1], *filled[-1:])):
        value = meaning(lines[at])
        if value is not None:
            yield _Said(value, at, is_final=True)


def _bracketed(lines: Sequence[str], meaning: Callable[[str], V | None]) -> Iterator[_Said[V]]:
    for at, line in enumerate(lines):
        for found in _BRACKETS.finditer(line):
            value = meaning(found[1])
            rest = line[: found.start()] + line[found.end() :]
            is_final = not rest.strip(_DRESS) or _LABELLED.fullmatch(line) is not None
            around = line[: found.start()][-1:] + line[found.end() :][:1]
            is_quoted = len(around) == 2 and set(around) <= set(_QUOTES)
            if value is not None and (is_final or not is_quoted) and not line.lstrip().startswith(">"):
                yield _Said(value, at, is_final)


def _labelled(lines: Sequence[str], meaning: Callable[[str], V | None]) -> Iterator[_Said[V]]:
    for at, line in enumerate(lines):
        found = _LABELLED.fullmatch(line)
        value = meaning(found[1]) if found and "[[" not in line and "{" not in line else None
        if value is not None:
            yield _Said(value, at, is_final=True)


class _Object(NamedTuple):
    """A JSON object in a text."""

    value: Mapping[str, object]
    start: int
    end: int


def _objects(text: str) -> Iterator[_Object]:
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield _Object(value, at, end)
        at = text.find("{", end)


def _without(text: str, objects: Sequence[_Object]) -> str:
    """Return a text with its JSON objects blanked: what they quote is no verdict; lines stay where they are."""
    for _, start, end in objects:
        inside = "\n" * text.count("\n", start, end)
        text = f"{text[:start]}{inside:>{end - start}}{text[end:]}"
    return text


def _keyed(found: _Object, text: str, meaning: Callable[[str], V | None]) -> Iterator[_Said[V]]:
    """Yield the verdict of a JSON object, under one of the usual keys, as text or number."""
    for key, item in found.value.items():
        value = meaning(_plain(item)) if key.casefold() in _KEYS else None
        if value is not None:
            yield _Said(value, text.count("\n", 0, found.end), is_final=True)


def _plain(item: object) -> str:
    if isinstance(item, list):
        return " > ".join(str(each) for each in item)
    return "" if isinstance(item, bool) else str(item)
