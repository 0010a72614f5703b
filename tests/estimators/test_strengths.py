"""Strengths of items: worked examples, planted parameters, and what cannot be fitted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.strengths import fit_bradley_terry, fit_davidson
from prefkit.estimators.ties import davidson

WINS = np.array([[0.0, 3, 4], [1, 0, 2], [0, 2, 0]])


def test_bradley_and_terry():
    # golden models_and_eval.json bt
    fit = fit_bradley_terry(WINS)
    assert fit.strength == pytest.approx([1.308052, -0.446124, -0.861928], abs=1e-6)
    assert fit.cost == pytest.approx(5.683498, abs=1e-6)
    variance = fit.covariance[0, 0] + fit.covariance[1, 1] - 2 * fit.covariance[0, 1]
    assert np.sqrt(variance) == pytest.approx(1.140453, abs=1e-6)
    assert fit_bradley_terry(WINS, 0.1).strength == pytest.approx([1.218122, -0.413226, -0.804896], abs=1e-6)


def test_one_item_that_always_wins_has_a_finite_strength_only_with_a_ridge():
    # golden models_and_eval.json bt_separated
    always = np.array([[0.0, 5], [0, 0]])
    assert fit_bradley_terry(always, 0.1).strength == pytest.approx([1.679638, -1.679638], abs=1e-6)
    with pytest.raises(EstimateError, match="item 1 never beats item 0"):
        fit_bradley_terry(always)


def test_parts_that_never_met_are_refused():
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 2
    with pytest.raises(EstimateError, match="never beats"):
        fit_bradley_terry(apart)


def test_davidson():
    # golden models_and_eval.json davidson_fit
    wins = np.array([[0.0, 5, 6], [2, 0, 4], [1, 3, 0]])
    fit = fit_davidson(wins, 3 * (1 - np.eye(3)))
    assert fit.strength == pytest.approx([0.852969, -0.213809, -0.639159], abs=1e-6)
    assert fit.nu == pytest.approx(0.982258, abs=1e-6)


@pytest.mark.parametrize(
    ("wins", "ties", "told"), [(WINS, np.zeros((3, 3)), "no ties"), (0 * WINS, 1 - np.eye(3), "is a tie")]
)
def test_what_tells_nothing_about_ties_is_refused(wins, ties, told):
    with pytest.raises(EstimateError, match=told):
        fit_davidson(wins, ties)


@pytest.mark.parametrize(
    "counts", [np.ones((2, 3)), np.array([[0, -1], [1, 0]]), np.array([[0, np.nan], [1, 0]])]
)
def test_counts_that_are_none_are_refused(counts):
    with pytest.raises(EstimateError):
        fit_bradley_terry(counts)


full = st.lists(st.integers(1, 9), min_size=12, max_size=12).map(
    lambda numbers: np.insert(np.array(numbers, float), [0, 4, 8, 12], 0).reshape(4, 4) * (1 - np.eye(4))
)


@settings(max_examples=40)
@given(full, st.permutations(range(4)))
def test_relabelling_the_items_relabels_the_strengths(wins, order):
    straight = fit_bradley_terry(wins).strength
    assert fit_bradley_terry(wins[np.ix_(order, order)]).strength == pytest.approx(
        straight[list(order)], abs=1e-7
    )


@settings(max_examples=40)
@given(full)
def test_at_the_optimum_expected_wins_are_the_wins(wins):
    theta = fit_bradley_terry(wins).strength
    expected = (wins + wins.T) * logistic(theta[:, None] - theta[None, :])
    assert expected.sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-6)
    assert fit_bradley_terry(3 * wins).strength == pytest.approx(theta, abs=1e-7)


@settings(max_examples=40)
@given(full)
def test_at_the_optimum_expected_ties_are_the_ties(wins):
    ties = np.minimum(wins, wins.T)
    fit = fit_davidson(wins, ties)
    odds = davidson(fit.strength[:, None] - fit.strength[None, :], fit.nu)
    total = wins + wins.T + ties
    assert (total * odds.tie).sum() == pytest.approx(ties.sum(), abs=1e-5)


def test_planted_strengths_are_found():
    rng = np.random.default_rng(0)
    theta = np.array([1.0, 0.3, -0.4, -0.9])
    odds = davidson(theta[:, None] - theta[None, :], 0.7)
    wins, ties = np.zeros((4, 4)), np.zeros((4, 4))
    for i in range(4):
        for j in range(i):
            p = [odds.win[i, j], odds.lose[i, j], odds.tie[i, j]]
            wins[i, j], wins[j, i], ties[i, j] = rng.multinomial(20_000, np.array(p) / sum(p))
            ties[j, i] = ties[i, j]
    fit = fit_davidson(wins, ties)
    assert fit.strength == pytest.approx(theta, abs=0.03)
    assert fit.nu == pytest.approx(0.7, abs=0.03)
