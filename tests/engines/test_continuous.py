"""Continuous batching: the library's own, where it is asked for."""

import pytest

from prefkit.engines import Conversation, Failure, Message, in_order
from prefkit.engines.placement import Placement, open_engines
from prefkit.engines.transformers_engine import TransformersEngine
from prefkit.errors import EngineError


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine("cpu", continuous=True)


def answered(engine, model, requests):
    return in_order(engine.generate(model, requests), len(requests))


def test_greedy_answers_and_their_log_probs_are_those_of_the_engine_itself(engine, policy, ask):
    requests = [ask("hi " * (1 + at % 7), temperature=0.0, max_tokens=4 + at % 3) for at in range(12)]
    found, own = (answered(each, policy, requests) for each in (engine, TransformersEngine("cpu")))
    assert [(one.text, one.tokens, one.finish, one.prompt_tokens) for one in found] == [
        (one.text, one.tokens, one.finish, one.prompt_tokens) for one in own
    ]
    assert [one.logp for one in found] == pytest.approx([one.logp for one in own], abs=1e-3)


def test_samples_have_the_models_log_probs_where_nothing_bends_them(engine, policy, ask):
    requests = [ask("one two", seed=seed, max_tokens=10) for seed in range(8)]
    found = answered(engine, policy, requests)
    assert len({one.text for one in found}) > 4
    ended = [one for one in found if one.finish == "stop" and one.text.isascii() and one.tokens > 1]
    asked = [Conversation((Message("user", "one two"),), (Message("assistant", one.text),)) for one in ended]
    told = in_order(engine.log_probs(policy, asked), len(asked))
    same = [(one.logp, own.logp) for one, own in zip(ended, told, strict=True) if one.tokens == own.tokens]
    assert all(one == pytest.approx(own, abs=1e-3) for one, own in same)
    bent = answered(engine, policy, [ask("one", temperature=0.5, top_p=0.9, seed=at) for at in range(3)])
    assert [one.logp for one in bent] == [None] * 3


def test_what_it_cannot_do_is_answered_by_the_engine_itself(engine, policy, ask):
    requests = [
        ask(temperature=0.0),
        ask(choices=("yes", "no")),
        ask(stop=("e",), seed=3),
        ask(top_logprobs=2, seed=4),
        ask("hi " * 400),
        ask(beam=(0, 2), temperature=1.0),
    ]
    found = answered(engine, policy, requests)
    own = answered(TransformersEngine("cpu"), policy, requests)
    assert found[1:] == own[1:]
    assert found[0].text == own[0].text
    assert isinstance(found[4], Failure)
    assert found[4].too_long


def test_it_is_an_option_of_the_placement_and_the_manifest_says_so(policy, ask):
    placed = Placement(engines={"p": "transformers?batching=continuous"}, device="cpu")
    engines = open_engines({"p": policy}, placed)
    (described,) = engines.versions().values()
    assert described.startswith("transformers 5")
    assert described.endswith(", batching=continuous")
    assert engines.generate(policy, [ask(temperature=0.0)])[0].text
    for wrong in ("batching=fast", "exact=false", "batching"):
        with pytest.raises(EngineError, match=f"has no option '{wrong}'"):
            open_engines({"p": policy}, Placement(engines={"p": f"transformers?{wrong}"}))
    with pytest.raises(EngineError, match="takes no options"):
        open_engines({"p": policy}, Placement(engines={"p": "fake?batching=continuous"}))
