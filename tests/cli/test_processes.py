"""Several processes: Ctrl-C from the first moment on, workers that nobody leaves behind, two builds on one store."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefkit.store import Store

PREFKIT = str(Path(sys.executable).with_name("prefkit"))
STOPPED = "stopped"
MANY = """
name: many
data: [{ file: rows.jsonl }]
build: [{ filter: { drop: [empty] } }, pair, margin]
"""


def listen() -> None:
    """Undo what a shell does to a job in the background, which ignores Ctrl-C and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start a command as a shell does: as the leader of a group that Ctrl-C reaches whole."""
    return subprocess.Popen(
        [PREFKIT, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=listen,  # noqa: PLW1509 - no thread runs here
    )


def living(session: int) -> set[int]:
    """Return the processes of a session that have not ended."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(owner) == session and state != "Z":
            found.add(int(folder.name))
    return found


def waited(condition, seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return bool(met)


def check_stopped(child: subprocess.Popen[str]) -> None:
    out, err = child.communicate(timeout=60)
    assert child.returncode == 2, err
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith(STOPPED)
    for noise in ("Traceback", "Error", "Exception", "Warning", "File "):
        assert noise not in err


def test_ctrl_c_while_the_program_still_loads_is_one_line(cli):
    draw = random.Random(5)
    for _ in range(5):
        child = start("build", "small.yaml", *cli.engines)
        # Until the interpreter itself stands, no program can answer: wait until it opened our package.
        assert waited(lambda: "pyarrow" in maps(child.pid))  # noqa: B023 - called at once
        time.sleep(draw.uniform(0, 0.3))
        os.killpg(child.pid, signal.SIGINT)
        check_stopped(child)


def maps(process: int) -> str:
    try:
        return Path(f"/proc/{process}/maps").read_text()
    except OSError:
        return ""


@pytest.fixture
def many(cli) -> None:
    """Rows for three shards, so that two workers have something to do."""
    lines = (json.dumps({"prompt": f"q{n // 2}", "response": f"a{n}", "score": n % 2}) for n in range(42_000))
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    Path("many.yaml").write_text(MANY)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_build_that_started_them(many, cli, how):
    child = start("build", "many.yaml", "-j", "2")
    # The build, the tracker that Python starts with the first worker, and the workers.
    assert waited(lambda: len(living(child.pid)) >= 4), child.communicate()
    if how == signal.SIGINT:
        os.killpg(child.pid, how)
        check_stopped(child)
    else:
        child.send_signal(how)
        assert child.wait(timeout=60) == -how
        child.stdout.close()
        child.stderr.close()
    assert waited(lambda: not living(child.pid)), "a process was left behind"
    if how == signal.SIGKILL:
        cli.ok("build", "many.yaml")
        cli.ok("build", "many.yaml", "--store", "whole")
        assert Store("runs").resolve("many").digest == Store("whole").resolve("many").digest


def test_two_builds_at_once_on_one_store_make_what_one_makes(cli):
    Path("prompts.jsonl").write_text("".join(json.dumps({"prompt": f"q{n}"}) + "\n" for n in range(300)))
    whole = cli.digests("--store", "whole")
    both = [start("build", "small.yaml", *cli.engines, "--json") for _ in range(2)]
    for child in both:
        out, err = child.communicate(timeout=60)
        assert child.returncode == 0, err
        assert {name: manifest["digest"] for name, manifest in json.loads(out).items()} == whole
    assert cli.cached() == len(whole)
    assert cli.ok("gc") == "", "neither left anything behind"


def test_a_build_that_is_piped_into_head_ends_quietly(cli, finished):
    show = start("show", "small", "-n", "10", "--json")
    show.stdout.close()
    show.stdout = None
    assert show.communicate(timeout=60)[1] == ""
    assert show.returncode == 0
