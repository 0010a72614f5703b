"""Long answers are read in a pager on a terminal, and in one piece everywhere else."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = [sys.executable, "-c", "import sys; from prefkit.cli import main; sys.exit(main())"]
MOST_SECONDS = 60.0


def on_a_terminal(*arguments: str, keys: bytes = b"", lines: int = 20, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of its own and press keys once it has said something; return its code and output."""
    ours, theirs = pty.openpty()
    size = {"LINES": str(lines), "COLUMNS": "90", "TERM": "xterm"}
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **size, **environment},
        start_new_session=True,
    )
    os.close(theirs)
    said, deadline = b"", time.monotonic() + MOST_SECONDS
    try:
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
                if not part:
                    break
                said += part
            elif said and keys:
                os.write(ours, keys)
                keys = b""
        return process.wait(timeout=MOST_SECONDS), said.decode(errors="replace").replace("\r\n", "\n")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)


@pytest.fixture
def long(cli) -> Path:
    """A run whose rows are longer than a screen, and a pager that shows its first line and says how many there were."""
    rows = [{"prompt": f"question {at}", "response": f"answer {at}"} for at in range(30)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("long.yaml").write_text("name: long\ndata: [{ file: rows.jsonl }]\nbuild: [split]\n")
    cli.ok("build", "long.yaml")
    pager = Path("pager.sh").resolve()
    pager.write_text('#!/bin/sh\nhead -n 1 > first.txt\necho "PAGED ($1)"\n')
    pager.chmod(0o755)
    return pager


def test_an_answer_longer_than_the_screen_goes_through_the_pager_and_leaving_early_is_no_error(long):
    code, said = on_a_terminal("show", "long", "--rows", "30", PAGER=f"{long} an-argument")
    assert (code, said) == (0, "PAGED (an-argument)\n")
    assert Path("first.txt").read_text().startswith("long · split")


def test_an_answer_that_fits_is_printed_at_once(long):
    code, said = on_a_terminal("show", "long", "--rows", "1", lines=60, PAGER=str(long))
    assert code == 0
    assert "question" in said
    assert "PAGED" not in said


@pytest.mark.parametrize("pager", ["cat", "", "no-such-program-here", "un'balanced"])
def test_without_a_usable_pager_all_is_printed(long, pager):
    code, said = on_a_terminal("show", "long", "--rows", "30", PAGER=pager)
    assert code == 0
    assert said.count("question ") == 30


def test_a_dumb_terminal_has_no_pager(long):
    code, said = on_a_terminal("show", "long", "--rows", "30", PAGER=str(long), TERM="dumb")
    assert code == 0
    assert said.count("question ") == 30


def test_less_is_left_with_q_before_it_was_read_to_the_end(long):
    code, said = on_a_terminal("show", "long", "--rows", "30", keys=b"q", PAGER="less", LESS="RX")
    assert code == 0
    assert 0 < said.count("question ") < 30
    assert "\x1b[" in said, "styles are kept"


def test_json_and_pipes_are_never_paged(long):
    code, said = on_a_terminal("show", "long", "--rows", "30", "--json", PAGER=str(long))
    assert (code, len(said.splitlines())) == (0, 30)
    piped = subprocess.run(
        [*PROGRAM, "show", "long", "--rows", "30"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PAGER": str(long)},
    )
    assert piped.stdout.count("question ") == 30
    assert "\x1b" not in piped.stdout


def test_a_difference_is_paged_too(long, cli):
    cli.ok("build", "long.yaml", "--set", "name=other", "--set", "data.0.take=3")
    code, said = on_a_terminal("diff", "long/split", "other/split", "--rows", "99", lines=2, PAGER=str(long))
    assert (code, said) == (0, "PAGED ()\n")
