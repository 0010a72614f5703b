"""The revise stage: an answer and its own improvement."""

import pyarrow as pa
import pytest

from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.stages.revise import Revise
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})


class Says:
    """Answers with what the answer in the request becomes, by the attempt."""

    def __init__(self, *turns):
        self.turns, self.asked = turns, []

    def generate(self, model, requests):
        turn = self.turns[min(len(self.asked), len(self.turns) - 1)]
        self.asked.append(list(requests))
        for at, request in enumerate(requests):
            yield at, turn(request.messages[0].content)


def better(text):
    answer = text.split("=== ANSWER ===\n")[1].split("\n=== END")[0]
    return Completion(f"{answer.replace('bad', 'good')}\n", 3, "stop")


def same(text):
    return Completion("bad answer 0 here", 3, "stop")


def other(_):
    return Completion("something else entirely", 3, "stop")


def test_chosen_is_the_revision_and_rejected_what_was_revised(make_responses):
    answers = make_responses({"p": [1.0, 2.0]}, texts={"p": ["bad answer 0 here", "bad answer 1 here"]})
    engine = Says(better)
    out = run_stage(Revise(model=MODEL), answers, engines=Engines({"m": engine})).table
    row = out.to_pylist()[0]
    assert row["chosen"] == [{"role": "assistant", "content": "good answer 0 here"}]
    assert row["rejected"] == [{"role": "assistant", "content": "bad answer 0 here"}]
    assert (row["chosen_origin"], row["chosen_model"], row["chosen_score"]) == ("revision", "m", None)
    assert (row["rejected_id"], row["rejected_score"]) == ("p0", 1.0)
    assert row["edit_ratio"] == pytest.approx(0.25)
    assert "question p" in engine.asked[0][0].messages[0].content


def test_of_a_pair_the_rejected_answer_is_revised(make_pairs):
    pairs = make_pairs(
        rejected=["bad answer 0 here", "bad answer 1 here"],
        rejected_score=[1.0, 2.0],
        chosen_score=[3.0, 3.0],
        margin=[2.0, 1.0],
        votes=[None, None],
    )
    out = run_stage(Revise(model=MODEL), pairs, engines=Engines({"m": Says(better)})).table
    assert out["chosen"].to_pylist()[1][0]["content"] == "good answer 1 here"
    assert out["rejected_id"].to_pylist() == ["r000-", "r001-"]
    assert out["rejected_score"].to_pylist() == [1.0, 2.0]
    assert out["chosen_score"].null_count == 2
    assert "margin" not in out.column_names


def test_too_much_and_nothing_are_asked_for_again_and_dropped_in_the_end(make_responses):
    answers = make_responses({"p": [1.0]}, texts={"p": ["bad answer 0 here"]})
    engine = Says(other, same, better)
    assert run_stage(Revise(model=MODEL), answers, engines=Engines({"m": engine})).table.num_rows == 1
    assert len({request.seed for asked in engine.asked for request in asked}) == 3
    for turn, reason in ((other, "too-much-changed"), (same, "unchanged")):
        out = run_stage(Revise(model=MODEL, retries=1), answers, engines=Engines({"m": Says(turn)}))
        assert out.notes == {f"dropped/{reason}": 1}
    failed = run_stage(Revise(model=MODEL), answers, engines=Engines({"m": Says(lambda _: Failure("no"))}))
    assert [part["error"].to_pylist() for part in failed.failed] == [["no"]]


def test_laws(make_responses, make_pairs):
    answers = make_responses({"p": [1.0, 2.0], "q": [0.0]}, reference_answer=["a", "b", None])
    for ratio in (1.0, 0.6):
        out = check_stage(Revise(model=MODEL, max_edit_ratio=ratio, reference=True), answers, engines=FAKE)
        assert all(share <= ratio for share in out["edit_ratio"].to_pylist())
    assert out.schema.field("chosen_id").type == pa.string()
    check_stage(Revise(model=MODEL, max_edit_ratio=1.0), make_pairs(3), engines=FAKE)


def test_an_answer_of_several_pairs_is_revised_for_each(make_pairs):
    pairs = make_pairs(2, rejected_id=["same", "same"], rejected=["bad one", "bad one"])
    out = check_stage(Revise(model=MODEL, max_edit_ratio=1.0), pairs, engines=FAKE)
    assert out["rejected_id"].to_pylist() == ["same", "same"]
    assert len(set(out["id"].to_pylist())) == 2
