"""One store and several hands: two builds, one of them killed; `gc` meanwhile; a store that is removed or moved."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from prefkit.store import Store


@pytest.fixture
def whole(bench):
    return bench.unbroken()


def test_of_two_builds_one_is_killed_and_the_other_ends_whole(bench, waited, whole):
    first = bench.hooked(*bench.command(), at=150)
    second = bench.start(*bench.command())
    assert bench.ends(first)[0] == -signal.SIGKILL
    code, _, err = bench.ends(second)
    assert code == 0, err
    bench.check_sound()
    bench.check_whole(whole)


def test_of_two_builds_with_workers_one_is_killed_and_the_other_ends_whole(bench, waited):
    whole = bench.unbroken("many")
    first, second = (bench.start(*bench.command("many", "-j", "2")) for _ in range(2))
    assert waited(lambda: any(Path("runs/parts").glob("*.json")))
    os.killpg(first.pid, signal.SIGKILL)
    assert bench.ends(first)[0] in (0, -signal.SIGKILL)
    code, _, err = bench.ends(second)
    assert code == 0, err
    bench.check_whole(whole, "many")


def test_gc_and_verify_during_a_build_disturb_nothing(bench, waited, whole):
    child = bench.hooked(*bench.command(), at=150, how="stop")
    assert waited(Path("runs/stopped").exists), bench.ends(child)
    code, out, err = bench.cli("gc", "--yes")
    assert (code, out) == (2, "")
    assert "a build is running on this store" in err
    assert bench.verify() == (0, [])
    os.killpg(child.pid, signal.SIGKILL)
    bench.ends(child)
    Path("runs/stopped").unlink()
    bench.check_whole(whole)
    assert bench.asked_twice() == []


@pytest.mark.parametrize("at", [60, 150, 250])
@pytest.mark.parametrize("what", ["removed", "moved"])
def test_a_store_that_goes_while_a_build_runs_is_made_again(bench, waited, whole, what, at):
    child = bench.hooked(*bench.command(), at=at, how="pause")
    assert waited(Path("runs/stopped").exists), bench.ends(child)
    Path("runs/stopped").unlink()
    if what == "moved":
        Path("runs").rename("elsewhere")
    else:
        shutil.rmtree("runs")
    os.kill(child.pid, signal.SIGCONT)
    code, _, err = bench.ends(child)
    assert code in (0, 2), err
    assert "Traceback" not in err
    if Path("runs/store.json").exists():
        assert {fault["kind"] for fault in bench.verify()[1]} <= {"missing"}, "what is there is true"
    if code == 0:
        assert Store("runs").resolve("small").digest == whole["06-reference"]
    bench.check_whole(whole)
    if what == "moved":
        bench.check_sound("elsewhere")
        bench.check_whole(whole, store="elsewhere")
