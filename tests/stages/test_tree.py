"""The tree and tree-pairs stages: a search over steps, and pairs of the steps it tried at one point."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.labels import Visits
from prefkit.stages.label import Label
from prefkit.stages.tree import Tree
from prefkit.stages.tree_pairs import TreePairs
from prefkit.testing import check_stage, run_stage

POLICY, CRITIC = Model(id="p"), Model(id="c")
STEPS = {"": ("2+3=5.", "2+3=6."), "2+3=5.\n": ("5*2=10.", "5*2=12.")}
LAST = {"2+3=5.\n5*2=10.\n": "So 10.", "2+3=5.\n5*2=12.\n": "So 12."}


class Writes:
    """Goes on with the step its seed falls on; wrong beginnings stay wrong."""

    def __init__(self):
        self.asked = []

    def generate(self, model, requests):
        self.asked += requests
        for at, request in enumerate(requests):
            last = request.messages[-1]
            begun = last.content if last.role == "assistant" else ""
            steps = STEPS.get(begun) or (LAST.get(begun, "So 6."),)
            yield at, Completion(steps[request.seed % len(steps)], 6, "stop", 9, -1.0)


class Believes:
    """Finds everything right that does not hold a 6 or a 12, and says nothing of what it is not sure of."""

    def generate(self, model, requests):
        for at, request in enumerate(requests):
            wrong = any(number in request.messages[0].content for number in ("=6", "=12"))
            tops = ((("A", -2.3), ("B", -0.1)) if wrong else (("A", -0.1), ("B", -2.3)),)
            yield at, Completion("B" if wrong else "A", 1, "stop", tops=tops)


@pytest.fixture
def prompts():
    asked = [[{"role": "user", "content": f"(2+3)*2, case {at}"}] for at in range(6)]
    return pa.table(
        {
            "prompt_id": [f"p{at}" for at in range(6)],
            "prompt": pa.array(asked, MESSAGES),
            "reference_answer": ["10"] * 6,
        }
    )


def searching(**settings):
    return Tree(model=POLICY, rule="math-answer", n=4, **settings)


def grown(prompts, **settings):
    return run_stage(searching(**settings), prompts, engines=Engines({"p": Writes(), "c": Believes()}))


def test_every_node_is_a_response_that_goes_on_from_its_parent(prompts):
    engine = Writes()
    rows = run_stage(searching(), prompts, engines=Engines({"p": engine})).table.to_pylist()
    by_id = {row["id"]: row for row in rows}
    assert len(by_id) == len(rows) > 12
    for row in rows:
        text = row["response"][0]["content"]
        parent = by_id.get(row["parent_id"])
        begun = parent["response"][0]["content"] if parent else ""
        assert text.startswith(begun)
        assert row["prefix_end"] == len(begun)
        assert row["step_index"] == (parent["step_index"] + 1 if parent else 1)
        assert (row["score"] is not None) == (row["step_index"] == 3) == (row["finish"] != "step")
        assert row["sampler_logp"] == -1.0
    assert {request.stop for request in engine.asked} == {("\n",), ()}
    assert len({(request.messages, request.seed) for request in engine.asked}) == len(engine.asked)


def test_the_way_to_the_right_answer_is_worth_most_and_visited_most(prompts):
    rows = grown(prompts).table.to_pylist()
    for at in range(6):
        mine = [row for row in rows if row["prompt_id"] == f"p{at}" and row["step_index"] == 2]
        right = [row for row in mine if "=10" in row["response"][0]["content"]]
        others = [row for row in mine if row not in right]
        assert right, "two of four samples of a seed's parity"
        assert all(row["q_value"] < right[0]["q_value"] for row in others)
        assert all(row["visits"] < right[0]["visits"] for row in others)


def test_a_judge_is_asked_of_every_step_and_shown_the_reference_only_if_told(prompts):
    engines = Engines({"p": Writes(), "c": (critic := Believes())})
    asked = []
    critic.generate = lambda model, requests: (
        asked.extend(requests) or Believes.generate(critic, model, requests)
    )
    alone = Tree(model=POLICY, judge=CRITIC, n=4)
    rows = run_stage(alone, prompts, engines=engines).table.to_pylist()
    assert "score" not in rows[0]
    assert all(request.choices == ("A", "B") for request in asked)
    assert not any("right answer is" in request.messages[0].content for request in asked)
    right, wrong = (
        [row["q_value"] for row in rows if row["step_index"] == 1 and word in row["response"][0]["content"]]
        for word in ("=5", "=6")
    )
    assert min(right) > max(wrong)
    asked.clear()
    run_stage(alone.model_copy(update={"reference": True}), prompts, engines=engines)
    assert all("The right answer is: 10" in request.messages[0].content for request in asked)


def test_pairs_share_a_beginning_and_part_in_one_step(prompts):
    made = run_stage(TreePairs(), grown(prompts).table)
    pairs = made.table.to_pylist()
    assert len(pairs) >= 6
    for row in pairs:
        chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
        begun = row["prefix_end"]
        assert chosen[:begun] == rejected[:begun]
        assert chosen[begun:].strip() != rejected[begun:].strip()
        assert row["chosen_q_value"] > row["rejected_q_value"]
        (span,) = row["chosen_spans"]
        assert (span["start"], span["end"]) == (begun, len(chosen))
    whole = [row for row in pairs if row["step_index"] == 2]
    assert whole, "right and wrong product"
    # Nothing stood beside the last step, so it belongs to the step before.
    assert all(row["chosen"][0]["content"] == "2+3=5.\n5*2=10.\nSo 10." for row in whole)


def test_visits_make_the_label(prompts):
    pairs = run_stage(TreePairs(), grown(prompts).table).table
    told = run_stage(Label(ops=(Visits(),)), pairs).table
    for row in told.to_pylist():
        ratio = row["rejected_visits"] / max(1, row["chosen_visits"])
        assert row["p_chosen"] == pytest.approx(max(1 / (1 + ratio), 0.5))


@pytest.mark.parametrize("kind", ["worst", "second", "random"])
def test_rejected_is_who_was_asked_for(kind, make_responses):
    table = make_responses({"p": [0.4, 0.9, 0.1, 0.7], "q": [0.2], "r": [0.3, 0.3]})
    table = table.append_column("parent_id", pa.nulls(7, pa.string()))
    table = table.append_column("prefix_end", pa.array([0] * 7, pa.int32()))
    table = table.append_column("step_index", pa.array([1] * 7, pa.int32()))
    made = run_stage(TreePairs(by="score", rejected=kind), table)
    (pair,) = made.table.to_pylist()
    assert pair["chosen_score"] == 0.9
    expected = {"worst": {0.1}, "second": {0.7}, "random": {0.1, 0.4, 0.7}}
    assert pair["rejected_score"] in expected[kind]
    reasons = [row["drop_reason"] for table in made.dropped for row in table.to_pylist()]
    assert sorted(reasons) == ["no-sibling", *["not-picked"] * 2, *["too-close"] * 2]


def test_a_prompt_whose_model_fails_is_set_aside_whole(prompts):
    class Refuses(Writes):
        def generate(self, model, requests):
            for at, answer in super().generate(model, requests):
                is_third = "case 2" in requests[at].messages[0].content
                yield at, Failure("no") if is_third and len(requests[at].messages) > 1 else answer

    made = run_stage(searching(), prompts, engines=Engines({"p": Refuses()}))
    assert [row["prompt_id"] for table in made.failed for row in table.to_pylist()] == ["p2"]
    assert "p2" not in made.table["prompt_id"].to_pylist()
    assert len(set(made.table["prompt_id"].to_pylist())) == 5


def test_what_the_policy_adds_nothing_to_is_an_answer(prompts):
    class Stops:
        def generate(self, model, requests):
            for at, request in enumerate(requests):
                done = request.messages[-1].role == "assistant"
                yield at, Completion("" if done else "10", 2, "stop")

    rows = run_stage(searching(), prompts, engines=Engines({"p": Stops()})).table.to_pylist()
    assert [(row["response"][0]["content"], row["score"]) for row in rows[:2]] == [
        ("10\n", None),
        ("10", 1.0),
    ]
    made = run_stage(TreePairs(), run_stage(searching(), prompts, engines=Engines({"p": Stops()})).table)
    assert made.table.num_rows == 0


def test_the_stages_keep_their_laws(prompts):
    engines = Engines({"p": Writes(), "c": Believes()})
    check_stage(searching(judge=CRITIC, reference=True), prompts, engines=engines)
    for kind in ("worst", "random"):
        check_stage(TreePairs(rejected=kind), grown(prompts).table)


def test_settings_that_say_nothing_of_worth_are_refused():
    with pytest.raises(ValidationError, match="what a step is worth"):
        Tree(model=POLICY)
    with pytest.raises(ValidationError, match="for the judge"):
        Tree(model=POLICY, rule="math-answer", reference=True)
