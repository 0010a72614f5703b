"""Timing: where the seconds of a part or a step went, measured as they pass.

A few reads of two clocks for a part of thousands of rows: too little to show, so it is always on.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, final

from prefkit.manifest import Timing
from prefkit.threads import Apart

__all__ = ["Phase", "Stopwatch", "added", "peak_bytes"]

Phase = Literal["reading", "working", "filing", "counting"]
_DIGITS = 4


@final
class Stopwatch:
    """Starts when it is made. `lap` gives the time since the last lap to a phase."""

    def __init__(self, beside: Callable[[], float] = lambda: 0.0) -> None:
        """Measure, but for the CPU seconds that `beside` says threads of this process have used for something else."""
        self._started = self._last = time.perf_counter()
        self._beside = beside
        self._cpu = time.process_time() - beside()
        self._phases: dict[Phase, float] = {}

    def lap(self, phase: Phase) -> None:
        """Say what the time since the last lap went into."""
        now = time.perf_counter()
        self._phases[phase] = self._phases.get(phase, 0.0) + now - self._last
        self._last = now

    def apart(self, apart: Apart) -> Apart:
        """Return the same calls in worker processes, whose CPU seconds count here."""

        def measured(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
            for result, seconds in apart(_with_seconds, ((function, *task) for task in tasks)):
                self._cpu -= seconds
                yield result

        return measured

    @property
    def seconds(self) -> float:
        """Wall seconds so far."""
        return time.perf_counter() - self._started

    def timing(self) -> Timing:
        """Return what was measured so far."""
        phases = {phase: round(seconds, _DIGITS) for phase, seconds in self._phases.items()}
        return Timing(
            wall=round(self.seconds, _DIGITS),
            cpu=round(time.process_time() - self._beside() - self._cpu, _DIGITS),
            peak_bytes=peak_bytes(),
            **phases,
        )


def _with_seconds(function: Callable[..., Any], *task: Any) -> tuple[Any, float]:
    """Return what a function returns, and the CPU seconds it took."""
    before = time.process_time()
    return function(*task), time.process_time() - before


def added(timings: Iterable[Timing], wall: float) -> Timing:
    """Return the sum of timings whose work took `wall` seconds in all, maybe side by side; of peaks, the highest."""
    found = list(timings)
    sums = {
        name: round(sum(getattr(one, name) for one in found), _DIGITS)
        for name in ("cpu", "reading", "working", "filing", "counting")
    }
    peak = max((one.peak_bytes for one in found), default=0)
    return Timing(wall=round(wall, _DIGITS), peak_bytes=peak, **sums)


def peak_bytes() -> int:
    """Return the most memory that this process has held at once since it began, mapped files included."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    # getrusage tells a child of Linux the peak of the process that started it, where that was higher.
    return 1024 * int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])
