"""Workers that are killed, or have no memory: the build goes on with fewer, or says what to do."""

import json
import os
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="looks for processes in /proc")


@pytest.fixture
def whole(bench):
    return bench.unbroken("many")


def workers(process: int) -> list[int]:
    """Return the worker processes of a build."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            owner = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_text()
        except (OSError, ValueError):
            continue
        if owner == process and "spawn_main" in command:
            found.append(int(folder.name))
    return found


def test_a_worker_killed_from_outside_ends_no_build(bench, waited, whole):
    child = bench.start(*bench.command("many", "-j", "2"))
    assert waited(lambda: len(workers(child.pid)) >= 2), bench.ends(child)
    os.kill(workers(child.pid)[0], signal.SIGKILL)
    code, _, err = bench.ends(child)
    assert code == 0, err
    assert "Traceback" not in err
    bench.check_whole(whole, "many")


@pytest.mark.parametrize("at", [1, 9])
def test_a_worker_killed_at_its_work_ends_no_build(bench, whole, at):
    once = bench.folder / "once"
    child = bench.hooked(*bench.command("many", "-j", "2"), **{"in": "worker"}, at=at, once=once)
    code, _, err = bench.ends(child)
    assert code == 0, err
    assert once.exists(), "a worker was killed"
    bench.check_sound()
    bench.check_whole(whole, "many")


def test_workers_that_are_killed_whenever_they_begin_end_the_build_with_one_clear_error(bench, whole):
    child = bench.hooked(*bench.command("many", "-j", "2"), **{"in": "worker"}, at=1)
    told = bench.tells(child)
    assert "stage 'filter': worker processes were killed" in told
    assert "memory" in told
    bench.check_sound()
    bench.check_whole(whole, "many")


@pytest.fixture
def heavy(bench):
    """Rows that take memory: 2 kB each."""
    rows = (
        json.dumps({"prompt": f"q{n // 2}", "response": f"a{n} " * 400, "score": n % 2}) + "\n"
        for n in range(10_500)
    )
    (bench.folder / "rows.jsonl").write_text("".join(rows))
    return bench.unbroken("many")


@pytest.mark.parametrize("bytes_left", [0, 30_000_000])
def test_a_worker_without_memory_is_one_clear_error(bench, heavy, bytes_left):
    faults = {"in": "worker", "how": "memory", "memory": bytes_left}
    child = bench.hooked(*bench.command("many", "-j", "2"), **faults, at=1)
    assert "memory" in bench.tells(child)
    bench.check_sound()
    bench.check_whole(heavy, "many")


@pytest.mark.parametrize("at", [8, 14, 30])
def test_a_build_without_memory_is_one_clear_error(bench, heavy, at):
    child = bench.hooked(*bench.command("many"), how="memory", at=at)
    code, _, err = bench.ends(child)
    assert code in (2, -signal.SIGABRT), (
        err
    )  # Rust ends a process that gets no memory, and nothing can be said then
    assert code != 2 or "memory" in err
    assert "Traceback" not in err
    bench.check_sound()
    bench.check_whole(heavy, "many")
