"""Server: the process inside that forks a child for each item, or for many, and says what became of them.

It is started with the standard library alone and an environment of ours. A line of JSON comes in for each item, and one
goes out: what the child said, or how it was lost. The server itself never touches an item: a child that dies, hangs or
eats its memory takes nothing with it. A child's answer counts only with a word that it was told with the item, so that
output of the item's own is no answer.
"""

import gc
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from prefkit.sandbox.confine import (
    Apart,
    Limits,
    adopt,
    can_drop_user,
    children,
    die_with_parent,
    drop_disk,
    give_up,
    landlock_version,
    new_disk,
    set_apart,
)

__all__ = ["serve"]

Judge = Callable[[Any], object]
_LONGEST = 1 << 20


class _Job(NamedTuple):
    """What the server is told first."""

    cell: str
    """Module with `prepare(settings) -> judge`."""
    settings: Mapping[str, Any]
    limits: Limits
    wall: float
    """Seconds an item may take by the clock."""
    fresh: bool
    """Whether each item has a child and a folder of its own."""
    guarded: bool
    """Whether to refuse to serve where the user's files cannot be shielded."""
    paths: Sequence[str]
    """Folders of packages that items may use."""
    number: int = 0
    """Which jail this is, of those at one time."""


class _Child(NamedTuple):
    """A child that judges."""

    process: int
    ask: int
    answer: int
    ended: int | None
    """Readable once it has ended; None where the system has no such thing."""


def serve() -> None:
    """Read a job and its items from standard input, and answer on standard output."""
    die_with_parent()
    told = json.loads(sys.stdin.buffer.readline())
    job = _Job(**{**told, "limits": Limits(*told["limits"]), "number": os.getpid()})
    work = str(Path.cwd())
    apart = set_apart(work, 4 * job.limits.file_size)
    if apart.processes:
        _become_first()
    adopt()
    os.chdir(work)
    guarded = landlock_version() > 0 or can_drop_user()
    hello: dict[str, Any] = {"network": not apart.network, "files": guarded}
    if job.guarded and not guarded:
        _say({"trouble": "unguarded"})
        return
    try:
        judge = _prepared(job)
    except ImportError as error:
        _say({"trouble": f"missing: {error.name}"})
        return
    import_module("resource")  # so that no child need import it
    gc.freeze()
    _say(hello)
    _Server(job, judge, apart, work).run()


def _become_first() -> None:
    """Go on as process 1 of the new namespace: whatever is started inside ends with it."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        os._exit(0)
    die_with_parent()


def _prepared(job: _Job) -> Judge:
    cell = import_module(job.cell)
    sys.path[:] = [*sys.path[1:], *job.paths]  # the first is prefkit's own, which items may not import
    judge: Judge = cell.prepare(job.settings)
    return judge


class _Server:
    def __init__(self, job: _Job, judge: Judge, apart: Apart, work: str) -> None:
        self._job: Final = job
        self._judge: Final = judge
        self._apart: Final = apart
        self._work: Final = work
        self._child: _Child | None = None

    def run(self) -> None:
        """Answer every item."""
        for line in sys.stdin.buffer:
            if self._child is None:
                self._child = self._start()
            word = os.urandom(16).hex()
            answer = _ask(self._child, word, line, self._job.wall)
            if self._job.fresh or "said" not in answer:
                self._end()
            _say(answer)
        self._end()

    def _start(self) -> _Child:
        here, ask = os.pipe()
        answer, there = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                self._live(here, there)
            finally:
                os._exit(1)
        os.close(here)
        os.close(there)
        ended = os.pidfd_open(process) if sys.platform == "linux" else None
        return _Child(process, ask, answer, ended)

    def _live(self, here: int, there: int) -> None:
        """Be a child: give up everything, then judge what comes."""
        os.setsid()
        nothing = os.open("/dev/null", os.O_RDWR)
        for place in (0, 1, 2):
            os.dup2(nothing, place)
        for place in range(3, 64):
            if place not in (here, there):
                with suppress(OSError):
                    os.close(place)
        os.chdir(self._work)  # the folder below the memory disk is another one
        readable = [str(Path(os.__file__).parent), str(Path(sys.executable).resolve()), *self._job.paths]
        limits = self._job.limits if self._job.fresh else self._job.limits._replace(seconds=0)
        given = give_up(self._work, readable, limits, apart=self._apart, jail=self._job.number)
        if self._job.guarded and not given.files:
            os._exit(3)
        with os.fdopen(here, "rb", buffering=1 << 16) as asks:
            for line in asks:
                word, _, item = line.partition(b" ")
                signal.setitimer(signal.ITIMER_PROF, self._job.limits.seconds)  # it kills, even within C code
                said = json.dumps(self._judge(json.loads(item)))
                signal.setitimer(signal.ITIMER_PROF, 0)
                _write(there, word + b" " + said.encode() + b"\n")

    def _end(self) -> None:
        """Kill the child and whatever it started, and make its folder empty."""
        child, self._child = self._child, None
        if child is None:
            return
        for place in (child.ask, child.answer, child.ended):
            if place is not None:
                os.close(place)
        with suppress(OSError):
            os.killpg(child.process, signal.SIGKILL)
        if os.getpid() == 1:  # everything but ourselves, as this is a namespace of our own
            with suppress(OSError):
                os.kill(-1, signal.SIGKILL)
            _reap(0)
        else:
            _reap(os.WNOHANG)
            while left := children():
                for process in left:
                    with suppress(OSError):
                        os.kill(process, signal.SIGKILL)
                _reap(os.WNOHANG)
        self._clean()

    def _clean(self) -> None:
        with os.scandir(self._work) as entries:
            found = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        if self._apart.disk and (len(found) > 8 or any(folder for _, folder in found)):
            os.chdir("/")
            drop_disk(self._work)  # no tree of folders is too deep for this
            new_disk(self._work, 4 * self._job.limits.file_size)
            os.chdir(self._work)
            return
        for path, folder in found:
            if folder:
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    Path(path).unlink()


def _reap(how: int) -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, how)[0]:
            pass


def _ask(child: _Child, word: str, line: bytes, wall: float) -> dict[str, Any]:
    """Hand one item to a child; return what it `said`, or how it was `lost`: timeout, died."""
    started = time.monotonic()
    with suppress(BrokenPipeError):
        _write(child.ask, word.encode() + b" " + line)
    heard = b""
    watched = [child.answer] + ([] if child.ended is None else [child.ended])
    while True:
        left = started + wall - time.monotonic()
        ready = select.select(watched, [], [], max(left, 0))[0]
        if not ready:
            return {"lost": "timeout"}
        if child.answer in ready:
            heard += (chunk := os.read(child.answer, 1 << 16))
            first, ended, _ = heard.partition(b"\n")
            if ended:
                return _checked(word, first)
            if len(heard) > _LONGEST:
                return {"lost": "died"}
            if chunk:
                continue
        if child.ended is None or child.ended in ready or child.answer in ready:
            return {"lost": _how_ended(child.process, wall)}


def _checked(word: str, line: bytes) -> dict[str, Any]:
    told, _, said = line.partition(b" ")
    if told.decode(errors="replace") != word:
        return {"lost": "died"}
    try:
        return {"said": json.loads(said)}
    except ValueError:
        return {"lost": "died"}


def _how_ended(process: int, wall: float) -> str:
    """Return how a child that has let go of its pipe ended."""
    until = time.monotonic() + min(wall, 1)
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            break
        if time.monotonic() > until:
            return "died"
        time.sleep(0.001)
    slow = (signal.SIGXCPU, signal.SIGPROF)
    return "timeout" if os.WIFSIGNALED(status) and os.WTERMSIG(status) in slow else "died"


def _say(answer: Mapping[str, Any]) -> None:
    _write(1, json.dumps(answer).encode() + b"\n")


def _write(place: int, data: bytes) -> None:
    while data:
        data = data[os.write(place, data) :]
