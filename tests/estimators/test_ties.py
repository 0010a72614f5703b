"""Models with ties: worked examples and what holds at any difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.estimators.preference import logistic
from prefkit.estimators.ties import davidson, rao_kupper

gaps = st.floats(-600, 600)


def test_davidson():
    # golden models_and_eval.json ties; data.json V31 at its nu = 1, which is 2 here
    assert davidson(np.array(1.0), 0.5) == pytest.approx((0.598392, 0.220136, 0.181472), abs=1e-6)
    assert davidson(np.array(0.0), 1.0) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert davidson(np.array(0.4), 2.0) == pytest.approx((0.302317, 0.202649, 0.495033), abs=1e-6)
    assert davidson(np.array(0.0), 2.0) == pytest.approx((0.25, 0.25, 0.5))


def test_rao_kupper():
    # golden models_and_eval.json ties; data.json V31
    assert rao_kupper(np.array(1.0), 1.5) == pytest.approx((0.644405, 0.19695, 0.158645), abs=1e-6)
    assert rao_kupper(np.array(0.4), 3.0) == pytest.approx((0.33212, 0.182633, 0.485247), abs=1e-6)


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
