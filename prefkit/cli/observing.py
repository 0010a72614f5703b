"""Watching a command: `--log` writes what happens as lines of JSON.

With `--log -` they take the place of everything else on stderr: whatever is said there becomes an event, so that a
machine can read the stream as it is. Answers stay on stdout.
"""

import errno
import io
import os
import platform
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from typing import TextIO, final

import typer

from prefkit.engines.spend import BudgetError
from prefkit.errors import GateError, PrefkitError, RecipeError
from prefkit.logs import ERROR, WARNING, JsonLines, hidden_in, listening, note

__all__ = ["Said", "observed"]

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


@contextmanager
def observed(verb: str, log: str) -> Iterator[None]:
    """Write a log of what happens inside: to a file, to stderr where it is `-`, nowhere where it is empty.

    Of several processes that train together, the first writes. Raises PrefkitError before anything is done where the
    log cannot be written.
    """
    if not log or os.environ.get("RANK", "0") != "0":
        yield
        return
    with ExitStack() as stack:
        file: TextIO = sys.stderr if log == "-" else stack.enter_context(_opened(log))
        handler = JsonLines(file, hidden_in(os.environ))
        stack.enter_context(listening(handler))
        if log == "-":
            stack.enter_context(redirect_stderr(Said()))
        with _told(verb, alone=log == "-"):
            yield


@contextmanager
def _told(verb: str, *, alone: bool) -> Iterator[None]:
    """Tell the beginning and the end. An error that the log alone tells of leaves with its exit code and no more."""
    from prefkit import __version__

    started = time.perf_counter()
    note(
        "started",
        {"verb": verb, "prefkit": __version__, "python": platform.python_version(), "pid": os.getpid()},
    )
    try:
        yield
    except PrefkitError as error:
        _failed(error)
        if not alone:
            raise
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        note("stopped", {"verb": verb, "seconds": time.perf_counter() - started}, WARNING)
        if not alone:
            raise
        raise typer.Exit(2) from None
    except typer.Exit:
        raise
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        note("failed", {"kind": type(error).__name__, "what": str(error), "trace": trace}, ERROR)
        raise
    note("finished", {"verb": verb, "seconds": time.perf_counter() - started})


def _failed(error: PrefkitError) -> None:
    event = "budget reached" if isinstance(error, BudgetError) else "failed"
    problems = error.problems if isinstance(error, RecipeError | GateError) else ()
    told = [{"what": one.what, "where": one.where, "hint": one.hint} for one in problems]
    fields = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
    note(event, {**fields, "problems": told or None}, ERROR)


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    """Open a log to be written at its end. A pipe that nobody reads is an error, and nothing to wait for."""
    try:
        handle = os.open(path, _FLAGS, 0o666)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        nobody = isinstance(error, OSError) and error.errno == errno.ENXIO
        what = f"cannot write the log: {'nobody reads this pipe' if nobody else reason.lower()}"
        raise PrefkitError(
            what, where=f"--log {path}", hint="give a file that can be written, or `-`"
        ) from error
    os.set_blocking(handle, True)
    file = open(handle, "a", encoding="utf-8", errors="backslashreplace", newline="\n")  # noqa: PTH123, SIM115
    try:
        yield file
    finally:
        with suppress(OSError):  # of lines that could not be written, which was told
            file.close()


@final
class Said(io.TextIOBase):
    """Stands for stderr while events are written there: a line that somebody prints becomes an event."""

    def __init__(self) -> None:
        super().__init__()
        self._rest = ""

    def write(self, text: str) -> int:
        """Take a text; each line of it that is whole is told."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                note("said", {"text": line})
        return len(text)

    def isatty(self) -> bool:
        """Say that nobody watches."""
        return False
