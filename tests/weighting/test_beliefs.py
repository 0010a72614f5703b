"""Weights from beliefs about pairs, as pure functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.peers import keep_rate, peer_review
from prefkit.scorers.spread import bald, flip_belief, sampling_shares
from prefkit.weighting import beliefs


def test_doubt_of_an_ensemble_as_published():
    # golden data.json V14
    p = np.array([[0.9, 0.8, 0.95, 0.85], [0.9, 0.1, 0.8, 0.2], [0.55, 0.5, 0.45, 0.5]])
    assert bald(p) == pytest.approx([0.015093, 0.280404, 0.002504], abs=1e-6)
    assert flip_belief(bald(p)) == pytest.approx([0.010887, 0.202269, 0.001806], abs=1e-6)
    assert sampling_shares(bald(p)) == pytest.approx([0.364511, 0.26632, 0.36917], abs=1e-6)
    assert sampling_shares(bald(p), 4) == pytest.approx([0.427887, 0.121927, 0.450186], abs=1e-6)


def test_a_close_call_that_all_agree_on_counts_less_than_a_clear_one():
    sure = beliefs.sureness(
        np.array([0.875, 0.5, 0.5, np.nan]), np.array([0.015093, 0.280404, 0.002504, 0.1])
    )
    assert sure[0] == pytest.approx(0.75 * (1 - 0.015093))
    assert sure[1:3].tolist() == [0.0, 0.0]
    assert np.isnan(sure[3])


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_doubt_lies_between_nothing_and_one_bit(p):
    told = float(bald(np.array([p]))[0])
    assert -1e-12 <= told <= np.log(2) + 1e-12
    assert 0 <= float(flip_belief(np.array(told))) <= 0.5 + 1e-12
    assert float(bald(np.array([[p[0]] * 4]))[0]) == pytest.approx(0.0, abs=1e-12)


def test_novelty_is_what_is_left_to_the_ceiling():
    # golden data.json V06
    assert beliefs.novelty(np.array([0.35, 1.0, np.nan]), 2.0)[:2].tolist() == [1.65, 1.0]
    assert beliefs.novelty(np.array([1.0]), 0.5).tolist() == [0.0]


@pytest.mark.parametrize("block", [1, 3, 1 << 16])
def test_the_nearest_is_found_within_the_group_whatever_the_blocks(monkeypatch, block):
    monkeypatch.setattr(beliefs, "_BLOCK", block)
    draw = np.random.default_rng(1)
    one, other = draw.normal(size=(2, 12, 3))
    other[4] = np.nan
    group = np.array([0, 1, 0, 2, 3, 1, 1, 0, 2, 2, 2, 0])
    told = beliefs.nearest(one, other, group)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (one, other)]
    cosines = np.where(np.isnan(unit[1] @ unit[0].T), -np.inf, unit[1] @ unit[0].T).T
    wanted = np.where(group[:, None] == group[None, :], cosines, -np.inf).max(axis=1)
    assert np.isnan(told[4])
    assert np.delete(told, 4) == pytest.approx(np.delete(wanted, 4))


def test_an_empty_table_has_no_nearest():
    assert len(beliefs.nearest(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, np.int64))) == 0


def test_what_was_unlikely_to_be_picked_stands_for_more():
    assert beliefs.propensity(np.array([0.5, 0.1, np.nan]))[:2].tolist() == [2.0, 10.0]
    for odd in (0.0, -0.1, 1.5):
        with pytest.raises(EstimateError, match="being picked"):
            beliefs.propensity(np.array([odd]))


def test_weights_by_propensity_undo_the_picking():
    draw = np.random.default_rng(4)
    value = draw.normal(size=20_000)
    chance = 1 / (1 + np.exp(-value))
    picked = draw.random(20_000) < chance
    weight = beliefs.propensity(chance[picked])
    told = (weight * value[picked]).sum() / weight.sum()
    assert abs(value[picked].mean() - value.mean()) > 0.3
    assert told == pytest.approx(value.mean(), abs=0.04)


def test_annotators_with_few_labels_are_believed_like_the_rest():
    annotator = np.array([0] * 100 + [1] * 100 + [2, -1])
    right = np.array([0.95] * 100 + [0.55] * 100 + [0.0, np.nan])
    told = beliefs.reliability(annotator, right, pseudo=10.0)
    assert told[0] > 0.9
    assert told[1] < 0.6
    assert 0.6 < told[2] < 0.75


def test_the_schedule_of_keeping():
    # golden data.json V16
    told = [keep_rate(0.4, epoch, 3) for epoch in range(5)]
    assert told == pytest.approx([1, 0.866667, 0.733333, 0.6, 0.6], abs=1e-6)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8), st.floats(0, 1))
def test_exchanging_peers_exchanges_what_they_keep(rows, keep):
    one, other = np.array(rows).T
    ids = np.array([f"r{at}" for at in range(len(rows))])
    straight, back = peer_review(one, other, keep, ids), peer_review(other, one, keep, ids)
    assert straight.by_first.tolist() == back.by_second.tolist()
    assert straight.by_second.tolist() == back.by_first.tolist()
    alike = peer_review(one, one, keep, ids)
    assert alike.by_first.tolist() == alike.by_second.tolist()
