"""Stopping early: the worked numbers, and error rates that hold."""

import numpy as np
import pytest

from prefkit.comparing.differences import difference
from prefkit.comparing.sequential import (
    Bounds,
    Stop,
    confidence_sequence,
    look,
    shares,
    spent,
    stop,
    with_seeds,
)
from prefkit.errors import EstimateError

QUARTERS = np.array([0.25, 0.5, 0.75, 1.0])


def test_the_worked_spending():
    # golden models_and_eval.json, obf_spending
    assert spent(QUARTERS) == pytest.approx([8.9e-05, 0.005575, 0.023625, 0.05], abs=1e-6)
    assert shares(QUARTERS) == pytest.approx([8.9e-05, 0.005486, 0.018051, 0.026375], abs=1e-6)
    assert spent(QUARTERS, how="pocock") == pytest.approx([0.017869, 0.031006, 0.041399, 0.05], abs=1e-6)


def test_the_worked_sequence():
    # golden models_and_eval.json, confidence_sequence
    bounds = confidence_sequence(np.tile([1.0, 1, 0, 1, -1, 1, 1, 0, 1, 1], 20))
    at = [(bounds.low[t - 1], bounds.high[t - 1]) for t in (10, 50, 200)]
    assert at[0] == pytest.approx((-0.993064, 2.193064), abs=1e-6)
    assert at[1] == pytest.approx((0.210627, 0.989373), abs=1e-6)
    assert at[2] == pytest.approx((0.434312, 0.762368), abs=1e-6)
    assert stop(bounds)[:2] == (30, "better")


@pytest.mark.parametrize("chances", [(0.5, 0.0, 0.5), (0.1, 0.8, 0.1), (0.05, 0.9, 0.05)])
def test_looking_after_every_prompt_errs_at_most_once_in_twenty(chances):
    draw, wrong, naive = np.random.default_rng(0), 0, 0
    for _ in range(1000):
        values = draw.choice([-1.0, 0.0, 1.0], 400, p=chances)
        wrong += stop(confidence_sequence(values)).why != "out of prompts"
        means = np.cumsum(values) / np.arange(1, 401)
        naive += (np.abs(means) > 1.96 * values.std() / np.sqrt(np.arange(1, 401)))[9:].any()
    assert wrong <= 50
    assert naive > 250


@pytest.mark.parametrize("how", ["obrien-fleming", "pocock"])
def test_planned_looks_share_the_error(how):
    draw, stopped, allowed = np.random.default_rng(1), 0, shares(QUARTERS, how=how)
    assert allowed.sum() == pytest.approx(0.05)
    for _ in range(800):
        values = draw.normal(0, 0.45, (5, 120)) + draw.normal(0, 0.55, 120) + draw.normal(0, 0.02, (5, 1))
        parts = [values[:, : int(fraction * 120)] for fraction in QUARTERS]
        stopped += any(
            look(difference(part, np.zeros_like(part)), share).stop
            for part, share in zip(parts, allowed, strict=True)
        )
    assert stopped / 800 <= 0.065


def test_a_real_difference_ends_the_run_early():
    draw = np.random.default_rng(2)
    ends = [stop(confidence_sequence(draw.choice([-1.0, 0, 1], 2000, p=(0.2, 0.4, 0.4)))) for _ in range(100)]
    assert all(one.why == "better" for one in ends)
    assert np.mean([one.at for one in ends]) < 600


def test_a_run_also_ends_when_no_gain_worth_having_is_left():
    bounds = Bounds(np.array([-0.9, -0.4, -0.3]), np.array([0.9, 0.2, 0.04]))
    assert stop(bounds, smallest=0.05) == Stop(3, "too small", -0.3, 0.04)
    assert stop(bounds).why == "out of prompts"
    assert stop(Bounds(np.array([-0.9, -0.8]), np.array([0.5, -0.1]))).why == "worse"


def test_what_holds_for_these_models_may_not_hold_for_their_datasets():
    found = Stop(200, "better", 0.05, 0.3)
    assert with_seeds(found, 0.0, 5) == found
    widened = with_seeds(found, 0.01, 5)
    assert widened.low == pytest.approx(0.05 - 2.776445 * np.sqrt(0.002), abs=1e-6)
    assert widened.why == "out of prompts"
    with pytest.raises(EstimateError, match="one seed"):
        with_seeds(found, 0.01, 1)


def test_what_cannot_be_is_refused():
    with pytest.raises(EstimateError, match=r"lie in \[-1, 1\]"):
        confidence_sequence(np.array([0.0, 1.5]))
    with pytest.raises(EstimateError, match="growing fractions"):
        shares(np.array([0.5, 0.5, 1.0]))
