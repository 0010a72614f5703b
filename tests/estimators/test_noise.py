"""Noise rates: worked examples, planted flips, the calibration trap, and rates from votes alone."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.log_odds import log_odds_slope
from prefkit.estimators.noise import (
    Calibration,
    belief,
    confidence,
    fit_noise,
    moving_average,
    rate_error,
    rate_from_votes,
)
from prefkit.estimators.preference import logistic

TESTS = Path(__file__).parents[1]
GOLDEN = json.loads((TESTS / "golden" / "annotators.json").read_text())
BELIEFS = np.array([0.95, 0.9, 0.85, 0.8, 0.9, 0.2, 0.1, 0.7, 0.6, 0.95])
probabilities = st.floats(0.001, 0.999)


def flipped(seed: int, pairs: int, rate: float | np.ndarray):
    """Beliefs in recorded labels, a share of which was turned round; and which ones."""
    rng = np.random.default_rng(seed)
    p = logistic(rng.normal(0, 2, pairs))
    left = rng.random(pairs) < p
    turned = rng.random(pairs) < rate
    return np.where(left ^ turned, p, 1 - p), turned


def test_ten_beliefs_reach_the_fixed_point():
    found, golden = fit_noise(BELIEFS), GOLDEN["lcpo_fixed"]
    assert found.reliability == pytest.approx([golden["eta"]], abs=1e-6)
    assert found.error == pytest.approx([golden["se"]], abs=1e-6)
    assert found.confidence == pytest.approx(golden["weights"], abs=1e-5)
    assert found.log_likelihood == pytest.approx(golden["loglik"], abs=1e-5)
    assert confidence(BELIEFS, found.reliability[0]).mean() == pytest.approx(found.reliability[0], abs=1e-7)
    assert found.rate == pytest.approx(1 - golden["eta"], abs=1e-6)


def test_one_step_and_its_moving_average():
    first, golden = confidence(BELIEFS, 0.9), GOLDEN["lcpo_step"]
    assert first == pytest.approx(golden["w_first"], abs=1e-6)
    assert first.mean() == pytest.approx(GOLDEN["lcpo_fixed"]["eta_after_1"], abs=1e-6)
    moved = moving_average(np.array([0.9, 0.7]), first, np.zeros(10, np.int64))
    assert moved == pytest.approx([golden["ema_eta"], 0.7], abs=1e-6)


def test_beliefs_from_losses():
    golden, m = GOLDEN["lcpo_generalised"], np.array([0.7])
    dpo = belief(np.logaddexp(0, -m), np.logaddexp(0, m))
    ipo = belief((m - 0.5) ** 2, (-m - 0.5) ** 2)
    assert [dpo[0], ipo[0]] == pytest.approx([golden["dpo"], golden["ipo"]], abs=1e-6)
    assert ipo == pytest.approx(logistic(2 * m))


@pytest.mark.parametrize("seed", range(4))
def test_a_planted_fifth_of_flips_is_recovered_within_two_points(seed):
    p, turned = flipped(seed, 20_000, 0.2)
    found = fit_noise(p)
    assert found.rate == pytest.approx(turned.mean(), abs=0.02)
    assert found.rate_error < 0.006
    assert abs(found.rate - 0.2) < 3 * found.rate_error


def test_the_interval_covers_as_often_as_it_says():
    covered = 0
    for seed in range(100):
        p, _ = flipped(seed, 1500, 0.2)
        found = fit_noise(p)
        covered += abs(found.rate - 0.2) < 1.96 * found.rate_error
    assert covered >= 88


def test_dropping_unsure_labels_raises_their_accuracy():
    p, turned = flipped(0, 20_000, 0.2)
    sure = fit_noise(p).confidence
    right = [(~turned)[sure >= np.quantile(sure, q)].mean() for q in (0, 0.1, 0.2, 0.4)]
    assert all(after > before + 0.02 for before, after in pairwise(right))
    assert (~turned).mean() == pytest.approx(sure.mean(), abs=0.02)


def test_beliefs_calibrated_on_the_noise_hide_it():
    p, _ = flipped(0, 200_000, 0.2)
    clean, noisy = fit_noise(p), fit_noise(0.2 + 0.6 * p)
    assert clean.reliability[0] == pytest.approx(
        GOLDEN["lcpo_calibration_trap"]["eta_clean_scorer"], abs=0.01
    )
    assert noisy.reliability[0] == pytest.approx(
        GOLDEN["lcpo_calibration_trap"]["eta_noisy_scorer"], abs=0.01
    )


def test_every_annotator_has_a_rate_and_those_with_few_labels_share_one():
    annotator = np.repeat(np.arange(4), [4000, 4000, 20, 15])
    p, _ = flipped(1, len(annotator), np.array([0.05, 0.4, 0.2, 0.2])[annotator])
    found = fit_noise(p, annotator)
    assert found.reliability[:2] == pytest.approx([0.95, 0.6], abs=0.03)
    assert found.is_pooled.tolist() == [False, False, True, True]
    assert found.reliability[2] == found.reliability[3]
    assert found.error[2] > found.error[0]


def test_annotators_with_too_few_labels_even_together_get_the_prior():
    annotator = np.repeat(np.arange(2), [500, 5])
    p, _ = flipped(2, 505, 0.2)
    found = fit_noise(p, annotator)
    assert found.reliability[1] == pytest.approx(0.9)
    assert found.error[1] == pytest.approx(np.sqrt(0.9 * 0.1 / 11), abs=1e-6)


@settings(max_examples=60)
@given(st.lists(probabilities, min_size=1, max_size=30))
def test_the_likelihood_never_falls_and_ends_at_its_highest(beliefs):
    p = np.array(beliefs)
    if (p == 0.5).all():
        return
    found = fit_noise(p)
    assert (np.diff(found.trace) >= -1e-9).all()
    grid = np.linspace(0.5, 0.999, 200)
    best = max(float(np.log(eta * p + (1 - eta) * (1 - p)).sum()) for eta in grid)
    assert found.log_likelihood >= best - 1e-6


@given(probabilities, probabilities, probabilities, probabilities)
def test_confidence_rises_with_belief_and_with_reliability(p, q, eta, theta):
    p, q = sorted([p, q])
    eta, theta = sorted([eta, theta])
    assert confidence(np.array([p]), eta) <= confidence(np.array([q]), eta) + 1e-12
    assert confidence(np.array([p]), eta) <= confidence(np.array([p]), theta) + 1e-12
    assert confidence(np.array([0.5]), eta) == pytest.approx([eta])
    assert confidence(np.array([p]), 1.0) == pytest.approx([1.0])
    # the same label turned round: the belief in it is 1 - p
    assert confidence(np.array([1 - p]), 1 - eta) == pytest.approx(1 - confidence(np.array([p]), eta))


@pytest.mark.parametrize(
    ("p", "annotator", "told"),
    [
        ([], [], "no labels"),
        ([0.5, 0.5], [0, 0], "every belief is one half"),
        ([1.2], [0], "not a probability"),
        ([np.nan], [0], "not a probability"),
        ([0.7], [1], "some annotator has no label"),
    ],
)
def test_beliefs_that_tell_nothing_are_refused(p, annotator, told):
    with pytest.raises(EstimateError, match=told):
        fit_noise(np.array(p), np.array(annotator, np.int64))


def test_a_fit_without_steps_says_so():
    with pytest.raises(EstimateError, match="did not converge in 1 steps"):
        fit_noise(BELIEFS, start=0.6, most_steps=1)


@pytest.mark.parametrize("votes", [2, 3, 7])
def test_votes_alone_tell_a_planted_fifth_within_two_points(votes):
    rng = np.random.default_rng(votes)
    left = rng.binomial(votes, np.where(rng.random(4000) < 0.5, 0.8, 0.2))
    found = rate_from_votes(left, votes - left)
    assert found.rate == pytest.approx(0.2, abs=0.02)
    assert abs(found.rate - 0.2) < 3 * found.error
    mirrored = rate_from_votes(votes - left, left)
    assert mirrored == pytest.approx(found)


def test_a_rate_from_votes_by_hand():
    # two votes on each of 10 pairs, 3 of which differ: d = .3, e = (1 - sqrt(.4)) / 2
    left = np.array([2] * 4 + [0] * 3 + [1] * 3 + [1])
    right = np.array([0] * 4 + [2] * 3 + [1] * 3 + [0])
    found = rate_from_votes(left, right)
    assert found.rate == pytest.approx((1 - np.sqrt(0.4)) / 2)
    assert found.error == pytest.approx(np.sqrt(0.3 * 0.7 / 10) / (2 * np.sqrt(0.4)))


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [([1, 0], [0, 1], "no pair has two votes"), ([1, 1], [1, 1], "no less than by chance")],
)
def test_votes_that_tell_no_rate_are_refused(left, right, told):
    with pytest.raises(EstimateError, match=told):
        rate_from_votes(np.array(left), np.array(right))


def test_real_labels_that_were_turned_round_are_counted_by_what_judges_believe(shared_data):
    folder = shared_data / "llmbar"
    import polars as pl

    # The share of GPT-4's votes, tempered on the odd pairs as they are, tells of the even pairs who was turned round.
    votes = pl.read_parquet(folder / "votes.parquet").filter(pl.col("vote").is_not_null(), base_model="GPT-4")
    items = pl.read_parquet(folder / "items.parquet").join(
        votes.group_by("item_id").agg(share=(pl.col("vote") == 1).mean()), on="item_id", maintain_order="left"
    )
    gold, share = items["label"].to_numpy() == 1, items["share"].to_numpy()
    odds = np.log((share + 0.05) / (1.05 - share))
    odd = np.arange(len(gold)) % 2 == 1
    cost = [
        np.logaddexp(0, -np.where(gold, 1, -1)[odd] * t * odds[odd]).mean() for t in np.arange(0.1, 3, 0.1)
    ]
    p = logistic(np.arange(0.1, 3, 0.1)[np.argmin(cost)] * odds[~odd])
    rates = []
    for seed in range(20):
        turned = np.random.default_rng(seed).permutation(len(p)) < 0.2 * len(p)
        rates.append(fit_noise(np.where(gold[~odd] ^ turned, p, 1 - p)).rate)
    assert np.mean(rates) == pytest.approx(0.2, abs=0.02)


def test_the_error_of_independent_labels_is_that_of_the_information():
    p, _ = flipped(5, 5000, 0.2)
    found = fit_noise(p)
    each = np.arange(len(p))
    error = rate_error(p, np.full(len(p), found.reliability[0]), np.zeros(len(p), int), each)
    assert error == pytest.approx(found.error[0], rel=0.05)


def test_labels_that_stand_or_fall_together_make_the_rate_less_sure():
    p, _ = flipped(6, 2000, 0.2)
    p, prompt = np.repeat(p, 9), np.repeat(np.arange(2000), 9)
    found, own = fit_noise(p), np.zeros(len(p), int)
    sure = np.full(len(p), found.reliability[0])
    errors = [rate_error(p, sure, own, cluster) for cluster in (np.arange(len(p)), prompt)]
    assert errors[1] == pytest.approx(3 * errors[0], rel=0.05)
    votes = rate_from_votes(
        np.repeat([1, 2, 2], 300), np.repeat([1, 0, 0], 300), np.repeat(np.arange(100), 9)
    )
    assert votes.error > rate_from_votes(np.repeat([1, 2, 2], 300), np.repeat([1, 0, 0], 300)).error


def test_a_scale_found_on_few_clean_labels_is_in_the_error():
    """The spread over many draws is the error that is told of one."""
    rates, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        margin = rng.normal(0, 1, 2000)
        right = rng.random(2000) < logistic(2 * margin)
        margin, turned = np.where(right, margin, -margin), rng.random(2000) < 0.2
        margin = np.where(turned, -margin, margin)
        verdict = np.where(np.arange(2000) < 150, (~turned).astype(float), np.nan)
        p = logistic(log_odds_slope(margin, verdict) * margin)
        found, own = fit_noise(p), np.zeros(2000, int)
        given = Calibration(margin, verdict)
        rates.append(found.rate)
        errors.append(rate_error(p, np.full(2000, found.reliability[0]), own, np.arange(2000), given))
    assert np.mean(rates) == pytest.approx(0.2, abs=0.02)
    assert np.mean(errors) == pytest.approx(np.std(rates), rel=0.3)
