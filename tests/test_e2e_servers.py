"""A policy and a judge behind real servers, a reward model in process: what is left when a server dies half way."""

import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefkit.store import Store
from prefkit.toy.pools import jsonl, prompts

SERVER = Path(__file__).with_name("toy_server.py")
RECIPE = """
name: served
seed: 3
models:
  policy: {id: policy}
  judge: {id: judge}
  reward: {id: prefkit/toy-reward}
data: [{file: prompts.jsonl, columns: {prompt: prompt}}]
build:
  - sample: {model: policy, n: 3, max_tokens: 32, temperature: 0.9}
  - score: {model: reward}
  - pair: {kind: best-worst}
  - judge: {model: judge}
  - label: {ops: [from-votes, orient]}
"""
PROMPTS = 6


@contextmanager
def serving(log: Path, port: int = 0, dies_after: int = 0):
    command = [sys.executable, str(SERVER), str(port), str(log), "--dies-after", str(dies_after)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def build(folder: Path, store: str, port: int) -> subprocess.CompletedProcess[str]:
    place = [f"{name}=http://127.0.0.1:{port}/v1" for name in ("policy", "judge")]
    command = [sys.executable, "-m", "prefkit", "build", "recipe.yaml", "--store", store]
    for one in place:
        command += ["--engine", one]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def rows(folder: Path, store: str) -> list[dict]:
    kept = Store(folder / store)
    return kept.table(kept.resolve("served")).to_pylist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "prompts.jsonl").write_text(jsonl(prompts(PROMPTS)))
    return tmp_path


@pytest.mark.parametrize("dies_after", [8, 3 * PROMPTS + 5])
def test_a_server_that_dies_half_way_costs_no_answer_twice(folder: Path, dies_after: int) -> None:
    with serving(folder / "unbroken.log") as port:
        done = build(folder, "unbroken", port)
    assert done.returncode == 0, done.stderr
    with serving(folder / "broken.log", dies_after=dies_after) as port:
        cut = build(folder, "broken", port)
    assert cut.returncode == 2
    assert "no server answers" in cut.stderr
    with serving(folder / "broken.log", port):
        again = build(folder, "broken", port)
    assert again.returncode == 0, again.stderr
    assert rows(folder, "broken") == rows(folder, "unbroken")
    paid = [Counter((folder / f"{name}.log").read_text().splitlines()) for name in ("unbroken", "broken")]
    assert paid[0] == paid[1]
    assert set(paid[1].values()) == {1}
    votes = [vote for row in rows(folder, "broken") for vote in row["votes"]]
    assert len(votes) == 2 * len(rows(folder, "broken")) > 0
