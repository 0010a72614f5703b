import json
import socket
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefkit.engines import Completion, Failure, Message, Model, Request, in_order
from prefkit.engines.http import HttpEngine, Patience, key_for
from prefkit.errors import EngineError

MODEL = Model(id="org/model")
QUICK = Patience(attempts=4, first_pause=0.01, longest_pause=0.02, timeout=1.0, refusals=4)
KEY = "sk-planted-key-123"


def answer(text: str, finish: str = "stop") -> dict:
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": usage,
    }


class Server(ThreadingHTTPServer):
    """Answers each request as `reply(prompt, attempt)` says: (status, headers, body), or None to cut the line."""

    daemon_threads = True

    def __init__(self, reply):
        self.reply, self.seen, self.attempts, self.lock = reply, [], Counter(), threading.Lock()
        self.under_way = self.most_under_way = 0
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *_):
        """Say nothing of a client that went away."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = payload["messages"][-1]["content"]
        with server.lock:
            attempt = server.attempts[prompt]
            server.attempts[prompt] += 1
            server.seen.append((self.path, dict(self.headers), payload))
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        reply = server.reply(prompt, attempt)
        with server.lock:
            server.under_way -= 1
        if reply is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status, headers, body = reply
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-length": len(data), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def serving(reply):
    server = Server(reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def request(text: str = "say hi", **settings) -> Request:
    return Request((Message("user", text),), 16, **settings)


def ask(url: str, *requests: Request, key: str = "", patience: Patience = QUICK, concurrency: int = 8):
    engine = HttpEngine(url, key, concurrency, patience)
    return in_order(engine.generate(MODEL, requests), len(requests))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_a_request_is_sent_whole_and_its_answer_read():
    with serving(lambda prompt, _: (200, {}, answer(f"re: {prompt}", "length"))) as server:
        sent = request(
            "é", temperature=0.5, top_p=0.9, top_k=3, seed=11, stop=("x",), tools='[{"type": "function"}]'
        )
        assert ask(server.url, sent) == [Completion("re: é", 7, "length", 5)]
        path, headers, payload = server.seen[0]
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert payload == {
        "model": "org/model",
        "messages": [{"role": "user", "content": "é"}],
        "max_tokens": 16,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 11,
        "stop": ["x"],
        "stream": False,
        "tools": [{"type": "function"}],
    }


def test_the_address_may_name_the_model_as_the_server_does():
    with serving(lambda *_: (200, {}, answer("y"))) as server:
        ask(server.url + "/#served", request())
        assert server.seen[0][0] == "/v1/chat/completions"
        assert server.seen[0][2]["model"] == "served"


def test_many_are_under_way_at_once_but_not_more_than_allowed():
    barrier = threading.Barrier(5, timeout=5)

    def reply(prompt, _):
        if int(prompt) < 5:
            barrier.wait()  # passes only once five requests are here together
        return 200, {}, answer(prompt)

    with serving(reply) as server:
        patience = QUICK._replace(timeout=10)
        answers = ask(server.url, *[request(str(at)) for at in range(30)], concurrency=5, patience=patience)
        assert server.most_under_way == 5
    assert [found.text for found in answers] == [str(at) for at in range(30)]


@pytest.mark.parametrize(
    "trouble",
    [
        (429, {"retry-after": "0"}, b"slow down"),
        (500, {}, b"oops"),
        (503, {}, b""),
        None,
        (200, {}, b"{not json"),
        (200, {}, b"\xff\xfe"),
        (200, {}, {"choices": []}),
        (200, {}, {"choices": answer("a")["choices"] * 2}),
        (200, {}, {"error": "x"}),
        (200, {}, []),
        (200, {}, {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}),
        (200, {}, b"[" * 100_000),
    ],
    ids=["429", "500", "503", "cut", "json", "utf8", "empty", "two", "error", "list", "null", "deep"],
)
def test_trouble_that_passes_is_got_over_and_trouble_that_stays_fails_the_row(trouble):
    def reply(prompt, attempt):
        return (
            (200, {}, answer("fine")) if prompt == "good" or (attempt >= 2 and prompt == "late") else trouble
        )

    with serving(reply) as server:
        good, late, bad = ask(server.url, request("good"), request("late"), request("bad"))
        assert server.attempts == {"good": 1, "late": 3, "bad": 4}
    assert good.text == late.text == "fine"
    assert isinstance(bad, Failure)
    assert bad.error.endswith("4 times over")


def test_a_hanging_server_is_not_waited_for_for_ever():
    release = threading.Event()

    def reply(prompt, _):
        if prompt == "hang":
            release.wait(10)
        return 200, {}, answer("fine")

    with serving(reply) as server:
        patience = Patience(attempts=2, first_pause=0.01, timeout=0.2)
        hung, fine = ask(server.url, request("hang"), request("x"), patience=patience)
        release.set()
    assert hung == Failure("no answer in time, 2 times over")
    assert fine.text == "fine"


def test_a_request_that_is_refused_fails_at_once_and_alone():
    def reply(prompt, _):
        return (400, {}, {"error": "context too long"}) if prompt == "long" else (200, {}, answer("fine"))

    with serving(reply) as server:
        refused, fine = ask(server.url, request("long"), request("x"))
        assert server.attempts["long"] == 1
    assert "status 400" in refused.error
    assert "context too long" in refused.error
    assert fine.text == "fine"


@pytest.mark.parametrize(
    ("status", "what"), [(401, "refuses the key"), (403, "refuses the key"), (404, "no such")]
)
def test_what_no_row_can_survive_stops_everything(status, what):
    with serving(lambda *_: (status, {}, f"your key is {KEY}".encode())) as server:
        with pytest.raises(EngineError, match=what) as caught:
            ask(server.url, *[request(str(at)) for at in range(50)], key=KEY)
        assert sum(server.attempts.values()) < 50
    assert caught.value.hint
    assert KEY not in str(caught.value)


def test_a_server_that_is_not_there_is_an_error_with_its_address():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(EngineError, match=f"no server answers at http://127.0.0.1:{port}/v1"):
        ask(f"http://user:{KEY}@127.0.0.1:{port}/v1", request())


def test_the_key_goes_into_one_header_and_nowhere_else():
    def reply(prompt, _):
        return (400, {}, f"bad key {KEY}".encode()) if prompt == "bad" else (200, {}, answer("fine"))

    with serving(reply) as server:
        fine, bad = ask(server.url, request("x"), request("bad"), key=KEY)
        assert server.seen[0][1]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in json.dumps([payload for *_, payload in server.seen])
    assert KEY not in repr((fine, bad, HttpEngine(server.url, KEY)))


def test_giving_up_early_stops_asking():
    with serving(lambda prompt, _: (200, {}, answer(prompt))) as server:
        answers = HttpEngine(server.url, "", 1, QUICK).generate(
            MODEL, [request(str(at)) for at in range(2000)]
        )
        next(answers)
        answers.close()
        assert sum(server.attempts.values()) < 2000


def test_it_runs_inside_a_running_event_loop():
    import asyncio

    async def notebook(url):
        return ask(url, request())

    with serving(lambda *_: (200, {}, answer("fine"))) as server:
        assert asyncio.run(notebook(server.url))[0].text == "fine"


def test_keys_come_from_the_environment_and_openais_goes_to_openai_alone():
    both = {"PREFKIT_API_KEY": "p", "OPENAI_API_KEY": "o"}
    assert key_for("http://localhost:8000/v1", both) == "p"
    assert key_for("http://localhost:8000/v1", {"OPENAI_API_KEY": "o"}) == ""
    assert key_for("https://api.openai.com/v1", {"OPENAI_API_KEY": "o"}) == "o"
    assert key_for("https://openai.com.evil.example/v1", {"OPENAI_API_KEY": "o"}) == ""
    assert key_for("http://localhost", {}) == ""


def test_a_server_may_have_a_key_of_its_own():
    environment = {
        "PREFKIT_API_KEY": "all",
        "PREFKIT_API_KEY_JUDGES_EXAMPLE_COM": "judges",
        "PREFKIT_API_KEY_LOCALHOST_8001": "local",
        "OPENAI_API_KEY": "o",
    }
    assert key_for("https://judges.example.com/v1#model", environment) == "judges"
    assert key_for("https://judges.example.com:8443/v1", environment) == "judges"
    assert key_for("http://localhost:8001/v1", environment) == "local"
    assert key_for("http://localhost:8002/v1", environment) == "all"


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown():
    for key in (f"{KEY}\r\nX: y", f"{KEY}\n", "sk-\u00e9"):
        with pytest.raises(EngineError, match="no header can hold") as caught:
            HttpEngine("http://host/v1", key)
        assert "sk-" not in str(caught.value)


def test_a_name_and_password_in_the_address_go_into_the_header_and_are_not_shown():
    with serving(lambda *_: (400, {}, f"who is {KEY}, dXNlcjp{KEY}".encode())) as server:
        (found,) = ask(server.url.replace("//", f"//user:{KEY}@") + "?version=7", request())
        path, headers, _ = server.seen[0]
    assert path == "/v1/chat/completions?version=7"
    assert headers["Authorization"].startswith("Basic ")
    assert KEY not in repr((found, headers["Host"]))


def test_a_proxy_of_the_environment_is_used(monkeypatch):
    def reply(prompt, attempt):
        return (200, {}, answer(f"by proxy: {prompt}")) if attempt else None

    with serving(reply) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "localhost")
        (found,) = ask("http://far.example/v1", request(), key=KEY)
        path, headers, _ = proxy.seen[0]
    assert found.text == "by proxy: say hi"
    assert path == "http://far.example/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"


def test_a_proxy_that_is_not_there_is_an_error(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://user:{KEY}@127.0.0.1:{port}")
    with pytest.raises(EngineError, match="on the way through the proxy") as caught:
        ask("http://far.example/v1", request())
    assert KEY not in str(caught.value)


def test_retry_after_holds_for_every_request():
    times = []

    def reply(prompt, attempt):
        times.append((time.monotonic(), prompt))
        return (429, {"retry-after": "0.5"}, b"") if prompt == "0" and not attempt else (200, {}, answer("x"))

    with serving(reply) as server:
        ask(server.url, *[request(str(at)) for at in range(20)], concurrency=1)
    (refused, _), *later = sorted(times)
    assert len(later) == 20
    assert min(at for at, _ in later) - refused > 0.45


def test_an_address_that_is_none_is_refused():
    for url in ("ftp://host/v1", "localhost:8000", "http://", "http://host:port/v1", "http://host:99999/v1"):
        with pytest.raises(EngineError, match="is no address of a server"):
            HttpEngine(url)
