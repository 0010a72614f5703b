"""Faults for a process and the workers that it starts: put this folder on PYTHONPATH, and say which in the environment.

Python announces every file that it opens, renames or removes, and every statement of SQLite, before it happens. So a
process can be ended between any two of them, and always at the same place. Nothing of prefkit is replaced.

FAULT_UNDER    only events of files below this folder count
FAULT_IN       `driver` or `worker`: whose events count
FAULT_AT       the event before which the process group (`driver`) or the process (`worker`) is killed; 0 for none
FAULT_ONCE     a file that is made by whoever ends first, so that a second worker lives
FAULT_COUNT    a file to which the number of events is written at the end
FAULT_MEMORY   bytes of memory that a worker may take above what it has when it begins its first task
FAULT_HOW      `kill`; `memory`: allocations fail from that event on; `stop`: wait for ever, and write `stopped` below
               FAULT_UNDER; `pause`: the same, until SIGCONT
"""

import atexit
import itertools
import os
import signal
import sys
from pathlib import Path

_FILES = frozenset(
    {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "os.scandir", "os.chmod"}
)
_AT = int(os.environ.get("FAULT_AT", "0"))
_UNDER = os.environ.get("FAULT_UNDER", "")
_HOW = os.environ.get("FAULT_HOW", "kill")
_WORKER = any("spawn_main" in argument for argument in sys.orig_argv)
_HELPER = any("multiprocessing.resource_tracker" in argument for argument in sys.orig_argv)
_seen = itertools.count(1)


def _count(*_):
    if next(_seen) == _AT and _first():
        _end()


def _first():
    once = os.environ.get("FAULT_ONCE")
    if not once:
        return True
    try:
        os.close(os.open(once, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _end():
    if _HOW == "memory":
        _starve()
    elif _HOW in {"stop", "pause"}:
        Path(_UNDER, "stopped").touch()
        os.kill(os.getpid(), signal.SIGSTOP if _HOW == "pause" else 0)
        while _HOW == "stop":
            signal.pause()
    elif _WORKER:
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        os.killpg(0, signal.SIGKILL)


def _starve():
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * os.sysconf("SC_PAGE_SIZE") + int(os.environ.get("FAULT_MEMORY", "0"))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _hook(event, arguments):
    if event in _FILES and arguments:
        path = arguments[0]
        path = os.fsdecode(path) if isinstance(path, bytes | os.PathLike) else path
        if isinstance(path, str) and path.startswith(_UNDER):
            _count()


def _traced(connect):
    def connect_and_trace(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.set_trace_callback(_count)
        return connection

    return connect_and_trace


def _write():
    Path(os.environ["FAULT_COUNT"]).write_text(str(next(_seen) - 1))


if _UNDER and not _HELPER and (os.environ.get("FAULT_IN", "driver") == "worker") == _WORKER:
    import sqlite3

    sqlite3.connect = _traced(sqlite3.connect)
    sys.addaudithook(_hook)
    if "FAULT_COUNT" in os.environ:
        atexit.register(_write)
