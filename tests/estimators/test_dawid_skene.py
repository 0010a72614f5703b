"""Dawid and Skene's model: the worked example, planted annotators, and what cannot be fitted."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.dawid_skene import fit_dawid_skene

VOTES = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1]])
BINARY = np.array([1, 0])


def fit(votes: np.ndarray, **settings):
    annotator, item = np.indices(votes.shape)
    return fit_dawid_skene(item.ravel(), annotator.ravel(), votes.ravel(), 2, **settings)


def test_six_items_and_three_annotators():
    # golden models_and_eval.json dawid_skene
    found = fit(VOTES)
    assert found.posterior[:, 1] == pytest.approx(
        [3.4e-05, 9.8e-05, 0.999154, 0.997545, 3.4e-05, 0.019895], abs=1e-6
    )
    assert found.confusion.diagonal(axis1=1, axis2=2).mean(axis=1) == pytest.approx(
        [0.873431, 0.990956, 0.378484], abs=1e-6
    )
    assert found.prior == pytest.approx([0.663871, 0.336129], abs=1e-6)
    assert found.log_likelihood == pytest.approx(-9.733854, abs=1e-6)
    assert found.steps == 40


def test_left_and_right_treated_alike_overturn_a_majority():
    # golden models_and_eval.json dawid_skene_symmetric
    found = fit(VOTES, mirror=BINARY)
    assert found.posterior[:, 1] == pytest.approx(
        [0.000845, 0.003256, 0.999155, 0.996744, 0.000845, 0.020614], abs=1e-6
    )
    assert found.confusion[:, 0, 0] == pytest.approx([0.833042, 0.991776, 0.337193], abs=1e-6)
    assert found.steps == 26
    assert VOTES[:, 5].sum() == 2  # the majority says 1
    assert found.posterior[5, 1] < 0.5


def crowd(seed: int, items: int = 400, accuracies: tuple[float, ...] = (0.92, 0.75, 0.6, 0.55, 0.4)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    right = rng.random((len(accuracies), items)) < np.array(accuracies)[:, None]
    return truth, np.where(right, truth, 1 - truth)


def test_it_knows_whom_to_trust_and_beats_the_majority():
    truth, votes = crowd(0)
    found = fit(votes, mirror=BINARY)
    accuracy = ((found.posterior[:, 1] > 0.5) == truth).mean()
    majority = ((votes.mean(axis=0) > 0.5) == truth).mean()
    assert accuracy > majority + 0.08
    assert found.confusion[:, 0, 0] == pytest.approx([0.92, 0.75, 0.6, 0.55, 0.4], abs=0.08)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_mirror_image_of_the_votes_mirrors_the_posteriors(seed):
    _, votes = crowd(seed, 40)
    one, other = fit(votes, mirror=BINARY), fit(1 - votes, mirror=BINARY)
    assert one.posterior == pytest.approx(other.posterior[:, ::-1], abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_likelihood_never_falls(seed):
    _, votes = crowd(seed, 30)
    found = [fit(votes, smoothing=1e-12, tolerance=t).log_likelihood for t in (1e-1, 1e-2, 1e-3, 1e-5)]
    assert all(after >= before - 1e-9 for before, after in pairwise(found))


def test_annotators_who_say_the_same_get_the_same_matrix():
    _, votes = crowd(1, 50)
    found = fit(np.concatenate([votes, votes[:1]]))
    assert found.confusion[0] == pytest.approx(found.confusion[-1])


def test_ties_are_a_class_of_their_own():
    truth = np.array([0, 1, 2] * 40)
    votes = np.stack([truth, truth, np.roll(truth, 1)])
    annotator, item = np.indices(votes.shape)
    mirror = np.array([2, 1, 0])
    found = fit_dawid_skene(item.ravel(), annotator.ravel(), votes.ravel(), 3, mirror=mirror)
    assert (found.posterior.argmax(axis=1) == truth).all()
    assert found.confusion == pytest.approx(found.confusion[:, mirror][:, :, mirror])
    assert found.prior[0] == pytest.approx(found.prior[2])


@pytest.mark.parametrize(
    ("item", "annotator", "label", "told"),
    [
        ([0, 1], [0, 1], [0, 1], "2 parts"),
        ([0, 2], [0, 0], [0, 1], "some item has no vote"),
        ([0, 1], [1, 1], [0, 1], "some annotator has no vote"),
        ([0, 0], [0, 1], [0, 2], "label is not among 0 to 1"),
        ([], [], [], "no votes"),
    ],
)
def test_votes_that_cannot_be_fitted_are_refused(item, annotator, label, told):
    numbers = (np.array(column, np.int64) for column in (item, annotator, label))
    with pytest.raises(EstimateError, match=told):
        fit_dawid_skene(*numbers, 2)
