"""Routed rewards: worked examples, a planted router, and what never changes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.routed import fit_routed, hedge, mixture_probability, predict, route

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "annotators.json").read_text())["micro"]
EVEN = np.array([0.5, 0.5])
HEADS = np.array([0.9, 0.2])
probabilities = st.floats(0.01, 0.99)


def test_two_heads_and_one_label():
    assert mixture_probability(EVEN, HEADS) == pytest.approx(GOLDEN["mixture_p"])
    moved = hedge(EVEN, HEADS)
    assert moved == pytest.approx(GOLDEN["bayes"], abs=1e-6)
    assert hedge(EVEN, HEADS, 0.5) == pytest.approx(GOLDEN["hedge_eta_half"], abs=1e-6)
    assert mixture_probability(moved, np.array([0.8, 0.3])) == pytest.approx(GOLDEN["next_p"], abs=1e-6)


@given(st.lists(probabilities, min_size=3, max_size=3), st.lists(probabilities, min_size=3, max_size=3))
def test_both_orders_of_a_pair_add_up_to_one_and_rate_0_changes_nothing(weight, p):
    weight, p = np.array(weight) / sum(weight), np.array(p)
    assert mixture_probability(weight, p) + mixture_probability(weight, 1 - p) == pytest.approx(1)
    assert hedge(weight, p, 0.0) == pytest.approx(weight)
    one_by_one = hedge(hedge(weight, p), p[::-1])
    assert hedge(weight, np.stack([p, p[::-1]])) == pytest.approx(one_by_one)


def planted(seed: int, pairs: int = 3000, dims: int = 4):
    rng = np.random.default_rng(seed)
    heads = 2 * rng.normal(size=(2, dims))
    context = np.stack([np.ones(pairs), rng.normal(size=pairs)], axis=1)
    second = rng.random(pairs) < logistic(3 * context[:, 1])
    features = rng.normal(size=(pairs, dims))
    wins = rng.random(pairs) < logistic((features * heads[second.astype(int)]).sum(axis=1))
    return np.where(wins[:, None], features, -features), context, heads


def test_a_planted_router_is_found_without_names():
    features, context, heads = planted(0)
    found = fit_routed(features[:2000], context[:2000], 2, restarts=2)
    first = np.argmax([np.corrcoef(head, heads[0])[0, 1] for head in found.heads])
    for head, true in zip((found.heads[first], found.heads[1 - first]), heads, strict=True):
        assert np.corrcoef(head, true)[0, 1] > 0.95
    weight = route(found.router, np.array([[1.0, -2.0], [1.0, 2.0]]))
    assert weight[0, first] > 0.85
    assert weight[1, first] < 0.15
    one = fit_routed(features[:2000], context[:2000], 1)
    cost = [-np.log(predict(model, features[2000:], context[2000:])).mean() for model in (found, one)]
    assert cost[0] < cost[1] - 0.02


@pytest.mark.parametrize(("seed", "heads"), [(1, 1), (2, 2), (3, 3)])
def test_the_trace_never_falls(seed, heads):
    features, context, _ = planted(seed, pairs=200)
    found = fit_routed(features, context, heads, restarts=1, seed=seed)
    assert (np.diff(found.trace) >= -1e-9).all()
    assert route(found.router, context).sum(axis=1) == pytest.approx(np.ones(200))


def test_one_head_is_one_reward_on_every_prompt():
    features, context, _ = planted(4, pairs=300)
    found = fit_routed(features, context, 1, tolerance=1e-12)
    gradient = features.T @ (1 - logistic(features @ found.heads[0])) - found.heads[0]
    assert np.abs(gradient).max() < 1e-3
    assert (route(found.router, context) == 1).all()


def test_labels_that_cannot_be_routed_are_refused():
    with pytest.raises(EstimateError, match="must be finite and not empty"):
        fit_routed(np.ones((0, 2)), np.ones((0, 1)))
    features, context, _ = planted(5, pairs=200)
    with pytest.raises(EstimateError, match="no start of the 2 routed heads converged in 2 steps"):
        fit_routed(features, context, 2, most_steps=2)
