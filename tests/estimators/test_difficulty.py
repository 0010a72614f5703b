"""Closed forms of how hard a pair is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.estimators.difficulty import agreement_needed, ideally_right, log_gap, loss_needed


def test_the_worked_example():
    # golden models_and_eval.json, ranking
    gap = log_gap(np.array([-40.0, -55, -30, -62]), np.array([-45.0, -50, -30, -61.5]))
    assert gap.tolist() == [-5.0, 5.0, 0.0, 0.5]
    assert loss_needed(gap, 0.1) == pytest.approx([0.974077, 0.474077, 0.693147, 0.668460], abs=1e-6)
    assert agreement_needed(gap, 0.1) == pytest.approx([0.377541, 0.622459, 0.5, 0.512497], abs=1e-6)
    assert ideally_right(gap, np.array([0.75, 1.0, 0.5, 0.8]), 0.1).tolist() == [True, True, False, True]


def test_the_worked_curve():
    # golden models_and_eval.json, difficulty_curve
    gap = np.array([-20.0, 0.0, 20.0, 50.0])
    assert loss_needed(gap, 0.1) == pytest.approx([2.126928, 0.693147, 0.126928, 0.006715], abs=1e-6)
    assert agreement_needed(gap, 0.1) == pytest.approx([0.119203, 0.5, 0.880797, 0.993307], abs=1e-6)


@given(st.floats(-100, 100), st.floats(0.01, 2), st.floats(0.01, 0.99))
def test_more_agreement_than_needed_is_what_makes_the_optimum_right(gap, beta, share):
    needed = float(agreement_needed(np.array(gap), beta))
    if abs(share - needed) > 1e-9:
        assert bool(ideally_right(np.array(gap), np.array(share), beta)) == (share > needed)
