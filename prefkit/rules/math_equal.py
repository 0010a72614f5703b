r"""Math equality: whether the final answer of a response and the reference answer are equal as mathematics.

`math-verify` reads both, LaTeX or plain, and simplifies: 1/2, 0.5, \frac12 and \dfrac{2}{4} are equal, and so are
(x+1)^2 and x^2+2x+1, or sets in another order. Reading such a text can run it, and simplifying it can take forever or
all memory (10^10^10): so it happens in a jail, many at a time, each with a limit of its own. Texts that are letter by
letter the same, and plain integers, need no library.
"""

import re
from fractions import Fraction
from typing import ClassVar, NamedTuple, final

import pyarrow as pa
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from prefkit.columns import Columns, types
from prefkit.rules.answer import Markers, place_of_answer
from prefkit.rules.rule import Explained, Judged
from prefkit.rules.tally import tally
from prefkit.sandbox import Answer, Ask, Cell, in_parallel
from prefkit.tables import last_content

__all__ = ["MathEqual"]

_LONGEST = 2_000
"""Characters of an answer; of a response without a marker its end is looked at."""
_SCORES = {"equal": 1.0, "different": 0.0, "no-answer": 0.0}
_PLAIN = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,40})(?:\.\d{1,40})?")
_WORD = re.compile(r"(?<![\\A-Za-z])(?!(?:sqrt|sin|cos|tan|log|ln|exp|pi|oo|inf)\b)[A-Za-z]{2,}")
_DELIMITED = ("$", "\\(", "\\[", "\\boxed", "\\begin")


class _Pair(NamedTuple):
    """What is compared."""

    answer: str
    reference: str


@final
class MathEqual(Explained):
    r"""Score 1 where the final answer equals the reference answer as mathematics, else 0. Needs `prefkit[verify]`.

    A response without an answer scores 0; one whose answer cannot be read, or takes too long, has no score.
    """

    name: ClassVar[str] = "math-equal"

    marker: Markers = ("####", "A:", "Answer:", "\\boxed{")
    """What the final answer comes after; the last occurrence counts."""
    strict: bool = False
    """Whether a response without a marker scores 0; otherwise its last expression counts."""
    digits: NonNegativeInt = 6
    """Decimal places to which numbers that are not exact are compared."""
    seconds: PositiveFloat = 3.0
    """Processor time for one comparison."""
    memory: PositiveInt = 2048
    """MiB for one comparison, the library's own 500 included."""

    def reads(self) -> Columns:
        return types("response", "reference_answer")

    def judge(self, table: pa.Table) -> Judged:
        texts = last_content(table["response"]).to_pylist()
        references = table["reference_answer"].to_pylist()
        # Python loops: expressions have no vectorised form.
        known = [self._at_once(*row) for row in zip(texts, references, strict=True)]
        asked = {at: each for at, each in enumerate(known) if isinstance(each, _Pair)}
        cell = Cell(
            "prefkit.sandbox.math_equality",
            {"digits": self.digits},
            self.seconds,
            self.memory,
            packages=True,
            extra="verify",
        )
        # Many of one prompt give the same answer: each pair is compared once.
        pairs = list(dict.fromkeys(asked.values()))
        ran = in_parallel(cell, _compare, pairs, per_jail=500)
        said = dict(zip(pairs, ran.results, strict=True))
        verdicts = [each if isinstance(each, str) else said[each] for each in known]
        return tally(verdicts, _SCORES)

    def _at_once(self, text: str | None, reference: str | None) -> "_Pair | str":
        """Return the verdict where it is plain, else what is to be compared."""
        if text is None:
            return "no-response"
        if reference is None or not reference.strip():
            return "no-reference"
        wanted = _final(reference, self.marker) or reference.strip()
        found = _final(text, self.marker)
        if found is None:
            if self.strict:
                return "no-answer"
            found = text.strip()[-_LONGEST:]
        if not found:
            return "no-answer"
        if max(len(wanted), len(found)) > _LONGEST:
            return "too-long"
        if " ".join(found.split()) == " ".join(wanted.split()):
            return "equal"
        if (one := _integer(found)) is not None and (other := _integer(wanted)) is not None:
            return "equal" if one == other else "different"
        return _Pair(_delimited(found), _delimited(wanted))


def _final(text: str, markers: tuple[str, ...]) -> str | None:
    r"""Return the answer after the last marker, to the end of its line; `\boxed{...}` with its braces; None without."""
    place = place_of_answer(text, markers)
    if place is None:
        return None
    if place.marker.endswith("{"):
        return text[place.end - len(place.marker) :][:_LONGEST]
    line = (text[place.end :].strip().splitlines() or [""])[0]
    return line.strip().removesuffix(".").strip()


def _integer(text: str) -> Fraction | None:
    """Return a plain number that is whole, or None."""
    if not _PLAIN.fullmatch(text):
        return None
    value = Fraction(text.replace(",", ""))
    return value if value.denominator == 1 else None


def _delimited(text: str) -> str:
    """Return an answer as the library finds it: bare expressions between dollar signs, sentences as they are."""
    if any(mark in text for mark in _DELIMITED) or _WORD.search(text):
        return text
    return f"${text}$"


def _compare(ask: Ask, pair: _Pair) -> str:
    answer: Answer = ask(pair._asdict())
    return answer.lost or str(answer.said)
