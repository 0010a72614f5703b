"""Paging: an answer longer than the screen is read in a pager, on a terminal and nowhere else.

`PAGER` says which, with its arguments; `PAGER=cat` or an empty one says none. `less` is told to keep the styles and to
leave what was read on the screen, unless `LESS` says otherwise. Leaving the pager early is no error.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import RenderableType

from prefkit.cli.out import drawn, show

__all__ = ["page"]

_LESS = "FRX"
"""Quit if it fits on a screen, styles as they are, no other screen: as git calls it."""


def page(parts: Iterable[RenderableType], environment: Mapping[str, str] | None = None) -> None:
    """Print parts as `show` does; through a pager where they are longer than the terminal's screen."""
    environment = os.environ if environment is None else environment
    pager = _pager(environment) if _is_terminal() else []
    if not pager:
        show(*parts)
        return
    text = "\n".join(drawn(part) for part in parts)
    if text.count("\n") + 1 < shutil.get_terminal_size().lines or not _read_in(pager, text, environment):
        print(text)


def _is_terminal() -> bool:
    return sys.stdout.isatty() and sys.stdin.isatty()


def _pager(environment: Mapping[str, str]) -> Sequence[str]:
    """Return the command of the pager; empty where there is none."""
    if environment.get("TERM", "dumb") in ("dumb", "unknown"):
        return []
    try:
        command = shlex.split(environment.get("PAGER", "less"))
    except ValueError:
        return []
    return [] if not command or command == ["cat"] or shutil.which(command[0]) is None else command


def _read_in(pager: Sequence[str], text: str, environment: Mapping[str, str]) -> bool:
    """Show a text in a pager and wait until it is left. False if it could not be started."""
    try:
        process = subprocess.Popen(
            pager,
            stdin=subprocess.PIPE,
            env={"LESS": _LESS, **environment},
            text=True,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except OSError:
        return False
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # who leaves early has seen enough
        process.stdin.write(text + "\n")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    while True:
        try:
            process.wait()
        except KeyboardInterrupt:  # it belongs to the pager
            continue
        return True
