"""What is said to a server, and what is learned from it, over a wire that leads to a function."""

import asyncio
import json
from collections.abc import Callable

import pytest

from prefkit.engines import Completion, Failure, Message, Request
from prefkit.engines.http_chat import Chat
from prefkit.engines.http_pace import Pace, Patience
from prefkit.engines.http_parse import Reply
from prefkit.engines.http_talk import Known, Plain, Talk
from prefkit.errors import EngineError

QUICK = Patience(attempts=3, first_pause=0.001, longest_pause=0.002, timeout=1.0, refusals=3)
YES_NO = ("yes", "no")
TOPS = [{"token": "yes", "logprob": -0.25}, {"token": "no", "logprob": -1.5}]


def answer(text: str, **more) -> tuple[int, dict]:
    return 200, {"choices": [{"message": {"content": text}, "finish_reason": "stop", **more}], "model": "m"}


def refusal(what: str) -> tuple[int, dict]:
    return 400, {"error": {"message": what}}


class Wired:
    """Sends payloads to a function `reply(payload) -> (status, body)`, and keeps them."""

    def __init__(self, reply: Callable) -> None:
        self.reply, self.sent = reply, []

    async def post(self, body: bytes) -> Reply:
        payload = json.loads(body)
        self.sent.append(payload)
        await asyncio.sleep(0)
        status, said = self.reply(payload)
        return Reply(status, {}, json.dumps(said).encode(), False)

    async def close(self) -> None:
        pass


def ask(reply: Callable, *requests: Request, known: Known | None = None, secrets: tuple[str, ...] = ()):
    async def run() -> list[Completion | Failure]:
        plain, facts = Plain(secrets), known or Known()
        talk = Talk(wire, "m", "http://x", QUICK, Pace(8, QUICK), plain, facts)
        chat = Chat(talk, "m", plain, facts)
        return list(await asyncio.gather(*(chat.answer(request) for request in requests)))

    wire = Wired(reply)
    return asyncio.run(run()), wire.sent


def request(text: str = "?", **settings) -> Request:
    return Request((Message("user", text),), 8, **settings)


def test_choices_are_sent_and_stay_as_the_server_takes_them():
    answers, sent = ask(lambda _: answer("yes"), *[request(str(at), choices=YES_NO) for at in range(5)])
    assert [found.text for found in answers] == ["yes"] * 5
    assert [payload["structured_outputs"] for payload in sent] == [{"choice": ["yes", "no"]}] * 5


@pytest.mark.parametrize("overlooks", [True, False], ids=["overlooked", "refused"])
def test_an_older_server_is_asked_in_its_own_words_and_found_out_once(overlooks):
    def reply(payload):
        if "guided_choice" in payload:
            return answer(payload["guided_choice"][1])
        return answer("well...") if overlooks else refusal("unknown field structured_outputs")

    known = Known()
    answers, sent = ask(reply, *[request(str(at), choices=YES_NO) for at in range(9)], known=known)
    assert [found.text for found in answers] == ["no"] * 9
    assert len(sent) == 10
    _, more = ask(reply, request(choices=YES_NO), known=known)
    assert [list(payload)[-1] for payload in more] == ["guided_choice"]


def test_a_server_that_knows_no_choices_is_asked_without_them():
    def reply(payload):
        plain = "structured_outputs" not in payload and "guided_choice" not in payload
        return answer("I would say yes") if plain else refusal("extra fields not permitted")

    answers, sent = ask(reply, *[request(str(at), choices=YES_NO) for at in range(6)], request())
    assert [found.text for found in answers] == ["I would say yes"] * 7
    assert len(sent) == 6 + 2 + 1


def test_log_probs_are_asked_for_and_read():
    places = {"content": [{"token": "yes", "logprob": -0.25, "top_logprobs": TOPS}]}
    (found,), (payload,) = ask(lambda _: answer("yes", logprobs=places), request(top_logprobs=2))
    assert (payload["logprobs"], payload["top_logprobs"]) == (True, 2)
    assert found.tops == ((("yes", -0.25), ("no", -1.5)),)
    assert found.logp == -0.25


@pytest.mark.parametrize(
    "places",
    [
        None,
        {},
        [],
        {"content": None},
        {"content": []},
        {"content": ["x"]},
        {"content": [{"logprob": float("nan"), "top_logprobs": 7}]},
        {"content": [{"logprob": 3.0}]},
        {"content": [{"logprob": "-1"}]},
    ],
)
def test_log_probs_that_cannot_be_are_none(places):
    (found,), _ = ask(lambda _: answer("yes", logprobs=places), request(top_logprobs=2))
    assert (found.text, found.tops, found.logp) == ("yes", None, None)


def test_tokens_that_cannot_be_are_left_out():
    odd = [*TOPS, {"token": "x", "logprob": None}, {"token": 3, "logprob": -1}, {"logprob": -1}, "y"]
    places = {"content": [{"token": "yes", "logprob": 1e-7, "top_logprobs": odd}]}
    (found,), _ = ask(lambda _: answer("yes", logprobs=places), request(top_logprobs=2))
    assert found.tops == ((("yes", -0.25), ("no", -1.5)),)
    assert found.logp == 0.0


def test_a_server_that_gives_no_log_probs_is_asked_without():
    def reply(payload):
        return refusal("logprobs are not supported") if "logprobs" in payload else answer("yes")

    both = [request(str(at), top_logprobs=2, choices=YES_NO) for at in range(4)]
    answers, sent = ask(reply, *both)
    assert [(found.text, found.tops) for found in answers] == [("yes", None)] * 4
    assert len(sent) == 3 + 4
    assert "structured_outputs" in sent[-1]


def test_what_is_refused_in_every_way_fails_and_is_not_tried_in_every_way_for_ever():
    answers, sent = ask(
        lambda _: refusal("no top_k"), *[request(str(at), choices=YES_NO) for at in range(20)]
    )
    assert all("no top_k" in found.error and not found.too_long for found in answers)
    assert len(sent) == 3 * 3 + 17


def test_a_server_that_names_the_limit_anew_is_asked_by_that_name():
    def reply(payload):
        if "max_tokens" in payload:
            return refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return answer("yes")

    known = Known()
    answers, _ = ask(reply, request("a"), request("b"), known=known)
    assert [found.text for found in answers] == ["yes", "yes"]
    _, sent = ask(reply, request("c"), known=known)
    assert [payload["max_completion_tokens"] for payload in sent] == [8]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "This model's maximum context length is 128 tokens. However, you requested 200 tokens."),
        (400, "The input (200 tokens) is longer than the model's context length (128 tokens)."),
        (400, "the request exceeds the available context size, try increasing it"),
        (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 128"),
        (400, "prompt is too long: 200 tokens > 128 maximum"),
        (413, "no"),
    ],
)
def test_servers_say_in_many_words_that_a_text_is_too_long(status, message):
    (found,), sent = ask(lambda _: (status, {"error": {"message": message}}), request(choices=YES_NO))
    assert found.too_long
    assert len(sent) == 1


def test_a_status_that_no_one_can_help_stops_everything():
    for status, message, match in (
        (401, "bad", "refuses the key"),
        (403, "bad", "refuses the key"),
        (404, "bad", "no such model or path"),
        (402, "pay", "before it is paid"),
        (429, "insufficient_quota", "before it is paid"),
    ):
        with pytest.raises(EngineError, match=match):
            ask(
                lambda _, status=status, message=message: (status, {"error": {"message": message}}), request()
            )


def test_a_server_that_is_too_busy_for_everyone_stops_the_run_and_for_one_it_does_not():
    with pytest.raises(EngineError, match="too busy"):
        ask(lambda _: (429, {}), request())

    def reply(payload):
        return (429, {}) if payload["messages"][0]["content"] == "unlucky" else answer("fine")

    (first, second), _ = ask(reply, request("unlucky"), request("x"))
    assert first == Failure("the server answered with status 429, 3 times over")
    assert second.text == "fine"


def test_an_answer_of_another_model_than_before_stops_the_run():
    names = iter(["m-2026-01-01", "m-2026-02-01", "gguf/a", "gguf/a", "gguf/b"])
    with pytest.raises(EngineError, match="answered as 'gguf/a', and now as 'gguf/b'"):
        ask(lambda _: (200, answer("x")[1] | {"model": next(names)}), *[request(str(at)) for at in range(5)])


def test_an_answer_in_parts_is_joined_and_one_without_text_says_why():
    def of(**message) -> Completion | Failure:
        said = {"choices": [{"message": message, "finish_reason": "length"}]}
        return ask(lambda _: (200, said), request())[0][0]

    parts = [
        {"type": "text", "text": "a"},
        {"type": "thinking", "thinking": "?"},
        {"type": "text", "text": "b"},
    ]
    assert of(content=parts).text == "ab"
    assert of(content="", reasoning_content="hm").error.startswith("the answer is all reasoning")
    assert of(content=None, reasoning="hm").error.startswith("the answer is all reasoning")
    assert of(content="x", reasoning_content="hm").text == "x"
    assert of(content=None, refusal="no").error == "the answer is a refusal and has no text"
    assert of(content=None).error == "the answer is no chat completion with one choice, 3 times over"


def test_secrets_are_in_no_error_even_where_the_text_is_cut():
    said = {"error": {"message": "x" * 195 + "planted-key-123 " + "y" * 500}}
    (found,), _ = ask(lambda _: (418, said), request(), secrets=("planted-key-123",))
    assert "plan" not in found.error
    assert len(found.error) < 300
