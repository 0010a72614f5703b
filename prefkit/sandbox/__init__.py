"""Sandbox: where code and expressions that a model wrote are run, apart from everything else.

A jail is a process that confines itself (`prefkit.sandbox.confine`) and forks a child for each item
(`prefkit.sandbox.server`). What a child says is trusted as far as it goes: a program that sets out to fool its own test
can, as both run in one process. What the sandbox protects is the machine, not the verdict. docs/rules.md says from what,
and from what not.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeVar, final

from prefkit.errors import PrefkitError
from prefkit.sandbox.confine import Limits
from prefkit.threads import cores

__all__ = ["Answer", "Ask", "Cell", "Limits", "in_parallel"]

J = TypeVar("J")
R = TypeVar("R")
_MIB = 1 << 20
_START_SECONDS, _END_SECONDS = 120, 5


class Answer(NamedTuple):
    """What became of one item."""

    said: Any = None
    """What the cell said of it; None if it was lost."""
    lost: str = ""
    """`timeout`, or `died`: of its memory, of a signal, or by its own hand."""


class Ask(Protocol):
    """Hand one item to a jail."""

    def __call__(self, item: object) -> Answer: ...


class Cell(NamedTuple):
    """What a jail does, and how much one item may use."""

    module: str
    """Module that judges: `prefkit.sandbox.unit_tests`."""
    settings: Mapping[str, Any] = {}
    seconds: float = 5.0
    """Of processor time, for one item; by the clock four times as much and a second."""
    memory: int = 1024
    """MiB of address space, for each process."""
    processes: int = 8
    fresh: bool = False
    """Whether each item has a process and a folder of its own, as code must."""
    guarded: bool = False
    """Whether to refuse where the user's files cannot be shielded, as code must."""
    packages: bool = False
    """Whether installed packages may be imported."""
    extra: str = ""
    """What to install where its library is missing."""


class Ran(NamedTuple):
    """What came of a run."""

    results: list[Any]
    network: bool
    """Whether items could reach the network, as the kernel would not take it away."""


def in_parallel(cell: Cell, work: Callable[[Ask, J], R], jobs: Sequence[J], *, per_jail: int = 1) -> Ran:
    """Return `work(ask, job)` of every job, in order, spread over one jail a processor, each for `per_jail` jobs or more.

    Raises: PrefkitError if the cell's library is missing, or if it must be guarded and cannot be.
    """
    jails = max(1, min(cores(), len(jobs) // per_jail))
    results: list[Any] = [None] * len(jobs)

    def share(first: int) -> bool:
        with _opened(cell) as jail:
            for at in range(first, len(jobs), jails):
                results[at] = work(jail.ask, jobs[at])
            return jail.network

    if not jobs:
        return Ran(results, network=False)
    with ThreadPoolExecutor(jails) as pool:
        return Ran(results, network=any(pool.map(share, range(jails))))


def _opened(cell: Cell) -> AbstractContextManager["_Jail"]:
    @contextmanager
    def folder() -> Iterator[_Jail]:
        with tempfile.TemporaryDirectory(prefix="prefkit-jail-", ignore_cleanup_errors=True) as place:
            Path(place).chmod(0o755 if os.geteuid() else 0o777)
            jail = _Jail(cell, place)
            try:
                jail.open()
                yield jail
            finally:
                jail.close()

    return folder()


@final
class _Jail:
    """A running jail. It is opened again when it does not answer, which no item should be able to bring about."""

    def __init__(self, cell: Cell, place: str) -> None:
        self._cell: Final = cell
        self._place: Final = place
        self._process = self._started()
        self.network = False

    def open(self) -> None:
        """Tell it what it is for."""
        self.network = bool(self._hello()["network"])

    def ask(self, item: object) -> Answer:
        """Return what became of one item."""
        answer = self._exchange(item)
        if answer is None:
            self.close()
            self._process = self._started()
            self._hello()
            return Answer(lost="died")
        return Answer(answer.get("said"), answer.get("lost", ""))

    def close(self) -> None:
        """Let it end, and kill it with all that is in it if it does not."""
        try:
            self._process.communicate(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _started(self) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parent.parent.parent)
        program = (
            f"import sys; sys.path.insert(0, {root!r}); from prefkit.sandbox.server import serve; serve()"
        )
        # As `-I`, but that the environment, which is all ours, may fix the order of sets.
        command = [sys.executable, "-P", "-s", "-S", "-B", "-c", program]
        return subprocess.Popen(
            command,
            cwd=self._place,
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _hello(self) -> dict[str, Any]:
        cell = self._cell
        job = {
            "cell": cell.module,
            "settings": cell.settings,
            "limits": Limits(cell.seconds, cell.memory * _MIB, cell.processes, 16 * _MIB),
            "wall": _wall(cell),
            "fresh": cell.fresh,
            "guarded": cell.guarded,
            "paths": [path for path in sys.path if path and Path(path).is_dir()] if cell.packages else [],
        }
        hello = self._exchange(job, _START_SECONDS)
        if hello is None:
            raise PrefkitError(
                "the sandbox did not start", hint=f"see whether {sys.executable} -c pass works"
            )
        if "trouble" in hello:
            raise _trouble(hello["trouble"], cell)
        return hello

    def _exchange(self, told: object, seconds: float | None = None) -> dict[str, Any] | None:
        """Send a line and return the answer; None if there is none in time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return None
        until = time.monotonic() + (2 * _wall(self._cell) + 30 if seconds is None else seconds)
        heard, place = b"", self._process.stdout.fileno()
        while not heard.endswith(b"\n"):
            if not select.select([place], [], [], max(0.0, until - time.monotonic()))[0]:
                return None
            chunk = os.read(place, 1 << 16)
            if not chunk:
                return None
            heard += chunk
        answer: dict[str, Any] = json.loads(heard)
        return answer


def _wall(cell: Cell) -> float:
    return 4 * cell.seconds + 1


def _trouble(what: str, cell: Cell) -> PrefkitError:
    if what.startswith("missing: "):
        hint = f"pip install 'prefkit[{cell.extra}]'"
        return PrefkitError(f"package '{what.removeprefix('missing: ')}' is not installed", hint=hint)
    return PrefkitError(
        "code is not run here: the kernel offers nothing that would keep it from your files",
        hint="use Linux 5.13 or later with Landlock, or run as root in a container",
    )
