"""Models with ties: worked examples, what holds at any difference, fits, and what cannot be fitted."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.bradley_terry import fit_bradley_terry
from prefkit.estimators.graph import count_matches, matches_of
from prefkit.estimators.preference import logistic
from prefkit.estimators.ties import (
    davidson,
    fit_davidson,
    fit_rao_kupper,
    predict_outcomes,
    rao_kupper,
    tie_covariance,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())
WINS = np.array([[0.0, 5, 6], [2, 0, 4], [1, 3, 0]])
TIES = 3 * (1 - np.eye(3))
BOTH = pytest.mark.parametrize("fit", [fit_davidson, fit_rao_kupper])

gaps = st.floats(-600, 600)
full = st.lists(st.integers(1, 9), min_size=16, max_size=16).map(
    lambda numbers: np.array(numbers, float).reshape(4, 4) * (1 - np.eye(4))
)


def test_davidson():
    golden, v31 = GOLDEN["ties"], GOLDEN["V31"]
    assert davidson(np.array(1.0), 0.5) == pytest.approx(golden["davidson_d1_nu0_5"], abs=1e-6)
    assert davidson(np.array(0.0), 1.0) == pytest.approx(golden["davidson_d0_nu1"], abs=1e-6)
    for gap in (0.4, 0):  # their nu is half of ours
        wanted = list(v31[f"davidson(d={gap},nu=1)"].values())
        assert davidson(np.array(gap), 2.0) == pytest.approx(wanted, abs=1e-6)


def test_rao_kupper():
    golden, wanted = GOLDEN["ties"], list(GOLDEN["V31"]["rao_kupper(d=0.4,nu=3)"].values())
    odds = rao_kupper(np.array(1.0), 1.5)
    assert odds == pytest.approx(golden["rao_kupper_d1_k1_5"], abs=1e-6)
    assert (1.5**2 - 1) * odds.win * odds.lose == pytest.approx(golden["rk_identity"], abs=1e-6)
    assert rao_kupper(np.array(0.4), 3.0) == pytest.approx(wanted, abs=1e-6)


@given(gaps, st.floats(0, 10), st.floats(1, 10))
def test_outcomes_add_up_and_mirror(gap, nu, kappa):
    for model, parameter in ((davidson, nu), (rao_kupper, kappa)):
        here, there = model(np.array(gap), parameter), model(np.array(-gap), parameter)
        assert sum(here) == pytest.approx(1.0)
        assert (here.win, here.tie) == pytest.approx((there.lose, there.tie))
        assert here.tie <= model(np.array(0.0), parameter).tie + 1e-12


@given(gaps)
def test_without_ties_both_are_bradley_and_terry(gap):
    wanted = logistic(np.array(gap))
    assert davidson(np.array(gap), 0.0).win == pytest.approx(wanted)
    assert rao_kupper(np.array(gap), 1.0).win == pytest.approx(wanted)


def test_the_worked_example_of_a_fit():
    fit = fit_davidson(matches_of(WINS, TIES))
    assert fit.strength == pytest.approx(GOLDEN["davidson_fit"]["theta"], abs=1e-6)
    assert fit.tie == pytest.approx(GOLDEN["davidson_fit"]["nu"], abs=1e-6)
    assert fit.is_fitted


def test_a_fit_says_which_tie_parameter_it_holds():
    one, other = np.array([0]), np.array([1])
    matches = matches_of(WINS, TIES)
    nu, kappa = fit_davidson(matches, 2.0), fit_rao_kupper(matches, 3.0)
    assert (nu.convention, nu.tie) == ("nu of exp(d/2) : exp(-d/2) : nu", 2.0)
    assert (kappa.convention, kappa.tie) == ("kappa of logistic(d - ln kappa)", 3.0)
    assert (nu.is_fitted, kappa.is_fitted) == (False, False)
    gap = np.array([nu.strength[0] - nu.strength[1]])
    assert np.array(predict_outcomes(nu, one, other)) == pytest.approx(np.array(davidson(gap, 2.0)))
    gap = np.array([kappa.strength[0] - kappa.strength[1]])
    assert np.array(predict_outcomes(kappa, one, other)) == pytest.approx(np.array(rao_kupper(gap, 3.0)))


def likelihood(fit, matches):
    odds = predict_outcomes(fit, matches.first, matches.second)
    told = [
        np.where(n > 0, n * np.log(np.maximum(p, 1e-300)), 0) for n, p in zip(matches[2:5], odds, strict=True)
    ]
    return float(np.sum(told))


@BOTH
@settings(max_examples=20, deadline=None)
@given(wins=full, ridge=st.sampled_from([0.0, 0.3]))
def test_no_step_away_from_a_fit_makes_it_likelier(fit, wins, ridge):
    matches = matches_of(wins, np.minimum(wins, wins.T))
    best = fit(matches, ridge=ridge)
    assert best.cost == pytest.approx(-likelihood(best, matches))

    def worth(strength, tie):
        moved = best._replace(strength=strength, tie=tie)
        return likelihood(moved, matches) - ridge / 2 * np.square(strength).sum()

    top = worth(best.strength, best.tie)
    for way in (*np.eye(4), *-np.eye(4)):
        assert worth(best.strength + 1e-3 * way, best.tie) < top
    assert worth(best.strength, best.tie * 1.001) < top
    assert worth(best.strength, best.tie / 1.001) < top


@BOTH
@settings(max_examples=20, deadline=None)
@given(wins=full, order=st.permutations(range(4)), factor=st.sampled_from([1e-3, 7.0]))
def test_relabelling_and_scaling_change_nothing_else(fit, wins, order, factor):
    ties = np.minimum(wins, wins.T)
    straight, at = fit(matches_of(wins, ties)), np.ix_(order, order)
    turned = fit(matches_of(factor * wins[at], factor * ties[at]))
    assert turned.strength == pytest.approx(straight.strength[list(order)], abs=1e-7)
    assert turned.tie == pytest.approx(straight.tie, rel=1e-7)
    assert straight.strength.mean() == pytest.approx(0, abs=1e-12)


@BOTH
def test_symmetric_data_give_equal_strengths_and_the_share_of_ties(fit):
    told = fit(matches_of(2 * (1 - np.eye(4)), 1 - np.eye(4)))
    assert told.strength == pytest.approx(np.zeros(4), abs=1e-9)
    odds = predict_outcomes(told, np.array([0]), np.array([3]))
    assert np.concatenate(odds) == pytest.approx([0.4, 0.4, 0.2])


@pytest.mark.parametrize(("fit", "none"), [(fit_davidson, 0.0), (fit_rao_kupper, 1.0)])
def test_a_tie_parameter_that_rules_ties_out_gives_bradley_and_terry(fit, none):
    matches = matches_of(WINS)
    plain, told = fit_bradley_terry(matches), fit(matches, none)
    assert told.strength == pytest.approx(plain.strength, abs=1e-7)
    assert told.cost == pytest.approx(plain.cost)
    with pytest.raises(EstimateError, match="rules out"):
        fit(matches_of(WINS, TIES), none)


@BOTH
def test_planted_strengths_and_tie_parameter_are_found_within_their_errors(fit):
    rng = np.random.default_rng(0)
    planted, tie = np.linspace(1.2, -1.2, 20), 1.7
    first = rng.integers(0, 20, 40_000)
    second = (first + rng.integers(1, 20, 40_000)) % 20
    model = davidson if fit is fit_davidson else rao_kupper
    odds, draw = model(planted[first] - planted[second], tie), rng.random(40_000)
    won, tied = draw < odds.win, draw > odds.win + odds.lose
    matches = count_matches(np.where(won, first, second), np.where(won, second, first), tie=tied)
    told = fit(matches)
    errors = np.sqrt(np.diag(tie_covariance(matches, told)))
    off = np.append(told.strength - planted, np.log(told.tie / tie)) / errors
    assert 0.6 < np.sqrt(np.square(off).mean()) < 1.4
    assert abs(off[-1]) < 3
    assert tie_covariance(matches, fit(matches, 2.0)).shape == (20, 20)


@pytest.mark.parametrize(("fit", "usual"), [(fit_davidson, 2.0), (fit_rao_kupper, 3.0)])
def test_auto_fits_the_tie_parameter_only_to_enough_ties(fit, usual):
    few, many = fit(matches_of(WINS, TIES), "auto"), fit(matches_of(40 * WINS, 40 * TIES), "auto")
    assert (few.is_fitted, few.tie) == (False, usual)
    assert many.is_fitted
    assert many.tie == pytest.approx(fit(matches_of(WINS, TIES)).tie)


@BOTH
@pytest.mark.parametrize(
    ("wins", "ties", "told"), [(WINS, np.zeros((3, 3)), "no ties"), (0 * WINS, 1 - np.eye(3), "is a tie")]
)
def test_what_tells_nothing_about_ties_is_refused(fit, wins, ties, told):
    with pytest.raises(EstimateError, match=told):
        fit(matches_of(wins, ties))


@BOTH
def test_ties_that_an_order_explains_without_error_have_no_optimum(fit):
    # 0 beats 2, and 1 ties with both: ever larger strengths explain it ever better
    wins, ties = np.zeros((3, 3)), np.zeros((3, 3))
    wins[0, 2] = ties[0, 1] = ties[1, 0] = ties[1, 2] = ties[2, 1] = 1
    with pytest.raises(EstimateError, match="did not converge in 100 steps"):
        fit(matches_of(wins, ties))
    assert np.isfinite(fit(matches_of(wins, ties), ridge=0.1).strength).all()


@BOTH
def test_parts_that_never_met_and_bad_parameters_are_refused(fit):
    apart = count_matches(np.array([0, 1, 2]), np.array([1, 0, 3]), tie=np.array([False, False, True]))
    with pytest.raises(EstimateError, match="2 parts"):
        fit(apart)
    with pytest.raises(EstimateError, match="tie parameter must be"):
        fit(apart, -1.0)
    with pytest.raises(EstimateError, match="tie parameter must be"):
        fit(apart, np.nan)
