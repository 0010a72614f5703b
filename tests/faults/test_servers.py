"""A model server that is killed in the middle of a build, for good or until it is started again."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVER = """
import json, sys
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from time import sleep

log, lock = Path(sys.argv[2]), Lock()

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        sleep(0.05)
        text = " ".join(sha256(body).hexdigest()[at : at + 4] for at in range(0, 24, 4))
        answer = {
            "model": asked["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 6},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()
        with lock, log.open("a") as file:
            file.write(sha256(body).hexdigest() + "\\n")

    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
RECIPE = """
name: served
models: {policy: {id: org/model}}
data: [{file: prompts.jsonl}]
build: [{sample: {model: policy, n: 6, max_tokens: 16}}, {dedup: {by: response}}]
"""
PROMPTS, SAMPLES = 30, 6


class Server:
    """A server in a process of its own, that can be killed and started again at the same port."""

    def __init__(self, log: Path) -> None:
        self.log, self.port = log, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.port), str(self.log)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def answered(self) -> Counter[str]:
        return Counter(self.log.read_text().split()) if self.log.exists() else Counter()

    @property
    def flags(self) -> tuple[str, ...]:
        return ("-e", f"policy=http://127.0.0.1:{self.port}/v1", "--concurrency", "4")


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    prompts = (json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(PROMPTS))
    (tmp_path / "prompts.jsonl").write_text("".join(prompts))
    (tmp_path / "served.yaml").write_text(RECIPE)
    made = Server(tmp_path / "answered.log")
    yield made
    made.kill()


def command(server: Server, store: str) -> list[str]:
    return ["build", "served.yaml", *server.flags, "--store", store, "--json"]


def digests(bench, server: Server, store: str) -> dict[str, str]:
    code, out, err = bench.cli(*command(server, store))
    assert code == 0, err
    return {name: manifest["digest"] for name, manifest in json.loads(out).items()}


def test_a_build_whose_server_is_killed_for_a_while_ends_as_if_it_had_not_been(bench, server, waited):
    child = bench.start(*command(server, "runs"))
    assert waited(lambda: server.answered.total() >= 40), bench.ends(child)
    server.kill()
    server.start()
    code, out, err = bench.ends(child)
    assert code == 0, err
    made = {name: manifest["digest"] for name, manifest in json.loads(out).items()}
    broken = server.answered
    assert len(broken) == PROMPTS * SAMPLES
    assert broken.total() <= PROMPTS * SAMPLES + 4, "at most what was on its way is asked again"
    assert digests(bench, server, "whole") == made
    assert bench.verify() == (0, [])


def test_a_build_whose_driver_and_server_are_killed_asks_for_no_recorded_answer_again(bench, server, waited):
    child = bench.start(*command(server, "runs"))
    assert waited(lambda: server.answered.total() >= 40), bench.ends(child)
    child.kill()
    server.kill()
    bench.ends(child)
    bench.check_sound()
    recorded = server.answered.total()
    server.start()
    made = digests(bench, server, "runs")
    assert server.answered.total() <= PROMPTS * SAMPLES + 4, recorded
    assert digests(bench, server, "whole") == made
    assert bench.verify() == (0, [])
