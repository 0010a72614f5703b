"""The command line, run in this process, with errors taken apart as a user reads them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from prefkit.cli import run
from prefkit.store import Store

ENGINES = ("--engine", "policy=fake", "--engine", "reward=fake")
RECIPE = """
name: small
seed: 3
models:
  policy: { id: test/policy }
  reward: { id: test/reward }
data:
  - file: prompts.jsonl
build:
  - sample: { model: policy, n: 4, max_tokens: 16 }
  - filter: { drop: [empty] }
  - score: { model: reward }
  - pair: { kind: best-worst }
  - margin
  - reference: { model: policy }
"""
PROGRESS = re.compile(r"\d\d-\S+ +[\d ]+ rows .*")
ERROR = re.compile(
    r"error: (?P<what>[^\n]+)\n(?:  where: (?P<where>[^\n]+)\n)?(?:  hint:  (?P<hint>[^\n]+)\n)?"
)


class Told(NamedTuple):
    """One error, as it is printed."""

    what: str
    where: str
    hint: str


class Cli:
    """Run commands and check what every command promises."""

    recipe = RECIPE
    engines = ENGINES

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def ok(self, *arguments: str) -> str:
        """Return what a command that ends well prints."""
        code = run(arguments)
        out, err = self._capsys.readouterr()
        assert code == 0, err
        return out

    def fails(self, *arguments: str) -> Told:
        """Return the one clear error of a command that ends with code 2 and prints no answer."""
        code = run(arguments)
        out, err = self._capsys.readouterr()
        assert (code, out) == (2, "")
        lines = err.splitlines(keepends=True)
        while lines and PROGRESS.fullmatch(lines[0].rstrip("\n")):
            lines.pop(0)
        found = ERROR.fullmatch("".join(lines))
        assert found, err
        told = Told(found["what"], found["where"] or "", found["hint"] or "")
        assert not re.match(r"[A-Z][a-z]", told.what), told
        assert not re.search(r"[^.]\.$", told.what), told
        assert told.where or told.hint, "an error says where, or what to do"
        return told

    def build(self, *arguments: str) -> dict[str, Mapping]:
        """Build `small.yaml` on the fake engine and return the manifests by step."""
        found: dict[str, Mapping] = json.loads(self.ok("build", "small.yaml", *ENGINES, "--json", *arguments))
        return found

    def digests(self, *arguments: str) -> dict[str, str]:
        """Build `small.yaml` and return the digest of every step."""
        return {name: manifest["digest"] for name, manifest in self.build(*arguments).items()}

    def cached(self, *arguments: str) -> int:
        """Build `small.yaml` and return how many steps stood already."""
        code = run(["build", "small.yaml", *ENGINES, *arguments])
        err = self._capsys.readouterr().err
        assert code == 0, err
        return err.count("  cached\n")

    def build_fails(self, *arguments: str) -> Told:
        """Build `small.yaml` and return the one clear error."""
        return self.fails("build", "small.yaml", *ENGINES, *arguments)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> Cli:
    """The command line in a folder with `small.yaml` and its ten prompts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFKIT_STORE", raising=False)
    Path("prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(10))
    )
    Path("small.yaml").write_text(RECIPE)
    return Cli(capsys)


@pytest.fixture
def finished(cli) -> dict[str, str]:
    """Digests of `small.yaml`, built in `runs`."""
    return cli.digests()


@pytest.fixture
def keys(cli, finished) -> dict[str, str]:
    """Where the manifests of `small` are filed, by step."""
    return {ref.step: ref.key for ref in Store("runs").refs("small")}
