from prefkit.engines import (
    Conversation,
    Embeds,
    Failure,
    Fingerprints,
    Generates,
    LogProbs,
    Message,
    Model,
    Request,
    Rewards,
)
from prefkit.engines.fake import FakeEngine

MODEL = Model(id="m")


def asked(count: int) -> list[Request]:
    return [Request((Message("user", "say hi"),), 30, seed=seed) for seed in range(count)]


def test_it_can_do_all_that_engines_do():
    for protocol in (Generates, LogProbs, Rewards, Embeds, Fingerprints):
        assert isinstance(FakeEngine(), protocol)


def test_an_answer_is_a_function_of_model_and_request():
    first = dict(FakeEngine().generate(MODEL, asked(60)))
    assert dict(FakeEngine().generate(MODEL, asked(60))) == first
    assert dict(FakeEngine().generate(Model(id="other"), asked(60))) != first
    assert 45 <= len({answer.text for answer in first.values()}) < 60  # some samples are equal, as in life
    assert all(answer.logp < 0 and answer.finish == "stop" for answer in first.values())


def test_it_keeps_to_max_tokens():
    answers = dict(FakeEngine().generate(MODEL, [request._replace(max_tokens=3) for request in asked(30)]))
    assert {answer.finish for answer in answers.values()} == {"stop", "length"}
    assert max(answer.tokens for answer in answers.values()) == 3
    assert all(len(answer.text.split()) <= 3 for answer in answers.values())


def test_it_fails_where_it_is_told_to():
    talk = [Conversation((Message("user", text),), (Message("assistant", "x"),)) for text in ("good", "bad")]
    answers = dict(FakeEngine(failing="bad").rewards(MODEL, talk))
    assert answers[1] == Failure("the fake engine fails on 'bad'")
    assert -4 <= answers[0][0] < 4


def test_a_line_is_written_once_its_answer_was_taken(tmp_path):
    log = tmp_path / "log"
    answers = FakeEngine(log).generate(MODEL, asked(2))
    next(answers)
    assert not log.exists()
    next(answers)
    assert len(log.read_text().splitlines()) == 1
    assert list(answers) == []
    assert len(set(log.read_text().splitlines())) == 2
