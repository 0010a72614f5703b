"""Whole builds over HTTP: through trouble, through the death of a server, and with a key that no one may see."""

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pytest

from prefkit.cli import run
from prefkit.engines import Failure, Message, Model, Request, Spend, in_order
from prefkit.engines.http import HttpEngine, Patience
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.placement import Placement
from prefkit.errors import EngineError
from prefkit.recipe import Recipe
from prefkit.run import Build, Settings, build
from prefkit.store import Store

PREFKIT = str(Path(sys.executable).with_name("prefkit"))
KEY = "sk-planted-key-0123456789/+"
FORMS = ("planted-key", b64encode(KEY.encode()).decode(), quote(KEY, safe=""))
RECIPE = """
name: over-http
max_failures: 1.0
models:
  policy: { id: org/model }
data:
  - file: prompts.jsonl
build:
  - sample: { model: policy, n: 1, temperature: 0, max_tokens: 16 }
  - filter: { drop: [empty] }
"""
GOOD = [f"good {at}" for at in range(60)]
LATE = [
    "429-at-once 2",
    "500 1",
    "cut 1",
    "cut-body 1",
    "no-json 1",
    "two 1",
    "empty 1",
    "deep 1",
    "hang 1",
    "drip 1",
]
LOST = ["refuse always", "too-long always", "says-huge always", "tool-call always", "reasoning always"]


def write(folder: Path, prompts: list[str]) -> Path:
    (folder / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
    )
    path = folder / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def made(path: Path, store: Store, url: str) -> Build:
    placement = Placement(engines={"policy": url}, timeout=3.0)
    return build(Recipe.load(path), store, Settings(placement=placement, shard_rows=40))


def command_lines() -> list[str]:
    """Return the command lines of all processes."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_text(errors="replace"))
        except OSError:
            continue
    return found


def command(path: Path, store: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = [PREFKIT, arguments[0], str(path), *arguments[1:], "--store", str(store)]
    return subprocess.run(
        whole, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


def test_a_build_gets_over_what_passes_and_asks_again_only_for_what_failed(chat_server, tmp_path, store):
    lost = [f"{trouble} | lost" for trouble in LOST]
    path = write(tmp_path, [*GOOD, *lost, *(f"{trouble} | late" for trouble in LATE)])
    first = made(path, store, chat_server().url)
    rows = first.steps["01-sample"].rows
    assert (rows.read, rows.kept, rows.failed) == (75, 70, 5)
    asked_before = chat_server("--cured").count("asked")
    cured = chat_server("--cured")
    again = made(path, store, cured.url)
    assert again.steps["01-sample"].rows.failed == 0
    assert cured.count("asked") - asked_before == dict.fromkeys(lost, 1)
    assert cured.count("answered") == dict.fromkeys(cured.count("asked"), 1)
    unbroken = made(path, Store(tmp_path / "other"), cured.url)
    assert again.last.digest == unbroken.last.digest
    assert again.last.rows.kept == 75


def test_an_engine_goes_on_where_its_server_died(chat_server, tmp_path):
    def ask(url: str) -> list:
        quick = Patience(attempts=3, first_pause=0.01, longest_pause=0.02, timeout=5.0)
        engine = HttpEngine(url, "", 16, quick)
        remembering = Remembering(engine, Memo(tmp_path / "memo"), Spend(), lambda model: model.id)
        requests = [Request((Message("user", f"prompt {at}"),), 16, 0.0) for at in range(200)]
        return in_order(remembering.generate(Model(id="org/model"), requests), 200)

    mortal = chat_server("--dies-after", 90)
    with pytest.raises(EngineError, match="no server answers"):
        ask(mortal.url)
    assert mortal.count("answered").total() == 90
    risen = chat_server("--port", mortal.url.rpartition(":")[2].removesuffix("/v1"))
    answers = ask(risen.url)
    assert not any(isinstance(answer, Failure) for answer in answers)
    assert [answer.text.split(":")[0] for answer in answers] == [f"said to prompt {at}" for at in range(200)]
    assert set(risen.count("answered").values()) == {1}
    assert len(risen.count("answered")) == 200


def test_a_build_waits_for_a_server_that_is_restarted(chat_server, tmp_path, store):
    path = write(tmp_path, GOOD)
    mortal = chat_server("--dies-after", 25, "--delay", 0.01)
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(made, path, store, mortal.url)
        mortal.process.wait(60)
        risen = chat_server("--port", mortal.url.rpartition(":")[2].removesuffix("/v1"))
        whole = building.result(60)
    assert risen.count("answered") == dict.fromkeys(GOOD, 1)
    unbroken = made(path, Store(tmp_path / "other"), risen.url)
    assert whole.last.digest == unbroken.last.digest


@pytest.mark.slow
def test_a_build_whose_server_died_goes_on_when_it_is_run_again(chat_server, tmp_path):
    path, store = write(tmp_path, GOOD), tmp_path / "runs"
    mortal = chat_server("--dies-after", 25, "--delay", 0.01)
    broken = command(path, store, "build", "-e", f"policy={mortal.url}")
    assert broken.returncode == 2
    assert "no server answers at" in broken.stderr
    risen = chat_server()
    again = command(path, store, "build", "-e", f"policy={risen.url}")
    assert again.returncode == 0, again.stderr
    assert risen.count("answered") == dict.fromkeys(GOOD, 1)
    assert (
        Store(store).resolve("over-http").digest
        == made(path, Store(tmp_path / "other"), risen.url).last.digest
    )


def test_a_key_is_in_no_file_no_output_no_error_and_no_command_line(
    chat_server, tmp_path, monkeypatch, capfd
):
    chat, root = chat_server("--delay", 0.2), tmp_path / "runs"
    repeats = ["refuse always", "echo-500 1", "echo-text always", "echo-reason always"]
    path = write(tmp_path, [*GOOD, *(f"{trouble} | x" for trouble in repeats)])
    monkeypatch.setenv("PREFKIT_API_KEY", KEY)
    monkeypatch.setenv("PREFKIT_STORE", str(root))
    building = subprocess.Popen([PREFKIT, "build", str(path), "-e", f"policy={chat.url}"])
    lines = []
    while building.poll() is None:
        lines += command_lines()
        time.sleep(0.05)
    assert building.returncode == 0
    assert any(chat.url in line for line in lines)
    assert run(["card", "over-http", str(tmp_path / "card.md")]) == 0
    assert run(["show", "over-http/01-sample"]) == 0
    refused = write(tmp_path, ["refuse-key always | x"])
    # In a process of its own, so that no connection to the memo is left to be closed while its files are read.
    refusal = subprocess.run([PREFKIT, "build", str(refused), "-e", f"policy={chat.url}"], check=False)
    assert refusal.returncode == 2
    out, err = capfd.readouterr()
    assert "refuses the key" in err
    assert "***" in err, "the server repeats it"

    tables = [pa.ipc.open_file(file).read_all() for file in root.rglob("*.arrow")]
    errors = [
        error for table in tables if "error" in table.column_names for error in table["error"].to_pylist()
    ]
    assert len(errors) == 3
    assert any("***" in error for error in errors), "the server repeats it"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 10
    looked_at = {
        "output": out + err,
        "command lines": "".join(lines),
        **{f"rows of {at}": str(table.to_pylist()) for at, table in enumerate(tables)},
        **{str(file): file.read_bytes().decode("latin-1") for file in files},
    }
    assert [where for where, text in looked_at.items() if any(form in text for form in FORMS)] == []
