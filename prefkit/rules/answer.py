"""Answers: whether the final answer of a response is the trusted one.

Only the final answer is compared: a response with a right answer may hold a wrong step, and the other way round.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, ClassVar, NamedTuple, final

import pyarrow as pa
from pydantic import BeforeValidator, NonNegativeFloat

from prefkit.columns import Columns, types
from prefkit.rules.rule import Rule
from prefkit.tables import last_content

__all__ = ["ExactAnswer", "Markers", "MathAnswer", "Place", "final_number", "place_of_answer"]

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])[-\u2212])?\s?[$€£]?\s?(?P<whole>\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))"
    r"(?P<part>\.\d+)?(?:\s?/\s?(?P<under>\d+))?"
)


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Markers = Annotated[tuple[str, ...], BeforeValidator(_several, json_schema_input_type=str | list[str])]


@final
class ExactAnswer(Rule):
    """Score 1 where the answer is the reference answer, case, whitespace and a final full stop aside; else 0."""

    name: ClassVar[str] = "exact-answer"

    marker: Markers = ()
    """What the answer comes after, to the end of its line; the last occurrence counts. Empty: the whole response."""

    def reads(self) -> Columns:
        return types("response", "reference_answer")

    def score(self, table: pa.Table) -> pa.Array:
        rows = zip(
            last_content(table["response"]).to_pylist(), table["reference_answer"].to_pylist(), strict=True
        )
        # A Python loop: what follows the last of several markers has no vectorised form.
        return pa.array([self._score(text, reference) for text, reference in rows], pa.float64())

    def _score(self, text: str | None, reference: str | None) -> float | None:
        if text is None or reference is None:
            return None
        answer = text
        if self.marker:
            tail = _after(text, self.marker)
            if tail is None:
                return 0.0
            answer = (tail.strip().splitlines() or [""])[0]
        return float(_plain(answer) == _plain(reference))


@final
class MathAnswer(Rule):
    """Score 1 where the final number of a response equals the reference answer's, else 0; null without a reference.

    Numbers are compared exactly, as fractions: 3, 3.0, $3.00 and 6/2 are equal, and so are 1,000 and 1000.
    """

    name: ClassVar[str] = "math-answer"

    marker: Markers = ("####", "A:", "Answer:", "\\boxed{")
    """What the final number comes after; the last occurrence counts."""
    strict: bool = False
    """Whether a response without a marker scores 0; otherwise its last number counts."""
    tolerance: NonNegativeFloat = 0.0
    """Largest difference that still counts as equal."""

    def reads(self) -> Columns:
        return types("response", "reference_answer")

    def score(self, table: pa.Table) -> pa.Array:
        texts = last_content(table["response"]).to_pylist()
        references = table["reference_answer"].to_pylist()
        # A Python loop: exact fractions have no vectorised form.
        return pa.array([self._score(*row) for row in zip(texts, references, strict=True)], pa.float64())

    def _score(self, text: str | None, reference: str | None) -> float | None:
        if text is None or reference is None:
            return None
        wanted = final_number(reference, self.marker)
        if wanted is None:
            return None
        found = final_number(text, self.marker, strict=self.strict)
        return float(found is not None and abs(found - wanted) <= Fraction(self.tolerance))


def final_number(text: str, markers: Sequence[str], *, strict: bool = False) -> Fraction | None:
    """Return the first number after the last marker; without a marker the last number, or None if `strict`."""
    tail = _after(text, markers)
    if tail is not None:
        found = _NUMBER.search(tail)
        return None if found is None else _value(found)
    if strict:
        return None
    last = None
    for last in _NUMBER.finditer(text):  # noqa: B007 - the last one is what is wanted
        pass
    return None if last is None else _value(last)


class Place(NamedTuple):
    """Where a final answer begins, and after which marker."""

    end: int
    marker: str


def place_of_answer(text: str, markers: Sequence[str]) -> Place | None:
    """Return where the last marker ends. A marker that starts with a letter must start a word."""
    found = [Place(at + len(marker), marker) for marker in markers if (at := _last(text, marker)) >= 0]
    return max(found) if found else None


def _after(text: str, markers: Sequence[str]) -> str | None:
    place = place_of_answer(text, markers)
    return None if place is None else text[place.end :]


def _last(text: str, marker: str) -> int:
    at = text.rfind(marker)
    while at > 0 and marker[:1].isalnum() and text[at - 1].isalnum():
        at = text.rfind(marker, 0, at)
    return at


def _value(found: re.Match[str]) -> Fraction | None:
    under = int(found["under"] or 1)
    if under == 0:
        return None
    size = Fraction((found["whole"].replace(",", "") or "0") + (found["part"] or "")) / under
    return -size if found["sign"] else size


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".").casefold()
