import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from prefkit.engines import Completion, Conversation, Failure, Message, Model, Request, in_order
from prefkit.engines.fake import FakeEngine
from prefkit.engines.http import HttpEngine, Patience
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.placement import Placement, open_engines
from prefkit.engines.spend import (
    Budget,
    BudgetError,
    Price,
    Spend,
    Tally,
    Tokens,
    dollars,
    read_budget,
    read_price,
)
from prefkit.engines.weights import identity
from prefkit.errors import EngineError, PrefkitError

MODEL = Model(id="org/judge")
PRICE = Price(Decimal("0.15"), Decimal("0.60"))
TOKENS_EACH = 12
"""What each answer of the servers here takes: 5 read, 7 written."""


def requests(count: int) -> list[Request]:
    return [Request((Message("user", f"prompt {at}"),), 16, seed=at) for at in range(count)]


def spending(*budgets: Budget, **more) -> Spend:
    return Spend(prices={MODEL.served_as: PRICE}, budgets=budgets, **more)


def remembering(path, engine, spend) -> Remembering:
    return Remembering(engine, Memo(path), spend, identity)


def until_stopped(path, engine, spend, count: int) -> list:
    """Return the answers that came before the budget was spent."""
    came = []
    with pytest.raises(BudgetError) as caught:
        came.extend(iter(remembering(path, engine, spend).generate(MODEL, requests(count))))
    assert "the budget of" in caught.value.what
    return came


def test_a_price_is_exact():
    assert PRICE.of(1_000_000, 0) == Decimal("0.15")
    assert PRICE.of(3, 7) == Decimal("0.00000465")
    spend = spending()
    for _ in range(1000):
        spend.answered("org/judge", Tokens(1, 1))
    assert spend.cost() == Decimal("0.00075")


def test_what_has_no_price_has_no_cost_rather_than_none():
    spend = Spend()
    spend.answered("org/judge", Tokens(10, 10))
    assert spend.cost() is None
    free = Spend(prices={"org/judge": Price(Decimal(0), Decimal(0))})
    free.answered("org/judge", Tokens(10, 10))
    assert free.cost() == 0


@pytest.mark.parametrize(
    ("text", "amount", "is_money"),
    [
        ("$5", "5", True),
        ("5usd", "5", True),
        ("0.25 USD", "0.25", True),
        ("2M", "2000000", False),
        ("1.5k", "1500", False),
        ("5000tokens", "5000", False),
        ("0usd", "0", True),
    ],
)
def test_budgets_are_read(text, amount, is_money):
    assert read_budget(text) == Budget(Decimal(amount), is_money)


@pytest.mark.parametrize("text", ["5", "", "-5usd", "$5k", "$", "5 euro", "nan", "1e3usd", "²usd"])
def test_what_is_no_budget_is_refused(text):
    with pytest.raises(PrefkitError, match="is no budget"):
        read_budget(text)


@pytest.mark.parametrize("text", ["1", "1/", "/", "1/2/3", "-1/2", "nan/1", "inf/1", "a/b"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(PrefkitError, match="is no price"):
        read_price(text)
    assert read_price("$0.15/0.60") == PRICE


def test_money_is_rounded_only_where_it_is_shown():
    shown = [dollars(Decimal(text)) for text in ("0", "0.00001", "0.00465", "0.125", "1234.567")]
    assert shown == ["$0.00", "<$0.0001", "$0.0046", "$0.12", "$1,234.57"]


def test_each_model_is_counted_for_itself(tmp_path):
    spend, other = spending(), Model(id="org/policy")
    engine = remembering(tmp_path / "m", FakeEngine(failing="prompt 3"), spend)
    before = spend.snapshot()
    in_order(engine.generate(MODEL, requests(5)), 5)
    in_order(engine.generate(MODEL, requests(5)), 5)
    in_order(engine.rewards(other, [Conversation((), (Message("assistant", "x"),))]), 1)
    judge, policy = spend.since(before).values()
    assert (judge.calls, judge.remembered, judge.failed) == (4, 4, 2)
    assert (judge.saved_in, judge.saved_out) == (judge.tokens_in, judge.tokens_out) == (8, judge.tokens_out)
    assert judge.seconds > 0
    assert (policy.calls, policy.tokens_in, policy.uncounted) == (1, 0, 1)
    assert spend.since(spend.snapshot()) == {}


def test_nothing_more_is_asked_once_a_budget_is_spent(tmp_path):
    log, path = tmp_path / "log", tmp_path / "memo"
    spend = spending(read_budget("60tokens", "org/judge"))
    came = until_stopped(path, FakeEngine(log), spend, 40)
    spent = spend.models["org/judge"]
    assert 60 <= spent.tokens_in + spent.tokens_out < 60 + 2 + 13
    assert len(came) == spent.calls < 40
    with pytest.raises(BudgetError):  # the counter is of the whole run: a further step asks nothing either
        in_order(remembering(path, FakeEngine(log), spend).generate(MODEL, requests(40)), 40)
    assert spent.calls == len(came)
    again = spending(read_budget("1M"))
    assert in_order(remembering(path, FakeEngine(log), again).generate(MODEL, requests(40)), 40) == in_order(
        FakeEngine().generate(MODEL, requests(40)), 40
    )
    assert again.models["org/judge"].remembered == len(came)
    assert [times for times in Counter(log.read_text().splitlines()).values() if times > 1] == []


def test_a_budget_in_dollars_stops_too_and_other_models_go_on(tmp_path):
    spend = spending(read_budget("0.00002usd", "org/judge"))
    until_stopped(tmp_path / "m", FakeEngine(), spend, 40)
    assert spend.cost() >= Decimal("0.00002")
    other = Model(id="org/policy")
    engine = remembering(tmp_path / "m", FakeEngine(), spend)
    assert len(in_order(engine.generate(other, requests(10)), 10)) == 10


def test_remembered_answers_are_free_even_where_nothing_may_be_spent(tmp_path):
    in_order(remembering(tmp_path / "m", FakeEngine(), Spend()).generate(MODEL, requests(5)), 5)
    nothing = spending(read_budget("0usd"))
    engine = remembering(tmp_path / "m", FakeEngine(), nothing)
    assert len(in_order(engine.generate(MODEL, requests(5)), 5)) == 5
    with pytest.raises(BudgetError):
        in_order(engine.generate(MODEL, requests(6)), 6)
    assert nothing.models["org/judge"].calls == 0


def test_a_budget_that_the_last_answer_spends_stops_nothing(tmp_path):
    spend = spending(read_budget("1tokens"))
    assert (
        len(in_order(remembering(tmp_path / "m", FakeEngine(), spend).generate(MODEL, requests(1)), 1)) == 1
    )


def test_what_next_tokens_takes_counts_for_a_budget(tmp_path):
    talk = [Conversation((), (Message("assistant", f"word {at}"),)) for at in range(9)]
    engine = remembering(tmp_path / "m", FakeEngine(), spending(read_budget("7tokens")))
    with pytest.raises(BudgetError):
        in_order(engine.next_tokens(MODEL, talk, 2), 9)


class Threads:
    """Has `wide` requests under way at once, and takes those that are when it is told that it is enough."""

    def __init__(self, wide: int) -> None:
        self.wide, self.asked, self.stopped = wide, 0, False

    def enough(self) -> None:
        self.stopped = True

    def generate(self, model: Model, asked: list[Request]) -> Iterator[tuple[int, Completion | Failure]]:
        under_way: list[int] = []
        rest = iter(range(len(asked)))
        while True:
            while len(under_way) < self.wide and not self.stopped and (at := next(rest, None)) is not None:
                under_way.append(at)
                self.asked += 1
            if not under_way:
                return
            yield under_way.pop(0), Completion("yes", 7, "stop", 5)


def test_answers_under_way_are_taken(tmp_path):
    engine, spend = Threads(wide=8), spending(Budget(Decimal(10 * TOKENS_EACH), is_money=False))
    came = until_stopped(tmp_path / "m", engine, spend, 100)
    assert engine.asked == len(came) == 10 + 8 - 1
    second = Threads(wide=8)
    in_order(remembering(tmp_path / "m", second, spending()).generate(MODEL, requests(100)), 100)
    assert second.asked == 100 - len(came)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.paid.append(payload["messages"][-1]["content"])
        if len(self.server.paid) > self.server.free:
            assert self.server.go.wait(20)
        body = {"choices": [{"message": {"content": "yes"}, "finish_reason": "stop"}]}
        if self.server.tells:
            body["usage"] = {"prompt_tokens": 5, "completion_tokens": 7}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@contextmanager
def serving(*, tells: bool = True, free: int = 1000):
    """Serve; requests after the first `free` are answered once `go` is set."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.paid, server.tells = True, [], tells
    server.free, server.go = free, threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Told:
    """An engine, and an event for when it was told that it is enough."""

    def __init__(self, engine: HttpEngine, told: threading.Event) -> None:
        self._engine, self._told = engine, told

    def generate(self, model, asked):
        return self._engine.generate(model, asked)

    def enough(self):
        self._engine.enough()
        self._told.set()


def asking(server, wide: int) -> HttpEngine:
    url = f"http://127.0.0.1:{server.server_port}/v1"
    return HttpEngine(url, "", wide, Patience(attempts=2, first_pause=0.01, timeout=5))


def test_a_server_is_paid_for_no_more_than_was_under_way(tmp_path):
    spend = spending(Budget(Decimal(10 * TOKENS_EACH), is_money=False))
    with serving(free=10) as server:
        came = until_stopped(tmp_path / "m", Told(asking(server, 4), server.go), spend, 60)
        assert 10 <= len(came) == len(server.paid) <= 10 + 4
        answers = in_order(
            remembering(tmp_path / "m", asking(server, 4), spending()).generate(MODEL, requests(60)), 60
        )
        assert [answer.text for answer in answers] == ["yes"] * 60
        assert Counter(server.paid) == {f"prompt {at}": 1 for at in range(60)}


def test_a_server_that_counts_no_tokens_cannot_be_held_to_a_budget(tmp_path):
    with serving(tells=False) as server:
        place = Placement(engines={"judge": f"http://127.0.0.1:{server.server_port}/v1"}, concurrency=2)
        spend = Spend(budgets=(read_budget("1M"),))
        engines = open_engines({"judge": MODEL}, place, tmp_path / "m", spend=spend, environment={})
        with pytest.raises(BudgetError, match="does not say how many tokens"):
            engines.generate(MODEL, requests(40))
        assert len(server.paid) <= 4
        assert spend.cost() is None


def test_a_budget_in_dollars_needs_a_price_for_what_others_run(tmp_path):
    place = Placement(engines={"judge": "http://127.0.0.1:9/v1"})
    models = {"judge": MODEL, "policy": Model(id="org/policy")}
    with pytest.raises(EngineError, match=r"a budget of \$5.00 cannot hold: model 'org/judge' has no price"):
        open_engines(models, place, spend=Spend(budgets=(read_budget("$5"),)), environment={})
    open_engines(models, place, spend=spending(read_budget("$5")), environment={})
    with pytest.raises(EngineError, match="model 'org/policy' has no price"):
        open_engines(models, place, spend=spending(read_budget("$5", "org/policy")), environment={})


def test_a_cost_is_a_lower_bound_where_tokens_were_not_told():
    spend = spending()
    spend.answered("org/judge", Tokens(5, 7))
    assert not spend.is_floor(spend.models)
    spend.answered("org/judge", Tokens(0, 0, told=False))
    assert spend.is_floor(spend.models)
    assert not spend.is_floor({"org/policy": Tally(calls=1)})
