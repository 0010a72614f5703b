"""The toy judge: compares, grades and ranks answers by the exact worth that the toy world gives them.

It reads the requests that the judge stage writes: texts between lines with a mark, the prompt first, and behind them how
a verdict is to be written. What stands in the texts moves it no more than their worth does. It has no position bias, it
agrees with itself, and it is right about every canary whose copy is worth less: what is left in the card of a build
with it is what the canaries themselves get wrong.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from prefkit.errors import DataError
from prefkit.toy.grading import gold

__all__ = ["is_for_judge", "verdict"]

_MARK: Final = re.compile(r"^<text (\w+)>$", re.MULTILINE)
_SCALE: Final = re.compile(r"n is a whole number from (-?\d+) \(worst\) to (-?\d+) \(best\)")


def is_for_judge(request: str) -> bool:
    """Return whether a request quotes texts as the judge stage does."""
    return _MARK.search(request) is not None


def verdict(request: str) -> str:
    """Answer a request of the judge stage of kind pairwise, pointwise or listwise.

    Raises: DataError for another kind, or if the toy world did not write the prompt.
    """
    quoted, how = _read(request)
    prompt, answers = quoted[0].text, quoted[1:]
    reasons = "[[" in how
    if "if answer A is better" in how:
        one, other = (gold(prompt, answer.text).reward for answer in answers[:2])
        letter = "A" if one > other else "B" if other > one else "C" if "if neither is" in how else "A"
        return _told([one, other], letter) if reasons else letter
    if (scale := _SCALE.search(how)) is not None:
        low, high = int(scale[1]), int(scale[2])
        worth = gold(prompt, answers[0].text).reward
        grade = str(low + round(worth * (high - low)))
        return _told([worth], grade) if reasons else grade
    if "the number of every answer exactly once" in how:
        worths = [gold(prompt, answer.text).reward for answer in answers if answer.label.startswith("Answer")]
        order = sorted(range(len(worths)), key=lambda at: -worths[at])
        return _told(worths, " > ".join(str(at + 1) for at in order))
    raise DataError(
        "the toy judge does not know what is asked of it",
        hint="it compares, grades and ranks; take another model for kinds localise and hindsight",
    )


class _Quoted(NamedTuple):
    label: str
    """The line before it: `Answer 1:`."""
    text: str


class _Asked(NamedTuple):
    quoted: Sequence[_Quoted]
    how: str
    """What stands behind the texts."""


def _read(request: str) -> _Asked:
    mark = _MARK.search(request)
    assert mark is not None
    fence = re.compile(rf"^([^\n]*)\n<text {mark[1]}>\n(.*?)\n</text {mark[1]}>$", re.DOTALL | re.MULTILINE)
    found = list(fence.finditer(request))
    return _Asked([_Quoted(one[1], one[2]) for one in found], request[found[-1].end() :])


def _told(worths: Sequence[float], said: str) -> str:
    return f"Worth, from 0 to 1: {', '.join(f'{worth:g}' for worth in worths)}.\n\n[[{said}]]"
