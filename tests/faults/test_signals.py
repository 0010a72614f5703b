"""Signals and closed streams: Ctrl-C twice, SIGTERM, SIGHUP, nobody who reads."""

import os
import signal
import subprocess
import time

import pytest


@pytest.fixture
def whole(bench):
    return bench.unbroken()


@pytest.fixture
def many(bench):
    return bench.unbroken("many")


def test_a_second_ctrl_c_ends_a_build_at_once_and_nothing_is_lost(bench, waited, many):
    # The worker does not end of itself: the first Ctrl-C waits for it, the second does not.
    child = bench.hooked(*bench.command("many", "-j", "2"), **{"in": "worker"}, at=1, how="stop")
    assert waited((bench.folder / "runs" / "stopped").exists), bench.ends(child)
    os.kill(child.pid, signal.SIGINT)
    time.sleep(1.0)
    assert child.poll() is None, "the first Ctrl-C lets the workers file what they have"
    began = time.monotonic()
    os.kill(child.pid, signal.SIGINT)
    code, out, err = bench.ends(child, 20)
    assert time.monotonic() - began < 5
    assert (code, out) == (2, "")
    assert (
        err.splitlines()[-1]
        == "stopped at once; what was finished is kept: the same command goes on from there"
    )
    assert "Traceback" not in err
    bench.check_sound()
    bench.check_whole(many, "many")


def test_two_signals_of_one_ctrl_c_are_one(bench, waited, whole):
    child = bench.start(*bench.command())
    assert waited((bench.folder / "runs" / "steps").exists)
    for _ in range(2):  # the terminal's, and that of a wrapper that passes it on
        os.kill(child.pid, signal.SIGINT)
    code, _, err = bench.ends(child)
    assert code == 2, err
    assert err.splitlines()[-1].startswith("stopped; what was finished is kept")
    bench.check_whole(whole)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_ended_goes_on_from_there(bench, waited, whole, how):
    child = bench.start(*bench.command())
    assert waited((bench.folder / "runs" / "memo.sqlite").exists)
    os.kill(child.pid, how)
    code, _, err = bench.ends(child)
    assert code == -how
    assert "Traceback" not in err
    bench.check_sound()
    bench.check_whole(whole)
    assert bench.asked_twice() == []


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_a_build_with_closed_streams_builds(bench, whole, closed):
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', *bench.start(*bench.command()).args]
    bench.ends(bench.children[-1])
    for path in sorted((bench.folder / "runs").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = subprocess.run(command, cwd=bench.folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "rows" not in done.stdout, "what is said to people never lands in the answer"
    bench.check_whole(whole)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_build_that_nobody_listens_to_builds_all_the_same(bench, whole, stream):
    child = bench.start(*bench.command())
    pipe = getattr(child, stream)
    pipe.close()
    setattr(child, stream, None)
    code, _, err = bench.ends(child)
    assert code == 0, err
    assert "Traceback" not in (err or "")
    bench.check_whole(whole)
