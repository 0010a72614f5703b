"""Kill -9 at points drawn at random: before the n-th file or statement of SQLite, at a system call, at a moment.

`make test` draws a few; `make soak` draws as many as PREFKIT_KILL_POINTS says, with PREFKIT_KILL_SEED. After each the
store must hold nothing false, the next build must end as an unbroken one, and no recorded answer may be asked for again.
"""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

POINTS = int(os.environ.get("PREFKIT_KILL_POINTS", "24"))
SEED = int(os.environ.get("PREFKIT_KILL_SEED", "7"))
SHARES = {"first": 0.4, "again": 0.3, "workers": 0.15, "export": 0.15}
"""What is killed: a first build; one of a changed recipe, over what the earlier one left; one with workers; an export."""
CALLS = "pwrite64,fsync,fdatasync,ftruncate,rename,unlink"
MOST_CALLS = 240
"""What a program asks of a file system to change it; strace ends it at the n-th."""


@pytest.mark.parametrize("what", SHARES)
def test_a_build_killed_at_any_point_ends_as_if_never_killed(bench, capsys, what):
    points, began = round(POINTS * SHARES[what]), time.monotonic()
    draw = random.Random(f"{SEED} {what}")
    case = Case(bench, what)
    killed = sum(case.survives(draw, at, points) for at in range(points))
    assert killed >= 0.7 * points, "most kills must land in a running command"
    with capsys.disabled():
        if "PREFKIT_KILL_POINTS" in os.environ:
            seconds = time.monotonic() - began
            print(
                f"\n{what}: {points} points, {killed} killed in time, all survived; {seconds:.0f} s",
                flush=True,
            )


class Case:
    """One kind of command to kill, with what it makes when nobody does."""

    def __init__(self, bench, what: str) -> None:
        self.bench, self.what = bench, what
        self.recipe = "many" if what == "workers" else "small"
        self.more = {"workers": ("-j", "2"), "again": ("--set", "seed=4")}.get(what, ())
        self.whole = bench.build(self.recipe, *self._sets, store="whole")
        if what in {"again", "export"}:
            bench.build(self.recipe, store="before")
        bench.log.unlink(missing_ok=True)
        self._prepare()
        began = time.monotonic()
        code, _, err = bench.ends(bench.hooked(*self.command, count=bench.folder / "count"))
        assert code == 0, err
        self.seconds = time.monotonic() - began
        self.events = int((bench.folder / "count").read_text())
        assert self.events > 30

    @property
    def _sets(self) -> tuple[str, ...]:
        return self.more if self.what == "again" else ()

    @property
    def command(self) -> list[str]:
        if self.what == "export":
            return [
                "export",
                "small",
                str(self.bench.folder / "runs" / "out"),
                "--store",
                str(self.bench.folder / "runs"),
            ]
        return self.bench.command(self.recipe, *self.more)

    def _prepare(self) -> None:
        shutil.rmtree("runs", ignore_errors=True)
        self.bench.log.unlink(missing_ok=True)
        if Path("before").exists():
            shutil.copytree("before", "runs")
        if self.what == "export":
            assert self.bench.cli("export", "small/pair", "runs/out")[0] == 0

    def survives(self, draw: random.Random, at: int, points: int) -> bool:
        """Kill one, check what must hold, and say whether it was killed before its end."""
        self._prepare()
        child = self._killed(draw, at, points)
        _, _, err = self.bench.ends(child)
        was_killed = child.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)
        assert was_killed or child.returncode == 0, err
        try:
            self._check()
        except AssertionError as error:
            error.add_note(f"{self.what}: point {at} of {points}, seed {SEED}: {child.args}")
            raise
        return was_killed

    def _killed(self, draw: random.Random, at: int, points: int) -> subprocess.Popen[str]:
        """Start the command and kill its whole group: mostly at events, which are spread over all there are."""
        kind = at % 8
        if kind == 3 and self.what != "workers" and POINTS > 100 and shutil.which("strace"):
            when = draw.randint(1, MOST_CALLS)
            inject = f"inject={CALLS}:signal=SIGKILL:when={when}"
            prefix = ("strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={CALLS}", "-e", inject)
            return self.bench.start(*self.command, prefix=prefix)
        if kind in {5, 7}:
            child = self.bench.start(*self.command)
            time.sleep(draw.uniform(0.3, 1.0) * self.seconds)
            os.killpg(child.pid, signal.SIGKILL)
            return child
        event = 1 + int((at + draw.random()) / points * self.events)
        return self.bench.hooked(*self.command, at=event)

    def _check(self) -> None:
        bench = self.bench
        bench.check_sound()
        if self.what == "export":
            out = Path("runs/out")
            assert not out.exists() or bench.verify(str(out)) == (0, [])
            assert bench.cli("export", "small", "runs/out")[0] == 0
            assert bench.verify("runs/out") == (0, [])
            return
        assert bench.build(self.recipe, *self._sets) == self.whole
        assert bench.verify("--store", "runs") == (0, [])
        assert bench.cli("gc", "--yes")[0] == 0
        assert list(Path("runs").rglob(".tmp-*")) == []
        assert bench.asked_twice() == []
