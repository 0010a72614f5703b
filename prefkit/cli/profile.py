"""`--profile`: where the time of a build went, step by step, and in which functions of this process.

The seconds of steps come from their manifests, where they always are; only the list of functions costs anything, and
that is taken by Python's own profiler, of the thread that drives the build. Worker processes are seen through their
parts: right of `wall`, a row is summed over them, and may be longer than anybody waited.
"""

import cProfile
import logging
import pstats
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, final

from prefkit.cli.observing import Said
from prefkit.cli.out import drawn, say, table
from prefkit.logs import fields_of, listening, note
from prefkit.show import thousands, visible

__all__ = ["profiled"]

_MOST = 10
_PHASES = ("reading", "working", "filing", "counting")


class Function(NamedTuple):
    """A function of this process and the seconds spent in it, those of what it called left out."""

    where: str
    calls: int
    seconds: float


@final
class _Steps(logging.Handler):
    """Keeps what is told of steps."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: list[Mapping[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one event."""
        if record.getMessage() in ("step done", "step cached"):
            self.found.append(fields_of(record))


@contextmanager
def profiled(*, wanted: bool) -> Iterator[None]:
    """Say on stderr where the time inside went, if that is wanted; also where it ends in an error."""
    if not wanted:
        yield
        return
    steps, profile, started = _Steps(), cProfile.Profile(), time.perf_counter()
    try:
        with listening(steps):
            profile.enable()
            try:
                yield
            finally:
                profile.disable()
    finally:
        seconds, functions = time.perf_counter() - started, _slowest(profile)
        note("profile", {"seconds": seconds, "functions": [one._asdict() for one in functions]})
        if steps.found and not isinstance(sys.stderr, Said):
            say("", *_told(steps.found, seconds), "", *_functions(functions))


def _slowest(profile: cProfile.Profile) -> list[Function]:
    found: Mapping[tuple[str, int, str], tuple[int, int, float, float, object]]
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    every = [Function(_place(*place), counts[1], round(counts[2], 4)) for place, counts in found.items()]
    return sorted(every, key=lambda one: -one.seconds)[:_MOST]


def _place(file: str, line: int, name: str) -> str:
    """Return where a function is, without the folders above its package."""
    if file in ("~", ""):
        return name
    path = Path(file).as_posix()
    for mark in ("/site-packages/", "/prefkit/", "/lib/python"):
        if mark in path:
            path = ("prefkit/" if mark == "/prefkit/" else "") + path.rpartition(mark)[2]
            break
    return f"{path}:{line} {name}"


def _told(steps: list[Mapping[str, Any]], seconds: float) -> list[str]:
    """Return the table of steps, and of the models they asked, as lines."""
    shown = table(
        "step", "wall", "share", "cpu", "rows/s", "reading", "stage", "models", "filing", "counting", "peak"
    )
    for name in (
        "wall",
        "share",
        "cpu",
        "rows/s",
        "reading",
        "stage",
        "models",
        "filing",
        "counting",
        "peak",
    ):
        shown.columns[[str(column.header) for column in shown.columns].index(name)].justify = "right"
    spent = 0.0
    for step in steps:
        if "cpu" not in step:
            shown.add_row(visible(str(step["step"])), "cached")
            continue
        spent += step["seconds"]
        shown.add_row(*_row(step, seconds))
    rest = max(0.0, seconds - spent)
    shown.add_row("the rest", _seconds(rest), _share(rest, seconds))
    shown.add_row("in all", _seconds(seconds), _share(seconds, seconds))
    models = [
        (step["step"], model, used) for step in steps for model, used in (step.get("models") or {}).items()
    ]
    lines = [
        visible(
            f"{step}  {model}: {_seconds(used.get('seconds', 0.0))} for {thousands(used.get('calls', 0))} calls, "
            f"{thousands(used.get('remembered', 0))} remembered"
        )
        for step, model, used in models
    ]
    return ["where the time went", *drawn(shown).splitlines(), *(["", *lines] if lines else [])]


def _row(step: Mapping[str, Any], seconds: float) -> list[str]:
    models = sum(used.get("seconds", 0.0) for used in (step.get("models") or {}).values())
    own = max(0.0, step.get("working", 0.0) - models)
    rate, peak = step.get("rows_per_second"), step.get("peak_bytes")
    return [
        visible(str(step["step"])),
        _seconds(step["seconds"]),
        _share(step["seconds"], seconds),
        _seconds(step["cpu"]),
        thousands(round(rate)) if rate else "",
        *(_seconds(each) if each else "" for each in (step.get("reading", 0.0), own, models)),
        *(_seconds(step.get(phase, 0.0)) for phase in ("filing", "counting")),
        f"{peak / 1e6:,.0f} MB".replace(",", " ") if peak else "",
    ]


def _functions(functions: list[Function]) -> list[str]:
    lines = [f"{one.seconds:>8.2f} s  {thousands(one.calls):>10}  {one.where}" for one in functions]
    title = f"{'itself':>10}  {'calls':>10}  the functions of this process that took most"
    return [title, *(visible(line) for line in lines)]


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def _share(seconds: float, of: float) -> str:
    return f"{100 * seconds / of:.0f} %" if of > 0 else ""
