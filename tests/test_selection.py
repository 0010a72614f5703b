"""Selection: the published algorithm on its worked numbers, and what it must do for any rewards."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.selection import best_of, rejection_sampled

REWARDS = np.array([0.9, 0.1, 0.5, 0.8, -0.4])
ONE = np.array([0])


def told(*passes):
    return lambda turn: np.array(passes[turn])


def test_the_worked_example_of_rejection_sampling():
    draws = told([0.3, 0.1, 0.6, 0.7, 0.4], [0, 0, 0.2, 0, 0])
    kept = rejection_sampled(REWARDS, ONE, 4, 0.5, draws)
    assert np.argsort(kept.place)[1:].tolist() == [0, 1, 3, 2]
    assert kept.passes.tolist() == [1, 1, 2, 1, 0]
    first = rejection_sampled(REWARDS, ONE, 5, 0.5, lambda turn: np.ones(5) if turn == 0 else np.zeros(5))
    odds = np.exp((REWARDS - REWARDS.max()) / 0.5)
    np.testing.assert_allclose(odds, [1, 0.201897, 0.449329, 0.818731, 0.074274], atol=1e-6)
    assert odds.mean() == pytest.approx(0.508846, abs=1e-6)
    assert sorted(first.place.tolist()) == [0, 1, 2, 3, 4]


def plainly(rewards, n, beta, draws):
    """Return what one prompt keeps, one candidate after the other."""
    pool, kept, turn = list(range(len(rewards))), [], 0
    while pool and len(kept) < n:
        highest, drawn = max(rewards[at] for at in pool), draws(turn)
        for at in list(pool):
            if len(kept) < n and drawn[at] < np.exp((rewards[at] - highest) / beta):
                kept.append(at)
                pool.remove(at)
        turn += 1
    return kept


PROMPTS = st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=8), min_size=1, max_size=4)


@given(PROMPTS, st.integers(1, 9), st.floats(0.05, 20), st.integers(0, 2**32))
def test_all_prompts_at_once_are_each_prompt_alone(prompts, n, beta, seed):
    sizes = [len(prompt) for prompt in prompts]
    starts = np.cumsum([0, *sizes])
    draws = np.random.default_rng(seed).random((10, starts[-1]))
    kept = rejection_sampled(np.concatenate(prompts), starts[:-1], n, beta, lambda turn: draws[turn])
    for prompt, begin, end in zip(prompts, starts, starts[1:], strict=False):
        alone = plainly(prompt, n, beta, lambda turn, b=begin, e=end: draws[turn, b:e])
        place = kept.place[begin:end]
        assert [int(np.flatnonzero(place == at)[0]) for at in range(len(alone))] == alone
        assert (place >= 0).sum() == len(alone) == min(n, len(prompt))


@given(PROMPTS, st.integers(1, 9), st.integers(0, 2**32))
def test_shift_scale_and_a_larger_n(prompts, n, seed):
    starts = np.cumsum([0, *map(len, prompts)])[:-1]
    rewards = np.round(np.concatenate(prompts) * 64) / 64  # so that a shift of 2 and a scale of 4 are exact
    draws = np.random.default_rng(seed).random((12, len(rewards)))
    kept = rejection_sampled(rewards, starts, n, 0.5, lambda turn: draws[turn])
    shifted = rejection_sampled(4 * (rewards + 2), starts, n, 2.0, lambda turn: draws[turn])
    more = rejection_sampled(rewards, starts, n + 1, 0.5, lambda turn: draws[turn])
    assert kept.place.tolist() == shifted.place.tolist()
    assert (more.place[kept.place >= 0] == kept.place[kept.place >= 0]).all()


def test_a_cold_temperature_keeps_the_best_and_a_hot_one_the_first():
    rewards = np.array([0.1, 0.9, 0.5, 0.7])
    half = lambda _: np.full(4, 0.5)  # noqa: E731
    assert (rejection_sampled(rewards, ONE, 2, 1e-6, half).place >= 0).tolist() == [False, True, False, True]
    assert rejection_sampled(rewards, ONE, 2, 1e6, half).place.tolist() == [0, 1, -1, -1]


def test_best_of_takes_the_highest_and_of_equals_the_first():
    kept = best_of(np.array([1.0, 3.0, 3.0, 2.0, 7.0]), np.array([0, 4]), 2)
    assert kept.place.tolist() == [-1, 0, 1, -1, 0]


def test_nothing_is_kept_of_nothing():
    assert (
        rejection_sampled(np.zeros(0), np.zeros(0, int), 3, 1.0, lambda _: np.zeros(0)).place.tolist() == []
    )
    assert best_of(np.zeros(0), np.zeros(0, int), 3).place.tolist() == []
