"""vLLM's own API server behind a build: log-probs and rewards as transformers has them, and a server that dies half way."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from prefkit.engines import Conversation, Failure, Message, Model, in_order
from prefkit.engines.http import HttpEngine
from prefkit.store import Store
from prefkit.toy import weights
from prefkit.toy.pools import jsonl, prompts

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see .ci/vllm"),
    pytest.mark.filterwarnings("ignore"),
]
POLICY, REWARD = Model(id="prefkit/toy-policy"), Model(id="prefkit/toy-reward")
PROMPTS, HALF_WAY = 60, 80
RECIPE = """
name: served
models:
  policy: {id: prefkit/toy-policy}
  reward: {id: prefkit/toy-reward}
data: [{file: prompts.jsonl, columns: {prompt: prompt}}]
build:
  - sample: {model: policy, n: 1, max_tokens: 32, temperature: 0}
  - score: {log_prob: {model: policy}, as: likelihood}
  - score: {model: reward}
"""


class Served:
    """A server of vLLM in a session of its own, so that all its processes go at once."""

    def __init__(self, name: str, folder: Path, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._log = (folder / f"{name}.log").open("a")
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights(name))]
        command += ["--served-model-name", f"toy-{name}", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--enforce-eager", "--dtype", "float32", "--max-model-len", "256", "--max-num-seqs", "16"]
        command += ["--runner", "pooling" if name == "reward" else "generate"]
        environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
        self._process = subprocess.Popen(
            command, stdout=self._log, stderr=self._log, env=environment, start_new_session=True
        )

    def wait(self) -> None:
        for _ in range(1200):
            assert self._process.poll() is None, Path(self._log.name).read_text()[-3000:]
            try:
                urlopen(f"{self.url}/health", timeout=5).close()
            except (URLError, OSError):
                time.sleep(0.2)
            else:
                return
        pytest.fail(Path(self._log.name).read_text()[-3000:])

    def answered(self) -> int:
        """Return how many requests it has answered, as it counts them itself."""
        with urlopen(f"{self.url}/metrics", timeout=5) as page:
            lines = re.findall(
                r"^vllm:request_success_total\{.*\} ([\d.]+)$", page.read().decode(), re.MULTILINE
            )
        assert lines
        return int(sum(map(float, lines)))

    def kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def killed_in_the_end(*servers: Served):
    try:
        yield
    finally:
        for server in servers:
            server.kill()


def build(folder: Path, store: str, policy: str, reward: str) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "prefkit",
        "build",
        "recipe.yaml",
        "--store",
        store,
        "--concurrency",
        "2",
    ]
    command += ["-e", f"policy={policy}/v1#toy-policy", "-e", f"reward={reward}/v1#toy-reward"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def paid(folder: Path, store: str) -> int:
    """Return how many answers the store remembers."""
    memo = folder / store / "memo.sqlite"
    if not memo.is_file():
        return 0
    with closing(sqlite3.connect(f"{memo.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM answers").fetchone()[0])
        except sqlite3.OperationalError:  # it is being made
            return 0


def rows(folder: Path, store: str) -> list[dict]:
    kept = Store(folder / store)
    return kept.table(kept.resolve("served")).to_pylist()


def conversation(row: dict) -> Conversation:
    prompt, response = (tuple(Message(turn["role"], turn["content"]) for turn in row[name]) for name in ("prompt", "response"))  # fmt: skip
    return Conversation(prompt, response)


def test_a_server_that_is_killed_half_way_costs_no_answer_twice_and_agrees_with_transformers(
    tmp_path, monkeypatch, plain
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "prompts.jsonl").write_text(jsonl(prompts(PROMPTS)))
    port = free_port()
    mortal, reward = Served("policy", tmp_path, port), Served("reward", tmp_path, free_port())
    with killed_in_the_end(mortal, reward):
        mortal.wait()
        reward.wait()
        cut = build(tmp_path, "broken", mortal.url, reward.url)
        while paid(tmp_path, "broken") < HALF_WAY and cut.poll() is None:
            time.sleep(0.005)
        mortal.kill()
        said, _ = cut.communicate(timeout=200)
        assert cut.returncode == 2, said
        assert "no server answers" in said
        kept = paid(tmp_path, "broken")
        assert HALF_WAY <= kept < 2 * PROMPTS

        risen = Served("policy", tmp_path, port)
        with killed_in_the_end(risen):
            risen.wait()
            again = build(tmp_path, "broken", risen.url, reward.url)
            assert again.wait(200) == 0, again.stdout.read()
            assert risen.answered() == 2 * PROMPTS - kept
            assert paid(tmp_path, "broken") == 3 * PROMPTS
            unbroken = build(tmp_path, "unbroken", risen.url, reward.url)
            assert unbroken.wait(200) == 0, unbroken.stdout.read()
            found = rows(tmp_path, "broken")
            assert same(found, rows(tmp_path, "unbroken"))
            check_numbers(found, plain)
            check_odd_texts(HttpEngine(f"{risen.url}/v1#toy-policy"), plain)


def same(found: list[dict], wanted: list[dict]) -> bool:
    """Compare rows: all but log-probs and rewards, which depend on their company in the last bits, to the letter."""
    numbers = ("likelihood", "score")
    strip = [[{k: v for k, v in row.items() if k not in numbers} for row in each] for each in (found, wanted)]
    both = [[[row[name] for name in numbers] for row in each] for each in (found, wanted)]
    return strip[0] == strip[1] and both[0] == [pytest.approx(row, abs=1e-4) for row in both[1]]


def check_numbers(found: list[dict], plain) -> None:
    assert len(found) == PROMPTS
    talks = [conversation(row) for row in found]
    logps = in_order(plain.log_probs(POLICY, talks), PROMPTS)
    assert [row["likelihood_tokens"] for row in found] == [one.tokens for one in logps]
    assert [row["likelihood"] for row in found] == pytest.approx([one.logp for one in logps], abs=1e-3)
    rewards = in_order(plain.rewards(REWARD, talks), PROMPTS)
    assert [row["score"] for row in found] == pytest.approx([one[0] for one in rewards], abs=1e-3)


def check_odd_texts(engine: HttpEngine, plain) -> None:
    """Prompts of several turns, line breaks at the border, bytes that are no characters, and a text that is too long."""
    first = (Message("user", "one"), Message("assistant", "two\n"))
    talks = [
        Conversation((*first, Message("user", "é漢\n")), (Message("assistant", text),))
        for text in ("", "\n\n3", "é漢 \U0001f600", " x", "<|end|>", "word " * 70)
    ]
    mine, its = (in_order(each.log_probs(POLICY, talks), len(talks)) for each in (engine, plain))
    assert isinstance(mine[-1], Failure)
    assert mine[-1].too_long
    for one, other in zip(mine[:-1], its[:-1], strict=True):
        assert one.tokens == other.tokens
        assert one.logp == pytest.approx(other.logp, abs=1e-3)
