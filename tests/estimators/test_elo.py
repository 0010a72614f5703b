"""Elo's rating: the worked example, what it keeps, and that neither rows nor sides decide."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.elo import elo_scale, expected_score, fit_elo, rate_in_order
from prefkit.estimators.preference import logistic

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())["elo"]
FIRST, SECOND, SCORE = np.array([0, 1, 0]), np.array([1, 2, 2]), np.ones(3)

games = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=12
).map(
    lambda rows: tuple(
        np.array(side) for side in zip(*((a, (a + b) % 4, s) for a, b, s in rows), strict=True)
    )
)


def test_the_order_of_the_comparisons_decides():
    assert rate_in_order(FIRST, SECOND, SCORE) == pytest.approx(
        [GOLDEN["forward"][name] for name in "ABC"], abs=1e-6
    )
    reverse = rate_in_order(FIRST[::-1], SECOND[::-1], SCORE[::-1])
    assert reverse == pytest.approx([GOLDEN["reverse"][name] for name in "ABC"], abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(games)
def test_ratings_are_exchanged_and_never_made(rows):
    assert rate_in_order(*rows, items=4).mean() == pytest.approx(1000)
    assert fit_elo(*rows, seed=0, orders=5, items=4).rating.mean() == pytest.approx(1000)


@settings(max_examples=30, deadline=None)
@given(games, st.randoms(use_true_random=False))
def test_neither_the_rows_nor_the_sides_decide_once_orders_are_averaged(rows, random):
    first, second, score = rows
    shuffled = np.array(random.sample(range(len(first)), len(first)))
    turned = np.array([random.random() < 0.5 for _ in first])
    there = np.where(turned, second, first)[shuffled], np.where(turned, first, second)[shuffled]
    told = fit_elo(*there, np.where(turned, 1 - score, score)[shuffled], seed=3, orders=4, items=4)
    wanted = fit_elo(first, second, score, seed=3, orders=4, items=4)
    assert told.rating.tolist() == wanted.rating.tolist()


def test_the_mean_over_orders_lies_between_them_and_says_how_far_they_differ():
    fit = fit_elo(FIRST, SECOND, SCORE, seed=1, orders=200)
    assert GOLDEN["forward"]["A"] - 1 < fit.rating[0] < GOLDEN["reverse"]["A"] + 1
    assert 0 < fit.spread[0] < 2
    assert fit_elo(FIRST, SECOND, SCORE, seed=1, orders=200).rating.tolist() == fit.rating.tolist()
    assert fit_elo(FIRST, SECOND, SCORE, seed=2, orders=200).rating.tolist() != fit.rating.tolist()


def test_four_hundred_points_are_odds_of_ten():
    strength = np.array([np.log(10), 0.0])
    rating = elo_scale(strength)
    assert rating == pytest.approx([1400, 1000])
    one, other = np.array([0]), np.array([1])
    assert expected_score(rating, one, other) == pytest.approx([10 / 11])
    assert expected_score(rating, one, other) == pytest.approx(logistic(strength[:1]))


def test_planted_strengths_are_ordered():
    rng = np.random.default_rng(0)
    planted = np.array([1.5, 0.5, -0.5, -1.5])
    first = rng.integers(0, 4, 2_000)
    second = (first + rng.integers(1, 4, 2_000)) % 4
    won = rng.random(2_000) < logistic(planted[first] - planted[second])
    fit = fit_elo(first, second, won.astype(float), seed=0, k=4.0)
    assert fit.rating == pytest.approx(elo_scale(planted), abs=40)


def test_equal_records_give_equal_ratings():
    first, second = np.array([0, 1, 2] * 2), np.array([1, 2, 0] * 2)
    fit = fit_elo(first, second, np.array([1.0] * 3 + [0.0] * 3), seed=0, orders=4000)
    assert fit.rating == pytest.approx(np.full(3, 1000), abs=1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (([], [], []), "0 and 0 sides"),
        (([0], [0], [1.0]), "none meets itself"),
        (([0], [-1], [1.0]), "from 0"),
        (([0], [1], [2.0]), "from 0 to 1"),
        (([0], [1], [np.nan]), "from 0 to 1"),
    ],
)
def test_what_is_no_comparison_is_refused(rows, told):
    first, second, score = (np.array(side) for side in rows)
    for rate in (rate_in_order, lambda *sides: fit_elo(*sides, seed=0)):
        with pytest.raises(EstimateError, match=told):
            rate(first, second, score)
