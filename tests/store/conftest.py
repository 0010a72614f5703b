"""Object storage on this machine: a real S3 and a real GCS server, each a process of its own, and machines beside them."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Event, Settings, build
from prefkit.store import Store

RECIPE = """
name: small
seed: 3
models:
  policy: {id: test/policy}
  reward: {id: test/reward}
data:
  - file: prompts.jsonl
build:
  - sample: {model: policy, n: 2, max_tokens: 8}
  - score: {model: reward}
  - pair: {kind: best-worst}
  - margin
"""
PLACED = Placement(engines={"policy": "fake", "reward": "fake"})
_LINE = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP')


class Server(NamedTuple):
    """A server for object storage."""

    url: str
    bucket: str
    log: Path

    def requests(self) -> list[str]:
        """Return what was asked so far, `PUT /bucket/small/store.json`."""
        return [" ".join(found) for found in _LINE.findall(self.log.read_text(errors="replace"))]


class Made(NamedTuple):
    """What a build did."""

    digests: dict[str, str]
    started: list[str]
    parts: int
    """Parts that were made, and not found."""
    calls: int
    """Requests that a model answered."""


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port = free_port()
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "-H", "127.0.0.1", "--port", str(port)]
    command += ["--in-memory", "--default-bucket", "bucket"]
    with running(command, f"http://127.0.0.1:{port}", tmp_path_factory.mktemp("gcs") / "log") as server:
        yield server


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the address of a store in S3 that is not there yet; this process has what it takes to use it."""
    for name, value in s3_environment(s3_server.url).items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_server)
    return f"s3://{s3_server.bucket}/{tmp_path.name}-{os.getpid()}"


@pytest.fixture
def gs(gcs_server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the same in GCS."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_server.url)
    monkeypatch.setenv("FSSPEC_GCS_TOKEN", "anon")
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks a service that the server has not
    return f"gs://{gcs_server.bucket}/{tmp_path.name}-{os.getpid()}"


@pytest.fixture
def memory(tmp_path: Path) -> str:
    """Return the address of a store in this process' memory: the quickest place that is no folder."""
    return f"memory://{tmp_path.name}"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Go to another machine: one with copies, answers and a log of its own."""

    def go(name: str) -> None:
        monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / name / "cache"))
        monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / name / "calls.log"))
        (tmp_path / name).mkdir(exist_ok=True)

    go("one")
    return go


@pytest.fixture
def make() -> Callable[..., Made]:
    """Build, and say what that did."""
    return made


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Return a recipe of 16 prompts, which are read in 4 shards."""
    return write_recipe(tmp_path / "recipe")


def write_recipe(folder: Path, prompts: int = 16) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"prompt": f"Question {number} of {number % 7}"}) for number in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder / "recipe.yaml"


def made(recipe: Path, store: Store, sets: tuple[str, ...] = (), **settings: object) -> Made:
    log = Path(os.environ["PREFKIT_FAKE_LOG"])
    before = len(log.read_text().splitlines()) if log.exists() else 0
    events: list[Event] = []
    told = Settings(PLACED, shard_rows=4, progress=events.append)._replace(**settings)
    done = build(Recipe.load(recipe, sets), store, told)
    return Made(
        {name: manifest.digest for name, manifest in done.steps.items()},
        [event.step for event in events if event.state == "start"],
        sum(event.state == "part" for event in events),
        (len(log.read_text().splitlines()) if log.exists() else 0) - before,
    )


@pytest.fixture
def expected(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Return what a build in a folder makes."""
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "local.log"))
    return made(recipe, Store(tmp_path / "local"))


def s3_environment(url: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **keys,
    }


def make_bucket(server: Server) -> None:
    with urlopen(Request(f"{server.url}/{server.bucket}", method="PUT")):
        pass


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class running:
    """Start a server, and end it."""

    def __init__(self, command: list[str], url: str, log: Path) -> None:
        self.server = Server(url, "bucket", log)
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file)

    def __enter__(self) -> Server:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                with urlopen(self.server.url, timeout=5):
                    return self.server
            except HTTPError:
                return self.server
            except OSError:
                time.sleep(0.1)
        self.process.kill()
        raise TimeoutError(self.server.log.read_text())

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(10)
