"""The toy models are models like any other."""

import pytest

from prefkit.engines import Conversation, Engines, Message, Model, Request
from prefkit.engines.placement import Placement, model_fingerprint, open_engines
from prefkit.toy import gold, prompts

POLICY, REWARD = Model(id="prefkit/toy-policy"), Model(id="prefkit/toy-reward")


@pytest.fixture(scope="module")
def engines() -> Engines:
    return open_engines({"policy": POLICY, "reward": REWARD}, Placement(device="cpu"))


def test_the_policy_answers_well_when_greedy_and_worse_when_sampled(engines):
    asked = prompts(16, seed=5)

    def worth(temperature: float) -> float:
        requests = [
            Request((Message("user", text),), 72, temperature, seed=at) for at, text in enumerate(asked)
        ]
        answers = engines.generate(POLICY, requests)
        return sum(gold(text, answer.text).reward for text, answer in zip(asked, answers, strict=True)) / len(
            asked
        )

    assert worth(0.0) > 0.8 > worth(1.0)


def test_sampled_and_given_log_probs_agree(engines):
    asked = [Request((Message("user", text),), 72, seed=1) for text in prompts(16, seed=5)]
    answers = engines.generate(POLICY, asked)
    talks = [
        Conversation(request.messages, (Message("assistant", answer.text),))
        for request, answer in zip(asked, answers, strict=True)
    ]
    found = engines.log_probs(POLICY, talks)
    # A sampled text may have been written in other tokens than those it is read in.
    same = [abs(a.logp - b.logp) < 1e-3 for a, b in zip(answers, found, strict=True) if a.tokens == b.tokens]
    assert sum(same) >= 12
    assert all(len(scores) == 1 for scores in engines.rewards(REWARD, talks))


def test_each_has_a_fingerprint_of_its_own():
    assert len({model_fingerprint(POLICY), model_fingerprint(REWARD), None}) == 3
