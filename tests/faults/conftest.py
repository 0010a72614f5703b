"""Builds that are disturbed: a folder with recipes, commands as processes of their own, and what must hold after all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prefkit.cli import run
from prefkit.store import Store

HOOK = str(Path(__file__).with_name("hook"))
PREFKIT = str(Path(sys.executable).with_name("prefkit"))
FAKES = ("-e", "policy=fake", "-e", "reward=fake")
MODELS = """
name: small
seed: 3
models: {policy: {id: test/policy}, reward: {id: test/reward}}
data: [{file: prompts.jsonl}]
build:
  - sample: {model: policy, n: 4, max_tokens: 16}
  - filter: {drop: [empty]}
  - score: {model: reward}
  - pair: {kind: best-worst}
  - margin
  - reference: {model: policy}
"""
MANY = """
name: many
seed: 3
data: [{file: rows.jsonl}]
build: [{filter: {drop: [empty]}}, pair, margin]
"""


class Bench:
    """A folder with `small.yaml`, which asks two models, and `many.yaml`, whose rows make two shards."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.log = folder / "calls.log"
        self.children: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str, prefix: tuple[str, ...] = (), **environment: str
    ) -> subprocess.Popen[str]:
        """Start a command as the leader of a process group, as a shell does."""
        child = subprocess.Popen(
            [*prefix, PREFKIT, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PREFKIT_FAKE_LOG": str(self.log), **environment},
            preexec_fn=_listen,  # noqa: PLW1509 - exec follows
        )
        self.children.append(child)
        return child

    def hooked(self, *arguments: str, store: str = "runs", **environment: object) -> subprocess.Popen[str]:
        """Start a command with the faults of `hook/sitecustomize.py`: `at=7` is FAULT_AT=7."""
        faults = {f"FAULT_{name.upper()}": str(value) for name, value in environment.items()}
        under = str(self.folder / store)
        path = os.pathsep.join([HOOK, *filter(None, [os.environ.get("PYTHONPATH")])])
        return self.start(*arguments, PYTHONPATH=path, FAULT_UNDER=under, **faults)

    def ends(self, child: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
        """Wait for a command and return its code and what it printed."""
        out, err = child.communicate(timeout=seconds)
        return child.returncode, out, err

    def tells(self, child: subprocess.Popen[str]) -> str:
        """Wait for a command that fails as it should: code 2, one clear error, no traceback."""
        code, _, err = self.ends(child)
        assert code == 2, (code, err)
        assert "Traceback" not in err, err
        assert "error: " in err or "goes on from there" in err, err
        return err

    def cli(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command in this process."""
        self._capsys.readouterr()
        code = run(arguments)
        return code, *self._capsys.readouterr()

    def build(self, recipe: str = "small", *arguments: str, store: str = "runs") -> dict[str, str]:
        """Build to the end and return the digest of every step."""
        code, out, err = self.cli(
            "build", f"{recipe}.yaml", *self.engines(recipe), "--store", store, "--json", *arguments
        )
        assert code == 0, err
        return {name: manifest["digest"] for name, manifest in json.loads(out).items()}

    def unbroken(self, recipe: str = "small") -> dict[str, str]:
        """Return the digests of a build that nothing disturbs; what it asked for does not count."""
        made = self.build(recipe, store="whole")
        self.log.unlink(missing_ok=True)
        return made

    def engines(self, recipe: str) -> tuple[str, ...]:
        """Return the flags that place the models of a recipe on the fake engine."""
        return FAKES if recipe == "small" else ()

    def command(self, recipe: str = "small", *arguments: str, store: str = "runs") -> list[str]:
        """Return the arguments of a build."""
        return [
            "build",
            f"{recipe}.yaml",
            *self.engines(recipe),
            "--store",
            str(self.folder / store),
            *arguments,
        ]

    def verify(self, *arguments: str) -> tuple[int, list[dict]]:
        """Return the code and the faults of `prefkit verify`."""
        code, out, err = self.cli("verify", *arguments, "--json")
        assert out, err
        return code, json.loads(out)["faults"]

    def check_sound(self, store: str = "runs") -> None:
        """Check that nothing in a store is false. Nothing at all is not false either."""
        if (self.folder / store / "store.json").exists():
            code, faults = self.verify("--store", store)
            assert faults == []
            assert code == 0

    def check_whole(self, whole: dict[str, str], recipe: str = "small", store: str = "runs") -> None:
        """Check what every fault must leave: the next build ends with the same digests, in a store that is sound."""
        assert self.build(recipe, store=store) == whole
        assert self.verify("--store", store) == (0, [])
        assert self.cli("gc", "--yes", "--store", store)[0] == 0
        assert list((self.folder / store).rglob(".tmp-*")) == []

    def asked_twice(self) -> list[str]:
        """Return answers that were recorded and asked for again."""
        lines = Counter(self.log.read_text().splitlines() if self.log.exists() else [])
        return [line for line, times in lines.items() if times > 1]

    def rows_of(self, store: str, name: str) -> int:
        return Store(self.folder / store).resolve(name).rows.kept


def _listen() -> None:
    """Undo what a shell does to a job in the background, which ignores Ctrl-C and hands that down."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def waited(condition: Callable[[], object], seconds: float = 120.0) -> bool:
    """Wait until something holds; say whether it came to hold."""
    until = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return bool(met)


@pytest.fixture(name="waited")
def _waited() -> Callable[..., bool]:
    return waited


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys) -> Iterator[Bench]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFKIT_STORE", raising=False)
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "calls.log"))
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(12))
    )
    rows = (
        json.dumps({"prompt": f"q{n // 2}", "response": f"a{n}", "score": n % 2}) + "\n"
        for n in range(10_500)
    )
    (tmp_path / "rows.jsonl").write_text("".join(rows))
    (tmp_path / "small.yaml").write_text(MODELS)
    (tmp_path / "many.yaml").write_text(MANY)
    made = Bench(tmp_path, capsys)
    yield made
    for child in made.children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
