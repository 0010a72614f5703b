"""What the verbs print: answers on stdout, everything said to people on the way on stderr."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.table import Table

from prefkit.errors import GateError, PrefkitError, RecipeError
from prefkit.show import as_json, visible

__all__ = ["drawn", "has_styles", "print_json", "say", "show", "show_error", "table"]

_MOST = 20
"""Problems of one recipe that are printed: more than a person mends before the next try."""
_NARROWEST = 110
"""Columns of text that tables are laid out for where nobody says: a pipe, a file, a narrow terminal that scrolls."""


def show(*parts: RenderableType) -> None:
    """Print an answer: text as it is, drawings laid out for the terminal, no line with blanks at its end."""
    for part in parts:
        print(drawn(part))


def drawn(part: RenderableType) -> str:
    """Return what `show` prints of a part."""
    if isinstance(part, str):
        return part
    console = _console(sys.stdout)
    with console.capture() as captured:
        console.print(part)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def has_styles() -> bool:
    """Say whether stdout shows bold, underlined and coloured text."""
    return _console(sys.stdout).is_terminal


def say(*lines: str) -> None:
    """Tell a person something that is not the answer. Work goes on where nobody listens any more."""
    try:
        for line in lines:
            print(visible(line), file=sys.stderr, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def print_json(value: object) -> None:
    """Print one line of JSON."""
    print(as_json(value))


def table(*titles: str, wraps: Sequence[str] = ()) -> Table:
    """Return an empty table without lines. Columns in `wraps` may break; the others never do."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for title in titles:
        made.add_column(title, no_wrap=title not in wraps, overflow="fold" if title in wraps else "ellipsis")
    return made


def show_error(error: PrefkitError) -> None:
    """Print an error a user can act on: what, where, hint; each problem of a recipe, each gate on its own."""
    problems = error.problems if isinstance(error, RecipeError | GateError) else [error]
    for at, problem in enumerate(problems[:_MOST]):
        if at:
            print(file=sys.stderr)
        print(f"error: {_line(problem.what)}", file=sys.stderr)
        if problem.where:
            print(f"  where: {_line(problem.where)}", file=sys.stderr)
        if problem.hint:
            print(f"  hint:  {_line(problem.hint)}", file=sys.stderr)
    if len(problems) > _MOST:
        print(f"\nand {len(problems) - _MOST} more", file=sys.stderr)
    if isinstance(error, GateError):
        print(f"\n{_line(error.hint)}", file=sys.stderr)


def _line(text: str) -> str:
    """Return a text as one line: what an error quotes must not look like another error."""
    return visible(text).replace("\n", "\\n")


def _console(file: TextIO) -> Console:
    width = shutil.get_terminal_size((_NARROWEST, 24)).columns if file.isatty() else _NARROWEST
    return Console(file=file, width=max(width, 80), markup=False, highlight=False, emoji=False)
