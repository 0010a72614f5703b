"""`--log`: what happened, as lines of JSON that a machine can follow, and nothing secret in them."""

import json
import logging
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from prefkit.cli import run
from prefkit.logs import JsonLines, fields_of, listening, note
from prefkit.store import Store

ENGINES = ("--engine", "policy=fake", "--engine", "reward=fake")
KEY = "sk-a-key-that-nobody-may-see"


def events(path: str = "log.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def of_kind(name: str, found: list[dict]) -> list[dict]:
    return [one for one in found if one["event"] == name]


def test_a_log_tells_every_step_and_part_with_rows_and_seconds(cli):
    cli.ok("build", "small.yaml", *ENGINES, "--log", "log.jsonl")
    found = events()
    names = [one["event"] for one in found]
    assert names[:2] == ["started", "build started"]
    assert names[-2:] == ["build done", "finished"]
    steps = ["00-data", "01-sample", "02-filter", "03-score", "04-pair", "05-margin", "06-reference"]
    assert [one["step"] for one in of_kind("step done", found)] == steps
    assert [one["step"] for one in of_kind("part done", found)] == steps[1:]
    assert found[1]["engines"] == {"policy": "fake", "reward": "fake"}
    for one in of_kind("step done", found):
        assert one["run"] == "small"
        assert one["level"] == "info"
        assert one["read"] > 0
        assert one["rows"] > 0
        assert 0 < one["seconds"] < 60
        assert re.fullmatch("[0-9a-f]{32}", one["digest"])
        assert one["peak_bytes"] > 10_000_000
    sample = of_kind("step done", found)[1]
    assert sample["models"]["test/policy"]["calls"] == 40
    times = [one["time"] for one in found]
    assert times == sorted(times)
    assert all(time.endswith("+00:00") for time in times)


def test_a_second_build_tells_that_all_stands_and_is_appended(cli, finished):
    for _ in range(2):
        cli.ok("build", "small.yaml", *ENGINES, "--log", "log.jsonl")
    found = events()
    assert len(of_kind("started", found)) == len(of_kind("finished", found)) == 2
    assert {one["digest"] for one in of_kind("step cached", found)} == set(finished.values())
    assert of_kind("step done", found) == []


def test_an_object_that_was_damaged_is_told(cli, finished):
    store = Store("runs")
    path = store.path(store.resolve("small/pair").shards[0])
    path.write_bytes(b"?" * path.stat().st_size)
    cli.ok("build", "small.yaml", *ENGINES, "--log", "log.jsonl", "--refresh", "margin")
    (told,) = of_kind("object damaged", events())
    assert told["level"] == "warning"
    assert told["digest"] == finished["04-pair"]


def test_a_step_whose_rows_are_gone_is_told_to_be_made_again(cli, finished):
    store = Store("runs")
    store.path(store.resolve("small/pair").shards[0]).unlink()
    cli.ok("build", "small.yaml", *ENGINES, "--log", "log.jsonl")
    (told,) = of_kind("step started", events())
    assert (told["step"], told["again"]) == ("04-pair", True)


def test_a_failure_is_told_with_its_hint(cli):
    cli.fails("build", "small.yaml", *ENGINES, "--log", "log.jsonl", "--set", "build.pair.kind=odd")
    *_, last = events()
    assert (last["event"], last["level"], last["kind"]) == ("failed", "error", "RecipeError")
    assert last["problems"][0]["where"]
    assert last["problems"][0]["hint"]


def test_a_budget_that_is_reached_is_told_as_such(cli):
    cli.fails("build", "small.yaml", *ENGINES, "--log", "log.jsonl", "--budget", "10tokens")
    assert events()[-1]["event"] == "budget reached"


@pytest.mark.parametrize(
    ("log", "what"),
    [("no/such/folder.jsonl", "no such file"), (".", "is a directory"), ("pipe", "nobody reads this pipe")],
)
def test_a_log_that_cannot_be_written_is_an_error_before_the_work(cli, log, what):
    os.mkfifo("pipe")
    assert what in cli.fails("build", "small.yaml", *ENGINES, "--log", log).what
    assert not Path("runs").exists()


def test_a_log_whose_disk_fills_up_ends_and_the_build_goes_on(cli, capsys):
    assert run(["build", "small.yaml", *ENGINES, "--log", "/dev/full"]) == 0
    assert capsys.readouterr().err.count("the log ends here: No space left on device") == 1


def test_on_stderr_there_is_nothing_but_the_log(cli, capsys):
    assert run(["build", "small.yaml", *ENGINES, "--log", "-"]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in err.splitlines()]
    assert found[-1]["event"] == "finished"
    assert "next:" in [one["text"] for one in of_kind("said", found)]
    assert all(path.endswith(".arrow") for path in out.splitlines())
    assert run(["build", "none.yaml", "--log", "-"]) == 2
    out, err = capsys.readouterr()
    assert [json.loads(line)["event"] for line in err.splitlines()] == ["started", "failed"]


class Busy(BaseHTTPRequestHandler):
    """Is busy once, repeats its caller's key in the error, then refuses for good."""

    asked = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        Busy.asked += 1
        said = json.dumps({"error": {"message": f"no such key: {self.headers['Authorization']}"}}).encode()
        self.send_response(429 if Busy.asked == 1 else 401)
        self.send_header("Retry-After-Ms", "1")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *arguments):
        pass


def test_retries_are_told_and_no_secret_is(cli, monkeypatch):
    Busy.asked = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PREFKIT_API_KEY", KEY)
        address = f"policy=http://user:{KEY}@127.0.0.1:{server.server_port}/v1?api_key={KEY}"
        place = ("--engine", address.partition("?")[0], "--engine", "reward=fake", "--concurrency", "1")
        cli.fails("build", "small.yaml", *place, "--log", "log.jsonl")
        server.shutdown()
    found = events()
    (busy,) = of_kind("server busy", found)
    assert busy["step"] == "01-sample"
    assert busy["model"] == "test/policy"
    assert "429" in busy["reason"]
    assert found[-1]["event"] == "failed"
    text = Path("log.jsonl").read_text()
    assert KEY not in text
    assert "Authorization" not in text
    assert f"127.0.0.1:{server.server_port}" in text


def test_what_a_terminal_would_obey_is_written_out(tmp_path):
    path = tmp_path / "log.jsonl"
    with path.open("w") as file, listening(JsonLines(file, ("hunter22hunter",))):
        note(
            "said",
            {
                "text": "\x1b[2J\u202e\x9b\x00\ud800",
                "where": "http://me:secret@host/v1",
                "key": "hunter22hunter",
            },
        )
        note("said", {"text": "x" * 100_000, "ratio": float("nan")})
    text = path.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
    assert "me:secret" not in text
    assert "hunter22hunter" not in text
    first, second = (json.loads(line, parse_constant=pytest.fail) for line in text.splitlines())
    assert first["text"] == "\x1b[2J\u202e\x9b\x00\ud800"
    assert len(second["text"]) < 3000


def test_events_reach_the_handlers_of_a_library_user_and_nobody_else(cli, caplog):
    with caplog.at_level(logging.INFO, "prefkit"):
        cli.ok("build", "small.yaml", *ENGINES)
    told = [(record.getMessage(), fields_of(record)) for record in caplog.records if record.name == "prefkit"]
    assert ("build done", "small") in [(event, fields.get("run")) for event, fields in told]


def test_numbers_that_json_has_no_word_for_are_texts(tmp_path):
    with (tmp_path / "log").open("w") as file, listening(JsonLines(file)):
        metrics = {"loss": float("nan"), "margin": [1e-9, float("-inf")]}
        note("training", {"metrics": metrics, "seconds": float("inf")})

    def refuse(word):
        raise AssertionError(word)

    found = json.loads((tmp_path / "log").read_text(), parse_constant=refuse)
    assert found["metrics"] == {"loss": "nan", "margin": [1e-9, "-inf"]}
    assert found["seconds"] == "inf"
