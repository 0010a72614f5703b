"""Expressions: arithmetic over named columns, in a grammar so small that nothing else can be written in it.

    sum     = product, { ("+" | "-"), product }
    product = signed, { ("*" | "/"), signed }
    signed  = [ "+" | "-" ], signed | power
    power   = atom, [ "**", signed ]
    atom    = number | name | function, "(", sum, { ",", sum }, ")" | "(", sum, ")"

Functions: abs, exp, log, sqrt, logistic of one value, min and max of two. A name that is no function is a column.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = ["Expression", "parse"]

_TOKEN = re.compile(
    r"\s*(?:(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|(\*\*|[-+*/(),]))", re.ASCII
)
_LONGEST = 1000
_DEEPEST = 40

_ONE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "-": np.negative,
    "abs": np.abs,
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "logistic": logistic,
}
_TWO: Mapping[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "min": np.minimum,
    "max": np.maximum,
}
_FUNCTIONS = {"abs": 1, "exp": 1, "log": 1, "sqrt": 1, "logistic": 1, "min": 2, "max": 2}


class _Step(NamedTuple):
    """One step of a calculation on a stack: push a number or a column, or apply a function of the last values."""

    what: str
    """`number`, `column`, or the name of a function."""
    name: str = ""
    number: float = 0.0
    takes: int = 0


class Expression(NamedTuple):
    """A formula that has been read."""

    steps: tuple[_Step, ...]

    def columns(self) -> tuple[str, ...]:
        """Return the columns it names, sorted."""
        return tuple(sorted({step.name for step in self.steps if step.what == "column"}))

    def __call__(self, columns: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
        """Return the value of each row, float64 [rows]; NaN or infinite where it has none."""
        stack: list[np.ndarray] = []
        with np.errstate(all="ignore"):
            for step in self.steps:
                if step.what == "number":
                    stack.append(np.full(rows, step.number))
                elif step.what == "column":
                    stack.append(columns[step.name])
                elif step.takes == 1:
                    stack.append(_ONE[step.what](stack.pop()))
                else:
                    right = stack.pop()
                    stack.append(_TWO[step.what](stack.pop(), right))
        return stack.pop()


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """Read a formula. Raises ValueError that says where it cannot be read."""
    if len(text) > _LONGEST:
        raise ValueError(f"the formula has {len(text)} characters, and {_LONGEST} are the most that is read")
    reader = _Reader(_tokens(text))
    reader.sum(0)
    reader.expect("end")
    return Expression(tuple(reader.steps))


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(
                f"cannot read '{text[at:].strip()[:20]}' in the formula, from character {at + 1}"
            )
        kind = ("number", "name", "sign")[(match.lastindex or 1) - 1]
        found.append(_Token(kind, match[match.lastindex or 0], match.end()))
        at = match.end()
    return [*found, _Token("end", "the end", end)]


class _Reader:
    """Reads tokens from left to right and writes steps: recursive descent, one method a rule of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self.steps: list[_Step] = []

    def sum(self, depth: int) -> None:
        """Read a sum."""
        if depth > _DEEPEST:
            raise ValueError(f"the formula is nested more than {_DEEPEST} deep")
        self._product(depth)
        while sign := self._take("+", "-"):
            self._product(depth)
            self.steps.append(_Step(sign, takes=2))

    def expect(self, *wanted: str) -> str:
        """Read one of these signs, or raise."""
        token = self._tokens[self._at]
        if token.kind == "end" and "end" in wanted:
            return token.text
        if found := self._take(*wanted):
            return found
        what = f"expected {' or '.join(repr(one) for one in wanted)} and found '{token.text}'"
        raise ValueError(f"{what} in the formula, up to character {token.at}")

    def _take(self, *wanted: str) -> str:
        token = self._tokens[self._at]
        if token.kind != "sign" or token.text not in wanted:
            return ""
        self._at += 1
        return token.text

    def _product(self, depth: int) -> None:
        self._signed(depth)
        while sign := self._take("*", "/"):
            self._signed(depth)
            self.steps.append(_Step(sign, takes=2))

    def _signed(self, depth: int) -> None:
        is_negative = False
        while sign := self._take("+", "-"):
            is_negative ^= sign == "-"
        self._atom(depth)
        if self._take("**"):
            self._deeper(depth)
            self.steps.append(_Step("**", takes=2))
        if is_negative:
            self.steps.append(_Step("-", takes=1))

    def _deeper(self, depth: int) -> None:
        if depth > _DEEPEST:
            raise ValueError(f"the formula is nested more than {_DEEPEST} deep")
        self._signed(depth + 1)

    def _atom(self, depth: int) -> None:
        token = self._tokens[self._at]
        if token.kind == "number":
            self._at += 1
            self.steps.append(_Step("number", number=float(token.text)))
        elif token.kind == "name":
            self._at += 1
            self._named(token, depth)
        else:
            if not self._take("("):
                raise ValueError(
                    f"expected a number, a column or '(' and found '{token.text}' in the formula"
                )
            self.sum(depth + 1)
            self.expect(")")

    def _named(self, token: _Token, depth: int) -> None:
        if not self._take("("):
            self.steps.append(_Step("column", name=token.text))
            return
        if token.text not in _FUNCTIONS:
            raise ValueError(f"'{token.text}' is no function; there are {', '.join(_FUNCTIONS)}")
        count = 1
        self.sum(depth + 1)
        while self.expect(",", ")") == ",":
            self.sum(depth + 1)
            count += 1
        if count != _FUNCTIONS[token.text]:
            raise ValueError(f"'{token.text}' takes {_FUNCTIONS[token.text]} values, and there are {count}")
        self.steps.append(_Step(token.text, takes=count))
