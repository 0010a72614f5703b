"""Progress on stderr: one line per finished step, and a moving line below them where somebody watches."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from prefkit.cli.out import say
from prefkit.cli.process import go_on
from prefkit.show import thousands
from prefkit.steps import Event

__all__ = ["Progress"]

_SHORT = 0.2  # seconds; below it a rate says nothing


class Progress:
    """Show the events of a build. Call it with each of them, inside `with`."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr, markup=False, highlight=False)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task("", visible=False)
        self._started = time.perf_counter()

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show one event of a build."""
        go_on()
        if event.state == "start":
            self._started = time.perf_counter()
            self._bars.reset(self._task, total=event.total or None, description=event.step, visible=True)
        elif event.state == "part":
            self._bars.update(self._task, completed=event.rows)
        else:
            self._bars.update(self._task, visible=False)
            self.line(f"{event.step:<18} {self._story(event)}")

    def track(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show how far something else is, by its name."""
        go_on()
        self._bars.update(
            self._task, description=f"{name} {note}".strip(), completed=done, total=total, visible=True
        )

    def line(self, text: str) -> None:
        """Print a line that stays, above what moves."""
        if self._bars.disable:
            say(text)
        else:
            self._bars.console.print(text)

    def _story(self, event: Event) -> str:
        kept = f"{thousands(event.rows):>10} rows"
        if event.state == "cached":
            return f"{kept}  cached"
        seconds = time.perf_counter() - self._started
        read = max(event.total, event.rows)
        rate = f"  {thousands(round(read / seconds))} rows/s" if seconds > _SHORT and read else ""
        return f"{kept}  {seconds:.1f} s{rate}"
