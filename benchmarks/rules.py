"""Rows a second of the rules that run things: math equality and unit tests, beside what one process a test costs.

python benchmarks/rules.py
"""

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.rules import judged, parse


def table(texts: list[str], references: list[str]) -> pa.Table:
    said = [[{"role": "assistant", "content": text}] for text in texts]
    return pa.table(
        {"response": pa.array(said, MESSAGES), "reference_answer": pa.array(references, pa.string())}
    )


def processor() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(name: str, rows: int, work: Callable[[], Any]) -> None:
    clock, used = time.perf_counter(), processor()
    work()
    clock, used = time.perf_counter() - clock, processor() - used
    print(f"| {name} | {rows:,} | {rows / clock:,.0f} | {1e3 * used / rows:.2f} |")


def by_rule(name: str, spelled: object, texts: list[str], references: list[str]) -> None:
    rule: Any = parse(spelled)
    rows = table(texts, references)
    timed(name, len(texts), lambda: judged(rule, rows))


def main() -> None:
    print("| | rows | rows/s | CPU ms a row |\n| --- | ---: | ---: | ---: |")
    n = 2_000
    fractions = [rf"so \boxed{{\frac{{{k}}}{{{k + 1}}}}}" for k in range(n)]
    by_rule("math-equal, all different LaTeX", "math-equal", fractions, [f"{k}/{k + 1}" for k in range(n)])
    numbers = [f"text\nA: {k}" for k in range(100 * n)]
    by_rule("math-equal, integers", "math-equal", numbers, [str(k % 7) for k in range(100 * n)])
    code = "Here:\n```python\ndef add(a, b):\n    return a + b\n```\n"
    tests = ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"]
    by_rule(
        "unit-tests, three tests",
        {"unit-tests": {"allow_execution": True, "tests": tests}},
        [code] * 300,
        [""] * 300,
    )

    def bare() -> None:
        for _ in range(50):
            for test in tests:
                program = f"def add(a, b):\n    return a + b\n{test}"
                subprocess.run([sys.executable, "-I", "-c", program], check=True)

    timed("`python -I` for each of three tests, no sandbox", 50, bare)
    by_rule("structure", {"structure": {"has": ["code-block"], "sections": ["A"]}}, [code * 3] * n, [""] * n)
    by_rule(
        "json-schema", {"json-schema": {"schema": {"required": ["a"]}}}, ['{"a": 1}'] * 5 * n, [""] * 5 * n
    )


if __name__ == "__main__":
    main()
