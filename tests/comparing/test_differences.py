"""Differences of arms: the worked layout, what the interval covers, and what does not change it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.comparing.differences import among, at_level, difference
from prefkit.errors import EstimateError

# Three seeds on ten prompts with the sums of squares of the worked example.
WORKED = np.array(
    [
        [1, 1, 1, 1, -1, 1, -1, -1, 0, 0],
        [1, 1, 1, 1, -1, 0, 0, 0, 1, 0],
        [1, 1, 1, 1, -1, 1, 0, 0, -1, 0],
    ],
    dtype=float,
)


def grid(seeds, prompts, deviation, draw, effect=0.0):
    shape = (seeds, prompts)
    noise = draw.normal(0, 0.2**0.5, shape) + draw.normal(0, 0.3**0.5, prompts)
    return effect + noise + draw.normal(0, deviation, (seeds, 1))


def of(values):
    return difference(values, np.zeros_like(values))


def flat(found):
    return [*found._replace(variance=0.0), *found.variance]


def test_the_worked_example():
    # golden models_and_eval.json, twoway
    found = of(WORKED)
    assert found.estimate == pytest.approx(0.3)
    assert found.variance == pytest.approx((0.459259, 0.0, 0.211111), abs=1e-6)
    assert found.error == pytest.approx(0.230137, abs=1e-6)
    assert found.error_of_prompts == pytest.approx(0.230137, abs=1e-6)
    assert found.satterthwaite == pytest.approx(7.583167, abs=1e-5)
    assert found.df == 9, "seeds show nothing of their own, so the interval is that over prompts"
    assert (found.seeds, found.prompts, found.left_out) == (3, 10, 0)


def test_where_seeds_differ_the_interval_is_wider_than_that_over_prompts():
    shifted = WORKED + np.array([[-0.5], [0.0], [0.5]])
    found = of(shifted)
    middle = shifted.mean()
    rows, columns = shifted.mean(axis=1), shifted.mean(axis=0)
    of_seeds = 10 * ((rows - middle) ** 2).sum() / 2
    of_prompts = 3 * ((columns - middle) ** 2).sum() / 9
    of_rest = ((shifted - rows[:, None] - columns + middle) ** 2).sum() / 18
    assert found.error == pytest.approx(np.sqrt((of_seeds + of_prompts - of_rest) / 30))
    assert found.error > 1.2 * found.error_of_prompts
    assert 2 <= found.df == found.satterthwaite < 9


def test_where_prompts_have_nothing_of_their_own_the_interval_is_a_little_wide():
    draw = np.random.default_rng(5)
    found = [of(draw.normal(0, 0.7, (5, 120))) for _ in range(1500)]
    assert 0.95 <= np.mean([one.low <= 0 <= one.high for one in found]) <= 0.98


@pytest.mark.parametrize(
    ("seeds", "deviation"), [(3, 0.0), (3, 0.02), (5, 0.0), (5, 0.05), (5, 0.2), (8, 0.1)]
)
def test_the_interval_holds_the_effect_in_93_to_97_of_100(seeds, deviation):
    draw = np.random.default_rng(1)
    found = [of(grid(seeds, 120, deviation, draw, effect=0.1)) for _ in range(1500)]
    assert 0.93 <= np.mean([one.low <= 0.1 <= one.high for one in found]) <= 0.97


def test_an_interval_over_prompts_alone_is_wrong_where_seeds_differ():
    draw = np.random.default_rng(2)
    found = [of(grid(5, 400, 0.1, draw)) for _ in range(300)]
    assert np.mean([abs(one.estimate) <= 1.96 * one.error_of_prompts for one in found]) < 0.75


def test_a_copy_of_an_arm_is_called_different_about_once_in_twenty():
    draw = np.random.default_rng(3)
    rate = np.mean([of(np.clip(np.round(grid(5, 150, 0.02, draw)), -1, 1)).p < 0.05 for _ in range(2000)])
    assert 0.035 <= rate <= 0.065


@given(st.integers(0, 1000))
def test_turning_the_arms_round_turns_the_interval_round(seed):
    one, other = np.random.default_rng(seed).normal(size=(2, 3, 6))
    here, there = difference(one, other), difference(other, one)
    assert (here.low, here.high) == pytest.approx((-there.high, -there.low))
    assert here.p == pytest.approx(there.p)


@given(st.integers(0, 1000))
def test_the_p_value_is_the_level_at_which_the_interval_touches_nothing(seed):
    found = of(np.random.default_rng(seed).normal(0.5, 1, (3, 8)))
    touching = at_level(found, 1 - found.p)
    assert min(abs(touching.low), abs(touching.high)) == pytest.approx(0, abs=1e-6)


def test_arms_are_paired_so_what_both_share_does_not_matter():
    draw = np.random.default_rng(4)
    shared = draw.normal(0, 10, (1, 4, 50))
    values = shared + draw.normal(0, 0.1, (3, 4, 50)) + np.array([0.0, 0.5, 0.0])[:, None, None]
    found = among(values)
    assert found[0] is None
    assert found[1].low > 0.4
    assert found[1].error < 0.05
    assert found[2].low < 0 < found[2].high


def test_a_prompt_that_misses_a_value_is_left_out_and_counted():
    holed = np.hstack([WORKED, [[np.nan], [1.0], [1.0]]])
    assert of(holed) == of(WORKED)._replace(left_out=1)


def test_clusters_of_one_are_no_clusters_and_copies_of_prompts_add_nothing():
    alone = flat(difference(WORKED, 0 * WORKED, clusters=np.arange(10)))
    assert alone == pytest.approx(flat(of(WORKED)))
    twice = np.repeat(WORKED, 2, axis=1)
    found = difference(twice, 0 * twice, clusters=np.repeat(np.arange(10), 2))
    assert flat(found) == pytest.approx(flat(of(WORKED)))
    assert of(twice).error < 0.75 * found.error


def test_clusters_of_unequal_size_keep_the_mean():
    found = difference(WORKED, 0 * WORKED, clusters=np.array([0, 0, 0, 0, 1, 1, 2, 3, 4, 4]))
    assert found.estimate == pytest.approx(0.3)
    assert found.prompts == 5


def test_one_seed_gives_the_interval_over_prompts():
    found = of(WORKED[:1])
    assert np.isnan(found.variance.seed)
    assert found.error == pytest.approx(WORKED[0].std(ddof=1) / np.sqrt(10))
    assert found.df == 9


def test_arms_that_are_the_same_do_not_differ():
    found = difference(WORKED, WORKED)
    assert (found.low, found.estimate, found.high, found.p) == (0, 0, 0, 1)
    assert of(np.ones((2, 5))).p == 0


def test_one_prompt_is_no_sample():
    with pytest.raises(EstimateError, match="two prompts with a value for every seed, found 1"):
        of(np.array([[1.0, np.nan], [1.0, 2.0]]))
