"""Answers that must be one of some choices, and what is told of the likeliest tokens."""

import numpy as np
import pytest

from prefkit.engines import Completion, Conversation, Failure, Message, in_order
from prefkit.engines.transformers_engine import TransformersEngine

VERDICTS = ("first", "second", "tie")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine(device="cpu", batch_tokens=512)


def answers(engine, model, requests) -> list[Completion | Failure]:
    return in_order(engine.generate(model, requests), len(requests))


def logps(engine, model, request) -> np.ndarray:
    """Return the log-prob of each choice with the end of the turn, as the engine's other door tells it."""
    talks = [
        Conversation(request.messages, (Message("assistant", choice),), request.tools)
        for choice in request.choices
    ]
    return np.array([one.logp for one in in_order(engine.log_probs(model, talks), len(talks))])


def test_a_choice_that_begins_another_is_told_from_it_by_the_end_of_the_turn(engine, policy, ask):
    request = ask("say hi", temperature=0.0, choices=("hi", "hihi", "bye"), top_logprobs=3)
    (answer,) = answers(engine, policy, [request])
    wanted = logps(engine, policy, request)
    among = wanted - np.logaddexp.reduce(wanted)
    best = int(among.argmax())
    assert answer.text == request.choices[best]
    assert answer.finish == "stop"
    assert answer.logp == pytest.approx(wanted[best], abs=1e-4)
    (place,) = answer.tops
    assert [text for text, _ in place] == [request.choices[at] for at in np.argsort(-among)]
    assert [logp for _, logp in place] == pytest.approx(sorted(among, reverse=True), abs=1e-4)
    assert sum(np.exp(logp) for _, logp in place) == pytest.approx(1)


def test_choices_that_differ_before_their_end_are_compared_without_it(engine, policy, ask):
    request = ask("say hi", temperature=0.0, choices=("a", "b"), top_logprobs=2)
    (chosen,) = answers(engine, policy, [request])
    plain = ask("say hi", temperature=0.0, max_tokens=1, top_logprobs=1000)
    (free,) = answers(engine, policy, [plain])
    first = dict(free.tops[0])
    wanted = np.array([first["a"], first["b"]])
    told = dict(chosen.tops[0])
    assert [told["a"], told["b"]] == pytest.approx(wanted - np.logaddexp.reduce(wanted), abs=1e-5)
    assert chosen.logp == pytest.approx(first[chosen.text], abs=1e-5)
    assert chosen.tokens == 2


def test_a_choice_is_drawn_as_often_as_it_is_likely(policy, ask):
    requests = [
        ask("x", seed=seed, temperature=heat, choices=VERDICTS, top_logprobs=3)
        for heat in (1.0, 4.0)
        for seed in range(400)
    ]
    found = answers(TransformersEngine(device="cpu"), policy, requests)
    told = dict(found[0].tops[0])
    for heat, some in ((1.0, found[:400]), (4.0, found[400:])):
        shares = np.exp(np.array([told[choice] for choice in VERDICTS]) / heat)
        counts = [sum(answer.text == choice for answer in some) for choice in VERDICTS]
        assert np.array(counts) / 400 == pytest.approx(shares / shares.sum(), abs=0.09)


def test_choices_are_the_same_alone_and_among_other_requests(engine, policy, ask):
    requests = [
        ask("one two " * (at % 4 + 1), seed=at, choices=VERDICTS[: at % 3 + 1], top_logprobs=at % 3)
        if at % 2
        else ask("one two " * (at % 4 + 1), seed=at, max_tokens=40, top_logprobs=at % 3, stop=("e",))
        for at in range(20)
    ]
    together = answers(engine, policy, requests)
    assert all(answer.text in VERDICTS for answer in together[1::2])
    assert all((answer.tops is not None) == (at % 3 > 0) for at, answer in enumerate(together))
    for at in (0, 3, 4, 9, 17):
        assert answers(engine, policy, [requests[at]]) == [together[at]]
    assert answers(engine, policy, list(reversed(requests))) == list(reversed(together))


def test_only_as_many_choices_are_told_as_are_asked_for(engine, policy, ask):
    found = answers(engine, policy, [ask("x", choices=VERDICTS, top_logprobs=count) for count in (0, 1, 9)])
    assert [answer.tops and len(answer.tops[0]) for answer in found] == [None, 1, 3]


def test_every_place_of_an_answer_has_its_likeliest_tokens(engine, policy, ask):
    requests = [ask("say hi", seed=seed, temperature=0.0, max_tokens=200, top_logprobs=2) for seed in (0, 1)]
    (answer, _) = answers(engine, policy, requests)
    assert len(answer.tops) == answer.tokens
    assert all(first[1] >= second[1] for first, second in answer.tops)
    texts = [place[0][0] for place in answer.tops]
    assert answer.finish == "length" or texts[-1] == "<|end|>"
    assert answer.logp == pytest.approx(sum(place[0][1] for place in answer.tops))
    assert "".join(texts).encode().isascii() is False or "".join(texts).startswith(answer.text)


def test_choices_too_long_or_refused_fail_alone(engine, policy, ask):
    long = ask("one two " * 200, choices=VERDICTS)
    odd = ask("x", choices=VERDICTS)._replace(messages=())
    just = ask("x", choices=("yes", "one two three " * 100))
    found = answers(engine, policy, [long, ask("x", choices=VERDICTS), odd, just])
    assert [isinstance(answer, Failure) for answer in found] == [True, False, True, True]
    assert found[0].too_long
    assert found[3].too_long
    assert "and the model reads at most 256" in found[0].error


def test_an_empty_choice_is_the_end_of_the_turn(engine, policy, ask):
    request = ask("x", temperature=0.0, choices=("", "bye"), top_logprobs=2)
    (answer,) = answers(engine, policy, [request])
    assert dict(answer.tops[0]).keys() == {"", "bye"}
    wanted = logps(engine, policy, request)
    assert answer.logp == pytest.approx(wanted.max(), abs=1e-4)


def test_eight_samples_at_mixed_temperatures_are_what_each_is_alone(engine, policy, ask):
    requests = [
        ask("say hi", seed=seed, temperature=heat, max_tokens=40)
        for heat in (0.0, 0.5, 1.0)
        for seed in range(8)
    ]
    together = answers(engine, policy, requests)
    assert len({answer.text for answer in together[:8]}) == 1
    assert len({answer.text for answer in together[16:]}) == 8
    for at in (0, 8, 15, 23):
        assert answers(engine, policy, [requests[at]]) == [together[at]]
