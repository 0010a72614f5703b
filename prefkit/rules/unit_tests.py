"""Unit tests: what share of its tests the code in a response passes.

That runs what a model wrote. It happens in a jail (`prefkit.sandbox`), and only where a recipe says
`allow_execution: true`; docs/rules.md says what the jail protects from, and what not. Each test has a process and a
folder of its own, so none sees what another left. Tests and code are one module: code that sets out to fool its tests,
with a number that equals every other, can.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, final

import pyarrow as pa
from pydantic import Field, PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.rules.markdown import last_code
from prefkit.rules.rule import Explained, Judged
from prefkit.sandbox import Answer, Ask, Cell, in_parallel
from prefkit.tables import last_content

__all__ = ["UnitTests"]

_PYTHON = ("", "python", "python3", "py")
_MOST_TIMEOUTS = 3
_LONGEST = 200_000
"""Characters of a response."""

Test = Mapping[str, str]
"""`test`: code that raises where something is wrong; or `input` and `output` of a program."""


@final
class UnitTests(Explained):
    """Score the share of a row's tests that the Python code of a response passes. Runs the code: off unless allowed.

    The code is the last fenced block; a response without one scores 0. A row without tests has no score.
    """

    name: ClassVar[str] = "unit-tests"

    allow_execution: bool = False
    """Must be true: the code is run. Read docs/rules.md first."""
    column: str = ""
    """Column with the tests of each row, as text: Python that raises where something is wrong; or a JSON list of such
    texts; or a JSON list of {"input": ..., "output": ...} that the code, as a program, turns one into the other."""
    tests: tuple[str, ...] = ()
    """Tests for every row, instead of a column: `assert add(1, 2) == 3`."""
    how: Literal["share", "all"] = "share"
    """The share of tests passed, or 1 if all pass and else 0."""
    fenced: bool = True
    """Whether the code is the last fenced block; otherwise it is the whole response."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    """Processor time of a test; by the clock four times as much and a second. After three tests of a row that took
    longer, its other tests count as failed."""
    memory: PositiveInt = 512
    """MiB for each process of a test."""
    processes: PositiveInt = 8
    """Most processes and threads of a test."""
    packages: bool = False
    """Whether the code may import what is installed beside prefkit, or the standard library only."""

    @model_validator(mode="after")
    def _is_allowed(self) -> Self:
        if not self.allow_execution:
            raise ValueError(
                "this runs code that a model wrote: set allow_execution: true once you have read docs/rules.md"
            )
        if bool(self.column) == bool(self.tests):
            raise ValueError("set exactly one of column and tests")
        return self

    def reads(self) -> Columns:
        return {**types("response"), **({self.column: pa.string()} if self.column else {})}

    def judge(self, table: pa.Table) -> Judged:
        texts = last_content(table["response"]).to_pylist()
        given = table[self.column].to_pylist() if self.column else [None] * len(texts)
        # Python loops: each row is a program.
        rows = [self._row(*row) for row in zip(texts, given, strict=True)]
        asked = [row for row in rows if isinstance(row, _Row)]
        cell = Cell(
            "prefkit.sandbox.unit_tests",
            {},
            self.seconds,
            self.memory,
            self.processes,
            fresh=True,
            guarded=True,
            packages=self.packages,
        )
        ran = in_parallel(cell, _run, asked, per_jail=8)
        verdicts = iter(ran.results)
        notes: Counter[str] = Counter()
        if ran.network:
            notes["ran-with-network"] = len(asked)
        scores = [
            self._score(next(verdicts), notes) if isinstance(row, _Row) else _known(row, notes)
            for row in rows
        ]
        return Judged(pa.array(scores, pa.float64()), dict(notes))

    def _row(self, text: str | None, given: str | None) -> "_Row | str":
        """Return what is to be run, or why nothing is."""
        if text is None:
            return "no-response"
        tests = [{"test": test} for test in self.tests] if self.tests else read_tests(given)
        if not tests:
            return "no-tests" if tests is not None else "bad-tests"
        if len(text) > _LONGEST:
            return "too-long"
        code = last_code(text, _PYTHON) if self.fenced else text
        return "no-code" if code is None or not code.strip() else _Row(code, tests)

    def _score(self, verdicts: Sequence[str], notes: Counter[str]) -> float | None:
        counted = [verdict for verdict in verdicts if verdict != "bad-test"]
        if len(counted) < len(verdicts):
            notes["bad-tests"] += 1
        if not counted:
            return None
        if "timeout" in counted:
            notes["timed-out"] += 1
        passed = counted.count("passed")
        return passed / len(counted) if self.how == "share" else float(passed == len(counted))


class _Row(NamedTuple):
    """What is run for one response."""

    code: str
    tests: Sequence[Test]


def read_tests(text: str | None) -> list[Test] | None:
    """Return the tests of a cell: none of an empty one, and None of one that cannot be read."""
    if text is None or not text.strip():
        return []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return [{"test": text}]
    if not isinstance(value, list):
        return None
    tests = [_read_test(item) for item in value]
    return None if None in tests else [test for test in tests if test is not None]


def _read_test(item: Any) -> Test | None:
    if isinstance(item, str):
        return {"test": item}
    if not isinstance(item, dict) or not {"input", "output"} <= set(item):
        return None
    pair = {name: item[name] for name in ("input", "output")}
    return pair if all(isinstance(value, str) for value in pair.values()) else None


def _known(why: str, notes: Counter[str]) -> float | None:
    notes[why] += 1
    return 0.0 if why == "no-code" else None


def _run(ask: Ask, row: _Row) -> list[str]:
    verdicts: list[str] = []
    for test in row.tests:
        if verdicts.count("timeout") >= _MOST_TIMEOUTS:
            verdicts.append("failed")
            continue
        answer: Answer = ask({"code": row.code, **test})
        verdicts.append(answer.lost or str(answer.said))
    return verdicts
