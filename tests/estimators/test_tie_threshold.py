"""Thresholds and tie parameters found on what people call ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.tie_threshold import fit_tie_parameter, threshold_at_agreement, threshold_at_rate
from prefkit.estimators.ties import davidson, rao_kupper

rows = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=20)


@settings(max_examples=80)
@given(rows)
def test_no_threshold_comes_nearer_to_the_ties_of_people(given_rows):
    distance = np.array([row[0] / 10 for row in given_rows])
    ties = np.array([row[1] for row in given_rows])
    found = threshold_at_rate(distance, ties)
    off = [
        abs(int((distance < each).sum()) - int(ties.sum())) for each in (found, *np.arange(-1, 8) / 10 + 0.05)
    ]
    assert off[0] == min(off)


@settings(max_examples=80)
@given(rows, st.floats(0.5, 1.0))
def test_decided_pairs_agree_as_often_as_asked_and_no_lower_threshold_does(given_rows, target):
    distance = np.array([row[0] / 10 for row in given_rows])
    agrees = np.array([row[1] for row in given_rows])

    def agreement(at):
        decided = (distance >= at) & (distance > 0)
        return agrees[decided].mean() if decided.any() else 0.0

    lower = [at for at in np.arange(1, 7) / 10 - 0.05 if agreement(at) >= target - 1e-12]
    try:
        found = threshold_at_agreement(distance, agrees, target)
    except EstimateError:
        assert not lower
        return
    assert agreement(found) >= target - 1e-12
    decided = [(distance >= at).sum() for at in (found, min(lower))]
    assert decided[0] >= decided[1]


@pytest.mark.parametrize(
    ("rule", "model", "truth"), [("davidson", davidson, 1.5), ("rao-kupper", rao_kupper, 2.5)]
)
def test_the_tie_parameter_is_the_one_that_made_the_ties(rule, model, truth):
    draw = np.random.default_rng(6)
    gap = draw.normal(size=40_000) * 2
    ties = draw.random(len(gap)) < model(gap, truth).tie
    found = fit_tie_parameter(gap, ties, rule)
    assert found == pytest.approx(truth, rel=0.05)
    assert model(gap, found).tie.sum() == pytest.approx(ties.sum())


def test_davidsons_parameter_is_the_likeliest():
    draw = np.random.default_rng(7)
    gap = draw.normal(size=300)
    ties = draw.random(300) < 0.3
    found = fit_tie_parameter(gap, ties, "davidson")

    def likelihood(nu):
        odds = davidson(gap, nu)
        return np.log(np.where(ties, odds.tie, np.where(gap > 0, odds.win, odds.lose))).sum()

    assert likelihood(found) >= max(likelihood(found * 1.01), likelihood(found / 1.01))


def test_ends_are_told():
    assert fit_tie_parameter(np.zeros(3), np.zeros(3, bool), "davidson") == 0.0
    assert fit_tie_parameter(np.zeros(3), np.zeros(3, bool), "rao-kupper") == 1.0
    for rule in ("davidson", "rao-kupper"):
        with pytest.raises(EstimateError, match="every pair"):
            fit_tie_parameter(np.zeros(3), np.ones(3, bool), rule)
    with pytest.raises(EstimateError, match="no row"):
        threshold_at_rate(np.zeros(0), np.zeros(0, bool))
