"""Formulas behind labels, from worked examples, and the properties that hold for any numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.estimators.preference import denoise, length_slope, logistic, smooth, spread, vote_share

finite = st.floats(-100, 100, allow_nan=False)
shares = st.floats(0, 1)


def one(value: float) -> np.ndarray:
    return np.array([value])


def test_logistic_of_known_margins():
    # golden data.json V02 and V18: logit(.8) = 1.386294; V17: logistic(-.133109) = .466772
    assert logistic(np.array([1.386294, -0.133109, 0.0])) == pytest.approx([0.8, 0.466772, 0.5], abs=1e-6)


def test_the_mean_of_probabilities_is_not_the_probability_of_the_mean():
    # golden data.json V17
    d = [
        0.171875,
        -0.402344,
        1.265625,
        0.336884,
        -1.867188,
        -0.21875,
        0.335938,
        -0.21875,
        -0.46875,
        -0.265625,
    ]
    margins = np.array(d)
    assert logistic(margins).mean() == pytest.approx(0.473406, abs=1e-6)
    assert logistic(one(margins.mean()))[0] == pytest.approx(0.466772, abs=1e-6)


def test_logistic_does_not_overflow():
    assert logistic(np.array([-1e300, -800.0, 800.0, 1e300, np.nan])).tolist()[:4] == [0.0, 0.0, 1.0, 1.0]


@given(finite)
def test_logistic_is_antisymmetric(margin):
    assert logistic(one(margin))[0] + logistic(one(-margin))[0] == pytest.approx(1.0)


def test_vote_shares():
    # golden data.json V30: five for, one tie, two against
    assert vote_share(one(5.0), one(1.0), one(2.0))[0] == pytest.approx(0.6875)
    assert vote_share(one(1.0), one(0.0), one(1.0))[0] == 0.5
    assert vote_share(one(1.0), one(0.0), one(0.0), 0.5)[0] == 0.75
    assert np.isnan(vote_share(one(0.0), one(0.0), one(0.0), 0.5)[0])


@given(*[st.integers(0, 9).map(float)] * 3, st.sampled_from([0.0, 0.5]))
def test_vote_shares_of_both_sides_add_up(wins, ties, losses, pseudo):
    both = vote_share(one(wins), one(ties), one(losses), pseudo) + vote_share(
        one(losses), one(ties), one(wins), pseudo
    )
    assert np.isnan(both[0]) if wins + ties + losses == 0 else both[0] == pytest.approx(1.0)


def test_smoothing_and_denoising():
    # golden data.json V35
    assert smooth(one(1.0), 0.1)[0] == pytest.approx(0.9)
    assert smooth(one(0.8), 0.1)[0] == pytest.approx(0.74)
    assert denoise(one(0.8), 0.1)[0] == pytest.approx(0.875)
    assert denoise(one(0.95), 0.1)[0] == 1.0


@given(shares, st.floats(0, 0.49))
def test_denoising_undoes_smoothing(p, rate):
    assert denoise(smooth(one(p), rate), rate)[0] == pytest.approx(p, abs=1e-9)


@given(shares, st.floats(0, 0.49))
def test_smoothing_keeps_the_direction(p, rate):
    assert (smooth(one(p), rate)[0] >= 0.5) == (p >= 0.5) or p == pytest.approx(0.5)


def test_residual_margins():
    # golden data.json V29
    margin, gap = np.array([1.0, 0.5, -0.2, 0.8]), np.array([400.0, 100.0, -50.0, 300.0])
    slope = length_slope(margin, gap)
    assert slope == pytest.approx(0.002667, abs=1e-6)
    assert margin - slope * gap == pytest.approx([-0.066667, 0.233333, -0.066667, 0.0], abs=1e-6)


@given(st.lists(st.tuples(finite, st.integers(-500, 500)), min_size=1, max_size=20))
def test_what_is_left_of_margins_has_nothing_to_do_with_length(rows):
    margin, gap = np.array([row[0] for row in rows]), np.array([float(row[1]) for row in rows])
    left = margin - length_slope(margin, gap) * gap
    assert (left * gap).sum() == pytest.approx(0.0, abs=1e-6 * max(1.0, np.abs(margin * gap).sum()))


def test_one_row_or_equal_lengths_have_a_slope():
    assert length_slope(one(2.0), one(4.0)) == 0.5
    assert length_slope(one(2.0), one(0.0)) == 0.0
    assert length_slope(np.zeros(0), np.zeros(0)) == 0.0


@given(
    st.lists(finite, min_size=1, max_size=20),
    st.lists(st.sampled_from([-1.0, 1.0]), min_size=20, max_size=20),
)
def test_the_spread_does_not_depend_on_the_stored_side(margins, signs):
    margin = np.array(margins)
    assert spread(margin * np.array(signs[: len(margins)])) == pytest.approx(spread(margin))


def test_the_spread_of_nothing_is_one():
    assert spread(np.zeros(3)) == 1.0
    assert spread(np.array([np.nan])) == 1.0
    assert spread(one(3.0)) == 3.0
