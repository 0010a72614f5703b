r"""Stepwise: where an answer that is written in steps goes wrong, and what may follow the part that was right.

    prefix     everything up to and including the label of the first wrong step: "Step 1: 2+3=5.\nStep 2:"
    step       what stands behind it, up to the next label: " 5*2=12."

Only labels at the start of a line and in turn count, so that a step may speak of another by its label.

Source: Step-DPO (Lai et al., 2024), arXiv 2406.18629.
"""

import re
from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from prefkit.marks import Mark

__all__ = ["Fault", "fault_at", "labelled_steps", "step_after"]

_NUMBER = "{}"


class Fault(NamedTuple):
    """Where the first wrong step begins."""

    step: int
    """Its number, from 1."""
    end: int
    """How many characters the part before it has, its own label included."""


def labelled_steps(text: str, label: str) -> list[Mark]:
    """Return the labels of a text, `Step 1:`, `Step 2:` and so on in turn; each mark is a label with its number.

    `label` has `{}` for the number. A number that is not the next one is part of a step.
    """
    found: list[Mark] = []
    for match in _labels(label).finditer(text):
        if int(match[1]) == len(found) + 1:
            found.append(Mark(match.start(), match.end(), len(found) + 1))
    return found


def fault_at(text: str, part: int, separator: str, label: str = "") -> Fault | None:
    """Return where the wrong step begins, if it is the `part`-th between separators, from 1; None if there is none.

    With a label, it is the labelled step that this part belongs to.
    """
    starts = _starts(text, separator)
    if not 1 <= part <= len(starts):
        return None
    start = starts[part - 1]
    if not label:
        return Fault(part, len(text[:start].rstrip()))
    marks = labelled_steps(text, label)
    at = bisect_right([mark.start for mark in marks], start)
    return Fault(marks[at - 1].id, marks[at - 1].end) if at else None


def step_after(text: str, end: int, separator: str, label: str = "") -> str:
    """Return the first step behind a prefix of `end` characters, without the space after it."""
    rest = text[end:]
    if label:
        following = re.search(r"\n\s*" + _labels(label).pattern.removeprefix("^"), rest)
        return (rest[: following.start()] if following else rest).rstrip()
    starts = _starts(rest, separator)
    return rest[: starts[1]].rstrip() if len(starts) > 1 else rest.rstrip()


def _starts(text: str, separator: str) -> list[int]:
    """Return where the parts between separators begin, blank ones left out, as the judge of steps counts them."""
    ends = [0, *(match.end() for match in re.finditer(re.escape(separator), text)), len(text)]
    return [
        start + len(part) - len(part.lstrip())
        for start, end in pairwise(ends)
        if (part := text[start:end].removesuffix(separator)).strip()
    ]


def _labels(label: str) -> re.Pattern[str]:
    before, _, after = label.partition(_NUMBER)
    return re.compile(rf"^[ \t]*{re.escape(before)}(\d{{1,6}}){re.escape(after)}", re.MULTILINE)
