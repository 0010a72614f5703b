"""Displacement, the likeliest tokens, head-to-head shares and curves at equal divergence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.comparing.displacement import displacement
from prefkit.comparing.frontier import matched
from prefkit.comparing.top_tokens import Alarms, alarms, expected_distinct, top_tokens
from prefkit.comparing.win_rate import head_to_head, signed
from prefkit.errors import EstimateError


def test_the_worked_displacement():
    # golden models_and_eval.json, threeD, on the pairs of implicit
    chosen, rejected = np.array([2.0, 3.0, -3.0]), np.array([-2.0, -1.0, 0.0])
    found = displacement(chosen, rejected)
    assert found.chosen == pytest.approx(0.666667, abs=1e-6)
    assert found.rejected == pytest.approx(-1.0)
    assert not found.displaced
    assert displacement(chosen - 1, rejected - 2, np.array([-3.0, np.nan])).displaced
    assert displacement(chosen - 1, rejected - 2, np.array([-3.0, np.nan])).other == -3.0


def test_before_the_first_step_nothing_has_moved():
    assert displacement(np.zeros(3), np.zeros(3), np.zeros(2)) == (0, 0, 0, 0, False)
    found = displacement(
        np.array([-10.0, 1.0]), np.array([-40.0, 0.0]), tokens=(np.array([10, 1]), np.array([20, 1]))
    )
    assert found.chosen == 0
    assert found.rejected == -1


def test_the_worked_tokens():
    # golden models_and_eval.json, topk and ead
    with np.errstate(divide="ignore"):
        found = top_tokens(np.log([0.5, 0.2, 0.15]))
        certain = top_tokens(np.log([1.0, 0.0, 0.0]))
    assert found == pytest.approx((0.85, 1.3831, 1.37493), abs=1e-5)
    assert certain == pytest.approx((1, 0, 0))
    assert expected_distinct(8, 10, 100) == pytest.approx(0.836663, abs=1e-6)
    assert expected_distinct(8, 10, 10**9) == pytest.approx(0.8)


@given(st.integers(0, 1000))
def test_entropy_is_at_most_that_of_even_tokens(seed):
    p = np.sort(np.random.default_rng(seed).dirichlet(np.ones(30), 5))[:, -10:]
    found = top_tokens(np.log(p))
    assert (found.entropy <= np.log2(10) + 1e-9).all()
    assert (found.entropy >= 0).all()
    assert (found.mass <= 1 + 1e-9).all()


def test_alarms_are_raised_at_the_evaluation_that_shows_them():
    entropy = np.array([1.0, 1.2, 1.3, 1.2, 1.15, 1.1, 1.0])
    falling, mass = np.linspace(-1, -2, 7), np.full(7, 0.9)
    assert alarms(entropy, mass, falling) == Alarms(entropy=5, mass=None)
    assert alarms(entropy, mass, falling[::-1]) == Alarms(None, None)
    assert alarms(np.ones(3), np.array([0.9, 0.89, 0.87]), falling[:3]) == Alarms(None, 2)


def test_every_sample_meets_every_other():
    share = head_to_head(
        np.array([[1.0, 3.0], [np.nan, 2.0]]), np.array([[2.0, 3.0, 0.0], [2.05, np.nan, 0.0]]), 0.1
    )
    assert share.tolist() == [pytest.approx((0 + 0 + 1 + 1 + 0.5 + 1) / 6), pytest.approx(0.75)]
    assert signed(share)[1] == pytest.approx(0.5)
    assert np.isnan(head_to_head(np.array([[np.nan]]), np.array([[1.0]]))).all()


@given(st.integers(0, 1000), st.floats(0, 1))
def test_one_arms_wins_are_the_others_losses(seed, band):
    one, other = np.random.default_rng(seed).normal(size=(2, 3, 4, 2))
    assert head_to_head(one, other, band) == pytest.approx(1 - head_to_head(other, one, band))


def test_the_worked_frontier():
    # golden models_and_eval.json, frontier
    base = np.array([0.0, 1, 2, 3]), np.array([0.5, 0.58, 0.62, 0.60])
    ours = np.array([1.6, 0, 0.8, 2.4]), np.array([0.66, 0.5, 0.60, 0.67])
    assert matched(ours, base) == pytest.approx((0.037333, 0.0, 2.4), abs=1e-6)
    assert matched(base, ours).mean == pytest.approx(-0.037333, abs=1e-6)
    with pytest.raises(EstimateError, match="share no range"):
        matched((np.array([0.0, 1.0]), np.zeros(2)), (np.array([2.0, 3.0]), np.zeros(2)))
