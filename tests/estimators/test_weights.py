"""Weights: worked examples, and what holds for any."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.weights import certainty, effective_size, kl_dro, largest_remainder, to_mean_one


def test_weights_of_mean_one_and_their_effective_size():
    # golden data.json V36
    weight = to_mean_one(np.array([3.0, 1.0, 1.0, 0.0]))
    assert weight == pytest.approx([2.4, 0.8, 0.8, 0.0])
    assert effective_size(weight) == pytest.approx(2.272727, abs=1e-6)


def test_missing_weights_have_no_part_in_the_mean():
    weight = to_mean_one(np.array([1.0, np.nan, 3.0]))
    assert weight[[0, 2]].tolist() == [0.5, 1.5]
    assert np.isnan(weight[1])


@pytest.mark.parametrize("raw", [[0.0, 0.0], [np.inf, 1.0], [-1.0, 2.0]])
def test_weights_that_cannot_be_scaled_raise(raw):
    with pytest.raises(EstimateError):
        to_mean_one(np.array(raw))


def test_no_weights_stay_none():
    assert to_mean_one(np.zeros(0)).tolist() == []
    assert np.isnan(to_mean_one(np.array([np.nan]))).all()
    assert effective_size(np.zeros(0)) == 0.0


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
def test_the_effective_size_is_at_most_the_number_of_rows(raw):
    weight = to_mean_one(np.array(raw))
    assert weight.mean() == pytest.approx(1.0)
    assert 1 - 1e-9 <= effective_size(weight) <= len(raw) + 1e-9


def test_weights_of_the_worst_case():
    # golden data.json V13: margins 1, .2, -.5 at temperature .5
    found = kl_dro(np.array([1.0, 0.2, -0.5]), 0.5)
    assert found == pytest.approx([0.460309, 0.813749, 1.725942], abs=1e-6)


def test_the_worst_case_does_not_overflow_and_keeps_missing():
    found = kl_dro(np.array([-5000.0, 0.0, np.nan]), 0.01)
    assert found[:2] == pytest.approx([2.0, 0.0])
    assert np.isnan(found[2])
    assert np.isnan(kl_dro(np.array([np.nan]), 1.0)).all()


def test_certainty_is_one_minus_entropy():
    # golden data.json V27: entropies of .5, .9, .65 are .693147, .325083, .647447 nats
    wanted = 1 - np.array([0.693147, 0.325083, 0.647447]) / np.log(2)
    assert certainty(np.array([0.5, 0.9, 0.65])) == pytest.approx(wanted, abs=1e-6)
    assert certainty(np.array([0.0, 1.0])).tolist() == [1.0, 1.0]


@given(st.floats(0, 1))
def test_certainty_is_the_same_of_both_sides(p):
    one, other = certainty(np.array([p, 1 - p]))
    assert one == pytest.approx(other, abs=1e-9)


def test_quotas_by_largest_remainder():
    # golden data.json V34
    assert largest_remainder(np.array([0.5, 0.3, 0.2]), 7).tolist() == [4, 2, 1]
    assert largest_remainder(np.array([1.0, 1.0, 1.0]), 10).tolist() == [4, 3, 3]


@given(st.lists(st.floats(0.001, 10), min_size=1, max_size=8), st.integers(0, 1000))
def test_quotas_add_up(shares, total):
    parts = largest_remainder(np.array(shares), total)
    assert parts.sum() == total
    assert (np.abs(parts - np.array(shares) / sum(shares) * total) <= 1 + 1e-6).all()
