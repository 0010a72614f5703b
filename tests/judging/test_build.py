"""Judges in a build: words from files beside the recipe, and answers that could not be read the first time."""

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from prefkit.engines import Engines
from prefkit.engines.fake import FakeEngine
from prefkit.engines.placement import Placement
from prefkit.engines.spend import Price
from prefkit.errors import RecipeError
from prefkit.keys import stage_key
from prefkit.parts import Task, make_part
from prefkit.plan import plan
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

RECIPE = """
name: judged
max_failures: 1
models: {{ judge: {{ id: org/judge }} }}
data: [{{ file: pairs.jsonl }}]
build:
  - judge: {{ model: judge, {settings} }}
fail_if: {{ parse-failures: mark, order-inconsistency: mark }}
"""
FAKE = Placement(engines={"judge": "fake"})
WORDS = "{{prompt}} A: {{response_a}} B: {{response_b}}"


def recipe_in(folder: Path, settings: str, rows: int = 4) -> Path:
    folder.mkdir(exist_ok=True)
    told = [{"prompt": f"say {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(rows)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    (folder / "recipe.yaml").write_text(RECIPE.format(settings=settings))
    return folder / "recipe.yaml"


# Words from files


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder that is not the recipe's."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.mark.usefixtures("elsewhere")
def test_a_template_lies_beside_its_recipe_and_what_it_says_decides_what_stands(tmp_path, store):
    path = recipe_in(tmp_path / "recipes", "verdict: token, template: { file: words/mine.txt }")
    template = path.parent / "words" / "mine.txt"
    template.parent.mkdir()
    template.write_text(WORDS)
    settings = Settings(placement=FAKE)
    first = build(Recipe.load(path), store, settings).last
    assert build(Recipe.load(path), store, settings).last.key == first.key
    template.write_text(f"Well? {WORDS}")
    second = build(Recipe.load(path), store, settings).last
    assert second.key != first.key
    assert second.made.calls == 8
    template.write_text(WORDS)
    assert build(Recipe.load(path), store, settings).last.key == first.key


@pytest.mark.usefixtures("elsewhere")
def test_a_plan_reads_the_files_that_the_build_would_read(tmp_path, store):
    path = recipe_in(tmp_path / "recipes", "verdict: token, template: { file: mine.txt }")
    with pytest.raises(RecipeError, match=r"'mine\.txt' cannot be read") as caught:
        plan(Recipe.load(path))
    assert caught.value.problems[0].line == 7
    (path.parent / "mine.txt").write_text(WORDS * 50)
    prices = {"org/judge": Price(Decimal(1), Decimal(1))}
    alone = plan(Recipe.load(path), None, prices).steps[1]
    assert alone.tokens_in > 8 * 50 * len(WORDS) // 8
    recipe = Recipe.load(path)
    read = build(recipe, store, Settings(shard_rows=2, until="00-data")).last
    before = plan(recipe, store, prices).steps[1]
    assert (before.state, before.calls) == ("run", 8)
    assert before.tokens_in == pytest.approx(alone.tokens_in, abs=8)
    stage, folder, shard = recipe.build[0], recipe.folder, read.shards[0]
    task = Task(stage_key(stage, recipe.seed, [shard.digest], (), folder), (shard,), folder)
    make_part(stage, task, store, Engines({"org/judge": FakeEngine()}), recipe.seed, 2)
    assert plan(recipe, store, prices).steps[1].calls == 4
    (path.parent / "mine.txt").write_text(WORDS)
    assert plan(recipe, store, prices).steps[1].calls == 8


# Answers that cannot be read


class Server(ThreadingHTTPServer):
    """A chat server that says what it is told to say, and counts what it was asked about."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.garbled: set[str] = set()
        self.asked: Counter[str] = Counter()

    @property
    def placement(self) -> Placement:
        return Placement(engines={"judge": f"http://127.0.0.1:{self.server_port}/v1"})


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][-1]["content"]
        about = next(f"say {n}" for n in range(9) if f"\nsay {n}\n" in text)
        self.server.asked[about] += 1
        said = "Hard to tell." if about in self.server.garbled else "[[A]]"
        if text.startswith("A person sends"):
            said = "It went well." if "\ngood " in text else "It went badly."
        message = {"role": "assistant", "content": said}
        usage = {"prompt_tokens": 9, "completion_tokens": 3}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        data = json.dumps({"model": body["model"], "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *said):
        """Say nothing."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    for name in ("PREFKIT_API_KEY", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["pairwise", "hindsight"])
def test_a_row_that_could_not_be_read_is_asked_about_again_on_the_next_build(tmp_path, store, server, kind):
    path = recipe_in(tmp_path, f"kind: {kind}, on_parse_error: fail, retries: 1")
    server.garbled = {"say 1", "say 3"}
    settings = Settings(placement=server.placement, shard_rows=2)

    def made():
        server.asked.clear()
        return build(Recipe.load(path), store, settings)

    first = made()
    foreseen = 2 if kind == "hindsight" else 0
    assert server.asked == {
        "say 0": 2 + foreseen,
        "say 1": 4 + foreseen,
        "say 2": 2 + foreseen,
        "say 3": 4 + foreseen,
    }
    assert (first.last.rows.kept, first.last.rows.failed) == (2, 2)
    (aside, _) = first.last.failed
    assert store.get(aside)["error"].to_pylist() == ["the judge's answer cannot be read: no-verdict"]
    kept = [entry["raw"] for entry in store.get(aside)["judgements"].to_pylist()[0]]
    assert kept.count("Hard to tell.") == 4

    second = made()  # still garbled: asked as often again, and rows that parsed are not paid again
    assert server.asked == {"say 1": 4, "say 3": 4}
    assert second.last.rows.failed == 2

    server.garbled = {"say 3"}
    third = made()
    assert server.asked == {"say 1": 2, "say 3": 4}
    assert (third.last.rows.kept, third.last.rows.failed) == (3, 1)
    told = {row["prompt"][0]["content"]: row for row in third.table.to_pylist()}
    entries = [one for one in told["say 1"]["judgements"] if one["task"] == kind]
    assert Counter(one["raw"] for one in entries) == {"Hard to tell.": 8, "[[A]]": 2}
    assert [one["attempt"] for one in entries] == [0, 1, 2, 3, 4] * 2
    assert [one["counts"] for one in entries] == [False, False, False, False, True] * 2
    assert len(told["say 1"]["votes"]) == 2

    server.garbled = set()
    fourth = made()
    assert server.asked == {"say 3": 2}
    assert fourth.last.rows.kept == 4
    made()
    assert not server.asked


def test_a_row_that_need_not_be_read_is_not_asked_about_again(tmp_path, store, server):
    path = recipe_in(tmp_path, "retries: 1")
    server.garbled = {"say 1"}
    settings = Settings(placement=server.placement)
    first = build(Recipe.load(path), store, settings)
    assert first.last.rows.kept == 4
    server.garbled = set()
    server.asked.clear()
    again = build(Recipe.load(path), store, settings)
    assert again.last.key == first.last.key
    assert not server.asked


def test_a_build_that_was_cut_off_ends_like_one_that_was_not(tmp_path, server):
    """Remembered attempts of a round that was never finished count as that round's."""
    path = recipe_in(tmp_path, "on_parse_error: fail, retries: 2", rows=2)
    server.garbled = {"say 1"}
    settings = Settings(placement=server.placement)
    once, later = Store(tmp_path / "once"), Store(tmp_path / "later")
    fewer = recipe_in(tmp_path / "fewer", "on_parse_error: fail, retries: 0", rows=2)
    build(Recipe.load(fewer), later, settings)  # leaves the first attempt of three in the memo
    server.asked.clear()
    whole = build(Recipe.load(path), once, settings)
    assert server.asked["say 1"] == 6
    server.asked.clear()
    resumed = build(Recipe.load(path), later, settings)
    assert server.asked == {"say 1": 4}
    assert resumed.last.digest == whole.last.digest
    assert [shard.digest for shard in resumed.last.failed] == [shard.digest for shard in whole.last.failed]
