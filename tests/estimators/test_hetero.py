"""People who differ: worked examples of the correction and of unanimity, and variances from votes."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.hetero import (
    correct_margins,
    keep_unanimous,
    unanimity,
    unanimous_margin,
    variance_between,
)
from prefkit.estimators.preference import logistic

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "annotators.json").read_text())
MARGINS = np.array([2.0, -1.0])
shares = st.floats(0.001, 0.999)


def test_two_people_who_disagree():
    golden, p = GOLDEN["heterogeneous"], logistic(MARGINS)
    assert p.mean() == pytest.approx(golden["p_bar"], abs=1e-6)
    assert p.var() == pytest.approx(golden["var_p"], abs=1e-6)
    found = correct_margins(p.mean(), p.var())
    assert found.p == pytest.approx(golden["s_corrected"], abs=1e-6)
    assert found.margin == pytest.approx(golden["corrected_margin"], abs=1e-6)
    assert found.is_corrected
    assert correct_margins(p.mean(), 0.0).margin == pytest.approx(golden["bt_margin"], abs=1e-6)


def test_two_people_who_agree_on_a_pair_give_the_mean_margin_exactly():
    golden, found = GOLDEN["heterogeneous"], unanimity(MARGINS)
    assert found.p_left == pytest.approx(golden["unanimous_cond"], abs=1e-6)
    assert found.margin == pytest.approx(golden["true_mean"], abs=1e-6)
    assert found.kept == pytest.approx(golden["kept_fraction"], abs=1e-6)


def test_three_people():
    golden, margins = GOLDEN["heterogeneous3"], np.array([0.6, -0.2, 0.4])
    p = logistic(margins)
    assert correct_margins(p.mean(), p.var()).margin == pytest.approx(golden["corrected"], abs=1e-6)
    assert correct_margins(p.mean(), 0.0).margin == pytest.approx(golden["bt"], abs=1e-6)
    assert unanimity(margins).margin == pytest.approx(golden["unanimous"], abs=1e-6)
    assert unanimity(margins).kept == pytest.approx(golden["kept"], abs=1e-6)


def test_people_who_differ_too_much_keep_the_pooled_margin_and_are_marked():
    golden, p = GOLDEN["heterogeneous_fail"], logistic(np.array([5.0, -1.0]))
    assert [p.mean(), p.var()] == pytest.approx([golden["p_bar"], golden["var_p"]], abs=1e-6)
    top = golden["max_attainable"]
    found = correct_margins(np.array([p.mean(), top - 1e-4, top + 1e-4]), p.var())
    assert found.is_corrected.tolist() == [False, True, False]
    assert found.margin[0] == pytest.approx(np.log(p.mean() / (1 - p.mean())))


@given(shares, st.floats(0, 0.25))
def test_the_correction_never_turns_or_shrinks_a_preference_and_is_the_same_of_both_sides(p, variance):
    found = correct_margins(np.array([p, 1 - p]), variance)
    pooled = np.log(p) - np.log1p(-p)
    assert found.margin[0] == pytest.approx(-found.margin[1], abs=1e-9)
    assert found.margin[0] * pooled >= 0
    assert abs(found.margin[0]) >= abs(pooled) - 1e-9


@given(shares)
def test_no_variance_changes_nothing(p):
    found = correct_margins(np.array([p]), 0.0)
    assert found.p == pytest.approx([p])
    assert found.is_corrected.all()


@given(shares, st.floats(1e-6, 0.25))
def test_what_was_corrected_solves_the_equation(p, variance):
    found = correct_margins(np.array([p]), variance)
    s = found.p[0]
    if found.is_corrected[0]:
        assert s + variance * (1 - 2 * s) / (2 * s * (1 - s)) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize(
    ("p", "variance", "told"),
    [
        (0.0, 0.1, "within 0 and 1"),
        (1.0, 0.1, "within 0 and 1"),
        (np.nan, 0.1, "within"),
        (0.6, -0.01, "between"),
        (0.6, 0.3, "between"),
    ],
)
def test_shares_and_variances_that_cannot_be_are_refused(p, variance, told):
    with pytest.raises(EstimateError, match=told):
        correct_margins(np.array([p]), variance)


def test_the_correction_comes_closer_to_the_mean_margin_than_pooling():
    rng = np.random.default_rng(0)
    margins = rng.normal(0.5, 0.7, (50, 300)) + rng.normal(0, 0.7, 300)
    p = logistic(margins)
    corrected = correct_margins(p.mean(axis=0), p.var(axis=0))
    pooled = correct_margins(p.mean(axis=0), 0.0).margin
    mean = margins.mean(axis=0)
    assert corrected.is_corrected.all()
    assert np.abs(corrected.margin - mean).mean() < 0.5 * np.abs(pooled - mean).mean()


def test_the_variance_between_people_is_found_from_two_votes_each():
    rng = np.random.default_rng(0)
    margins = np.where(rng.random((40, 400)) < 0.5, 1.5, -1.0)
    p = logistic(margins)
    wins = rng.binomial(2, p)
    found = variance_between(wins, np.full(p.shape, 2))
    assert found.mean() == pytest.approx(p.var(axis=0).mean(), abs=0.005)
    alike = rng.binomial(2, np.full((40, 400), 0.7))
    assert variance_between(alike, np.full(p.shape, 2), strength=40.0).mean() < 0.01


def test_single_votes_say_nothing_of_the_variance_and_borrow_that_of_the_others():
    rng = np.random.default_rng(1)
    p = logistic(rng.normal(0, 1.5, (30, 50)))
    total = np.where(np.arange(50) < 49, 3, 1) * np.ones((30, 1), int)
    found = variance_between(rng.binomial(total, p), total)
    assert found[49] == pytest.approx(found[:49].mean(), abs=0.03)
    assert (found >= 0).all()
    with pytest.raises(EstimateError, match="on no pair have two people two judgements"):
        variance_between(np.ones((3, 2)), np.ones((3, 2)))


def test_only_items_on_which_all_agree_keep_a_label():
    item = np.array([0, 0, 1, 1, 2, 3, 3, 3])
    label = np.array([2, 2, 0, 1, 1, 0, 0, 0])
    assert keep_unanimous(item, label).tolist() == [2, -1, -1, 0]
    assert keep_unanimous(item, label, least=1).tolist() == [2, -1, 1, 0]
    assert keep_unanimous(item, label, least=3).tolist() == [-1, -1, -1, 0]
    assert keep_unanimous(np.zeros(0, int), np.zeros(0, int)).tolist() == []


def test_unanimous_votes_recover_the_mean_margin():
    rng = np.random.default_rng(2)
    left = rng.random((2, 400_000)) < logistic(MARGINS)[:, None]
    item, label = np.tile(np.arange(400_000), 2), left.ravel().astype(int)
    kept = keep_unanimous(item, label)
    assert (kept >= 0).mean() == pytest.approx(GOLDEN["heterogeneous"]["kept_fraction"], abs=0.003)
    found = unanimous_margin(np.array([(kept == 1).sum(), 0]), np.array([(kept == 0).sum(), 0]), 2)
    assert found[0] == pytest.approx(0.5, abs=0.02)
    assert np.isnan(found[1])
