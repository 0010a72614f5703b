"""The pool stage: different models for each prompt, and an exact share of the policy."""

import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.engines import Engines, Model
from prefkit.engines.fake import FakeEngine
from prefkit.stages.pair import Pair
from prefkit.stages.pool import Pool
from prefkit.testing import check_stage, run_stage

MODELS = [Model(id=name) for name in "abcde"]
POLICY = Model(id="policy")
ENGINES = Engines({model.id: FakeEngine() for model in (*MODELS, POLICY)})


@pytest.fixture
def prompts():
    names = [f"p{n}" for n in range(12)]
    said = pa.array([[{"role": "user", "content": name}] for name in names], MESSAGES)
    return pa.table({"id": names, "prompt_id": names, "prompt": said})


def test_every_prompt_is_answered_by_different_models_and_as_often_by_the_policy(prompts):
    out = check_stage(Pool(models=MODELS, n=4, policy=POLICY, own=1), prompts, engines=ENGINES)
    rows = out.to_pylist()
    seen = set()
    for start in range(0, len(rows), 4):
        models = [row["model"] for row in rows[start : start + 4]]
        assert models[0] == "policy"
        assert len(set(models)) == 4
        seen |= set(models)
        assert [row["origin"] for row in rows[start : start + 4]] == ["policy", "pool", "pool", "pool"]
        assert [row["index"] for row in rows[start : start + 4]] == [0, 1, 2, 3]
    assert len(seen) == 6


def test_a_past_checkpoint_may_be_drawn_for_each_prompt(prompts):
    out = check_stage(Pool(models=MODELS, n=1, temperature=0.0), prompts, engines=ENGINES)
    assert len(set(out["model"].to_pylist())) > 2
    again = run_stage(Pool(models=MODELS[::-1], n=1, temperature=0.0), prompts, engines=ENGINES).table
    assert again["model"].to_pylist() == out["model"].to_pylist()


def test_models_of_known_order_make_pairs_without_a_judge(prompts):
    both = run_stage(Pool(models=MODELS[:2], n=2), prompts, engines=ENGINES).table
    pairs = run_stage(Pair(kind="by-model-rank", models=["a", "b"]), both).table
    assert set(pairs["chosen_model"].to_pylist()) == {"a"}
    assert set(pairs["rejected_model"].to_pylist()) == {"b"}


def test_repeats_are_dropped_and_failures_set_aside(prompts):
    engines = Engines({model.id: FakeEngine(failing='"p3"') for model in (*MODELS, POLICY)})
    out = run_stage(
        Pool(models=MODELS, n=4, policy=POLICY, own=3, drop_identical=True), prompts, engines=engines
    )
    assert sum(part.num_rows for part in out.failed) == 4
    assert out.table.num_rows + out.notes["dropped/identical-sample"] == 44


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"n": 6}, "5 models"),
        ({"policy": POLICY}, "go together"),
        ({"policy": MODELS[0], "own": 1}, "twice"),
        ({"policy": POLICY, "own": 5}, "n is 4"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Pool(models=MODELS, **config)
