"""What a comparison can find, and what would settle one that found nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.comparing.differences import Variance, difference
from prefkit.comparing.planning import TYPICAL, detectable, settle


def test_the_worked_example():
    # golden models_and_eval.json, mde
    effects = [detectable(TYPICAL, s, n, student=False).effect for n, s in ((500, 3), (500, 5), (2000, 3))]
    assert effects == pytest.approx([0.082476, 0.077234, 0.049855], abs=1e-6)
    assert detectable(TYPICAL, 3, 500, student=False).floor == pytest.approx(0.03235, abs=1e-6)
    assert settle(TYPICAL, 0.05, 5, 500, student=False).prompts == 1426


def test_no_number_of_prompts_beats_the_noise_of_few_seeds():
    told = settle(TYPICAL, 0.03, 3, 500, student=False)
    assert told.prompts is None
    assert told.seeds is None
    assert settle(TYPICAL, 0.07, 3, 500, student=False).seeds > 5


@given(st.floats(0.02, 0.3), st.integers(2, 8), st.integers(50, 5000))
def test_what_settles_it_is_enough_and_one_less_is_not(effect, seeds, prompts):
    told = settle(TYPICAL, effect, seeds, prompts, student=False)
    if told.prompts is not None:
        assert detectable(TYPICAL, seeds, told.prompts, student=False).effect <= effect
        assert (
            told.prompts == 2 or detectable(TYPICAL, seeds, told.prompts - 1, student=False).effect > effect
        )
    if told.seeds is not None:
        assert detectable(TYPICAL, told.seeds, prompts, student=False).effect <= effect
        assert told.seeds == 2 or detectable(TYPICAL, told.seeds - 1, prompts, student=False).effect > effect


def test_few_seeds_promise_less_than_the_normal_law_says():
    careful, bold = (detectable(TYPICAL, 3, 500, student=student) for student in (True, False))
    assert careful.effect > bold.effect
    assert detectable(TYPICAL, 50, 500).effect == pytest.approx(
        detectable(TYPICAL, 50, 500, student=False).effect, rel=0.01
    )


def test_a_difference_of_the_detectable_size_is_found_four_times_in_five():
    draw, seeds, prompts = np.random.default_rng(0), 5, 200
    effect = detectable(TYPICAL, seeds, prompts).effect
    found = 0
    for _ in range(600):
        values = effect + draw.normal(0, 0.2**0.5, (seeds, prompts)) + draw.normal(0, 0.3**0.5, prompts)
        values += draw.normal(0, 0.02, (seeds, 1))
        found += difference(values, np.zeros_like(values)).low > 0
    assert 0.75 <= found / 600 <= 0.85


def test_a_seed_variance_that_is_not_known_counts_as_none():
    one, other = Variance(0.3, np.nan, 0.0), Variance(0.3, 0.0, 0.0)
    assert detectable(one, 1, 100).effect == detectable(other, 1, 100).effect
