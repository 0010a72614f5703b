"""The acquire stage: worked examples, budgets that nest, and chances that undo the choice."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from prefkit.engines import Engines, Model
from prefkit.engines.fake import FakeEngine
from prefkit.estimators.acquisition import (
    bald,
    d_optimal,
    diverse,
    entropy,
    inclusion,
    least_confidence,
    logit_variance,
)
from prefkit.stages.acquire import Acquire
from prefkit.testing import check_stage, run_stage

MODEL = Model(id="org/embed")


def logit(p):
    return math.log(p / (1 - p))


def test_uncertainty_of_the_worked_example():
    # golden data.json V27
    p = np.array([0.5, 0.9, 0.65])
    assert np.allclose(entropy(p), [0.693147, 0.325083, 0.647447], atol=1e-6)
    assert np.allclose(least_confidence(p), [0.5, 0.1, 0.35])
    assert np.allclose(entropy(p), entropy(1 - p))
    assert entropy(np.array([0.0, 1.0])).tolist() == [0.0, 0.0]


def test_bald_is_high_where_scorers_differ_and_not_where_each_is_undecided():
    members = np.array([[0.9, 0.1], [0.5, 0.5], [0.9, 0.9], [0.8, math.nan]])
    found = bald(members)
    assert found[0] > 0.3
    assert found[1:3] == pytest.approx([0, 0], abs=1e-12)
    assert np.isnan(found[3])
    assert logit_variance(members)[0] == pytest.approx(logit(0.9) ** 2)
    rng = np.random.default_rng(0).random((50, 4))
    assert (bald(rng) <= entropy(rng.mean(axis=1)) + 1e-12).all()


def test_diversity_of_the_worked_example():
    # golden data.json V42
    value, vectors = np.array([0.9, 0.4, 0.1]), np.array([[0.0], [0.05], [1.0]])
    assert diverse(value, vectors, 2).tolist() == [0, 2]
    assert diverse(value, vectors, 9).tolist() == [0, 2, 1]
    assert diverse(np.array([0.5, math.nan]), vectors[:2], 2).tolist() == [0]


def test_d_optimal_takes_the_direction_that_is_not_known_yet():
    vectors = np.array([[2.0, 0], [1.9, 0], [0, 1.0]])
    assert d_optimal(vectors, np.full(3, 0.5), 3).tolist() == [0, 2, 1]
    assert d_optimal(vectors, np.array([1.0, 0.5, 0.5]), 1).tolist() == [1]  # nothing to learn where p is 1


def test_each_d_optimal_step_raises_the_determinant_most():
    rng = np.random.default_rng(0)
    vectors, p = rng.normal(size=(12, 3)), rng.random(12)
    information, left = 0.01 * np.eye(3), set(range(12))
    for at in d_optimal(vectors, p, 6):
        worth = {
            row: np.linalg.slogdet(
                information + p[row] * (1 - p[row]) * np.outer(vectors[row], vectors[row])
            )[1]
            for row in left
        }
        assert worth[at] == pytest.approx(max(worth.values()))
        information = information + p[at] * (1 - p[at]) * np.outer(vectors[at], vectors[at])
        left.remove(int(at))


def test_the_most_uncertain_rows_stay(make_pairs):
    pairs = make_pairs(p_chosen=[0.5, 0.9, 0.65, None])
    out = check_stage(Acquire(budget=4, explore=0), pairs)
    assert out["id"].to_pylist() == ["r000", "r002"]
    assert out["acq_rank"].to_pylist() == [0, 1]
    assert out["acq_prob"].to_pylist() == [1.0, 1.0]
    assert out["acq_score"].to_pylist() == pytest.approx([0.693147, 0.647447], abs=1e-6)


def test_a_larger_budget_chooses_the_same_rows_and_more(make_pairs):
    pairs = make_pairs(p_chosen=[(7 * i % 40) / 40 for i in range(40)])
    before = set[str]()
    for budget in range(1, 45, 3):
        stage = Acquire(budget=budget, calls=1, explore=0.3)
        out = run_stage(stage, pairs, seed=5).table
        now = set(out["id"].to_pylist())
        assert before <= now
        assert len(now) == min(budget, 40)
        before = now


def test_weighting_by_the_chance_gives_the_pool_back(make_pairs):
    p = np.linspace(0.0, 1.0, 200)
    pairs = make_pairs(p_chosen=p.tolist())
    means = []
    for seed in range(60):
        out = run_stage(Acquire(budget=100, explore=0.4), pairs, seed=seed).table
        weight = 1 / np.array(out["acq_prob"].to_pylist())
        assert (weight >= 1).all()
        means.append(float(weight @ np.array(out["p_chosen"].to_pylist())) / 200)
    assert np.mean(means) == pytest.approx(0.5, abs=0.03)
    assert inclusion(200, 30, 20) == (1.0, 20 / 170)


def test_rows_without_a_belief_are_only_drawn(make_pairs):
    pairs = make_pairs(p_chosen=[None] * 6)
    out = run_stage(Acquire(budget=4, explore=0), pairs)
    assert out.table.num_rows == 2
    assert out.notes["acquire/by-value"] == 0
    assert out.table["acq_prob"].to_pylist() == [2 / 6] * 2


def test_scorers_that_differ_come_first(make_pairs):
    gaps = {"one": [2.0, 0.0, 3.0], "two": [-2.0, 0.0, 3.0]}
    columns = {f"chosen_{name}": values for name, values in gaps.items()}
    pairs = make_pairs(**columns, **{f"rejected_{name}": [0.0] * 3 for name in gaps})
    out = check_stage(Acquire(by="bald", scores=("one", "two"), budget=2, explore=0), pairs)
    assert out["id"].to_pylist() == ["r000"]
    out = check_stage(Acquire(by="gap", scores=("one",), budget=2, explore=0), pairs)
    assert out["id"].to_pylist() == ["r002"]


def test_embeddings_spread_the_choice_and_all_laws_hold(make_pairs, make_responses):
    engines = Engines({MODEL.served_as: FakeEngine()})
    pairs = make_pairs(p_chosen=[0.5, 0.9, 0.65, 0.4, 0.2])
    for by in ("entropy", "d-optimal"):
        out = check_stage(Acquire(by=by, budget=6, diverse=MODEL), pairs, engines=engines)
        assert out.num_rows == 3
    responses = make_responses({"p": [1.0, 3.0], "q": [2.0, None]})
    out = check_stage(Acquire(by="column", column="score", budget=2, calls=1, explore=0), responses)
    assert sorted(out["id"].to_pylist()) == ["p1", "q0"]
    assert check_stage(Acquire(by="random", budget=2, calls=1), responses).num_rows == 2


@pytest.mark.parametrize(
    "settings",
    [{"by": "bald"}, {"by": "gap"}, {"by": "column"}, {"by": "d-optimal"}, {"by": "random", "scores": "x"}],
)
def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(ValidationError):
        Acquire.model_validate({"budget": 3, **settings})
