"""The Wasserstein worst case: the published numbers, the linear program it solves, and what must hold of any."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.weighting.worst_case import tangent_loss, wasserstein

SEEN, KNOTS = np.array([1.0, 0.2, -0.5]), (-1.0, 0.0, 1.0)


def program(margin, radius, low, knots, high=10.0):
    """Return the optimum of the linear program: mass s of each pair on each tangent, shifted by q / s in all."""
    from scipy.optimize import linprog

    at = np.asarray(knots)
    slope = -1 / (1 + np.exp(at))
    cut = np.logaddexp(0, -at) - slope * at
    pairs, pieces = len(margin), len(at)
    size = pairs * pieces
    seen = np.repeat(margin, pieces)
    value = np.tile(slope, pairs) * seen + np.tile(cut, pairs)
    gain = np.tile(slope, pairs)
    eye = np.eye(size)
    # shifts are q = up - down, both at least 0
    limits = [np.concatenate([np.zeros(size), np.ones(2 * size)])[None, :] / pairs]
    limits += [np.hstack([np.diag(low - seen), eye, -eye]), np.hstack([np.diag(seen - high), -eye, eye])]
    bounds = np.concatenate([[radius], np.zeros(2 * size)])
    rows = np.hstack([np.kron(np.eye(pairs), np.ones(pieces)), np.zeros((pairs, 2 * size))])
    costs = -np.concatenate([value, -gain, gain]) / pairs
    found = linprog(costs, np.vstack(limits), bounds, rows, np.ones(pairs), method="highs")
    assert found.status == 0
    return -found.fun


def test_the_published_example():
    # golden data.json V13
    curve = tangent_loss(SEEN, KNOTS)
    assert curve.loss == pytest.approx([0.313262, 0.593147, 0.947732], abs=1e-6)
    assert curve.slope == pytest.approx([0.268941, 0.5, 0.731059], abs=1e-6)
    worst = wasserstein(SEEN, 0.1, -2.0, KNOTS)
    assert worst.mean == pytest.approx(0.618047, abs=1e-6)
    assert worst.loss == pytest.approx(0.691153, abs=1e-6)
    assert tangent_loss(SEEN).loss.mean() == pytest.approx(0.628493, abs=1e-6)
    # never above what no window allows: the mean and the radius times the steepest slope
    assert worst.loss <= worst.mean + 0.1 * 0.731059 + 1e-6
    assert wasserstein(SEEN, 0.1, -1e6).loss == pytest.approx(0.728493, abs=1e-5)


margins = st.lists(st.integers(-15, 30).map(lambda x: x / 10), min_size=1, max_size=6).map(np.array)


@settings(max_examples=60)
@given(margins, st.floats(0, 3))
def test_it_is_the_optimum_of_the_linear_program(margin, radius):
    assert wasserstein(margin, radius, -2.0, KNOTS).loss == pytest.approx(
        program(margin, radius, -2.0, KNOTS), abs=1e-7
    )


@settings(max_examples=80)
@given(margins, st.floats(0, 2), st.floats(0, 2))
def test_worst_is_never_below_the_mean_and_rises_with_the_radius_and_the_knots(margin, one, other):
    small, large = (wasserstein(margin, radius, -2.0) for radius in sorted((one, other)))
    assert small.mean - 1e-12 <= small.loss <= large.loss + 1e-12
    assert wasserstein(margin, 0.0, -2.0).loss == pytest.approx(small.mean)
    few, more = (wasserstein(margin, one, -2.0, knots).loss for knots in (KNOTS, (-1.5, *KNOTS, 2.0)))
    assert few <= more + 1e-12
    assert more <= wasserstein(margin, one, -2.0).loss + 1e-12
    assert (small.weight >= 1 - 1e-12).all()


@settings(max_examples=50)
@given(margins, st.floats(0, 2), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(margin, radius, draw):
    order = list(range(len(margin)))
    draw.shuffle(order)
    straight, other = (wasserstein(each, radius, -2.0, KNOTS) for each in (margin, margin[order]))
    assert other.weight == pytest.approx(straight.weight[order])


def test_the_shift_is_spent_and_no_more():
    worst = wasserstein(np.array([2.0, 0.5, -0.5, np.nan]), 0.4, -2.0)
    spent = np.nansum(worst.moved * np.array([4.0, 2.5, 1.5, 0.0]))
    assert spent == pytest.approx(0.4 * 3)
    assert np.isnan(worst.weight).tolist() == [False, False, False, True]


def test_a_margin_so_clear_that_its_slope_vanishes_still_has_a_weight():
    assert np.isfinite(wasserstein(np.array([800.0, 0.0]), 0.1, -2.0).weight).all()


def test_a_million_pairs_need_no_groups():
    margin = np.random.default_rng(0).normal(size=200_000)
    worst = wasserstein(margin, 0.1, -3.0)
    assert worst.loss > worst.mean
