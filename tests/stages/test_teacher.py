"""The teacher stage: the likeliest next tokens, and what a teacher's training added to them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prefkit.engines import Candidates, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.errors import ContractError, EngineError
from prefkit.stages.teacher import Teacher, advantage
from prefkit.testing import check_stage, run_stage

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "objectives.json").read_text())
TEACHER, BEFORE = Model(id="teacher"), Model(id="before")


class Table:
    """Says of every token of a text what a table of probabilities says; a token is a character."""

    def __init__(self, probabilities, words="words"):
        self.logps = np.log(np.asarray(probabilities, np.float32))
        self.words = words

    def next_tokens(self, model, conversations, wanted):
        for at, talk in enumerate(conversations):
            text = talk.response[-1].content
            if text.startswith("bad"):
                yield at, Failure(f"{text} for {model.id}", too_long=text == "bad long")
                continue
            if isinstance(wanted, int):
                ids = np.argsort(-self.logps, kind="stable")[:wanted].astype(np.int32)
                ids = np.tile(ids, (len(text), 1))
            else:
                ids = wanted[at]
            yield at, Candidates(ids, self.logps[ids])

    def vocabulary(self, model):
        return f"{self.words}/template"

    def fingerprint(self, model):
        return f"print of {model.id}"


@pytest.fixture
def engines():
    # golden A28: a teacher of three tokens, trained and before
    return Engines({"teacher": Table([0.6, 0.3, 0.1]), "before": Table([0.4, 0.4, 0.2])})


def test_every_token_of_both_sides_gets_the_likeliest_tokens(make_pairs, engines):
    pairs = make_pairs(chosen=["ab", "c"], rejected=["d", "efg"])
    out = check_stage(Teacher(model=TEACHER, k=2), pairs, engines=engines)
    best = [{"id": 0, "logp": pytest.approx(np.log(0.6))}, {"id": 1, "logp": pytest.approx(np.log(0.3))}]
    assert out["chosen_teacher"].to_pylist() == [[best] * 2, [best]]
    assert out["rejected_teacher"].to_pylist() == [[best], [best] * 3]
    assert out["teacher_fingerprint"].to_pylist() == ["words/template/print of teacher"] * 2
    assert "rejected_advantage" not in out.column_names


def test_the_advantage_is_what_training_added_at_the_teachers_own_tokens(make_pairs, engines):
    pairs = make_pairs(chosen=["a", "a"], rejected=["bc", "d"])
    stage = Teacher(model=TEACHER, before=BEFORE, k=3)
    out = check_stage(stage, pairs, engines=engines)
    wanted = [
        {"id": at, "value": pytest.approx(value, abs=1e-6)}
        for at, value in enumerate(GOLDEN["A28.adpa.advantage"])
    ]
    assert out["rejected_advantage"].to_pylist() == [[wanted] * 2, [wanted]]
    assert out["teacher_fingerprint"][0].as_py() == "words/template/print of teacher/print of before"
    assert stage.cost().calls == 3


def test_the_advantage_of_a_teacher_that_did_not_change_is_zero(make_pairs):
    same = Engines({"teacher": Table([0.7, 0.2, 0.1]), "before": Table([0.7, 0.2, 0.1])})
    pairs = make_pairs(chosen=["a"], rejected=["bc"])
    out = run_stage(Teacher(model=TEACHER, before=BEFORE, k=2), pairs, engines=same).table
    values = {
        entry["value"] for row in out["rejected_advantage"].to_pylist() for token in row for entry in token
    }
    assert values == {0.0}
    assert advantage(np.float32([-1.0]), np.float32([-3.0])).tolist() == [2.0]


def test_a_pair_fails_with_either_side_and_with_either_model(make_pairs, engines):
    class Halting(Table):
        def next_tokens(self, model, conversations, wanted):
            for at, answer in super().next_tokens(model, conversations, wanted):
                halts = conversations[at].response[-1].content == "halt"
                yield at, Failure("halted") if halts else answer

    engines = Engines({**engines.serving, "before": Halting([0.4, 0.4, 0.2])})
    pairs = make_pairs(chosen=["a", "bad", "a", "a"], rejected=["b", "b", "bad", "halt"])
    out = run_stage(Teacher(model=TEACHER, before=BEFORE), pairs, engines=engines)
    assert out.table["id"].to_pylist() == ["r000"]
    assert out.failed[0]["error"].to_pylist() == [
        "chosen: bad for teacher",
        "rejected: bad for teacher",
        "rejected: halted",
    ]


def test_a_pair_too_long_may_be_dropped(make_pairs, engines):
    pairs = make_pairs(chosen=["a", "bad long"], rejected=["b", "b"])
    stage = Teacher(model=TEACHER, too_long="drop")
    assert check_stage(stage, pairs, engines=engines)["id"].to_pylist() == ["r000"]
    assert run_stage(stage, pairs, engines=engines).notes == {"dropped/too-long": 1}


def test_teachers_that_count_other_tokens_are_refused(make_pairs, engines):
    other = Engines({**engines.serving, "before": Table([0.5, 0.5], words="others")})
    with pytest.raises(ContractError, match="different vocabularies or chat templates"):
        run_stage(Teacher(model=TEACHER, before=BEFORE), make_pairs(2), engines=other)


def test_an_engine_that_cannot_look_beside_the_text_is_refused(make_pairs):
    class Plain:
        def generate(self, model, requests):
            yield from ()

    with pytest.raises(EngineError, match="cannot give the likeliest next tokens"):
        run_stage(Teacher(model=TEACHER), make_pairs(2), engines=Engines({"teacher": Plain()}))


def test_it_keeps_the_laws_on_the_fake_engine_too(make_pairs):
    engines = Engines({"teacher": FakeEngine(), "before": FakeEngine()})
    pairs = make_pairs(3).append_column("tools", pa.array(["[]", None, None]))
    out = check_stage(Teacher(model=TEACHER, before=BEFORE, k=4), pairs, engines=engines)
    assert [[len(token) for token in row] for row in out["chosen_teacher"].to_pylist()] == [[4] * 3] * 3
    mass = sum(np.exp(entry["logp"]) for entry in out["chosen_teacher"][0].as_py()[0])
    assert 0 < mass < 1
