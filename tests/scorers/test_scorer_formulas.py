"""Formulas of the model-based scorers: worked examples, and what must hold for any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefkit.estimators.preference import logistic
from prefkit.scorers.embedded import cosines
from prefkit.scorers.log_probs import implicit_reward, perplexity
from prefkit.scorers.preference import beats, cyclic_triples, cyclicity, gate, pool_means
from prefkit.scorers.spread import bald, flip_belief, sampling_shares

TURNED = np.stack([[math.cos(2 * math.pi * at / 3), math.sin(2 * math.pi * at / 3)] for at in range(3)])
CIRCLE = beats(TURNED[:, None], TURNED[None, :])
STRENGTHS = np.array([0.0, 1.0, 2.5])
VECTORS = arrays(np.float64, st.tuples(st.integers(2, 5), st.just(4)), elements=st.integers(-9, 9).map(float))
PROBABILITIES = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(2, 6)), elements=st.floats(0, 1))


def near(values, places=1e-5):
    return pytest.approx(np.asarray(values), abs=places)


def test_stone_paper_and_scissors_each_beat_one_other():
    assert CIRCLE[0, 1] == pytest.approx(0.866025, abs=1e-6)
    assert logistic(CIRCLE[0, 1]) == pytest.approx(0.703918, abs=1e-6)
    assert logistic(CIRCLE[0, 1] / 0.1) == pytest.approx(0.999827, abs=1e-6)
    assert pool_means(CIRCLE) == near(np.zeros(3))
    assert pool_means(logistic(CIRCLE)) == near(np.full(3, 0.5))
    assert cyclic_triples(CIRCLE) == 1


def test_planes_have_weights():
    one, other = np.array([1, 0, 0.5, 2.0]), np.array([0, 1, 1, -1.0])
    assert beats(one, other, np.array([1.5, 0.5])) == pytest.approx(0.25)
    assert gate(np.array([0.4, -0.2]) / math.sqrt(3)) == near([1.171494, 0.828506])


def test_how_much_of_preferences_no_ranking_explains():
    ranked = STRENGTHS[None, :] - STRENGTHS[:, None]
    assert cyclicity(CIRCLE) == pytest.approx(1)
    assert cyclicity(ranked) == pytest.approx(0, abs=1e-12)
    assert math.isnan(cyclicity(np.zeros((3, 3))))


def test_a_mean_over_the_pool_leaves_the_response_itself_out():
    table = np.array([[0.5, 0.9, 0.2], [0.1, 0.5, 0.7], [0.8, 0.3, 0.5]])
    assert pool_means(table) == near([0.55, 0.40, 0.55])
    assert cyclic_triples(table - 0.5) == 1
    assert np.isnan(pool_means(np.array([[0.5]]))).all()


@given(VECTORS, st.floats(0, 6.3))
def test_a_preference_is_reversed_with_its_sides_and_does_not_change_with_a_common_turn(vectors, angle):
    table = beats(vectors[:, None], vectors[None, :])
    assert (table == -table.T).all()
    assert (np.diag(table) == 0).all()
    assert logistic(table) + logistic(table).T == near(np.ones_like(table), 1e-12)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = (vectors.reshape(-1, 2, 2) @ turn.T).reshape(vectors.shape)
    assert beats(turned[:, None], turned[None, :]) == near(table, 1e-9)
    if (table != 0).any():
        assert -1e-9 <= cyclicity(table) <= 1 + 1e-9
    assert pool_means(logistic(table)).mean() == pytest.approx(0.5)


def test_a_second_coordinate_that_is_fixed_makes_bradley_and_terrys_model():
    vectors = np.stack([STRENGTHS, np.ones(3)], axis=1)
    table = beats(vectors[:, None], vectors[None, :])
    assert table == near(STRENGTHS[:, None] - STRENGTHS[None, :])
    assert cyclic_triples(table) == 0


def test_disagreement_of_passes_in_a_worked_example():
    passes = np.array([[0.9, 0.8, 0.95, 0.85], [0.9, 0.1, 0.8, 0.2], [0.55, 0.5, 0.45, 0.5]])
    told = bald(passes)
    assert told == near([0.015093, 0.280404, 0.002504])
    assert flip_belief(told) == near([0.010887, 0.202269, 0.001806])
    assert sampling_shares(told) == near([0.364511, 0.266320, 0.369170])
    assert sampling_shares(told, 4.0) == near([0.427887, 0.121927, 0.450186])


@given(PROBABILITIES)
def test_disagreement_is_between_0_and_ln_2_and_0_where_all_agree(passes):
    told = bald(passes)
    assert (told >= 0).all()
    assert (told <= math.log(2) + 1e-12).all()
    assert (flip_belief(told) <= 0.5 + 1e-12).all()
    assert bald(np.repeat(passes[:, :1], 3, axis=1)) == near(np.zeros(len(passes)), 1e-12)
    assert bald(passes[:, ::-1]) == near(told, 1e-12)


def test_the_extremes_of_disagreement():
    assert bald(np.array([[1.0, 0.0]])) == near([math.log(2)])
    assert bald(np.array([[1.0, 1.0], [0.0, 0.0]])).tolist() == [0.0, 0.0]


def test_implicit_rewards_of_a_worked_example():
    chosen = implicit_reward(np.array([-38.0, -52, -33]), np.array([-40.0, -55, -30]), 0.1)
    rejected = implicit_reward(np.array([-47.0, -51, -30]), np.array([-45.0, -50, -30]), 0.1)
    margin = chosen - rejected
    assert margin == near([0.4, 0.4, -0.3])
    assert np.log1p(np.exp(-margin)).mean() == pytest.approx(0.626795, abs=1e-6)


def test_perplexity_of_a_worked_example():
    assert perplexity(np.array([-1.6]), np.array([3.0])) == near([1.704605])
    assert perplexity(np.array([-1e6]), np.array([1.0])).tolist() == [math.inf]


@given(VECTORS, st.sampled_from([1e-150, 1e-3, 7.0, 1e150]))
def test_cosines_are_exact_for_equal_vectors_and_do_not_change_with_length(vectors, scale):
    told = cosines(vectors, vectors)
    some = np.abs(vectors).max(axis=1) > 0
    assert (told[some] == 1).all()
    assert np.isnan(told[~some]).all()
    assert cosines(vectors, scale * vectors)[some] == near(np.ones(some.sum()), 1e-9)


def test_cosines_of_opposite_and_crossing_vectors():
    one, other = np.array([[1.0, 0], [1, 0], [1, 1]]), np.array([[-2.0, 0], [0, 3], [1, 0]])
    assert cosines(one, other) == near([-1, 0, math.sqrt(0.5)])
