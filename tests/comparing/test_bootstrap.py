"""The pigeonhole bootstrap: exact moments, coverage, and figures that are no means."""

from itertools import product

import numpy as np
import pytest

from prefkit.comparing.bootstrap import mean_of, pigeonhole
from prefkit.comparing.differences import difference
from prefkit.errors import EstimateError


def test_all_resamples_of_three_differences_have_the_variance_of_the_mean():
    # golden models_and_eval.json, bootstrap_exact
    drawn = np.array([np.bincount(one, minlength=3) for one in product(range(3), repeat=3)])
    told = mean_of(np.array([[1.0, 0.0, 2.0]]))(np.ones((27, 1)), drawn.astype(float))
    assert told.mean() == pytest.approx(1.0)
    assert told.var() == pytest.approx(0.222222, abs=1e-6)


def test_it_has_the_standard_error_that_theory_gives():
    values = np.random.default_rng(0).normal(size=(4, 30)) + np.array([[0.0], [0.3], [0.6], [0.1]])
    rows, columns = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    rest = values - rows - columns + values.mean()
    exact = np.sqrt(rows.var() / 4 + columns.var() / 30 + np.square(rest).mean() / 120)
    found = pigeonhole(mean_of(values), (4, 30), np.random.default_rng(1), 20_000)
    assert found.error == pytest.approx(exact, rel=0.02)
    assert found.estimate == pytest.approx(values.mean())
    assert found.low < values.mean() < found.high


def test_it_covers_with_enough_seeds_and_agrees_with_the_formula():
    draw, held, ratio = np.random.default_rng(2), 0, []
    for _ in range(300):
        values = draw.normal(0, 0.45, (10, 60)) + draw.normal(0, 0.55, 60) + draw.normal(0, 0.05, (10, 1))
        found = pigeonhole(mean_of(values), (10, 60), draw, 200)
        held += found.low <= 0 <= found.high
        ratio.append(found.error / difference(values, np.zeros_like(values)).error)
    assert 0.92 <= held / 300 <= 0.98
    assert np.mean(ratio) == pytest.approx(1, abs=0.08)


def test_the_p_value_counts_draws_on_the_other_side_of_the_null():
    values = np.random.default_rng(3).normal(1.0, 1.0, (3, 40))
    far = pigeonhole(mean_of(values), (3, 40), np.random.default_rng(0), 999)
    assert far.p == pytest.approx(2 / 1000)
    near = pigeonhole(mean_of(values), (3, 40), np.random.default_rng(0), 999, null=values.mean())
    assert near.p > 0.5
    assert near.null == values.mean()


def test_clusters_are_drawn_whole():
    values = np.random.default_rng(4).normal(size=(2, 40))
    twice = np.repeat(values, 2, axis=1)
    of = np.repeat(np.arange(40), 2)
    found = pigeonhole(mean_of(twice), (2, 80), np.random.default_rng(5), 4000, clusters=of)
    alone = pigeonhole(mean_of(values), (2, 40), np.random.default_rng(5), 4000)
    assert found == pytest.approx(alone)


def test_draws_without_the_figure_are_left_out_and_counted():
    values = np.array([[np.nan, np.nan, np.nan, 1.0, 2.0]])
    found = pigeonhole(mean_of(values), (1, 5), np.random.default_rng(0), 1000)
    assert found.estimate == 1.5
    assert found.failed == pytest.approx(1000 * 0.6**5, abs=40)
    assert found.draws + found.failed == 1000
    with pytest.raises(EstimateError, match="not defined"):
        pigeonhole(mean_of(values * np.nan), (1, 5), np.random.default_rng(0), 10)
