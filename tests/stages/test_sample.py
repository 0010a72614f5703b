import json
from collections import Counter

import pyarrow as pa
import pytest

from prefkit.columns import COLUMNS, MESSAGES
from prefkit.engines import Completion, Engines, Failure, Model
from prefkit.engines.fake import FakeEngine
from prefkit.engines.filing import filed
from prefkit.rng import child_id, draw_seed
from prefkit.stages.sample import Sample
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="m")
FAKE = Engines({"m": FakeEngine()})


class Says:
    """Answers by what the prompt says, and keeps the requests."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def generate(self, model, requests):
        self.asked += requests
        for position, request in enumerate(requests):
            yield position, self.answer(request)


def text(words: str) -> Completion:
    return Completion(words, 3, "stop", 5, -1.5)


@pytest.fixture
def prompts() -> pa.Table:
    texts = ["one", "two", "three"]
    return pa.table(
        {
            "id": ["a", "b", "c"],
            "prompt_id": ["a", "b", "c"],
            "prompt": pa.array([[{"role": "user", "content": said}] for said in texts], MESSAGES),
            "source": ["s"] * 3,
            "tools": pa.array([None, '[{"name": "f"}]', None], pa.string()),
        }
    )


def test_every_prompt_gets_n_samples_in_order(prompts):
    out = check_stage(Sample(model=MODEL, n=3), prompts, engines=FAKE)
    assert out["prompt_id"].to_pylist() == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert out["index"].to_pylist() == [0, 1, 2] * 3
    assert set(out["model"].to_pylist()) == {"m"}
    assert set(out["origin"].to_pylist()) == {"policy"}
    assert out["source"].to_pylist() == ["s"] * 9
    for name in ("response", "index", "finish", "n_tokens", "sampler_logp"):
        assert out.schema.field(name).type == COLUMNS[name].type
        assert out[name].null_count == 0


def test_raising_n_keeps_the_samples_that_are_there(prompts):
    few = Sample(model=MODEL, n=2)(prompts, run_context())
    many = Sample(model=MODEL, n=5)(prompts, run_context())
    at = [row for row in range(many.num_rows) if many["index"][row].as_py() < 2]
    assert many.take(at).equals(few)


def run_context(seed: int = 0):
    from prefkit.stage import Context

    return Context(seed=seed, engines=FAKE)


def test_a_request_says_all_there_is_to_say(prompts):
    engine = Says(lambda request: text("x"))
    knobs = {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "max_tokens": 11,
        "stop": "END",
        "system": "be kind",
    }
    run_stage(Sample(model=MODEL, n=2, **knobs), prompts.slice(1, 1), seed=9, engines=Engines({"m": engine}))
    first, second = engine.asked
    assert filed(first) == (
        (("system", "be kind"), ("user", "two")),
        11,
        0.5,
        0.9,
        7,
        draw_seed(9, "sample", "b", 0),
        ("END",),
        '[{"name": "f"}]',
    )
    assert second == first._replace(seed=draw_seed(9, "sample", "b", 1))


def test_a_prompt_that_has_a_system_turn_keeps_its_own(prompts):
    turns = [{"role": "system", "content": "own"}, {"role": "user", "content": "x"}]
    table = prompts.slice(0, 1).set_column(2, "prompt", pa.array([turns], MESSAGES))
    engine = Says(lambda request: text("x"))
    run_stage(Sample(model=MODEL, n=1, system="other"), table, engines=Engines({"m": engine}))
    assert engine.asked[0].messages == (("system", "own"), ("user", "x"))


def test_ids_come_from_what_was_said_by_whom(prompts):
    engine = Says(lambda request: text("same"))
    out = run_stage(Sample(model=MODEL, n=2), prompts.slice(0, 1), engines=Engines({"m": engine})).table
    said = json.dumps([{"content": "same", "role": "assistant"}], separators=(",", ":"))
    assert out["id"].to_pylist() == [child_id("a", "response", said, "m", number) for number in "01"]


def test_identical_samples_are_kept_unless_asked_otherwise(prompts):
    same = Engines({"m": Says(lambda request: text("same"))})
    kept = run_stage(Sample(model=MODEL, n=3), prompts, engines=same)
    assert kept.table.num_rows == 9
    fewer = run_stage(Sample(model=MODEL, n=3, drop_identical=True), prompts, engines=same)
    assert fewer.table.num_rows == 3
    assert fewer.notes == {"dropped/identical-sample": 6}
    assert fewer.table["index"].to_pylist() == [0, 0, 0]
    check_stage(Sample(model=MODEL, n=8, drop_identical=True, max_tokens=2), prompts, engines=FAKE)


def test_a_failed_sample_is_set_aside_as_its_prompt_and_the_others_go_on(prompts):
    def answer(request):
        return Failure("no") if request.seed == draw_seed(0, "sample", "b", 1) else text(str(request.seed))

    out = run_stage(Sample(model=MODEL, n=3), prompts, engines=Engines({"m": Says(answer)}))
    assert Counter(out.table["prompt_id"].to_pylist()) == {"a": 3, "b": 2, "c": 3}
    assert out.table.filter(pa.compute.equal(out.table["prompt_id"], "b"))["index"].to_pylist() == [0, 2]
    (failed,) = out.failed
    assert failed.drop_columns("error").equals(prompts.slice(1, 1))
    assert failed["error"].to_pylist() == ["no"]


def test_when_every_sample_fails_nothing_goes_on(prompts):
    out = run_stage(
        Sample(model=MODEL, n=2), prompts, engines=Engines({"m": Says(lambda request: Failure("no"))})
    )
    assert out.table.num_rows == 0
    assert sum(part.num_rows for part in out.failed) == 6


def test_an_empty_answer_is_an_empty_message_not_null(prompts):
    out = run_stage(Sample(model=MODEL, n=1), prompts, engines=Engines({"m": Says(lambda request: text(""))}))
    assert out.table["response"].to_pylist() == [[{"role": "assistant", "content": ""}]] * 3


def test_what_a_server_does_not_say_is_null(prompts):
    silent = Says(lambda request: Completion("x", 0, "stop"))
    out = run_stage(Sample(model=MODEL, n=1), prompts, engines=Engines({"m": silent})).table
    assert out["n_tokens"].null_count == out["sampler_logp"].null_count == 3


def test_a_row_costs_n_calls():
    assert Sample(model=MODEL, n=6, max_tokens=100).cost() == (6, 600, 6)


def test_samples_may_be_asked_for_directions_around_one(prompts):
    # golden data.json V20: five within 30 degrees
    engine = Says(lambda request: text(request.messages[0].content))
    around = {"aspects": ["a", "b"], "angle": 0.0}
    stage = Sample.model_validate({"model": MODEL.model_dump(), "n": 5, "around": around})
    out = run_stage(stage, prompts.slice(0, 1), engines=Engines({"m": engine})).table
    assert [request.messages[0].role for request in engine.asked] == ["system"] * 5
    said = [row[0]["content"].split("rating is ")[1] for row in out["response"].to_pylist()]
    assert said == ["a*87 + b*-50.", "a*97 + b*-26.", "a*100 + b*0.", "a*97 + b*26.", "a*87 + b*50."]
    assert [len(prompt) for prompt in out["prompt"].to_pylist()] == [1] * 5
    check_stage(stage, prompts, engines=FAKE)


def test_a_sample_without_directions_is_what_it_was():
    assert "around" not in Sample(model=MODEL).model_dump()
