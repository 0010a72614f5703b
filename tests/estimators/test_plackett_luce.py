"""Plackett and Luce's model: the worked example, its reductions, planted strengths, and what cannot be fitted."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.bradley_terry import covariance, fit_bradley_terry
from prefkit.estimators.graph import count_matches
from prefkit.estimators.plackett_luce import (
    fit_plackett_luce,
    log_likelihoods,
    predict_first,
    ranking_covariance,
    rankings_of,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())
STRENGTH = np.array([1.0, 0.5, -0.5])
ROUNDS = [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
"""Together they let every item be above every other."""

orders = st.lists(st.permutations(range(4)), min_size=1, max_size=6).map(lambda more: [*ROUNDS, *more])


def drawn(strength, count, seed):
    """Return rankings drawn from the model: by Gumbel noise, highest first."""
    noise = np.random.default_rng(seed).gumbel(size=(count, len(strength)))
    return np.argsort(-(strength + noise), axis=1)


def test_the_worked_example():
    assert log_likelihoods(STRENGTH, rankings_of([[0, 1, 2]])) == pytest.approx(
        [GOLDEN["plackett_luce"]["loglik"]], abs=1e-6
    )


def test_all_orders_together_are_certain():
    every = rankings_of(list(permutations(range(3))))
    assert np.exp(log_likelihoods(STRENGTH, every)).sum() == pytest.approx(1.0)
    best = rankings_of([[0, 1, 2], [1, 0, 2], [2, 0, 1]], [1, 1, 1])
    chosen = np.exp(log_likelihoods(STRENGTH, best))
    assert chosen == pytest.approx(np.exp(STRENGTH) / np.exp(STRENGTH).sum())
    assert predict_first(STRENGTH, rankings_of([[0, 1, 2], [2, 1]]))[:3] == pytest.approx(chosen)


def test_two_items_are_bradley_and_terry():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 300)
    second = (first + rng.integers(1, 5, 300)) % 5
    matches, rankings = count_matches(first, second), rankings_of(list(zip(first, second, strict=True)))
    for ridge in (0.0, 0.5):
        pairs, lists = fit_bradley_terry(matches, ridge), fit_plackett_luce(rankings, ridge=ridge)
        assert lists.strength == pytest.approx(pairs.strength, abs=1e-7)
        assert lists.cost == pytest.approx(pairs.cost)
        assert ranking_covariance(rankings, lists) == pytest.approx(covariance(matches, pairs), abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(orders, st.permutations(range(4)))
def test_relabelling_the_items_relabels_the_strengths(lists, names):
    straight = fit_plackett_luce(rankings_of(lists)).strength
    turned = fit_plackett_luce(rankings_of([[names[item] for item in one] for one in lists])).strength
    assert turned[list(names)] == pytest.approx(straight, abs=1e-7)
    assert straight.mean() == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(orders)
def test_a_weight_of_three_is_three_of_the_ranking(lists):
    weight = np.ones(len(lists))
    weight[0] = 3
    heavy = fit_plackett_luce(rankings_of(lists), weight).strength
    assert fit_plackett_luce(rankings_of([*lists, lists[0], lists[0]])).strength == pytest.approx(
        heavy, abs=1e-7
    )
    assert fit_plackett_luce(rankings_of(lists), 10 * weight).strength == pytest.approx(heavy, abs=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-300, 250), min_size=3, max_size=3), st.floats(-50, 50))
def test_only_differences_count(strength, shift):
    rankings = rankings_of([[0, 1, 2], [2, 0]])
    here, there = np.array(strength), np.array(strength) + shift
    assert log_likelihoods(there, rankings) == pytest.approx(log_likelihoods(here, rankings), abs=1e-6)


def test_symmetric_rankings_give_equal_strengths():
    fit = fit_plackett_luce(rankings_of(list(permutations(range(4)))))
    assert fit.strength == pytest.approx(np.zeros(4), abs=1e-9)
    assert fit_plackett_luce(rankings_of(ROUNDS)).strength == pytest.approx(np.zeros(4), abs=1e-9)


def test_the_gradient_is_zero_at_the_optimum():
    lists, ordered = [*ROUNDS, [2, 0], [1, 3, 0], [0, 2, 1, 3]], [4, 2, 1, 3, 2, 1, 2]
    rankings = rankings_of(lists, ordered)
    theta = fit_plackett_luce(rankings).strength
    for at in range(4):
        step = 1e-5 * np.eye(4)[at]
        up, down = log_likelihoods(theta + step, rankings), log_likelihoods(theta - step, rankings)
        assert (up.sum() - down.sum()) / 2e-5 == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("ordered", [12, 3])
def test_planted_strengths_are_found_within_their_errors(ordered):
    planted = np.linspace(1.5, -1.5, 12)
    rankings = rankings_of(drawn(planted, 3_000, 1).tolist(), [ordered] * 3_000)
    fit = fit_plackett_luce(rankings)
    off = (fit.strength - planted) / np.sqrt(np.diag(ranking_covariance(rankings, fit)))
    assert 0.5 < np.sqrt(np.square(off).mean()) < 1.6


def test_rankings_that_share_no_items_are_named_and_fitted_with_a_ridge():
    apart = rankings_of([[0, 1], [1, 0], [2, 3], [3, 2]])
    with pytest.raises(EstimateError, match=r"2 parts .*: items 0, 1; items 2, 3"):
        fit_plackett_luce(apart)
    assert fit_plackett_luce(apart, ridge=0.1).part.tolist() == [0, 0, 1, 1]
    with pytest.raises(EstimateError, match="to item 2 of 3"):
        fit_plackett_luce(rankings_of([[2, 0, 1], [2, 1, 0]]))


def test_places_below_the_ordered_ones_are_not_compared_with_each_other():
    with pytest.raises(EstimateError, match="to item 0 of 3"):
        fit_plackett_luce(rankings_of([[0, 1, 2], [0, 2, 1]], [1, 1]))
    assert fit_plackett_luce(
        rankings_of([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [1, 1, 1])
    ).strength == pytest.approx(np.zeros(3), abs=1e-9)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: rankings_of([]), "no rankings"),
        (lambda: rankings_of([[0], []]), "empty"),
        (lambda: rankings_of([[0, 1, 0]]), "twice"),
        (lambda: rankings_of([[0, -1]]), "not among 0 to 0"),
        (lambda: rankings_of([[0, 4]], items=3), "not among 0 to 2"),
        (lambda: rankings_of([[0, 1]], [3]), "more places in order"),
        (lambda: fit_plackett_luce(rankings_of([[0], [1]]), ridge=1.0), "orders anything"),
        (lambda: fit_plackett_luce(rankings_of(ROUNDS), np.ones(3)), "one a ranking"),
        (lambda: fit_plackett_luce(rankings_of(ROUNDS), ridge=-1), "got -1"),
    ],
)
def test_what_is_no_ranking_is_refused(make, told):
    with pytest.raises(EstimateError, match=told):
        make()


def test_choix_agrees():
    choix = pytest.importorskip("choix")
    lists = drawn(np.linspace(1, -1, 8), 200, 2)[:, :5].tolist()
    theirs = choix.ilsr_rankings(8, lists, tol=1e-12)
    assert fit_plackett_luce(rankings_of(lists)).strength == pytest.approx(theirs - theirs.mean(), abs=1e-6)
