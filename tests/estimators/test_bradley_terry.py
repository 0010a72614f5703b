"""Bradley and Terry's model: worked examples, planted strengths, peers, and what cannot be fitted."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.bradley_terry import (
    covariance,
    difference_error,
    fit_bradley_terry,
    predict_win,
    standard_errors,
)
from prefkit.estimators.elo import elo_scale
from prefkit.estimators.graph import Matches, count_matches, matches_of
from prefkit.estimators.preference import logistic

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())
WINS = np.array([[0.0, 3, 4], [1, 0, 2], [0, 2, 0]])
ONE, OTHER = np.array([0]), np.array([1])

full = st.lists(st.integers(1, 9), min_size=16, max_size=16).map(
    lambda numbers: np.array(numbers, float).reshape(4, 4) * (1 - np.eye(4))
)


def comparisons(strength, count, seed):
    """Return winners and losers of comparisons between items drawn at random."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, len(strength), count)
    second = (first + rng.integers(1, len(strength), count)) % len(strength)
    won = rng.random(count) < logistic(strength[first] - strength[second])
    return np.where(won, first, second), np.where(won, second, first)


def test_the_worked_example():
    golden, matches = GOLDEN["bt"], matches_of(WINS)
    fit = fit_bradley_terry(matches)
    assert fit.strength == pytest.approx(golden["theta"], abs=1e-6)
    assert fit.cost == pytest.approx(golden["nll"], abs=1e-6)
    assert elo_scale(fit.strength) == pytest.approx(golden["elo"], abs=1e-6)
    assert fit.strength[0] - fit.strength[1] == pytest.approx(golden["d_AB"], abs=1e-6)
    assert difference_error(covariance(matches, fit), ONE, OTHER) == pytest.approx(golden["se_AB"], abs=1e-6)
    assert fit_bradley_terry(matches, 0.1).strength == pytest.approx(golden["theta_ridge_0_1"], abs=1e-6)


def test_an_item_that_always_wins_has_a_finite_strength_only_with_a_ridge():
    always = matches_of(np.array([[0.0, 5], [0, 0]]))
    assert fit_bradley_terry(always, 0.1).strength == pytest.approx(GOLDEN["bt_separated"]["theta"], abs=1e-6)
    with pytest.raises(EstimateError, match=r"no chain of wins .* to item 0 of 2, .* infinite"):
        fit_bradley_terry(always)


def test_parts_that_never_met_are_named():
    apart = count_matches(np.array([0, 2, 1, 4]), np.array([2, 0, 4, 1]))
    with pytest.raises(EstimateError, match=r"into 3 parts .*: items 0, 2; items 1, 4; item 3"):
        fit_bradley_terry(apart)
    fit = fit_bradley_terry(apart, 0.1)
    assert fit.part.tolist() == [0, 1, 0, 2, 1]
    assert fit.strength == pytest.approx(np.zeros(5), abs=1e-9)


def test_items_that_never_lost_to_the_others_are_named():
    wins = np.ones((6, 6))
    wins[:2, 2:], wins[2:, :2] = 3, 0
    with pytest.raises(EstimateError, match="to items 0, 1 of 6") as told:
        fit_bradley_terry(matches_of(wins))
    assert "ridge" in told.value.hint


def test_too_few_steps_are_refused_with_what_was_left():
    with pytest.raises(EstimateError, match=r"did not converge in 1 steps: the last was .* the gradient is"):
        fit_bradley_terry(matches_of(WINS), limit=1)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        (lambda: matches_of(np.ones((2, 3))), r"got shape \(2, 3\)"),
        (lambda: matches_of(np.array([[0, -1], [1, 0]])), "at least 0"),
        (lambda: matches_of(np.array([[0, np.nan], [1, 0]])), "finite"),
        (lambda: matches_of(WINS, WINS), "symmetric"),
        (lambda: count_matches(np.array([], int), np.array([], int)), "0 winners"),
        (lambda: count_matches(np.array([0, 1]), np.array([1, 1])), "comparison 1 is of item 1 with itself"),
        (lambda: count_matches(np.array([0]), np.array([-1])), "got -1"),
        (lambda: count_matches(np.array([0]), np.array([1]), np.array([np.inf])), "weights"),
        (lambda: count_matches(np.array([0]), np.array([2]), items=2), "item 2 is beyond the 2 items"),
        (lambda: fit_bradley_terry(matches_of(np.zeros((2, 2)))), "no comparisons"),
        (lambda: fit_bradley_terry(matches_of(WINS), -1.0), "got -1"),
    ],
)
def test_what_cannot_be_counted_is_refused(counts, told):
    with pytest.raises(EstimateError, match=told):
        counts()


def test_comparisons_and_a_table_of_them_are_the_same_matches():
    rng = np.random.default_rng(0)
    for items in (5, 5000):  # counted in a table, and sorted
        winner, loser = comparisons(rng.normal(size=5), 500, 1)
        weight, tie = rng.random(500), rng.random(500) < 0.3
        wins, ties = np.zeros((5, 5)), np.zeros((5, 5))
        np.add.at(wins, (winner[~tie], loser[~tie]), weight[~tie])
        np.add.at(ties, (winner[tie], loser[tie]), weight[tie])
        for told, wanted in zip(
            count_matches(winner, loser, weight, tie=tie, items=items)[:5],
            matches_of(wins, ties + ties.T),
            strict=False,
        ):
            assert told == pytest.approx(wanted)


def test_a_comparison_of_no_weight_joins_nothing():
    winner, loser = np.array([0, 1, 2]), np.array([1, 0, 0])
    with pytest.raises(EstimateError, match="2 parts"):
        fit_bradley_terry(count_matches(winner, loser, np.array([1.0, 1.0, 0.0])))


@settings(max_examples=40, deadline=None)
@given(full, st.permutations(range(4)))
def test_relabelling_the_items_relabels_the_strengths(wins, order):
    straight = fit_bradley_terry(matches_of(wins)).strength
    turned = fit_bradley_terry(matches_of(wins[np.ix_(order, order)])).strength
    assert turned == pytest.approx(straight[list(order)], abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(full, st.sampled_from([1e-6, 0.25, 4.0, 1e6]))
def test_scaling_all_weights_keeps_the_strengths_and_scales_their_errors(wins, factor):
    straight, scaled = matches_of(wins), matches_of(factor * wins)
    fit, other = fit_bradley_terry(straight), fit_bradley_terry(scaled)
    assert other.strength == pytest.approx(fit.strength, abs=1e-7)
    assert standard_errors(scaled, other) == pytest.approx(
        standard_errors(straight, fit) / factor**0.5, rel=1e-5
    )


@settings(max_examples=40, deadline=None)
@given(full)
def test_at_the_optimum_expected_wins_are_the_wins_and_strengths_are_centred(wins):
    theta = fit_bradley_terry(matches_of(wins)).strength
    expected = (wins + wins.T) * logistic(theta[:, None] - theta[None, :])
    assert expected.sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-6)
    assert theta.mean() == pytest.approx(0, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(full)
def test_symmetric_data_give_equal_strengths(wins):
    assert fit_bradley_terry(matches_of(wins + wins.T)).strength == pytest.approx(np.zeros(4), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(full)
def test_tied_votes_draw_two_items_together_unless_they_are_equal(wins):
    wins[1], wins[:, 1] = wins[0], wins[:, 0]  # items 0 and 1 fared alike
    wins[0, 1] = wins[1, 0] = wins[0, 0] = wins[1, 1] = 0
    straight = fit_bradley_terry(matches_of(wins)).strength
    equals, others = np.zeros((4, 4)), np.zeros((4, 4))
    equals[0, 1] = equals[1, 0] = others[0, 2] = others[2, 0] = 2
    assert fit_bradley_terry(matches_of(wins, equals)).strength == pytest.approx(straight, abs=1e-7)
    drawn = fit_bradley_terry(matches_of(wins, others)).strength
    assert abs(drawn[0] - drawn[2]) <= abs(straight[0] - straight[2]) + 1e-9


def test_only_differences_are_predicted():
    strength = np.array([0.3, -0.2, 1.0])
    here, there = predict_win(strength, ONE, OTHER), predict_win(strength + 5.0, ONE, OTHER)
    assert here == pytest.approx(logistic(np.array([0.5])))
    assert there == pytest.approx(here)
    assert predict_win(strength, OTHER, ONE) == pytest.approx(1 - here)


def test_planted_strengths_are_found_within_their_errors():
    planted = np.random.default_rng(3).normal(size=40)
    planted -= planted.mean()
    matches = count_matches(*comparisons(planted, 40_000, 4))
    fit = fit_bradley_terry(matches)
    off = (fit.strength - planted) / standard_errors(matches, fit)
    assert 0.7 < np.sqrt(np.square(off).mean()) < 1.3


def test_errors_are_those_of_a_simulation():
    planted, drawn = np.array([0.8, 0.0, -0.8]), []
    for seed in range(200):
        matches = count_matches(*comparisons(planted, 600, seed))
        drawn.append(fit_bradley_terry(matches).strength)
    assert standard_errors(matches, fit_bradley_terry(matches)) == pytest.approx(
        np.std(drawn, axis=0), rel=0.2
    )


def test_prompts_fitted_at_once_are_as_fitted_one_by_one():
    rng = np.random.default_rng(5)
    votes = [
        np.triu(rng.integers(0, 3, (4, 4)), 1) + np.tril(rng.integers(0, 3, (4, 4)), -1) for _ in range(30)
    ]
    winner, loser, weight = [], [], []
    for prompt, wins in enumerate(votes):
        one, other = np.nonzero(wins)
        winner.append(one + 4 * prompt)
        loser.append(other + 4 * prompt)
        weight.append(wins[one, other])
    together = fit_bradley_terry(
        count_matches(np.concatenate(winner), np.concatenate(loser), np.concatenate(weight), items=120), 0.1
    )
    alone = [fit_bradley_terry(matches_of(wins), 0.1).strength for wins in votes]
    assert together.strength == pytest.approx(np.concatenate(alone), abs=1e-7)
    assert together.strength.reshape(30, 4).sum(axis=1) == pytest.approx(np.zeros(30), abs=1e-9)


def test_a_long_chain_is_fitted():
    at = np.arange(499)
    chain = Matches(at, at + 1, np.full(499, 3.0), np.full(499, 1.0), np.zeros(499), 500)
    assert np.diff(fit_bradley_terry(chain).strength) == pytest.approx(np.full(499, -np.log(3)), abs=1e-6)


def test_evalica_agrees():
    evalica = pytest.importorskip("evalica")
    winner, loser = comparisons(np.random.default_rng(6).normal(size=50), 5_000, 7)
    ours = fit_bradley_terry(count_matches(winner, loser)).strength
    theirs = evalica.bradley_terry(
        winner.tolist(), loser.tolist(), [evalica.Winner.X] * len(winner), tolerance=1e-12, limit=100_000
    )
    logs = np.log(theirs.scores.sort_index().to_numpy())
    assert ours == pytest.approx(logs - logs.mean(), abs=1e-6)


def test_choix_agrees():
    choix = pytest.importorskip("choix")
    winner, loser = comparisons(np.random.default_rng(8).normal(size=50), 5_000, 9)
    matches, data = count_matches(winner, loser), list(zip(winner.tolist(), loser.tolist(), strict=True))
    theirs = choix.ilsr_pairwise(50, data, tol=1e-12)
    assert fit_bradley_terry(matches).strength == pytest.approx(theirs - theirs.mean(), abs=1e-6)
    penalised = choix.opt_pairwise(50, data, alpha=0.05, tol=1e-12)  # its alpha is half of a ridge
    assert fit_bradley_terry(matches, 0.1).strength == pytest.approx(penalised, abs=1e-6)
