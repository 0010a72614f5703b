"""Groups of annotators: the worked example, planted groups, and whether there are any."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.mixture import (
    annotator_log_likelihood,
    assign,
    fit_groups,
    fit_shares,
    group_evidence,
    heterogeneity,
)
from prefkit.estimators.preference import logistic

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "annotators.json").read_text())["maxmin_em"]
MARGINS = np.array([[2, -1], [1, -0.5], [1.5, 0.5], [2, -1], [-1, 2], [-0.5, 0.5]])
WHO = np.array([0, 0, 1, 1, 2, 2])


def planted(
    seed: int, people: int = 30, each: int = 40, dims: int = 5, share: float = 0.4, angle: float = 2.0
):
    """Feature differences, winner less loser, of two groups that prefer by different directions."""
    rng = np.random.default_rng(seed)
    heads = rng.normal(size=(2, dims))
    heads[1] = heads[0] + angle * rng.normal(size=dims)
    group = (np.arange(people) < share * people).astype(int)
    who = np.repeat(np.arange(people), each)
    features = rng.normal(size=(len(who), dims))
    wins = rng.random(len(who)) < logistic((features * heads[group[who]]).sum(axis=1))
    return np.where(wins[:, None], features, -features), who, group, heads


def agreement(found: np.ndarray, group: np.ndarray) -> float:
    same = float((found == group).mean())
    return max(same, 1 - same)


def test_three_people_and_two_given_groups():
    told = annotator_log_likelihood(MARGINS, WHO)
    assert told == pytest.approx(np.array(GOLDEN["loglik"]), abs=1e-6)
    hard = assign(told)
    assert hard.group.tolist() == GOLDEN["hard"]
    assert hard.gap == pytest.approx([1.847149, 1.458997, 1.686334], abs=2e-6)
    soft = fit_shares(told)
    assert soft.prior == pytest.approx(GOLDEN["pi"], abs=1e-6)
    assert soft.responsibility[:, 0] == pytest.approx(GOLDEN["soft"], abs=1e-6)
    assert (np.diff(soft.trace) >= -1e-12).all()


def test_twice_the_labels_make_one_surer():
    once = fit_shares(annotator_log_likelihood(MARGINS, WHO))
    twice = fit_shares(annotator_log_likelihood(np.tile(MARGINS, (2, 1)), np.tile(WHO, 2)))
    assert (twice.responsibility.max(axis=1) > once.responsibility.max(axis=1)).all()


def test_one_who_fits_both_groups_is_unassigned():
    told = np.array([[-1.0, -3.0], [-2.0, -2.5], [-2.0, -2.0]])
    assert assign(told).is_unassigned.tolist() == [False, True, True]
    assert assign(told[:, :1]).is_unassigned.tolist() == [False] * 3


@pytest.mark.parametrize("rule", ["soft", "hard"])
def test_planted_groups_are_found(rule):
    features, who, group, heads = planted(0)
    found = fit_groups(features, who, 2, rule=rule)
    assert agreement(found.assignment.group, group) == 1.0
    assert sorted(found.prior) == pytest.approx([0.4, 0.6], abs=0.02)
    order = np.argsort(found.prior)  # the smaller group is the second that was planted
    for head, true in zip(found.heads[order], heads[::-1], strict=True):
        assert np.corrcoef(head, true)[0, 1] > 0.95
    alone = fit_groups(features, who, 1)
    assert (found.accuracy > alone.accuracy[0] + 0.03).all()
    assert found.log_likelihood > alone.log_likelihood + 50


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(["soft", "hard"]), st.integers(1, 3))
def test_the_trace_never_falls(seed, rule, groups):
    features, who, *_ = planted(seed, people=8, each=10)
    found = fit_groups(features, who, groups, rule=rule, restarts=2, seed=seed)
    assert (np.diff(found.trace) >= -1e-9).all()
    assert found.responsibility.sum(axis=1) == pytest.approx(np.ones(8))


def test_one_group_is_the_pooled_reward_whoever_gave_which_label():
    features, who, *_ = planted(1, people=6, each=20)
    one = fit_groups(features, who, 1, tolerance=1e-12)
    other = fit_groups(features, np.zeros(120, int), 1, tolerance=1e-12)
    assert one.heads == pytest.approx(other.heads, abs=1e-6)
    assert one.responsibility.tolist() == [[1.0]] * 6
    gradient = features.T @ (1 - logistic(features @ one.heads[0])) - one.heads[0]
    assert np.abs(gradient).max() < 1e-4


def test_the_same_seed_gives_the_same_groups():
    features, who, *_ = planted(2)
    one, other = (fit_groups(features, who, 2, seed=3) for _ in range(2))
    assert (one.heads == other.heads).all()


def test_groups_predict_held_out_labels_of_the_same_people():
    features, who, *_ = planted(3)
    held = np.arange(len(who)) % 4 == 0
    two, one = (fit_groups(features[~held], who[~held], k) for k in (2, 1))
    assert group_evidence(two, features[held], who[held]) > group_evidence(one, features[held], who[held]) + 5


def test_exchanging_names_tells_groups_from_chance():
    features, who, *_ = planted(4, people=20, each=30)
    held = np.arange(len(who)) % 3 == 0
    real = heterogeneity(features, who, held, permutations=19, restarts=2)
    assert real.p_value == pytest.approx(0.05)
    assert real.gain > real.gain_by_chance.max() > -0.2
    features, who, *_ = planted(4, people=20, each=30, angle=0.0)
    none = heterogeneity(features, who, held, permutations=19, restarts=2)
    assert none.p_value > 0.05
    assert none.gain < 0.01


@pytest.mark.parametrize(
    ("features", "who", "groups", "told"),
    [
        (np.ones((2, 1)), [0, 1], 3, "2 annotators cannot be in 3 groups"),
        (np.ones((2, 1)), [0, 2], 1, "some annotator has no pair"),
        (np.full((2, 1), np.nan), [0, 1], 1, "features must be finite"),
        (np.ones((0, 1)), [], 1, "not empty"),
    ],
)
def test_labels_that_cannot_be_grouped_are_refused(features, who, groups, told):
    with pytest.raises(EstimateError, match=told):
        fit_groups(features, np.array(who, int), groups)


def test_groups_that_do_not_converge_say_so():
    features, who, *_ = planted(0)
    with pytest.raises(EstimateError, match="no start of the 2 groups converged in 2 steps"):
        fit_groups(features, who, 2, most_steps=2)
