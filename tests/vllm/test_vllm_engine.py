"""vLLM itself, on a CPU, against the transformers engine."""

from collections import Counter
from importlib.util import find_spec

import pyarrow as pa
import pytest

from prefkit.engines import Completion, Conversation, Engines, Message, Model, Request, in_order
from prefkit.engines.placement import Placement, open_engines
from prefkit.errors import EngineError
from prefkit.scorers.log_probs import Implicit, ImplicitReward
from prefkit.scorers.scorer import World

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed: see .ci/vllm"),
    pytest.mark.filterwarnings("ignore"),  # the library's own
]
TEXTS = ["say hi", "one two three four " * 6, "x", "say bye and hello", "hello world, one"]


def answers(engine, model, requests):
    return in_order(engine.generate(model, requests), len(requests))


def talk(prompt: str, response: str) -> Conversation:
    return Conversation((Message("user", prompt),), (Message("assistant", response),))


def close(one, other):
    return one == pytest.approx(other, abs=1e-4, rel=1e-5)


def test_greedy_answers_are_those_of_transformers(engine, plain, policy, ask):
    requests = [ask(text, temperature=0, max_tokens=24) for text in TEXTS]
    requests.append(Request((Message("system", "one"), Message("user", "two")), 24, temperature=0))
    requests.append(Request((Message("user", "two"), Message("assistant", "one ")), 24, temperature=0))
    for mine, its in zip(answers(engine, policy, requests), answers(plain, policy, requests), strict=True):
        assert mine._replace(logp=0) == its._replace(logp=0)
        assert close(mine.logp, its.logp)


def test_an_answer_that_ends_by_itself_is_read_as_transformers_reads_it(engine, plain, policy, ask):
    requests = [ask(text, temperature=0, max_tokens=240, seed=at) for at, text in enumerate(TEXTS)]
    requests += [ask(text, temperature=0, max_tokens=60, stop=("a", "\n", "e")) for text in TEXTS]
    mine, its = answers(engine, policy, requests), answers(plain, policy, requests)
    assert [one[:4] for one in mine] == [one[:4] for one in its]
    assert "stop" in {one.finish for one in mine}


def test_log_probs_are_those_of_transformers(engine, plain, policy):
    talks = [talk("say hi", text) for text in ("", "hi", "hello world\n", "\n\none two", "x" * 60)]
    mine = in_order(engine.log_probs(policy, talks), len(talks))
    its = in_order(plain.log_probs(policy, talks), len(talks))
    assert [one.tokens for one in mine] == [one.tokens for one in its]
    assert close([one.logp for one in mine], [one.logp for one in its])
    assert engine.fingerprint(policy) == plain.fingerprint(policy)


def test_the_implicit_reward_is_that_of_transformers(engine, plain, policy, folders):
    base = Model(id=str(folders.base))
    scorer = Implicit(of=ImplicitReward(policy=policy, reference=base, beta=0.5))
    turns = [[{"role": "assistant", "content": text}] for text in ("", "hi", "\n\none two", "x" * 60)]
    rows = pa.table({"prompt": [[{"role": "user", "content": "say hi"}]] * 4, "response": turns})
    mine, its = (
        scorer.score(
            [rows], "score", World(Engines({policy.id: each, base.id: each}), Counter(), lambda _: ())
        )
        for each in (engine, plain)
    )
    assert mine.errors == its.errors == [None] * 4
    (mine_is,), (its_is,) = mine.sides, its.sides
    assert close(mine_is["score"].to_pylist(), its_is["score"].to_pylist())
    assert min(map(abs, its_is["score"].to_pylist())) > 0.1
    assert mine_is["score_fingerprint"] == its_is["score_fingerprint"]
    assert mine_is["score_tokens"] == its_is["score_tokens"]


def test_a_text_as_long_as_the_context_is_scored_and_a_longer_one_fails(engine, plain, policy):
    talks = [talk("x", "%" * size) for size in (250, 251, 5)]
    fits, longer, short = in_order(engine.log_probs(policy, talks), 3)
    its = in_order(plain.log_probs(policy, talks), 3)
    assert fits.tokens == 251
    assert close([fits.logp, short.logp], [its[0].logp, its[2].logp])
    assert longer == its[1]
    assert longer.too_long


@pytest.mark.parametrize("which", ["reward", "unlucky"])
def test_rewards_are_raw_outputs_of_the_head(engine, plain, folders, which):
    model = Model(id=str(getattr(folders, which)))
    talks = [talk(text, answer) for text in TEXTS for answer in ("", "hi", "one two three")]
    talks += [Conversation((), ()), talk("x" * 300, "x")]
    mine = in_order(engine.rewards(model, talks), len(talks))
    its = in_order(plain.rewards(model, talks), len(talks))
    assert mine[-2:] == its[-2:]
    assert mine[-1].too_long
    for one, other in zip(mine[:-2], its[:-2], strict=True):
        assert close(one, other)


def test_a_seed_decides_the_answer_whatever_the_company(engine, policy, ask):
    asked = ask(seed=7, temperature=1.0, max_tokens=24)
    (alone,) = answers(engine, policy, [asked])
    others = [ask(TEXTS[at % 5], seed=at, temperature=1.3, max_tokens=30, top_k=50) for at in range(40)]
    beside = answers(engine, policy, [*others[:20], asked, *others[20:]])[20]
    assert beside[:4] == alone[:4]
    assert close(beside.logp, alone.logp)


def test_each_sample_of_a_prompt_has_its_own_seed(engine, policy, ask):
    requests = [ask(seed=seed, max_tokens=16) for seed in range(12)]
    made = answers(engine, policy, requests)
    assert len({one.text for one in made}) == 12
    assert len({one.prompt_tokens for one in made}) == 1
    more = answers(engine, policy, [*requests, ask(seed=99, max_tokens=16)])
    assert [one.text for one in more[:12]] == [one.text for one in made]


def test_settings_of_one_request_are_not_those_of_the_next(engine, policy, ask):
    requests = [
        ask(temperature=0),
        ask(temperature=2.0, seed=1),
        ask(temperature=2.0, top_k=1, seed=2),
        ask(temperature=2.0, top_p=1e-6, seed=3),
        ask(temperature=0, max_tokens=3),
    ]
    greedy, hot, narrow, sure, short = answers(engine, policy, requests)
    assert greedy.text == narrow.text == sure.text != hot.text
    assert short.tokens == 3
    assert short.finish == "length"


def test_log_probs_of_samples_are_the_models_own_whatever_the_temperature(engine, policy, ask):
    cold, hot = answers(
        engine,
        policy,
        [
            ask(temperature=0, max_tokens=1, top_logprobs=5),
            ask(temperature=2.0, top_k=7, seed=5, max_tokens=1, top_logprobs=5),
        ],
    )
    assert [token for token, _ in hot.tops[0]] == [token for token, _ in cold.tops[0]]
    assert close([logp for _, logp in hot.tops[0]], [logp for _, logp in cold.tops[0]])
    assert close(cold.logp, cold.tops[0][0][1])


def test_the_likeliest_tokens_are_told_for_every_token(engine, policy, ask):
    told, silent = answers(
        engine, policy, [ask(temperature=0, top_logprobs=4), ask(temperature=0, max_tokens=11)]
    )
    assert silent.tops is None
    assert len(told.tops) == told.tokens
    assert {len(place) for place in told.tops} == {4}
    assert close(sum(place[0][1] for place in told.tops), told.logp)
    assert all(place[0][1] >= place[-1][1] for place in told.tops)


def test_an_answer_is_one_of_the_choices(engine, policy, ask):
    choices = ("yes", "no", "no way", "ähm\nno")
    requests = [
        ask(seed=seed, temperature=2.0, choices=choices, max_tokens=1, top_logprobs=3) for seed in range(20)
    ]
    made = answers(engine, policy, requests)
    assert {one.text for one in made} <= set(choices)
    assert len({one.text for one in made}) > 1
    assert all(one.finish == "stop" for one in made)
    assert all(logp > float("-inf") for one in made for place in one.tops for _, logp in place)


def test_what_is_too_long_fails_alone(engine, policy, ask):
    requests = [ask(), ask("x " * 300), ask("x" * 240, max_tokens=100), Request((), 8), ask(seed=1)]
    first, long, cut, empty, last = answers(engine, policy, requests)
    assert isinstance(first, Completion)
    assert isinstance(last, Completion)
    assert long.too_long
    assert "the model reads at most 256" in long.error
    assert cut.prompt_tokens + cut.tokens <= 256
    assert "the conversation is empty" in empty.error


def test_what_vllm_refuses_fails_alone(engine, policy, ask):
    refused, answered = answers(engine, policy, [ask(temperature=3.0), ask()])
    assert isinstance(answered, Completion)
    assert refused.error.startswith("vllm refuses the request: temperature must be in [0, 2]")


def test_answers_come_as_they_end(engine, policy, ask):
    asked = [ask(max_tokens=200, temperature=0, stop=()), ask(max_tokens=1), ask(max_tokens=2)]
    order = [position for position, _ in engine.generate(policy, asked)]
    assert order == [1, 2, 0]


def test_requests_that_nobody_waits_for_are_called_off(engine, policy, ask):
    going = engine.generate(policy, [ask(seed=seed, max_tokens=200) for seed in range(64)])
    next(going)
    going.close()
    fresh = [ask(seed=seed) for seed in range(3)]
    assert len(answers(engine, policy, fresh)) == 3


def test_a_placement_that_the_model_does_not_fit_says_so(policy):
    from prefkit.engines.vllm_engine import VllmEngine
    from prefkit.engines.vllm_options import read_options

    with pytest.raises(EngineError, match=r"max_model_len \(999\) is greater than") as caught:
        list(VllmEngine(read_options("max_model_len=999")).rewards(policy, [talk("x", "y")]))
    assert "vllm?max_model_len=4096" in caught.value.hint


def test_nothing_asked_opens_nothing(engine):
    assert list(engine.generate(Model(id="/nowhere"), [])) == []


def test_the_version_is_recorded_and_the_placement_is_not(policy, engine):
    import vllm

    engines = open_engines({"m": policy}, Placement({"m": "vllm?max_model_len=64"}))
    assert engines.versions() == {policy.id: f"vllm {vllm.__version__}"}
