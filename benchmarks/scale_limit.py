"""A hard limit on memory for a command and all its children: a control group where one can be made, else RLIMIT_DATA.

A control group holds all processes together to the limit, with the file pages they use, which the kernel takes back
when they run short; whoever needs more is killed. RLIMIT_DATA holds each process alone, and counts what it has asked
for, used or not.
"""

import contextlib
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Limited", "limited"]

_ROOT = Path("/sys/fs/cgroup")
_ENTER = 'echo $$ > "$0/cgroup.procs" && exec "$@"'


class Limited(NamedTuple):
    """A limit that stands."""

    before: tuple[str, ...]
    """What to put before a command."""
    kind: str
    """`control group`, `RLIMIT_DATA` or nothing."""


@contextlib.contextmanager
def limited(most: int) -> Iterator[Limited]:
    """Give a limit of so many bytes, none if 0, and remove it."""
    if not most:
        yield Limited((), "")
        return
    group = _group(most)
    if group is None:
        yield Limited(("prlimit", f"--data={most}"), "RLIMIT_DATA")
        return
    try:
        yield Limited(("sh", "-c", _ENTER, str(group)), "control group")
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a group; the kernel takes a moment to let go of the last process."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.1)


def _group(most: int) -> Path | None:
    """Make a control group within this process's own, with a limit; None where that cannot be done."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            place, names = _ROOT / "memory" / path.lstrip("/"), ("memory.limit_in_bytes",)
        elif not controllers:
            place, names = _ROOT / path.lstrip("/"), ("memory.max",)
        else:
            continue
        group = place / f"scale-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
            for name in names:
                (group / name).write_text(str(most))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        return group
    return None
