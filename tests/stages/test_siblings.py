"""The continue and siblings stages: step against step from a shared beginning."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.stages.continue_ import Continue
from prefkit.stages.siblings import Siblings
from prefkit.tables import put
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
LABEL = "Step {}:"
WRONG = "Step 1: 2+3=5.\nStep 2: 5*2=12.\nStep 3: so 12."
GOES_ON = (
    " 5*2=10.\nStep 3: so 10.",
    " 5*2=12.\nStep 3: no.",
    " 5*2=10.\nStep 3: 10.",
    " 5+5=10.\nStep 3: done 10.",
)


class Says:
    """Goes on in four ways, in turn."""

    def __init__(self):
        self.asked = []

    def generate(self, model, requests):
        self.asked += requests
        for at, _ in enumerate(requests):
            yield at, Completion(GOES_ON[at % 4], 5, "stop", 3, -1.0)


class Refuses:
    def generate(self, model, requests):
        for at, _ in enumerate(requests):
            yield at, Failure("no") if at == 1 else Completion(" x", 1, "stop")


@pytest.fixture
def answers(make_responses):
    table = make_responses({"p": [0.0, 1.0], "q": [0.0]}, texts={"p": [WRONG, WRONG], "q": ["1\n2"]})
    return put(table, "first_error", pa.array([2, 0, 1], pa.int32()))


def going_on():
    return Continue(model=MODEL, n=4, label=LABEL)


def test_a_model_goes_on_behind_the_label_of_the_wrong_step(answers):
    engine = Says()
    out = run_stage(going_on(), answers.slice(0, 2), engines=Engines({"m": engine})).table
    assert [r.messages[-1] for r in engine.asked] == [("assistant", "Step 1: 2+3=5.\nStep 2:")] * 4
    assert len({r.seed for r in engine.asked}) == 4
    assert out["id"].to_pylist()[0] == "p0"
    assert out["id"].to_pylist()[-1] == "p1"
    assert out["parent_id"].to_pylist() == [None, "p0", "p0", "p0", "p0", None]
    assert out["response"][1].as_py()[0]["content"] == "Step 1: 2+3=5.\nStep 2:" + GOES_ON[0]
    assert out["score"].to_pylist() == [0.0, None, None, None, None, 1.0]
    assert out["step_index"].to_pylist() == [2] * 5 + [None]


def test_right_steps_meet_the_wrong_one_each_once(answers):
    # golden data.json V04: of four continuations three are right, two of them with the same step
    made = run_stage(going_on(), answers.slice(0, 2), engines=Engines({"m": Says()})).table
    made = put(made, "score", pa.array([0.0, 1.0, 0.0, 1.0, 1.0, 1.0]))
    out = run_stage(Siblings(label=LABEL), made)
    beginning = "Step 1: 2+3=5.\nStep 2:"
    said = [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in out.table.to_pylist()]
    assert said == [
        (beginning + " 5*2=10.", beginning + " 5*2=12."),
        (beginning + " 5+5=10.", beginning + " 5*2=12."),
    ]
    assert out.table["step_index"].to_pylist() == [2, 2]
    assert out.table["rejected_id"].to_pylist() == ["p0", "p0"]
    (span,) = out.table["chosen_spans"][0].as_py()
    assert (beginning + " 5*2=10.")[span["start"] : span["end"]] == " 5*2=10."
    assert out.notes == {"dropped/not-right": 1, "dropped/same-step": 1, "dropped/no-sibling": 1}
    check_stage(Siblings(label=LABEL), made)


def test_laws(answers):
    fake = Engines({"m": FakeEngine()})
    out = check_stage(Continue(model=MODEL, n=2), answers, engines=fake)
    assert out.num_rows == 3 + 2 * 2
    scored = put(out, "score", pa.array([1.0] * out.num_rows))
    pairs = check_stage(Siblings(), scored)
    for row in pairs.to_pylist():
        chosen, rejected = row["chosen"][0]["content"], row["rejected"][0]["content"]
        assert chosen[: row["prefix_end"]] == rejected[: row["prefix_end"]]
        assert chosen != rejected
    assert pairs.schema.field("chosen").type == MESSAGES
    assert check_stage(Siblings(), out).num_rows == 0


def test_an_answer_without_such_a_step_is_dropped_and_a_failure_set_aside(answers):
    odd = put(answers, "first_error", pa.array([9, None, 1], pa.int32()))
    out = run_stage(Continue(model=MODEL, n=2), odd, engines=Engines({"m": Refuses()}))
    assert out.notes == {"dropped/no-step": 1}
    assert out.table["id"].to_pylist()[:2] == ["p1", "q0"]
    assert out.table.num_rows == 3
    assert [part.num_rows for part in out.failed] == [1]


def test_a_label_needs_the_place_of_its_number():
    with pytest.raises(ValidationError, match="number goes"):
        Continue(model=MODEL, label="Step:")
