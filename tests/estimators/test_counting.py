"""Counting: worked examples, and what adding, swapping and leaving out votes does."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.counting import borda, copeland, cyclic_groups, majority, pair_shares, win_rates
from prefkit.estimators.graph import count_matches, matches_of
from prefkit.estimators.plackett_luce import rankings_of

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())
CIRCLE = np.array([[0.5, 0.9, 0.45], [0.1, 0.5, 0.8], [0.55, 0.2, 0.5]])

tables = st.lists(st.integers(0, 4), min_size=16, max_size=16).map(
    lambda numbers: np.array(numbers, float).reshape(4, 4) * (1 - np.eye(4))
)


def test_win_rates_rank_a_circle_and_copeland_cannot():
    matches = matches_of(CIRCLE)
    assert win_rates(matches) == pytest.approx(GOLDEN["borda_copeland"]["win_rate"])
    assert copeland(matches).tolist() == GOLDEN["borda_copeland"]["copeland"]
    assert cyclic_groups(matches) == ((0, 1, 2),)


def test_a_circle_may_be_won_by_two():
    matches = matches_of(np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]]))
    assert win_rates(matches) == pytest.approx(GOLDEN["V19"]["winrate"])
    assert bool(cyclic_groups(matches)) is GOLDEN["V19"]["cyclic"]


def test_an_order_has_no_circle():
    assert cyclic_groups(matches_of(np.triu(np.ones((5, 5)), 1))) == ()


def test_who_met_nobody_has_no_rate():
    matches = count_matches(np.array([0, 0]), np.array([1, 1]), items=3)
    assert win_rates(matches) == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)
    assert copeland(matches) == pytest.approx([1.0, -1.0, np.nan], nan_ok=True)
    assert win_rates(matches, pseudo=0.5)[:2] == pytest.approx([2.5 / 3, 0.5 / 3])


def test_ties_count_by_halves_or_not_at_all_or_as_a_class():
    wins, losses, ties = (
        np.array(votes, float) for votes in ([3, 1, 0, 2, 0], [2, 1, 0, 2, 0], [4, 0, 3, 1, 0])
    )
    assert majority(wins, losses, ties) == pytest.approx([1, 0, 0, 0, np.nan], nan_ok=True)
    assert majority(wins, losses, ties, count_ties="drop") == pytest.approx(
        [1, 0, np.nan, 0, np.nan], nan_ok=True
    )
    assert majority(wins, losses, ties, count_ties="class") == pytest.approx(
        [0, 0, 0, 0, np.nan], nan_ok=True
    )
    assert majority(np.array([2.0]), np.array([1.0]), np.array([1.0]), count_ties="class").tolist() == [1]


def test_a_band_makes_a_small_majority_a_tie():
    votes = np.array([6.0, 7.0]), np.array([4.0, 3.0]), np.zeros(2)
    assert majority(*votes, band=0.1).tolist() == [0, 1]
    with pytest.raises(EstimateError, match=r"band .* got 0.5"):
        majority(*votes, band=0.5)


def test_borda_gives_the_places_below_the_ordered_ones_their_mean():
    assert borda(rankings_of([[2, 0, 1]])).tolist() == [0.5, 0.0, 1.0]
    assert borda(rankings_of([[2, 0, 1], [0, 2]])).tolist() == [0.75, 0.0, 0.5]
    assert borda(rankings_of([[3, 0, 1, 2]], [1])) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    assert borda(rankings_of([[0, 1], [2]])) == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)


@given(tables)
def test_both_sides_of_a_pair_share_all_of_it(wins):
    share = pair_shares(matches_of(wins), 0.5)
    assert pair_shares(matches_of(wins.T), 0.5) == pytest.approx(1 - share)


@given(tables, st.integers(0, 3), st.integers(0, 3))
def test_another_vote_for_an_item_never_lowers_its_rate(wins, item, other):
    more = wins + 0.5 * (1 - np.eye(4))
    before = win_rates(matches_of(more))[item]
    more[item, other] += 1
    assert win_rates(matches_of(more))[item] >= before - 1e-12


@given(tables, st.permutations(range(4)))
def test_relabelling_relabels_the_counts(wins, order):
    straight, turned = matches_of(wins), matches_of(wins[np.ix_(order, order)])
    for count in (win_rates, copeland):
        assert count(turned) == pytest.approx(count(straight)[list(order)], nan_ok=True)
