"""A build from the command line with both models on vLLM, and what it does not ask again."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see .ci/vllm"),
    pytest.mark.filterwarnings("ignore"),
]
RECIPE = """
name: small
models:
  policy: {{ id: {policy} }}
  reward: {{ id: {reward} }}
data:
  - file: prompts.jsonl
build:
  - sample: {{ model: policy, n: 4, max_tokens: 12 }}
  - score: {{ model: reward }}
  - pair: {{ kind: best-worst }}
  - reference: {{ model: policy }}
"""


@pytest.fixture
def build(tmp_path, folders, monkeypatch):
    """Build the recipe with both models on an engine; return the manifests by step."""
    monkeypatch.chdir(tmp_path)
    prompts = [{"prompt": f"say {word}"} for word in ("hi", "bye", "one", "two", "hello world", "three")]
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps(row) for row in prompts))
    (tmp_path / "small.yaml").write_text(RECIPE.format(policy=folders.policy, reward=folders.reward))

    def go(engine: str) -> dict:
        placed = ("--engine", f"policy={engine}", "--engine", f"reward={engine}")
        # In a process of its own: a vLLM that is let go takes the process groups of all others in its process.
        command = [
            sys.executable,
            "-m",
            "prefkit",
            "build",
            "small.yaml",
            "--store",
            "runs",
            "--json",
            *placed,
        ]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
        return json.loads(built.stdout)  # nothing of the library's stands on standard output

    return go


def counts(manifests: dict, what: str) -> list[int]:
    return [manifest["made"][what] for manifest in manifests.values()]


def test_a_build_on_vllm_is_whole_and_asks_nothing_twice(build, tmp_path, options):
    first = build(f"vllm?{options}")
    assert counts(first, "calls") == [0, 24, 24, 0, 12]
    assert set(first["01-sample"]["made"]["engines"].values()) == {f"vllm {version()}"}
    for name in ("steps", "parts", "refs"):
        shutil.rmtree(tmp_path / "runs" / name)
    again = build("vllm?max_model_len=200")  # placed otherwise: what was answered stands
    assert counts(again, "calls") == [0] * 5
    assert counts(again, "remembered") == [0, 24, 24, 0, 12]
    assert [one["digest"] for one in again.values()] == [one["digest"] for one in first.values()]


def version() -> str:
    import vllm

    return vllm.__version__
