"""Log-probs, rewards and vectors of a server: what is asked, what is taken for an answer, and what never is."""

import json
import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefkit.engines import Conversation, Failure, LogProb, Message, Model, in_order
from prefkit.engines.chat import encode, reference_fingerprint, vocabulary_fingerprint
from prefkit.engines.http import HttpEngine, Patience
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.spend import Spend
from prefkit.engines.weights import identity, load_tokenizer
from prefkit.errors import EngineError

POLICY, REWARD = Model(id="prefkit/toy-policy"), Model(id="prefkit/toy-reward")
QUICK = Patience(attempts=3, first_pause=0.01, longest_pause=0.02, timeout=5.0)
KEY = "sk-planted-key-123"


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(POLICY)[0]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@contextmanager
def serving(reply):
    """Answer as `reply(payload)` says: a status and a body. `seen` has paths and payloads."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                server.seen.append((self.path, payload))
                status, body = reply(payload)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    lock = threading.Lock()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.seen = True, []
        server.url = f"http://127.0.0.1:{server.server_port}/v1#served?dtype=float32"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def talk(response: str, prompt: str = "Add 1 and 2.") -> Conversation:
    return Conversation((Message("user", prompt),), (Message("assistant", response),))


def logp(place: int) -> float:
    """Each place has its own: a response that begins one too early or too late has another sum."""
    return -0.25 * place


def echo(tokenizer):
    """Answer as vLLM does: what it read, and one token that it wrote."""

    def reply(payload):
        ids = payload["prompt"]
        told = [None, *(logp(at) for at in range(1, len(ids))), -7.0]
        choice = {"text": tokenizer.decode(ids) + "!", "logprobs": {"token_logprobs": told}}
        usage = {"prompt_tokens": len(ids), "completion_tokens": 1}
        return 200, {"model": "served", "choices": [choice], "usage": usage}

    return reply


def log_probs(url: str, *talks: Conversation, model: Model = POLICY, key: str = "") -> list:
    return in_order(HttpEngine(url, key, 4, QUICK).log_probs(model, talks), len(talks))


def test_a_log_prob_is_of_the_response_alone_to_the_token(tokenizer):
    talks = [talk("1 + 2 = 3."), talk(""), talk("\n\né漢"), talk("3", "A longer question, is it not?")]
    with serving(echo(tokenizer)) as server:
        found = log_probs(server.url, *talks)
        seen = dict(server.seen)
        assert {path for path, _ in server.seen} == {"/v1/completions"}
    for one, asked in zip(found, talks, strict=True):
        text = encode(tokenizer, asked)
        start, size = len(text.prompt_ids), len(text.response_ids)
        wanted = math.fsum(logp(at) for at in range(start, start + size))
        assert one == LogProb(pytest.approx(wanted), size, start)
    last = seen["/v1/completions"]
    assert {name: last[name] for name in last if name != "prompt"} == {
        "model": "served",
        "max_tokens": 1,
        "temperature": 0,
        "echo": True,
        "logprobs": 1,
    }


def told(body: dict, **logprobs) -> dict:
    choice = body["choices"][0]
    return {**body, "choices": [{**choice, "logprobs": {**choice["logprobs"], **logprobs}}]}


def only_written(body):
    return told(body, token_logprobs=[-7.0])


def nothing_known(body):
    return told(body, token_logprobs=[None])


def no_logprobs(body):
    return {**body, "choices": [{"text": "x", "logprobs": None}]}


def one_more_in_front(body):
    usage = {"prompt_tokens": body["usage"]["prompt_tokens"] + 1, "completion_tokens": 1}
    return told({**body, "usage": usage}, token_logprobs=[None, *numbers(body)])


def one_more_unsaid(body):
    return told(body, token_logprobs=[None, -1.0, *numbers(body)[1:]])


def no_usage(body):
    return {name: value for name, value in body.items() if name != "usage"}


def not_shifted(body):
    return told(body, token_logprobs=[-1.0, *numbers(body)[1:]])


def probabilities(body):
    return told(body, token_logprobs=[None, *(math.exp(number) for number in numbers(body)[1:])])


def another_vocabulary(body):
    return {**body, "choices": [{**body["choices"][0], "text": "zzz"}]}


def numbers(body) -> list:
    return body["choices"][0]["logprobs"]["token_logprobs"]


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        (only_written, r"gives no log-probs of what it is told: it was told \d+ tokens, and scores 1\n"),
        (nothing_known, "gives no log-probs of what it is told"),
        (no_logprobs, "gives no log-probs of what it is told: .* scores 0"),
        (one_more_in_front, r"does not tell where a response begins: .* scores \d+ tokens, \d+ read and 1 written"),
        (one_more_unsaid, "does not tell where a response begins"),
        (no_usage, "does not tell where a response begins: .* None read and None written"),
        (not_shifted, "gives numbers for its prompt that are no log-probs of it"),
        (probabilities, "gives numbers for its prompt that are no log-probs of it"),
        (another_vocabulary, "serves a model with another vocabulary"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_tell_is_refused_by_what_it_lacks(tokenizer, change, lack):
    def reply(payload):
        status, body = echo(tokenizer)(payload)
        return status, change(body)

    with serving(reply) as server, pytest.raises(EngineError, match=lack) as caught:
        log_probs(server.url, *[talk(str(at)) for at in range(30)], key=KEY)
    assert len(server.seen) <= 8
    assert "vLLM and SGLang" in caught.value.hint
    assert KEY not in str(caught.value)


def test_one_odd_answer_of_a_server_that_can_is_asked_for_again_and_fails_alone(tokenizer):
    def reply(payload):
        status, body = echo(tokenizer)(payload)
        return status, only_written(body) if "odd" in tokenizer.decode(payload["prompt"]) else body

    with serving(reply) as server:
        engine = HttpEngine(server.url, "", 1, QUICK)
        good, odd = in_order(engine.log_probs(POLICY, [talk("even"), talk("odd")]), 2)
    assert isinstance(good, LogProb)
    assert odd == Failure("the answer is no completion with log-probs of its prompt, 3 times over")


@pytest.mark.parametrize(
    ("status", "said", "too_long"),
    [
        (400, "This model's maximum context length is 8 tokens.", True),
        (400, "echo is not currently supported", False),
        (500, "oops", False),
    ],
)
def test_a_text_that_is_refused_fails_alone(tokenizer, status, said, too_long):
    def reply(payload):
        is_bad = "bad" in tokenizer.decode(payload["prompt"])
        return (status, {"error": {"message": said}}) if is_bad else echo(tokenizer)(payload)

    with serving(reply) as server:
        good, bad = log_probs(server.url, talk("good"), talk("bad"))
    assert isinstance(good, LogProb)
    assert isinstance(bad, Failure)
    assert bad.too_long is too_long


def test_minus_infinity_is_no_number(tokenizer):
    def reply(payload):
        status, body = echo(tokenizer)(payload)
        return status, told(body, token_logprobs=[*numbers(body)[:-2], -9999.0, -7.0])

    with serving(reply) as server:
        assert log_probs(server.url, talk("x")) == [
            Failure("the server holds a token of the response for impossible")
        ]


def test_a_text_longer_than_the_model_reads_is_not_sent(tokenizer):
    with serving(echo(tokenizer)) as server:
        (found,) = log_probs(server.url, talk("word " * 600))
        assert server.seen == []
    assert found.too_long


def test_a_server_without_such_a_path_is_an_error_that_says_what_it_lacks():
    with serving(lambda _: (404, {"detail": "Not Found"})) as server:
        for ask, hint in (
            (lambda engine: engine.log_probs(POLICY, [talk("x")]), "/v1/completions with `echo`"),
            (lambda engine: engine.rewards(REWARD, [talk("x")]), "vLLM's /pooling"),
            (lambda engine: engine.embed(POLICY, ["x"]), "/v1/embeddings"),
        ):
            with pytest.raises(EngineError, match="no such model or path") as caught:
                list(ask(HttpEngine(server.url, "", 4, QUICK)))
            assert hint in caught.value.hint


def test_a_name_that_leads_to_no_tokenizer_is_an_error(tmp_path):
    for ask in (HttpEngine.log_probs, HttpEngine.rewards):
        with pytest.raises(EngineError, match="need the tokenizer of its model here") as caught:
            list(ask(HttpEngine("http://host/v1#served"), Model(id=str(tmp_path)), [talk("x")]))
        assert "behind '#'" in caught.value.hint


def test_answers_are_remembered_and_their_prompts_counted(tokenizer, tmp_path):
    talks = [talk("a"), talk("b"), talk("a"), Conversation((), ())]
    with serving(echo(tokenizer)) as server:
        spend = Spend()
        engine = Remembering(HttpEngine(server.url, "", 4, QUICK), Memo(tmp_path / "memo"), spend, identity)
        first = in_order(engine.log_probs(POLICY, talks), 4)
        assert len(server.seen) == 2
        sent = sum(len(payload["prompt"]) for _, payload in server.seen)
        assert spend.snapshot()[POLICY.id].tokens_in == sent
        again = in_order(engine.log_probs(POLICY, talks), 4)
        assert again == first
        assert len(server.seen) == 2
    assert isinstance(first[3], Failure)


def test_log_probs_are_like_a_trainers_only_where_the_number_format_is_known(tokenizer):
    engine, known = HttpEngine("http://host/v1"), HttpEngine("http://host/v1#name?dtype=float32")
    assert engine.fingerprint(POLICY) != known.fingerprint(POLICY)
    assert known.fingerprint(POLICY) == reference_fingerprint(tokenizer, identity(POLICY), "torch.float32")
    assert engine.vocabulary(POLICY) == vocabulary_fingerprint(tokenizer)


def head(payload: dict) -> list[float]:
    return [0.5 * len(payload["input"]) - 8.0, 0.25]


def sigmoid(values: list[float]) -> list[float]:
    return [1 / (1 + math.exp(-value)) for value in values]


def pooling(payload, outputs) -> tuple[int, dict]:
    usage = {"prompt_tokens": len(payload["input"])}
    return 200, {"model": "served", "data": [{"index": 0, "data": outputs}], "usage": usage}


def test_rewards_are_raw_outputs_of_the_head():
    def reply(payload):
        outputs = head(payload)
        return pooling(payload, sigmoid(outputs) if payload["use_activation"] else outputs)

    talks = [talk("1 + 2 = 3."), talk("3"), talk("word " * 600)]
    with serving(reply) as server:
        engine = HttpEngine(server.url, "", 4, QUICK)
        long, short, failed = in_order(engine.rewards(REWARD, talks), 3)
        assert in_order(engine.rewards(REWARD, talks[:1]), 1) == [long]
        sent = [payload for path, payload in server.seen if path == "/pooling"]
        assert len(sent) == len(server.seen) == 4, "the first is asked both ways, once"
    assert {tuple(head(payload)) for payload in sent} == {long, short}
    assert failed.too_long


def test_a_server_that_squashes_rewards_without_a_word_is_found_out():
    with serving(lambda payload: pooling(payload, sigmoid(head(payload)))) as server:
        engine = HttpEngine(server.url, "", 1, QUICK)
        with pytest.raises(EngineError, match="the same with and without an activation function"):
            list(engine.rewards(REWARD, [talk(str(at)) for at in range(9)]))
        assert len(server.seen) == 6


def test_rewards_of_another_text_are_none():
    def reply(payload):
        status, body = pooling(payload, head(payload))
        return status, {**body, "usage": {"prompt_tokens": 3}}

    with serving(reply) as server:
        (found,) = HttpEngine(server.url, "", 1, QUICK).rewards(REWARD, [talk("x")])
    assert found == (0, Failure("the server read another number of tokens than it was told"))


def test_vectors_come_back_in_their_places():
    def reply(payload):
        return 200, {"model": "served", "data": [{"embedding": [len(payload["input"]), 0.5]}]}

    with serving(reply) as server:
        engine = HttpEngine(server.url, "", 4, QUICK)
        found = in_order(engine.embed(Model(id="any/name"), ["a", "abc", ""]), 3)
        assert {path for path, _ in server.seen} == {"/v1/embeddings"}
    assert found == [(1.0, 0.5), (3.0, 0.5), (0.0, 0.5)]


def test_what_is_no_vector_is_none():
    odd = [None, [], ["x"], [float("nan")], [True], "aGk="]
    with serving(lambda payload: (200, {"data": [{"embedding": odd[int(payload["input"])]}]})) as server:
        found = dict(HttpEngine(server.url, "", 1, QUICK).embed(Model(id="m"), list("012345")))
    assert all(isinstance(found[at], Failure) for at in range(6))
