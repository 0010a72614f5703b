"""Cell: runs a piece of code and one test of it. Everything here happens in a child that has given up everything."""

import ast
import contextlib
import importlib
import os
import random
import runpy
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

__all__ = ["prepare"]

Verdict = Literal["passed", "failed", "bad-test"]
_COMMON = (
    "collections",
    "dataclasses",
    "functools",
    "heapq",
    "itertools",
    "math",
    "re",
    "string",
    "typing",
    "unittest",
)


def prepare(_: Mapping[str, Any]) -> Callable[[Mapping[str, str]], Verdict]:
    """Import what most answers use, so that the children need not, and return what judges."""
    for name in _COMMON:
        importlib.import_module(name)
    return judge


def judge(item: Mapping[str, str]) -> Verdict:
    """Return what became of one test: `code` with `test`, or `code` as a program with `input` and `output`."""
    here = str(Path.cwd())
    for name in [name for name in sys.modules if name.partition(".")[0] == "prefkit"]:
        del sys.modules[name]
    os.environ.update(HOME=here, TMPDIR=here, PATH="/usr/bin:/bin", LANG="C.UTF-8")
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    random.seed(0)
    sys.path.insert(0, here)
    try:
        return _runs(item) if "output" in item else _holds(item["code"], item["test"])
    except BaseException:  # noqa: BLE001 - whatever the code raises, sys.exit included, is a failed test
        return "failed"


def _holds(code: str, test: str) -> Verdict:
    """Import code and test as one module, so that a test may replace what the code uses."""
    whole = f"{code}\n\n{test}\n"
    if not _asks_something(test) or (_compiles(code) and not _compiles(whole)):
        return "bad-test"
    Path("solution.py").write_text(whole, "utf-8")
    module = importlib.import_module("solution")
    _call_tests(module, {node.name for node in ast.parse(test).body if isinstance(node, ast.FunctionDef)})
    return "passed" if "TestCase" not in test or _cases_pass(module) else "failed"


def _asks_something(test: str) -> bool:
    """Return whether a test can fail at all: it does something, or defines what is called here."""
    try:
        body = ast.parse(test).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    idle = (
        ast.FunctionDef,
        ast.AsyncFunctionDef,
        ast.ClassDef,
        ast.Import,
        ast.ImportFrom,
        ast.Assign,
        ast.AnnAssign,
    )
    return any(_is_test(node) or not (isinstance(node, idle) or _is_text(node)) for node in body)


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, ast.ClassDef):
        return any("TestCase" in ast.unparse(base) for base in node.bases)
    return isinstance(node, ast.FunctionDef) and node.name.startswith("test_")


def _compiles(code: str) -> bool:
    try:
        compile(code, "code", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _call_tests(module: ModuleType, named: set[str]) -> None:
    for name in sorted(named):
        if name.startswith("test_"):
            vars(module)[name]()


def _cases_pass(module: ModuleType) -> bool:
    import unittest

    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    found = unittest.TestResult()
    suite.run(found)
    return found.wasSuccessful() and not found.unexpectedSuccesses


def _runs(item: Mapping[str, str]) -> Verdict:
    """Run code as a program, and compare what it prints, line by line and trailing whitespace aside."""
    for name, text in (("input.txt", item["input"]), ("program.py", item["code"])):
        Path(name).write_text(text, "utf-8", newline="")
    for place, name, how in ((0, "input.txt", os.O_RDONLY), (1, "output.txt", os.O_RDWR | os.O_CREAT)):
        os.dup2(os.open(name, how), place)
    sys.stdin, sys.stdout = open(0, encoding="utf-8"), open(1, "w", encoding="utf-8")  # noqa: SIM115
    code: object = 0
    try:
        runpy.run_path("program.py", run_name="__main__")
    except SystemExit as end:
        code = end.code
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    if code not in (None, 0):
        return "failed"
    said = Path("output.txt").read_text("utf-8", "replace")
    return "passed" if _lines(said) == _lines(item["output"]) else "failed"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
