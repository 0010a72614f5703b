"""Ctrl-C at any moment: one line, exit code 2, nothing lost."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from prefkit.store import Store

RECIPE = """
name: small
models: {policy: {id: test/policy}, reward: {id: test/reward}}
data: [{file: prompts.jsonl}]
build:
  - sample: {model: policy, n: 4, max_tokens: 16}
  - score: {model: reward}
  - pair
  - margin
"""


def start(folder: Path, store: str, *more: str) -> subprocess.Popen[str]:
    tool = str(Path(sys.executable).with_name("prefkit"))
    fakes = ["--engine", "policy=fake", "--engine", "reward=fake"]
    command = [tool, "build", str(folder / "recipe.yaml"), "--store", str(folder / store), *fakes, *more]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen,  # noqa: PLW1509 - no thread runs here
    )


def listen() -> None:
    """Undo what a shell does to a job in the background, which ignores Ctrl-C and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_at_random_moments_is_one_line_and_the_next_build_goes_on(tmp_path):
    lines = [json.dumps({"prompt": f"Question {n}"}) for n in range(1500)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    began = time.monotonic()
    whole = start(tmp_path, "whole")
    whole.communicate(timeout=120)
    seconds, draw, stopped = time.monotonic() - began, random.Random(3), 0
    assert whole.returncode == 0
    for place, more in enumerate(([], [], ["-j", "2"], [])):
        child = start(tmp_path, "runs", *more)
        if place == 0:
            while child.poll() is None and not list((tmp_path / "runs" / "parts").glob("*")):
                time.sleep(0.01)
        else:
            time.sleep(draw.uniform(0.3, 0.8) * seconds)
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=60)
        assert child.returncode in (0, 2), told
        assert "Traceback" not in told
        stopped += child.returncode == 2
        assert child.returncode == 0 or "goes on from there" in told
    assert stopped >= 1, "the first is stopped once a part stands, with three steps to go"
    last = start(tmp_path, "runs")
    assert last.communicate(timeout=120)[1] is not None
    assert last.returncode == 0
    assert (
        Store(tmp_path / "runs").resolve("small").digest == Store(tmp_path / "whole").resolve("small").digest
    )
