"""Progress on stderr: one line per finished step, and a moving line below them where somebody watches.

Both say what was spent on models; the moving line as it is spent.
"""

import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from prefkit.cli.observing import Said
from prefkit.cli.out import say
from prefkit.cli.process import go_on
from prefkit.engines import Spend
from prefkit.engines.spend import Tally, dollars
from prefkit.show import thousands
from prefkit.steps import Event

__all__ = ["Progress"]

_SHORT = 0.2  # seconds; below it a rate says nothing


class Progress:
    """Show the events of a build. Call it with each of them, inside `with`."""

    def __init__(self, spend: Spend | None = None) -> None:
        """Show what `spend` counts beside the rows, as it is counted."""
        console = Console(file=sys.stderr, markup=False, highlight=False)
        self._spend = spend or Spend()
        self._before = self._spend.snapshot()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            _Spent(self.spent),
        )
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
            self._started, self._before = time.perf_counter(), self._spend.snapshot()
            self._bars.reset(self._task, total=event.total or None, description=event.step, visible=True)
        elif event.state == "part":
            self._bars.update(self._task, completed=event.rows)
        else:
            self._bars.update(self._task, visible=False)
            self.line(f"{event.step:<18} {self._story(event)}")

    def spent(self) -> str:
        """Say what this step took of models so far: `1 200 calls, 340k tokens, $0.12, $0.45 in all, 14 calls/s`."""
        step, run = self._spend.since(self._before), self._spend.snapshot()
        tallies = list(step.values())
        calls, failed = sum(one.calls for one in tallies), sum(one.failed for one in tallies)
        known = sum(one.remembered for one in tallies)
        tokens = sum(one.tokens_in + one.tokens_out for one in tallies)
        here, in_all = self._spend.cost(step), self._spend.cost(run)
        seconds = time.perf_counter() - self._started
        parts = [f"{thousands(calls)} calls"] if calls else []
        parts += [f"{thousands(known)} remembered"] if known else []
        parts += [f"{_rounded(tokens)} tokens"] if tokens else []
        parts += [self._money(here, step)] if here else []
        parts += [f"{self._money(in_all, run)} in all"] if step and in_all and in_all != here else []
        parts += (
            [
                f"{thousands(round(calls / seconds)) if calls > 10 * seconds else f'{calls / seconds:.2g}'} calls/s"
            ]
            if calls and seconds > _SHORT
            else []
        )
        parts += [f"{thousands(failed)} failed"] if failed else []
        return ", ".join(parts)

    def _money(self, cost: Decimal, models: Mapping[str, Tally]) -> str:
        return f"{'at least ' if self._spend.is_floor(models) else ''}{dollars(cost)}"

    def track(self, name: str, done: int, total: int, note: str = "") -> None:
        """Show how far something else is, by its name."""
        go_on()
        self._bars.update(
            self._task, description=f"{name} {note}".strip(), completed=done, total=total, visible=True
        )

    def line(self, text: str) -> None:
        """Print a line that stays, above what moves."""
        if isinstance(sys.stderr, Said):
            return  # a log is written there, and has been told
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
        spent = self.spent()
        return f"{kept}  {seconds:.1f} s{rate}{f'  {spent}' if spent else ''}"


class _Spent(ProgressColumn):
    """What was spent, read anew at every refresh."""

    def __init__(self, spent: Callable[[], str]) -> None:
        super().__init__()
        self._spent = spent

    def render(self, task: Task) -> Text:
        """Return the text, where there is a step."""
        return Text(self._spent() if task.visible else "")


def _rounded(number: int) -> str:
    """Return a number to three digits: `950`, `12.3k`, `4.56M`."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if number >= 0.9995 * size:
            whole = number >= 999.5 * size
            return f"{thousands(round(number / size)) if whole else f'{number / size:.3g}'}{unit}"
    return str(number)
