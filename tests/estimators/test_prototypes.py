"""Ideal points: worked examples, planted prototypes, and new people."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.prototypes import fit_prototypes, hinge, ideal_margin, ideal_points, place

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "annotators.json").read_text())
POINTS = np.array([[0.0, 0.0], [4.0, 0.0]])
NEAR, FAR = np.array([[1.0, 0.0]]), np.array([[4.0, 0.0]])


@pytest.mark.parametrize(("share", "key"), [([0.5, 0.5], "pal"), ([0.9, 0.1], "pal_user2")])
def test_someone_between_two_prototypes(share, key):
    ideal = ideal_points(np.array([share]), POINTS)
    assert ideal[0] == pytest.approx(GOLDEN[key]["ideal"])
    margin = ideal_margin(NEAR, FAR, ideal)
    assert margin == pytest.approx([GOLDEN[key]["margin"]])


def test_the_losses_of_a_margin_of_one():
    assert hinge(np.array([1.0, 0.25, -1.0])).tolist() == [GOLDEN["pal"]["hinge"], 0.75, 2.0]
    assert np.logaddexp(0, -1.0) == pytest.approx(GOLDEN["pal"]["logistic"], abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_moving_everything_together_changes_no_margin(numbers):
    chosen, rejected, shift = np.array(numbers).reshape(3, 1, 2)
    share = np.array([[0.3, 0.7]])
    here = ideal_margin(chosen, rejected, ideal_points(share, POINTS))
    there = ideal_margin(chosen + shift, rejected + shift, ideal_points(share, POINTS + shift))
    assert here == pytest.approx(there, abs=1e-7)
    assert here == pytest.approx(-ideal_margin(rejected, chosen, ideal_points(share, POINTS)))
    swapped = ideal_points(share[:, ::-1], POINTS[::-1])
    assert here == pytest.approx(ideal_margin(chosen, rejected, swapped))


def planted(seed: int, people: int = 40, each: int = 50):
    rng = np.random.default_rng(seed)
    points = np.array([[-1.5, 0.0, 1.0], [1.5, 0.5, -1.0]])
    share = rng.dirichlet([0.3, 0.3], people)
    who = np.repeat(np.arange(people), each)
    one, other = rng.normal(0, 1.5, (2, len(who), 3))
    margin = 3 * ideal_margin(one, other, (share @ points)[who])
    wins = (rng.random(len(who)) < logistic(margin))[:, None]
    return np.where(wins, one, other), np.where(wins, other, one), who, share, np.abs(margin), margin > 0


def test_planted_prototypes_order_labels_as_well_as_the_truth():
    chosen, rejected, who, share, *_ = planted(0)
    found = fit_prototypes(chosen, rejected, who)
    assert abs(np.corrcoef(found.share[:, 0], share[:, 0])[0, 1]) > 0.95
    margin = found.scale * ideal_margin(chosen, rejected, ideal_points(found.share, found.points)[who])
    one = fit_prototypes(chosen, rejected, who, 1)
    alone = one.scale * ideal_margin(chosen, rejected, ideal_points(one.share, one.points)[who])
    assert (margin > 0).mean() > (alone > 0).mean() + 0.05
    assert found.log_likelihood == pytest.approx(-np.logaddexp(0, -margin).sum(), rel=1e-6)


def test_units_of_the_embedding_do_not_matter():
    chosen, rejected, who, *_ = planted(1, people=10)
    one = fit_prototypes(chosen, rejected, who, restarts=1)
    other = fit_prototypes(100 * chosen + 7, 100 * rejected + 7, who, restarts=1)
    assert other.points == pytest.approx(100 * one.points + 7, rel=1e-3, abs=1.0)
    assert other.scale == pytest.approx(one.scale / 100, rel=1e-3)


def test_someone_new_is_placed_better_the_more_labels_there_are():
    chosen, rejected, who, *_ = planted(2)
    found = fit_prototypes(chosen, rejected, who)
    gaps = []
    for labels in (0, 5, 50):
        placed = [
            place(chosen[who == u][:labels], rejected[who == u][:labels], found.points, found.scale)
            for u in range(10)
        ]
        gaps.append(float(np.abs(np.array(placed) - found.share[:10]).mean()))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.06
    assert place(chosen[:0], rejected[:0], found.points) == pytest.approx([0.5, 0.5])


def test_labels_that_cannot_be_placed_are_refused():
    with pytest.raises(EstimateError, match="some annotator has no pair"):
        fit_prototypes(NEAR, FAR, np.array([1]))
    chosen, rejected, who, *_ = planted(3, people=5)
    with pytest.raises(EstimateError, match="did not converge in 2 steps"):
        fit_prototypes(chosen, rejected, who, most_steps=2)
