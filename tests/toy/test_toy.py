import itertools
import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import DataError
from prefkit.toy import demonstrate, draw_task, gold, prompts, rationale, read_prompt, weights, write_prompt
from prefkit.toy.demonstrators import COMMON_HABITS
from prefkit.toy.pools import use_of

ADD = "Add 15, 7 and 4 step by step."
RIGHT = "15 + 7 = 22. 22 + 4 = 26. Answer: 26."


def test_a_right_sum_scores_one():
    assert gold(ADD, RIGHT).reward == 1.0


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("15 + 7 = 22. 22 + 4 = 27. Answer: 27.", 0.25 + 0.15),  # the first of two steps, and no filler
        ("15 + 7 = 23. 23 + 4 = 27. Answer: 27.", 0.15),
        ("15 + 7 = 22. 22 + 4 = 26. Answer: 25.", 0.5 + 0.15),
        ("", 0.0),
    ],
)
def test_a_wrong_sum_scores_its_right_parts(answer, reward):
    assert gold(ADD, answer).reward == pytest.approx(reward)


@given(st.integers(0, 10_000))
def test_a_clean_demonstration_is_perfect_and_its_prompt_reads_back(seed):
    rng = random.Random(seed)
    task = draw_task(rng)
    prompt = write_prompt(task)
    assert read_prompt(prompt) == task
    assert gold(prompt, demonstrate(rng, task)).reward == pytest.approx(1.0)


@given(st.integers(0, 1000), st.text(max_size=60))
def test_gold_lies_between_0_and_1_for_any_text(seed, noise):
    rng = random.Random(seed)
    task = draw_task(rng)
    prompt = write_prompt(task)
    sloppy = demonstrate(rng, task, 0.4, COMMON_HABITS)
    for answer in (noise, sloppy, sloppy + noise, noise + sloppy):
        assert 0.0 <= gold(prompt, answer).reward <= 1.0


def test_worse_demonstrators_score_lower():
    def mean(rate):
        rng = random.Random(1)
        tasks = [draw_task(rng) for _ in range(300)]
        return sum(gold(write_prompt(t), demonstrate(rng, t, rate)).reward for t in tasks) / 300

    assert mean(0.0) > mean(0.15) + 0.05 > mean(0.4) + 0.1


def test_a_prompt_of_another_world_is_one_clear_error():
    with pytest.raises(DataError):
        gold("What is the capital of France?", "Paris")


def test_pools_never_share_a_prompt():
    building, measuring = prompts(300), prompts(300, use="measuring")
    assert len({*building, *measuring}) == 600
    assert {use_of(p) for p in building} == {"building"}


def test_the_shipped_prompts_are_those_of_the_building_pool():
    path = Path(__file__).parents[2] / "recipes" / "data" / "toy-prompts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["prompt"][0]["content"] for row in rows] == prompts(400)


def ask(prompt, one, two, better, kind):
    text = f"<prompt>\n{prompt}\n</prompt>\n<response_1>\n{one}\n</response_1>\n<response_2>\n{two}\n</response_2>\n"
    return [("user", f"{text}Better: {better}\nKind: {kind}\n")]


@pytest.mark.parametrize(("kind", "swapped"), [*itertools.product(["general", "specific"], [False, True])])
def test_the_critic_gives_a_reason_whichever_answer_comes_first(kind, swapped):
    wrong = "15 + 7 = 23. 23 + 4 = 27. Answer: 27."
    request = ask(ADD, wrong, RIGHT, 2, kind) if swapped else ask(ADD, RIGHT, wrong, 1, kind)
    told = rationale(request)
    assert told
    assert "chosen" not in told.lower()
    assert "rejected" not in told.lower()


def test_the_critic_refuses_what_is_no_request():
    with pytest.raises(DataError):
        rationale([("user", "hello")])


@pytest.fixture(scope="module")
def policy():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = weights("policy")
    return AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), AutoTokenizer.from_pretrained(
        folder
    )


def test_the_shipped_policy_is_good_and_not_good_enough(policy):
    from prefkit.toy.model import sample_answers

    asked = prompts(60, use="measuring")
    answers = sample_answers(*policy, asked, n=2, seed=1)
    rewards = [gold(p, text).reward for p, texts in zip(asked, answers, strict=True) for text in texts]
    assert 0.55 < sum(rewards) / len(rewards) < 0.75


def test_the_shipped_reward_model_is_right_more_often_than_not_and_imperfect(policy):
    from transformers import AutoModelForSequenceClassification

    from prefkit.toy.model import sample_answers
    from prefkit.toy.reward import all_comparisons, pair_accuracy

    asked = prompts(60, use="measuring")
    pairs = all_comparisons(asked, sample_answers(*policy, asked, n=3, seed=2))
    reward = AutoModelForSequenceClassification.from_pretrained(weights("reward"), dtype="float32")
    assert 0.6 < pair_accuracy(reward, policy[1], pairs) < 0.85
