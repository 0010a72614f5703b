"""The personas stage: imagined people and what they choose."""

import pytest
from pydantic import ValidationError

from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.stages.condition import Condition
from prefkit.stages.label import Label
from prefkit.stages.personas import Personas
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
TRAITS = ("likes good answers", "likes bad answers", "takes the first")


class People:
    """Choose by what the traits say."""

    def __init__(self, failing=""):
        self.asked, self.failing = [], failing

    def generate(self, model, requests):
        for at, request in enumerate(requests):
            text = request.messages[0].content
            self.asked.append(request)
            if self.failing and self.failing in text:
                yield at, Failure("no")
            elif not request.choices:
                yield at, Completion("I am someone who " + text.split("\n\n")[1], 9, "stop")
            else:
                first = text.split("=== ANSWER 1 ===\n")[1]
                wanted = "good" if "likes good" in text else "bad" if "likes bad" in text else ""
                yield at, Completion("1" if first.startswith(wanted) else "2", 1, "stop")


def test_people_choose_by_their_own_taste(make_pairs):
    engine = People()
    stage = Personas(model=MODEL, traits=TRAITS, n=3)
    out = run_stage(stage, make_pairs(4, p_chosen=[0.9] * 4), engines=Engines({"m": engine}))
    assert out.notes == {"dropped/contradicts-itself": 4}
    assert len([request for request in engine.asked if not request.choices]) == 3
    for row in out.table.to_pylist():
        winner = "chosen" if "likes good" in row["persona"] else "rejected"
        assert [vote["winner"] for vote in row["votes"]] == [winner] * 2
        assert {vote["judge"] for vote in row["votes"]} == {row["annotator"]}
        assert row["p_chosen"] is None
    assert out.table["annotator"].value_counts().field("counts").to_pylist() == [4, 4]


def test_what_people_choose_becomes_examples_of_their_taste(make_pairs):
    stage = Personas(model=MODEL, traits=TRAITS[:2], n=2, describe=False)
    chosen = run_stage(stage, make_pairs(6), engines=Engines({"m": People()})).table
    labelled = run_stage(Label(ops=["from-votes", "orient"]), chosen).table
    shown = run_stage(Condition(kind="few-shot", k=2), labelled).table
    assert shown.num_rows == 4
    for row in shown.to_pylist():
        taste = "good" if "likes good" in row["persona"] else "bad"
        assert row["chosen"][0]["content"].startswith(taste)
        assert row["prompt"][0]["content"].count(f"## Preferred answer\n{taste}") == 2


def test_who_could_not_be_described_or_asked_is_set_aside(make_pairs):
    stage = Personas(model=MODEL, traits=TRAITS[:2], n=2)
    out = run_stage(stage, make_pairs(3), engines=Engines({"m": People("likes good")}))
    assert sum(part.num_rows for part in out.failed) == 3
    assert out.table.num_rows == 3


def test_laws(make_pairs):
    fake = Engines({"m": FakeEngine()})
    out = check_stage(Personas(model=MODEL, traits=TRAITS, n=2), make_pairs(8), engines=fake)
    assert 0 < out.num_rows < 16


def test_people_must_differ_and_be_enough():
    with pytest.raises(ValidationError, match="same traits"):
        Personas(model=MODEL, traits=("a", "a"))
    with pytest.raises(ValidationError, match="2 people"):
        Personas(model=MODEL, traits=("a", "b"), n=3)
