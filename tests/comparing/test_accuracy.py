"""Accuracies from log-probabilities: worked numbers, ties and mirror images."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.comparing.accuracy import (
    balance,
    calibration,
    flipped,
    ranking_right,
    reward_margin,
    reward_right,
)

CHOSEN, REJECTED = np.array([-38.0, -52, -33]), np.array([-47.0, -51, -30])
REF_CHOSEN, REF_REJECTED = np.array([-40.0, -55, -30]), np.array([-45.0, -50, -30])


def test_the_worked_example():
    # golden models_and_eval.json, implicit
    margin = reward_margin(CHOSEN, REJECTED, REF_CHOSEN, REF_REJECTED, 0.1)
    assert margin == pytest.approx([0.4, 0.4, -0.3])
    assert reward_right(margin).mean() == pytest.approx(0.666667, abs=1e-6)
    assert ranking_right(CHOSEN, REJECTED).mean() == pytest.approx(0.333333, abs=1e-6)


def test_the_worked_ranking():
    # golden models_and_eval.json, ranking
    chosen, rejected = np.array([-40.0, -55, -30, -62]), np.array([-45.0, -50, -30, -61.5])
    assert ranking_right(chosen, rejected).tolist() == [1, 0, 1, 0]
    tokens = np.array([20, 25, 15, 30]), np.array([25, 20, 15, 31])
    assert ranking_right(chosen, rejected, *tokens).tolist() == [0, 1, 1, 0]


def test_the_worked_balance():
    # golden models_and_eval.json, length_balanced: three longer pairs all right, two shorter of which one
    right, gap = np.array([1.0, 1, 1, 1, 0]), np.array([5, 3, 9, -2, -4])
    assert right.mean() == pytest.approx(0.8)
    assert (balance(gap) * right).mean() == pytest.approx(0.75)
    assert balance(gap).mean() == pytest.approx(1.0)


def test_pairs_of_one_length_take_no_side():
    assert balance(np.array([3, -3, 0, 0])).tolist() == [2, 2, 0, 0]
    assert np.isnan(balance(np.array([3, 5]))).all()


def test_even_rewards_count_a_half_and_missing_ones_not():
    told = reward_right(np.array([0.0, 2.0, -1.0, np.nan]))
    assert told[:3].tolist() == [0.5, 1, 0]
    assert np.isnan(told[3])
    assert np.isnan(ranking_right(np.array([np.nan]), np.array([1.0]))).all()


def test_the_flip_rate_is_of_pairs_that_were_wrong():
    assert np.nanmean(flipped(np.array([0.0, 0, 1, 0]), np.array([1.0, 0, 0, 0]))) == pytest.approx(1 / 3)


@given(st.integers(0, 1000))
def test_margins_that_are_their_own_truth_are_calibrated_and_direction_does_not_matter(seed):
    draw = np.random.default_rng(seed)
    margin = draw.normal(0, 2, 200)
    p = 1 / (1 + np.exp(-margin))
    assert calibration(margin, p).error == pytest.approx(0, abs=1e-12)
    assert calibration(margin, p).brier == pytest.approx(0, abs=1e-12)
    assert calibration(2 * margin, p) == pytest.approx(calibration(-2 * margin, 1 - p))


def test_being_too_sure_is_seen():
    draw = np.random.default_rng(0)
    margin = draw.normal(0, 2, 5000)
    truth = (draw.random(5000) < 1 / (1 + np.exp(-margin))).astype(float)
    honest, proud = calibration(margin, truth), calibration(3 * margin, truth)
    assert honest.error < 0.03 < 0.08 < proud.error
    assert honest.brier < proud.brier
    assert np.isnan(calibration(np.array([np.nan])).brier)
