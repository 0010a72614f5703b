"""Cell: whether two answers are equal as mathematics, by `math-verify`, which reads LaTeX and plain expressions.

Reading an expression may run it, simplifying one may never end: so both happen in here.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Literal

__all__ = ["prepare"]

Verdict = Literal[
    "equal", "different", "no-answer", "not-readable", "not-comparable", "bad-reference", "memory"
]


def prepare(settings: Mapping[str, Any]) -> Callable[[Mapping[str, str]], Verdict]:
    """Import the library once, and return what judges."""
    import math_verify

    logging.disable(logging.CRITICAL)  # it warns that we set no timeout: the jail has one
    digits = int(settings["digits"])
    kinds = (math_verify.LatexExtractionConfig(), math_verify.ExprExtractionConfig())

    def read(text: str) -> list[Any]:
        return list(math_verify.parse(text, kinds, parsing_timeout=None))

    def judge(item: Mapping[str, str]) -> Verdict:
        try:
            wanted = read(item["reference"])
            if not _has_value(wanted):
                return "bad-reference"
            found = read(item["answer"])
            if not found:
                return "no-answer"
            same = math_verify.verify(
                wanted, found, float_rounding=digits, timeout_seconds=None, raise_on_error=True
            )
            if same:
                return "equal"
            return "different" if _has_value(found) else "not-readable"
        except MemoryError:
            return "memory"
        except Exception:  # noqa: BLE001 - libraries of this size raise anything; none of it says who is right
            return "not-comparable"

    read("$x^2$")  # builds the tables of the parser, which is slow, once for all children
    return judge


def _has_value(read: list[Any]) -> bool:
    return any(not isinstance(each, str) for each in read)
