import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import pytest

from prefkit.engines import (
    Completion,
    Conversation,
    Engines,
    Failure,
    LogProb,
    Message,
    Model,
    Request,
    Spend,
    in_order,
)
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.weights import identity
from prefkit.errors import EngineError, StoreError

MODEL = Model(id="some/model")


def requests(count: int, start: int = 0) -> list[Request]:
    return [Request((Message("user", f"prompt {at}"),), 16, seed=at) for at in range(start, start + count)]


def remembering(path, engine=None, spend=None, **settings) -> Remembering:
    return Remembering(engine or FakeEngine(), Memo(path), spend or Spend(), identity, **settings)


class Numbers:
    """Answers every request with another number; knows what it was asked."""

    def __init__(self):
        self.asked = []

    def rewards(self, model, conversations):
        for position, _ in enumerate(conversations):
            self.asked.append(position)
            yield position, (float(len(self.asked)), math.inf, math.nan)


TALK = [Conversation((Message("user", "x"),), (Message("assistant", text),)) for text in "abc"]


def test_an_answer_is_asked_for_once(tmp_path):
    spend, path = Spend(), tmp_path / "memo.sqlite"
    asked = requests(40)
    first = in_order(remembering(path, spend=spend).generate(MODEL, asked), 40)
    assert first == in_order(FakeEngine().generate(MODEL, asked), 40)
    wrote = sum(answer.tokens for answer in first)
    assert spend.counts == {"calls": 40, "remembered": 0, "tokens_in": 80, "tokens_out": wrote}
    again = Spend()
    assert in_order(remembering(path, spend=again).generate(MODEL, asked), 40) == first
    assert again.counts == {"remembered": 40}


def test_only_what_is_missing_is_asked_for(tmp_path):
    log = tmp_path / "log"
    list(remembering(tmp_path / "m").generate(MODEL, requests(10)))
    more = remembering(tmp_path / "m", FakeEngine(log)).generate(MODEL, requests(15, start=5))
    assert len(in_order(more, 15)) == 15
    assert len(log.read_text().splitlines()) == 10


def test_equal_requests_of_one_call_are_asked_once_and_answered_each(tmp_path):
    engine, spend = Numbers(), Spend()
    asked = [TALK[0], TALK[1], TALK[0], TALK[0]]
    answers = in_order(remembering(tmp_path / "m", engine, spend).rewards(MODEL, asked), 4)
    assert [answer[0] for answer in answers] == [1.0, 2.0, 1.0, 1.0]
    assert spend.counts["calls"] == 2
    assert spend.counts["remembered"] == 2


def test_every_bit_of_an_answer_comes_back(tmp_path):
    values = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, math.inf)

    class Exact(Numbers):
        def rewards(self, model, conversations):
            yield 0, values

    first = in_order(remembering(tmp_path / "m", Exact()).rewards(MODEL, TALK[:1]), 1)
    again = in_order(remembering(tmp_path / "m", Numbers()).rewards(MODEL, TALK[:1]), 1)
    assert first == again == [values]
    text = Completion('é \u2028 🙂 \x00 "', 3, "length", 5, -1.5)

    class Says:
        def generate(self, model, asked):
            yield 0, text

    list(remembering(tmp_path / "m", Says()).generate(MODEL, requests(1)))
    assert in_order(remembering(tmp_path / "m").generate(MODEL, requests(1)), 1) == [text]


def test_methods_models_and_settings_do_not_mix(tmp_path):
    log, path = tmp_path / "log", tmp_path / "m"
    memo = remembering(path, FakeEngine(log))
    request = requests(1)[0]
    list(memo.generate(MODEL, [request]))
    list(memo.generate(Model(id="some/model", revision="other"), [request]))
    list(memo.generate(Model(id="other/model"), [request]))
    changes = {
        "messages": (Message("system", "prompt 0"),),
        "max_tokens": 17,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 99,
        "stop": ("x",),
        "tools": "[]",
        "choices": ("yes", "no"),
        "top_logprobs": 5,
        "beam": (0, 2),
    }
    assert set(changes) == set(Request._fields)
    for name, value in changes.items():
        list(memo.generate(MODEL, [request._replace(**{name: value})]))
    list(memo.log_probs(MODEL, TALK[:1]))
    list(memo.rewards(MODEL, TALK[:1]))
    assert len(log.read_text().splitlines()) == 3 + len(changes) + 2
    list(memo.embed(MODEL, ["x"]))
    assert len(log.read_text().splitlines()) == 3 + len(changes) + 3


def test_a_failure_is_not_remembered(tmp_path):
    asked = requests(4)
    failing = remembering(tmp_path / "m", FakeEngine(failing="prompt 2")).generate(MODEL, asked)
    answers = in_order(failing, 4)
    assert [isinstance(answer, Failure) for answer in answers] == [False, False, True, False]
    log = tmp_path / "log"
    again = in_order(remembering(tmp_path / "m", FakeEngine(log)).generate(MODEL, asked), 4)
    assert not any(isinstance(answer, Failure) for answer in again)
    assert len(log.read_text().splitlines()) == 1


def test_refresh_asks_again_once_and_keeps_the_new_answer(tmp_path):
    path, engine = tmp_path / "m", Numbers()
    assert in_order(remembering(path, engine).rewards(MODEL, TALK), 3)[0][0] == 1.0
    fresh = remembering(path, engine, refresh=True)
    assert [answer[0] for answer in in_order(fresh.rewards(MODEL, TALK), 3)] == [4.0, 5.0, 6.0]
    assert [answer[0] for answer in in_order(fresh.rewards(MODEL, TALK), 3)] == [4.0, 5.0, 6.0]
    assert in_order(remembering(path, engine).rewards(MODEL, TALK), 3)[0][0] == 4.0
    assert len(engine.asked) == 6


def test_an_answer_is_kept_before_the_next_one_is_asked_for(tmp_path):
    path = tmp_path / "m"
    answers = remembering(path).generate(MODEL, requests(10))
    for _ in range(3):
        next(answers)
    del answers
    spend = Spend()
    list(remembering(path, spend=spend).generate(MODEL, requests(10)))
    assert spend.counts["remembered"] == 3


def test_where_two_processes_ask_the_same_the_first_answer_stands(tmp_path):
    path = tmp_path / "m"
    slow = remembering(path, Numbers()).rewards(MODEL, TALK[:2])
    next(slow)
    other = Numbers()
    other.asked = [0] * 100
    assert in_order(remembering(path, other).rewards(MODEL, TALK[:2]), 2)[1][0] == 101.0
    assert next(slow)[1][0] == 101.0


WORKER = """
import sys, time
from pathlib import Path
from prefkit.engines import Message, Model, Request, Spend
from prefkit.engines.fake import FakeEngine
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.weights import identity

class Slow(FakeEngine):
    def generate(self, model, requests):
        for answer in super().generate(model, requests):
            time.sleep(float(sys.argv[4]))
            yield answer

asked = [Request((Message("user", f"prompt {at}"),), 16, seed=at) for at in range(int(sys.argv[3]))]
engine = Remembering(Slow(Path(sys.argv[2])), Memo(Path(sys.argv[1])), Spend(), identity)
print(len(list(engine.generate(Model(id="some/model"), asked))), engine._spend.counts["remembered"])
"""


def start(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


def test_a_killed_process_never_asks_again_for_a_recorded_answer(tmp_path):
    path, log = tmp_path / "m", tmp_path / "log"
    for _ in range(3):
        worker = start(path, log, 400, 0.002)
        before = len(log.read_text().splitlines()) if log.exists() else 0
        while not log.exists() or len(log.read_text().splitlines()) < before + 20:
            assert worker.poll() is None
            time.sleep(0.01)
        os.kill(worker.pid, signal.SIGKILL)
        worker.communicate()
    assert len(in_order(remembering(path, FakeEngine(log)).generate(MODEL, requests(400)), 400)) == 400
    lines = Counter(log.read_text().splitlines())
    assert set(lines.values()) == {1}
    assert 397 <= len(lines) <= 400  # the line of an answer may be lost with the process that took it


def test_several_processes_share_one_file(tmp_path):
    path = tmp_path / "m"
    workers = [start(path, tmp_path / f"log{at}", 300, 0) for at in range(3)]
    out = [worker.communicate()[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert [line.split()[0] for line in out] == ["300"] * 3
    assert len(Memo(path).find([])) == 0
    assert sqlite3.connect(path).execute("SELECT count(*) FROM answers").fetchone() == (300,)


def test_answers_are_plain_json(tmp_path):
    list(remembering(tmp_path / "m").generate(MODEL, requests(3)))
    rows = sqlite3.connect(tmp_path / "m").execute("SELECT answer FROM answers").fetchall()
    assert [len(json.loads(answer)) for (answer,) in rows] == [5, 5, 5]


def test_a_file_that_is_no_memo_or_newer_is_refused(tmp_path):
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(StoreError, match="cannot be opened"):
        Memo(tmp_path / "text")
    Memo(tmp_path / "m")
    with sqlite3.connect(tmp_path / "m") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="has format 99") as caught:
        Memo(tmp_path / "m")
    assert "upgrade" in caught.value.hint


def test_what_the_engine_cannot_do_the_memo_cannot_either(tmp_path):
    engines = Engines(serving={MODEL.id: remembering(tmp_path / "m", Numbers())})
    for ask in (
        lambda: engines.generate(MODEL, requests(1)),
        lambda: engines.log_probs(MODEL, TALK),
        lambda: engines.embed(MODEL, ["x"]),
        lambda: engines.fingerprint(MODEL),
    ):
        with pytest.raises(EngineError, match="the engine of model 'some/model' cannot"):
            ask()
    assert len(engines.rewards(MODEL, TALK)) == 3


def test_log_probs_are_filed_with_what_they_depend_on(tmp_path):
    class Typed:
        def __init__(self, dtype):
            self.dtype, self.asked = dtype, 0

        def log_probs(self, model, conversations):
            for position, _ in enumerate(conversations):
                self.asked += 1
                yield position, LogProb(-1.0, 1)

        def fingerprint(self, model):
            return self.dtype

    wide, narrow = Typed("float32"), Typed("bfloat16")
    for engine in (wide, narrow, wide):
        list(remembering(tmp_path / "m", engine).log_probs(MODEL, TALK))
    assert (wide.asked, narrow.asked) == (3, 3)
