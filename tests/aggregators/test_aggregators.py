"""Ways of making one number of several: worked examples, and what must hold for any scores."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prefkit.aggregators import direction, groups, hypervolume, normalise, prompt_weights, regret, thresholds
from prefkit.aggregators.settle import picks
from prefkit.errors import EstimateError

ROWS = np.array([[0.62, 0.20], [0.55, 0.24], [0.35, 0.30]])
POINTS = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.8], [0.4, 0.4]])
GROUPS = np.array([[1.0, 0.2], [0.6, 0.5], [0.3, 0.9]])
SMALL = st.integers(-50, 50).map(float)
COLUMN = st.lists(SMALL, min_size=1, max_size=12).map(np.array)
MATRIX = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=SMALL)


def near(values, places=1e-5):
    return pytest.approx(np.asarray(values), abs=places)


def one_group(kind, column):
    return normalise.by_group(kind, column, np.zeros(len(column), np.int64))


# normalisers


def test_z_and_minmax_of_a_worked_example():
    z = np.stack([one_group("z", column) for column in ROWS.T], axis=1)
    assert z == near([[0.990618, -1.13555], [0.378766, -0.162221], [-1.369384, 1.297771]])
    minmax = np.stack([one_group("minmax", column) for column in ROWS.T], axis=1)
    assert minmax == near([[1, 0], [0.740741, 0.4], [0, 1]])


@pytest.mark.parametrize("kind", ["z", "minmax", "rank"])
def test_a_group_is_compared_with_itself_alone_and_what_is_missing_counts_not(kind):
    values = np.array([3.0, np.nan, 1.0, 7.0, np.inf, 7.0, 2.0])
    group = np.array([0, 0, 0, 1, 1, 1, 2])
    told = normalise.by_group(kind, values, group)
    assert told[[0, 2]] == near(one_group(kind, values[[0, 2]]))
    flat = 0.5 if kind == "rank" else 0.0
    assert told[[3, 5, 6]].tolist() == [flat] * 3
    assert np.isnan(told[[1, 4]]).all()


@given(COLUMN, st.floats(0.01, 100), st.floats(-100, 100))
def test_z_and_minmax_do_not_change_with_scale_and_level(column, scale, level):
    for kind in ("z", "minmax"):
        assert one_group(kind, scale * column + level) == near(one_group(kind, column), 1e-6)


@given(COLUMN)
def test_ranks_do_not_change_with_what_keeps_the_order(column):
    bent = np.exp(column / 10) + column
    assert one_group("rank", bent).tolist() == one_group("rank", column).tolist()
    ordered = np.sort(column)
    assert normalise.by_reference("rank", column, ordered) == near(one_group("rank", column))


@given(COLUMN, st.sampled_from(["z", "minmax", "rank"]))
def test_normalising_keeps_the_order_and_never_makes_a_number_of_nothing(column, kind):
    told = one_group(kind, column)
    assert np.isfinite(told).all()
    assert (np.sign(np.subtract.outer(told, told)) == np.sign(np.subtract.outer(column, column))).all()
    assert normalise.by_reference(kind, column, column) == near(told, 1e-9)


def test_huge_scores_and_scores_that_hardly_differ_are_normalised_too():
    assert one_group("z", np.array([1e308, -1e308])).tolist() == [1.0, -1.0]
    assert one_group("minmax", np.array([1e308, 0.0, -1e308])).tolist() == [1.0, 0.5, 0.0]
    assert one_group("z", np.full(3, 0.1 + 0.2)).tolist() == [0.0] * 3
    assert normalise.by_reference("z", np.array([5.0, np.nan]), np.full(3, 2.0))[0] == 0.0


def test_a_reference_gives_two_datasets_one_scale():
    told = normalise.by_reference("minmax", np.array([0.0, 5.0, 20.0, np.nan]), np.array([0.0, 10.0]))
    assert told[:3].tolist() == [0.0, 0.5, 2.0]
    assert np.isnan(told[3])
    assert normalise.by_reference("rank", np.array([2.0]), np.array([1.0, 2.0, 3.0])) == near([0.5])


def test_log_odds_are_of_what_lies_between_0_and_1():
    told = normalise.logit(np.array([0.5, 0.75, 0.0, 1.0, 2.0, np.nan]))
    assert told[:2] == near([0.0, math.log(3)])
    assert np.isnan(told[2:]).all()


# directions


def test_a_direction_of_a_worked_example():
    toward = direction.from_angles(np.array(-15.0))
    assert toward == near([0.965926, -0.258819])
    assert direction.prompt_weights(toward).tolist() == [97, -26]
    scores = np.array([[70.0, 80.0], [60.0, 20.0], [70.0, 40.0]])
    assert direction.along(scores, toward) == near([46.909284, 52.779169, 57.262046])


def test_neighbours_of_a_direction_are_evenly_spread():
    assert direction.neighbours(0.0, 5, 30.0) == near([-30, -15, 0, 15, 30])
    toward = direction.from_angles(direction.neighbours(20.0, 5, 30.0))
    wanted = [[0.984808, -0.173648], [0.996195, 0.087156], [0.939693, 0.34202]]
    assert toward[:3] == near(wanted)
    assert direction.neighbours(20.0, 1, 30.0).tolist() == [20.0]


@given(MATRIX, st.data())
def test_a_score_along_a_direction_is_monotone_and_its_best_does_not_change_with_length(scores, data):
    weights = np.array(data.draw(st.lists(SMALL, min_size=scores.shape[1], max_size=scores.shape[1])))
    assume(weights.any())
    toward = direction.unit(weights)
    assert np.linalg.norm(toward) == pytest.approx(1)
    here = direction.along(scores, np.broadcast_to(toward, scores.shape))
    better = direction.along(scores + np.where(toward > 0, 1.0, 0.0), np.broadcast_to(toward, scores.shape))
    assert (better >= here).all()
    assert direction.unit(3 * weights) == near(toward)


def test_no_direction_is_refused():
    for weights in ([0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]):
        with pytest.raises(EstimateError, match="not zero"):
            direction.unit(np.array(weights))


# thresholds


def test_scores_past_their_threshold_count_no_more():
    wanted = np.array([0.44, 0.238])
    assert thresholds.saturate(np.array([[0.62, 0.20], [np.nan, 0.3]]), wanted)[0].tolist() == [0.44, 0.20]
    told = thresholds.satisfy(np.array([[0.44, 0.238], [0.54, 0.038]]), wanted, np.array([1.0, 2.0]))
    assert told == near([0.0, -(0.01 + 2 * 0.04)])


@pytest.mark.parametrize(("equality", "wanted"), [(True, [-0.006, 0.0038]), (False, [-0.0015, 0.00095])])
def test_a_step_of_the_dual_of_a_worked_example(equality, wanted):
    start = thresholds.Multipliers(np.zeros(2), np.zeros(2))
    after = thresholds.dual_step(start, np.array([0.5, 0.2]), np.array([0.44, 0.238]), equality=equality)
    assert after.raw == near(wanted)
    still = thresholds.dual_step(start, np.ones(2), np.ones(2), equality=equality)
    assert still.raw.tolist() == [0.0, 0.0]


def test_what_weights_leave_goes_to_the_task():
    weights = thresholds.squashed(np.array([0.5, -1.0]), equality=False)
    assert weights == near([0.622459, 0.268941])
    assert thresholds.mixed(np.array([0.3]), np.array([[1.2, -0.4]]), weights) == near([0.971954])
    assert (np.abs(thresholds.squashed(np.array([-30.0, 30.0]), equality=True)) <= 1).all()


def pools(seed, prompts=200, size=4):
    """Two objectives that are at odds: what a response gains in one, it mostly loses in the other."""
    drawn = np.random.default_rng(seed)
    first = drawn.uniform(0, 1, prompts * size)
    return np.stack([first, 1 - first + drawn.normal(0, 0.1, len(first))], axis=1), np.repeat(
        np.arange(prompts), size
    )


@pytest.mark.parametrize("equality", [False, True])
def test_the_dual_finds_weights_under_which_picks_meet_the_thresholds(equality):
    scores, prompt = pools(0)
    task = np.random.default_rng(1).uniform(0, 1, len(scores))
    wanted = np.array([0.6, 0.5])
    free = scores[picks(task, prompt)].mean(axis=0)
    assert (free < wanted).any()
    found = thresholds.fit_dual(task, scores, prompt, wanted, equality=equality)
    assert (found.reached > wanted - 0.02).all()
    assert not thresholds.missed(found, wanted, equality=equality).any()
    if equality:
        assert found.reached == near(wanted, 0.02)
    swapped = thresholds.fit_dual(task, scores[:, ::-1], prompt, wanted[::-1], equality=equality)
    assert swapped.weights == near(found.weights[::-1], 1e-6)


def test_a_threshold_out_of_reach_is_told():
    scores, prompt = pools(2)
    found = thresholds.fit_dual(np.zeros(len(scores)), scores, prompt, np.array([5.0, 0.0]))
    assert thresholds.missed(found, np.array([5.0, 0.0]), equality=False).tolist() == [True, False]
    assert found.weights[0] > 0.9


def test_equal_scores_are_picked_in_their_order_and_nothing_is_no_choice():
    assert picks(np.array([1.0, 1.0, 0.0, 2.0, 2.0]), np.array([0, 0, 0, 1, 1])).tolist() == [0, 3]
    with pytest.raises(EstimateError, match="no responses"):
        thresholds.fit_dual(np.zeros(0), np.zeros((0, 1)), np.zeros(0, np.int64), np.ones(1))


# hypervolume


def test_hypervolumes_of_worked_examples():
    origin = np.zeros(2)
    assert hypervolume.hypervolume(np.array([[2.0, 1.0]]), origin) == 2
    assert hypervolume.hypervolume(np.array([[2.0, 1.0], [1.0, 2.0]]), origin) == 3
    three = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 1.0], [3.0, 3.0, 0.5]])
    assert hypervolume.hypervolume(three, np.zeros(3)) == 10
    assert hypervolume.hypervolume(POINTS, origin) == pytest.approx(0.32)
    assert hypervolume.exclusive(POINTS[None], origin[None])[0] == near([0.04, 0.07, 0.03, 0.0])
    assert hypervolume.pareto_factor(np.array([1.0, 0.0, 2.0])) == near([1.642391, 0.5, 1.946041])


@given(MATRIX)
def test_what_a_point_adds_is_what_is_missing_without_it(points):
    reference = np.full(points.shape[1], -60.0)
    whole = hypervolume.hypervolume(points, reference)
    without = [hypervolume.hypervolume(np.delete(points, at, 0), reference) for at in range(len(points))]
    told = hypervolume.exclusive(points[None], reference[None])[0]
    assert told == near(whole - np.array(without), 1e-6)
    assert (told >= 0).all()
    assert hypervolume.hypervolume(points[::-1], reference) == pytest.approx(whole)


@given(MATRIX)
def test_a_point_that_another_is_as_good_as_adds_nothing_and_a_better_one_never_takes_away(points):
    reference = np.full(points.shape[1], -60.0)
    doubled = np.concatenate([points, points[:1]])
    assert hypervolume.exclusive(doubled[None], reference[None])[0][-1] == 0
    assert hypervolume.hypervolume(doubled, reference) == pytest.approx(
        hypervolume.hypervolume(points, reference)
    )
    more = np.concatenate([points, points.max(axis=0, keepdims=True) + 1])
    assert hypervolume.hypervolume(more, reference) > hypervolume.hypervolume(points, reference)


def test_points_not_above_the_reference_cover_nothing():
    assert hypervolume.hypervolume(np.array([[-1.0, 5.0], [2.0, 1.0]]), np.zeros(2)) == 2
    assert hypervolume.hypervolume(np.zeros((0, 2)), np.zeros(2)) == 0


def test_what_is_too_large_for_exact_volume_is_refused():
    with pytest.raises(EstimateError, match="at most 5"):
        hypervolume.exclusive(np.zeros((1, 2, 6)), np.zeros((1, 6)))
    with pytest.raises(EstimateError, match="too large"):
        hypervolume.exclusive(np.zeros((1, 64, 5)), np.zeros((1, 5)))


# weights by prompt


def test_prompt_weights_of_a_worked_example():
    wanted = prompt_weights.targets(np.array([1.2, -0.3, 0.4]))
    assert wanted == near([0.597922, 0.133414, 0.268664])
    assert prompt_weights.divergence(wanted, np.array([0.5, 0.2, 0.3])) == pytest.approx(0.023286, abs=1e-6)
    assert wanted @ np.array([0.6, 0.9, 0.1]) == pytest.approx(0.505693, abs=1e-6)
    assert prompt_weights.divergence(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == pytest.approx(math.log(2))


def test_influence_weights_of_a_worked_example():
    gradients = np.array([[1.0, 0.0], [0.5, 0.5], [-0.2, 1.0]])
    told = prompt_weights.influence_weights(np.array([0.334, 0.333, 0.333]), gradients)
    assert told == near([0.333548, 0.335892, 0.330560])
    held = prompt_weights.influence_weights(np.array([0.98, 0.01, 0.01]), gradients, floor=0.02)
    assert held.sum() == pytest.approx(1)


@given(MATRIX, SMALL)
def test_targets_are_positive_sum_to_one_and_forget_a_common_level(scores, level):
    told = prompt_weights.targets(scores)
    assert (told >= 0).all()
    assert told.sum(axis=1) == near(np.ones(len(scores)))
    assert prompt_weights.targets(scores + level) == near(told)
    assert prompt_weights.targets(np.full((1, 4), level)) == near(np.full((1, 4), 0.25))


def test_the_fit_recovers_weights_that_depend_on_the_prompt():
    drawn = np.random.default_rng(0)
    context = drawn.normal(0, 1, (400, 3))
    truth = prompt_weights.targets(context @ np.array([[2.0, 0, 0], [0, 1.0, 0], [0, 0, 0.5]]))
    head = prompt_weights.fit_prompt_weights(context, truth, ridge=1e-4)
    told = prompt_weights.predict_weights(head, context, floor=0.0)
    assert prompt_weights.divergence(truth, told).mean() < 1e-3
    floored = prompt_weights.predict_weights(head, context, floor=0.3)
    assert floored.min() >= 0.1 - 1e-12
    assert floored.sum(axis=1) == near(np.ones(400))
    with pytest.raises(EstimateError, match="no row"):
        prompt_weights.fit_prompt_weights(np.zeros((0, 2)), np.zeros((0, 2)))


# groups


def test_groups_of_a_worked_example():
    even = np.ones(2)
    assert groups.mean(GROUPS, even) == near([0.6, 0.55, 0.6])
    assert groups.worst(GROUPS).tolist() == [0.2, 0.5, 0.3]
    assert groups.cvar(GROUPS, 0.5, even) == near([0.2, 0.5, 0.3])
    assert groups.mean(GROUPS, np.array([0.9, 0.1])) == near([0.92, 0.59, 0.36])


@given(MATRIX, st.floats(0.05, 1.0), st.data())
def test_a_worst_share_lies_between_the_worst_and_the_mean(scores, share, data):
    width = scores.shape[1]
    weights = np.array(data.draw(st.lists(st.floats(0.1, 5), min_size=width, max_size=width)))
    told = groups.cvar(scores, share, weights)
    assert (groups.worst(scores) <= told + 1e-9).all()
    assert (told <= groups.mean(scores, weights) + 1e-9).all()
    assert groups.cvar(scores, 1.0, weights) == near(groups.mean(scores, weights), 1e-9)
    order = np.array(data.draw(st.permutations(range(width))))
    assert groups.cvar(scores[:, order], share, weights[order]) == near(told, 1e-9)
    better = scores + np.eye(width)[0]
    assert (groups.cvar(better, share, weights) >= told - 1e-9).all()


def test_a_group_that_is_missing_leaves_no_score():
    scores = np.array([[1.0, np.nan], [1.0, 2.0]])
    for told in (groups.mean(scores, np.ones(2)), groups.worst(scores), groups.cvar(scores, 0.5, np.ones(2))):
        assert np.isnan(told[0])
        assert np.isfinite(told[1])
    with pytest.raises(EstimateError, match="share"):
        groups.cvar(scores, 0.0, np.ones(2))
    with pytest.raises(EstimateError, match="not all 0"):
        groups.mean(scores, np.zeros(2))


def test_the_worst_group_overall_is_not_the_worst_of_each_response():
    # one prompt offers (0, 1) or (.4, .4), the other (1, 0) or (.4, .4): both groups fare best with the extremes
    scores = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0], [0.4, 0.4]])
    prompt = np.array([0, 0, 1, 1])
    assert scores[picks(groups.worst(scores), prompt)].mean(axis=0).tolist() == [0.4, 0.4]
    found = groups.fit_maxmin(scores, prompt)
    assert found.reached == near([0.5, 0.5], 0.02)
    assert found.weights.sum() == pytest.approx(1)


def test_max_min_serves_the_worst_group_better_than_the_mean_does():
    drawn = np.random.default_rng(3)
    scores = drawn.uniform(0, 1, (800, 3)) * np.array([1.0, 1.0, 0.5])
    prompt = np.repeat(np.arange(200), 4)
    by_mean = scores[picks(scores.mean(axis=1), prompt)].mean(axis=0).min()
    found = groups.fit_maxmin(scores, prompt)
    assert found.reached.min() > by_mean + 0.02
    assert (found.weights >= 0).all()


# regret


def test_two_stretches_that_collect_as_much_differ_in_regret():
    collected = np.array([-2.0, -2.0])
    lost = regret.regret(collected, np.array([-2.0, -2.0]), np.array([-2.0, 0.0]))
    assert lost.tolist() == [2.0, 0.0]
    assert regret.preference_by_return(*collected) == 0.5
    assert regret.preference_by_regret(lost[1], lost[0]) == pytest.approx(0.880797, abs=1e-6)
    steps = regret.regret_of_steps(np.array([[-2.0, -1.0]]), np.array([[-3.0, -2.0]]))
    assert steps.tolist() == [2.0]


@given(COLUMN, COLUMN, SMALL)
def test_from_one_start_regret_ranks_as_collected_and_end_value_do(collected, end, start):
    size = min(len(collected), len(end))
    lost = regret.regret(collected[:size], np.full(size, start), end[:size])
    reached = collected[:size] + end[:size]
    assert np.argsort(lost, kind="stable").tolist() == np.argsort(-reached, kind="stable").tolist()
