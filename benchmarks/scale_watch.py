"""What a command and all its children hold and use, looked at from outside a few times a second."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scale_limit import limited

__all__ = ["Look", "Watched", "peak_between", "watch"]

_EVERY = 0.25
_DISK_EVERY = 20
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


class Look(NamedTuple):
    """One moment."""

    at: float
    """Seconds, `time.time()`."""
    anonymous: int
    """Memory that no file stands behind, of all processes together, in bytes."""
    resident: int
    """With what of mapped files happens to be in memory; the kernel takes that back when it is short."""
    disk: int
    """Bytes in the watched folder; as of the last time it was looked at."""
    cpu: float
    """Seconds that all processes have used so far, those that have ended too."""


class Watched(NamedTuple):
    """What came of it."""

    status: int
    wall: float
    cpu: float
    """Of the process and all children it waited for."""
    resident: int
    """The kernel's own peak of the largest single process, in bytes."""
    looks: tuple[Look, ...]
    limit: str
    """How a limit was set: `control group`, `RLIMIT_DATA` or nothing."""


def watch(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path, limit: int = 0
) -> Watched:
    """Run a command and look at it till it ends. `limit`: the most bytes of memory it may have, 0 for any."""
    looks: list[Look] = []
    done = threading.Event()
    started = time.perf_counter()
    with limited(limit) as given, log.open("w") as file:
        child = subprocess.Popen(
            [*given.before, *command], env={**environment}, stdout=file, stderr=subprocess.STDOUT
        )
        looker = threading.Thread(target=_look, args=(child.pid, folder, looks, done))
        looker.start()
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        looker.join()
    wall = time.perf_counter() - started
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024
    return Watched(child.returncode, wall, cpu, peak, tuple(looks), given.kind)


def peak_between(looks: Sequence[Look], start: float, end: float) -> Look:
    """Return the largest of each figure between two moments, and the CPU seconds used between them."""
    inside = [look for look in looks if start <= look.at <= end] or [Look(start, 0, 0, 0, 0.0)]
    return Look(
        start,
        max(look.anonymous for look in inside),
        max(look.resident for look in inside),
        max(look.disk for look in inside),
        _cpu_at(looks, end) - _cpu_at(looks, start),
    )


def _cpu_at(looks: Sequence[Look], moment: float) -> float:
    """Return the CPU seconds used until a moment, as of the last look before it."""
    return max((look.cpu for look in looks if look.at <= moment), default=0.0)


def folder_bytes(folder: Path) -> int:
    """Return what a folder takes on disk."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_blocks * 512  # noqa: PTH116, PTH118 - fast
            except OSError:
                continue
    return total


def _look(process: int, folder: Path, looks: list[Look], done: threading.Event) -> None:
    turn, disk = 0, 0
    while not done.wait(_EVERY):
        if turn % _DISK_EVERY == 0:
            disk = folder_bytes(folder)
        turn += 1
        held = [_held(each) for each in _family(process)]
        sums = [sum(each[place] for each in held) for place in range(3)]
        looks.append(Look(time.time(), int(sums[0]), int(sums[1]), disk, sums[2]))


def _family(process: int) -> list[int]:
    found, waiting = [], [process]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def _held(process: int) -> tuple[int, int, float]:
    """Return the anonymous and the resident memory of a process, and its CPU seconds with those of ended children."""
    try:
        _, resident, shared, *_ = map(int, Path(f"/proc/{process}/statm").read_text().split())
        used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:15]
    except (OSError, ValueError):
        return 0, 0, 0.0
    return (resident - shared) * _PAGE, resident * _PAGE, sum(map(int, used)) / _TICKS
