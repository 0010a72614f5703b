"""The HTTP engine against a server that does what servers do on their worst days, in a process of its own."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from prefkit.engines import Completion, Failure, Message, Model, Request, Spend, in_order
from prefkit.engines.http import HttpEngine, Patience
from prefkit.engines.memo import Memo, Remembering
from prefkit.errors import EngineError

MODEL = Model(id="org/model")
QUICK = Patience(attempts=2, first_pause=0.01, longest_pause=0.02, timeout=2.0, refusals=2)
KEY = "sk-0123456789-0123456789-0123456789-planted-key"
"""Longer than what is shown of some things a server says."""

PASSING = (
    "429", "429-at-once", "500", "503", "cut", "cut-body", "cut-chunk", "no-http", "no-json", "no-utf8", "half-character",
    "deep", "two", "empty", "null", "list", "error-in-200", "endless-head", "endless-interim", "negative-length",
    "hang", "drip", "drip-head",
)  # fmt: skip
"""Tried again, since a server may get over it."""
FINAL = (
    "endless",
    "endless-chunks",
    "says-huge",
    "refuse",
    "refuse-flagged",
    "too-long",
    "tool-call",
    "reasoning",
)
"""Failed at once: the same request would get the same."""
HARMLESS = ("big", "chunks", "until-close", "nan-usage", "negative-usage", "odd-usage")
"""Answers, if odd ones."""


def requests(*prompts: str, **settings) -> list[Request]:
    return [Request((Message("user", prompt),), 16, temperature=0.0, **settings) for prompt in prompts]


def ask(
    url: str, *prompts: str, key: str = "", patience: Patience = QUICK
) -> dict[str, Completion | Failure]:
    answers = HttpEngine(url, key, 64, patience).generate(MODEL, requests(*prompts))
    return dict(zip(prompts, in_order(answers, len(prompts)), strict=True))


def good(count: int) -> list[str]:
    return [f"good {at}" for at in range(count)]


def test_every_trouble_is_got_over_or_fails_its_own_row_alone(chat_server):
    chat = chat_server()
    late = [f"{trouble} 1 | late" for trouble in PASSING]
    lost = [f"{trouble} always | lost" for trouble in (*PASSING, *FINAL)]
    started = time.perf_counter()
    found = ask(chat.url, *late, *good(200), *lost)
    assert time.perf_counter() - started < 15
    failed = {prompt for prompt, answer in found.items() if isinstance(answer, Failure)}
    assert failed == set(lost)
    assert all(found[prompt].text.startswith(f"said to {prompt}") for prompt in (*late, *good(200)))
    asked = chat.count("asked")
    assert {asked[f"{trouble} always | lost"] for trouble in PASSING} == {2}
    # What has no end takes a while to be as large as that, and may not do it in time.
    assert {asked[f"{trouble} always | lost"] for trouble in FINAL if "endless" not in trouble} == {1}
    assert set(chat.count("answered").values()) == {1}


def test_no_trouble_costs_an_answer_that_was_paid_for(chat_server, tmp_path):
    lost = [f"{trouble} always | lost" for trouble in (*PASSING, *FINAL)]
    prompts = [*good(50), *lost, *(f"more {at}" for at in range(50))]

    def build(url: str) -> list[Completion | Failure]:
        engine = HttpEngine(url, "", 16, QUICK)
        remembering = Remembering(engine, Memo(tmp_path / "memo"), Spend(), lambda model: model.id)
        return in_order(remembering.generate(MODEL, requests(*prompts)), len(prompts))

    first = build(chat_server().url)
    assert {prompts[at] for at, found in enumerate(first) if isinstance(found, Failure)} == set(lost)
    cured = chat_server("--cured")
    again = build(cured.url)
    assert [
        found.text.startswith(f"said to {prompt}") for prompt, found in zip(prompts, again, strict=True)
    ] == [True] * 131
    assert again[:50] == first[:50]
    assert again[-50:] == first[-50:]
    assert set(cured.count("answered").values()) == {1}


def test_what_a_server_tells_of_its_tokens_is_not_believed(chat_server):
    prompts = [f"{trouble} always | x" for trouble in HARMLESS]
    found = ask(chat_server().url, *prompts, patience=QUICK._replace(timeout=30.0))
    for trouble in ("nan", "negative", "odd"):
        assert found[f"{trouble}-usage always | x"] == Completion("x", 0, "stop", 0)
    assert len(found["big always | x"].text) == 10_000_000
    assert found["chunks always | x"].text == "in chunks"
    assert found["until-close always | x"].text == "until the end"


def test_a_request_that_is_too_long_says_so(chat_server):
    found = ask(chat_server().url, "too-long always | x", "refuse always | x", "good")
    assert found["too-long always | x"].too_long
    assert not found["refuse always | x"].too_long


def test_an_answer_that_nobody_asked_for_is_not_given_to_the_next(chat_server):
    prompts = [f"twice always | {at}" if at % 3 == 0 else f"good {at}" for at in range(60)]
    engine = HttpEngine(chat_server().url, "", 1, QUICK)
    answers = in_order(engine.generate(MODEL, requests(*prompts)), len(prompts))
    assert [
        answer.text.startswith(f"said to {prompt}") for prompt, answer in zip(prompts, answers, strict=True)
    ] == [at % 3 != 0 for at in range(60)]


def test_a_storm_of_refusals_passes_and_every_row_is_answered(chat_server):
    prompts = [f"429 {1 + at % 6} | {at}" for at in range(50)]
    patience = QUICK._replace(refusals=20, timeout=10.0)
    found = ask(chat_server().url, *prompts, patience=patience)
    assert all(isinstance(answer, Completion) for answer in found.values())


def test_a_server_that_never_answers_stops_the_run(chat_server):
    prompts = [f"hang always | {at}" for at in range(200)]
    patience = QUICK._replace(timeout=0.2)
    with pytest.raises(EngineError, match="answered none of"):
        in_order(HttpEngine(chat_server().url, "", 16, patience).generate(MODEL, requests(*prompts)), 200)


def test_a_redirect_is_not_followed_and_no_other_server_sees_the_key(chat_server, tmp_path: Path):
    import asyncio
    import threading

    other = chat_server()
    ready, ports = threading.Event(), []

    async def redirect(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 307 Go\r\nLocation: {other.url}/chat/completions\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async def serve():
        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await asyncio.sleep(5 if not done.is_set() else 0)

    done = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    ready.wait()
    with pytest.raises(EngineError, match="status 307"):
        ask(f"http://127.0.0.1:{ports[0]}/v1", "x", key=KEY)
    assert not other.count("asked")


@pytest.mark.parametrize("trouble", ["refuse", "echo-500", "echo-text", "echo-reason"])
def test_a_key_that_a_server_repeats_is_in_no_answer_and_no_error(trouble, chat_server):
    found = ask(chat_server().url, f"{trouble} always | x", "good", key=KEY)
    assert isinstance(found[f"{trouble} always | x"], Failure)
    assert "0123456789" not in repr(found)


def test_a_key_that_is_refused_is_not_in_the_error(chat_server):
    with pytest.raises(EngineError, match="refuses the key") as caught:
        ask(chat_server().url, "refuse-key always | x", key=KEY)
    assert "0123456789" not in str(caught.value) + repr(caught.value.__context__)


def test_enough_sends_nothing_more_and_takes_what_was_sent(chat_server):
    chat = chat_server("--delay", 0.2)
    engine = HttpEngine(chat.url, "", 8, QUICK._replace(timeout=5.0))
    answers: Callable = engine.generate(MODEL, requests(*good(100)))
    came = [next(answers)]
    engine.enough()
    came += list(answers)
    assert 8 <= len(came) <= 16
    assert chat.count("asked").total() == chat.count("answered").total() == len(came)


def test_the_body_limit_is_not_read_past(chat_server):
    started = time.perf_counter()
    found = ask(
        chat_server().url, "endless always | x", "says-huge always | x", patience=QUICK._replace(timeout=30.0)
    )
    assert time.perf_counter() - started < 10
    assert all("larger than" in answer.error for answer in found.values())
