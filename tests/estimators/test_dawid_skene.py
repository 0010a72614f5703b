"""Dawid and Skene's model: worked examples, planted annotators, doubt, real judges, and what cannot be fitted."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.crowd import parts
from prefkit.estimators.dawid_skene import Opinions, fit_dawid_skene, fit_one_coin

TESTS = Path(__file__).parents[1]
GOLDEN = json.loads((TESTS / "golden" / "annotators.json").read_text())
VOTES = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1]])
BINARY = np.array([1, 0])
ACCURACIES = (0.92, 0.75, 0.6, 0.55, 0.4)


def fit(votes: np.ndarray, **settings) -> Opinions:
    annotator, item = np.indices(votes.shape)
    return fit_dawid_skene(item.ravel(), annotator.ravel(), votes.ravel(), 2, **settings)


def coin(votes: np.ndarray, **settings) -> Opinions:
    annotator, item = np.indices(votes.shape)
    return fit_one_coin(item.ravel(), annotator.ravel(), votes.ravel(), 2, **settings)


def crowd(seed: int, items: int = 400, accuracies: tuple[float, ...] = ACCURACIES):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, items)
    right = rng.random((len(accuracies), items)) < np.array(accuracies)[:, None]
    return truth, np.where(right, truth, 1 - truth)


def test_six_items_and_three_annotators():
    found, golden = fit(VOTES), GOLDEN["dawid_skene"]
    assert found.posterior[:, 1] == pytest.approx(golden["posterior_class1"], abs=1e-6)
    assert found.confusion.diagonal(axis1=1, axis2=2).mean(axis=1) == pytest.approx(golden["acc"], abs=1e-6)
    assert found.prior == pytest.approx(golden["prior"], abs=1e-6)
    assert found.log_likelihood == pytest.approx(golden["loglik"], abs=1e-6)
    assert found.steps == golden["iters"]


def test_left_and_right_treated_alike_overturn_a_majority():
    found, golden = fit(VOTES, mirror=BINARY), GOLDEN["dawid_skene_symmetric"]
    assert found.posterior[:, 1] == pytest.approx(golden["posterior_class1"], abs=1e-6)
    assert found.confusion[:, 0, 0] == pytest.approx(golden["acc"], abs=1e-6)
    assert found.steps == golden["iters"]
    assert VOTES[:, 5].sum() == 2  # the majority says 1
    assert found.posterior[5, 1] < 0.5


@pytest.mark.parametrize("settings", [{}, {"mirror": BINARY}])
def test_it_knows_whom_to_trust_and_beats_the_majority(settings):
    truth, votes = crowd(0)
    found = fit(votes, **settings)
    accuracy = ((found.posterior[:, 1] > 0.5) == truth).mean()
    majority = ((votes.mean(axis=0) > 0.5) == truth).mean()
    assert accuracy > majority + 0.08
    assert found.confusion[:, 0, 0] == pytest.approx(ACCURACIES, abs=0.1)
    assert found.doubt.warning is None
    assert 0.8 < found.doubt.swing < 1.2


def test_one_coin_has_one_accuracy_and_shares_the_rest_among_the_wrong_classes():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 500)
    annotator, item = np.indices((6, 500))
    says = np.where(rng.random((6, 500)) < 0.7, truth, (truth + rng.integers(1, 3, (6, 500))) % 3)
    found = fit_one_coin(item.ravel(), annotator.ravel(), says.ravel(), 3)
    right = found.confusion[:, 0, 0]
    assert right == pytest.approx(np.full(6, 0.7), abs=0.06)
    assert np.allclose(
        found.confusion, np.where(np.eye(3), right[:, None, None], (1 - right[:, None, None]) / 2)
    )
    assert (found.posterior.argmax(axis=1) == truth).mean() > 0.88


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_mirror_image_of_the_votes_mirrors_the_posteriors(seed):
    _, votes = crowd(seed, 40)
    one, other = fit(votes, mirror=BINARY), fit(1 - votes, mirror=BINARY)
    assert one.posterior == pytest.approx(other.posterior[:, ::-1], abs=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 1.0]), st.sampled_from(["full", "mirror", "coin"]))
def test_the_trace_never_falls(seed, smoothing, variant):
    _, votes = crowd(seed, 30)
    known = np.where(np.arange(30) < seed % 3, 1, -1)
    fitted = coin if variant == "coin" else fit
    settings = {"mirror": BINARY} if variant == "mirror" else {}
    found = fitted(votes, smoothing=smoothing, known=known, **settings)
    assert len(found.trace) == found.steps > 1
    assert all(after >= before - 1e-9 for before, after in pairwise(found.trace))
    assert smoothing > 0 or found.trace[-1] == pytest.approx(found.log_likelihood)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_the_order_of_the_votes_changes_nothing(seed):
    _, votes = crowd(seed, 20)
    annotator, item = (one.ravel() for one in np.indices(votes.shape))
    order = np.random.default_rng(seed).permutation(votes.size)
    one = fit_dawid_skene(item, annotator, votes.ravel(), 2)
    other = fit_dawid_skene(item[order], annotator[order], votes.ravel()[order], 2)
    assert (one.posterior == other.posterior).all()
    assert (one.trace == other.trace).all()


def test_a_vote_that_weighs_two_is_two_votes():
    _, votes = crowd(2, 30)
    annotator, item = (one.ravel() for one in np.indices(votes.shape))
    weight = np.random.default_rng(0).integers(1, 4, votes.size)
    one = fit_dawid_skene(item, annotator, votes.ravel(), 2, weight=weight)
    many = (np.repeat(column, weight) for column in (item, annotator, votes.ravel()))
    other = fit_dawid_skene(*many, 2)
    assert one.posterior == pytest.approx(other.posterior, abs=1e-9)
    assert one.log_likelihood == pytest.approx(other.log_likelihood)


def test_annotators_who_say_the_same_get_the_same_matrix():
    _, votes = crowd(1, 50)
    found = fit(np.concatenate([votes, votes[:1]]))
    assert found.confusion[0] == pytest.approx(found.confusion[-1])


def test_annotators_with_few_votes_share_a_matrix():
    _, votes = crowd(3, 60)
    annotator, item = (one.ravel() for one in np.indices(votes.shape))
    # two more annotators with 3 and 4 votes
    item = np.concatenate([item, [0, 1, 2, 3, 4, 5, 6]])
    annotator = np.concatenate([annotator, [5, 5, 5, 6, 6, 6, 6]])
    label = np.concatenate([votes.ravel(), [0, 1, 0, 1, 1, 0, 0]])
    found = fit_dawid_skene(item, annotator, label, 2)
    assert found.confusion.shape == (7, 2, 2)
    assert (found.confusion[5] == found.confusion[6]).all()
    assert (fit_dawid_skene(item, annotator, label, 2, few=0).confusion[5] != found.confusion[5]).any()


def test_ties_are_a_class_of_their_own():
    truth = np.array([0, 1, 2] * 40)
    votes = np.stack([truth, truth, np.roll(truth, 1)])
    annotator, item = np.indices(votes.shape)
    mirror = np.array([2, 1, 0])
    found = fit_dawid_skene(item.ravel(), annotator.ravel(), votes.ravel(), 3, mirror=mirror)
    assert (found.posterior.argmax(axis=1) == truth).all()
    assert found.confusion == pytest.approx(found.confusion[:, mirror][:, :, mirror])
    assert found.prior[0] == pytest.approx(found.prior[2])


def test_a_few_known_labels_turn_a_crowd_that_is_mostly_wrong():
    truth, votes = crowd(4, 300, (0.3, 0.35, 0.3, 0.4, 0.8))
    blind = fit(votes)
    assert ((blind.posterior[:, 1] > 0.5) == truth).mean() < 0.2
    known = np.where(np.arange(300) < 5, truth, -1)
    found = fit(votes, known=known)
    assert ((found.posterior[:, 1] > 0.5) == truth)[5:].mean() > 0.8
    assert (found.posterior[:5].argmax(axis=1) == truth[:5]).all()
    assert found.posterior[:5].max(axis=1).tolist() == [1.0] * 5
    assert found.doubt.below_chance == pytest.approx(0.8)
    assert "80% of annotators look worse than chance" in found.doubt.warning


def test_annotators_who_share_some_mistakes_are_doubted():
    rng = np.random.default_rng(0)
    truth, votes = crowd(5, 300, (0.7,) * 3)
    shared = np.where(truth == 1, votes[0], votes[1])
    found = fit(np.where(rng.random((40, 300)) < 0.75, shared, 1 - votes[2]))
    assert found.doubt.swing > 3
    assert "swing together" in found.doubt.warning


def test_copies_of_one_annotator_pass_for_the_truth_unless_labels_are_known():
    rng = np.random.default_rng(0)
    truth, votes = crowd(5, 300, (0.65, 0.7, 0.7, 0.7, 0.7, 0.7))
    copies = np.where(rng.random((20, 300)) < 0.9, votes[0], 1 - votes[0])
    votes = np.concatenate([votes, copies])
    assert fit(votes).doubt.warning is None
    found = fit(votes, known=np.where(np.arange(300) < 40, truth, -1))
    assert "known labels" in found.doubt.warning


def test_known_labels_that_the_votes_contradict_are_told():
    truth, votes = crowd(6, 300, (0.9,) * 5)
    hard = np.arange(300) % 2 == 0
    votes = np.where(hard, 1 - votes, votes)  # everybody is wrong about half of the items
    known = np.where(np.arange(300) < 40, truth, -1)
    found = fit(votes, known=known)
    assert found.doubt.known_right == pytest.approx(0.5, abs=0.15)
    assert found.doubt.known_claimed > 0.95
    assert "known labels" in found.doubt.warning


@pytest.mark.parametrize(
    ("item", "annotator", "label", "told"),
    [
        ([0, 1], [0, 1], [0, 1], "2 parts"),
        ([0, 2], [0, 0], [0, 1], "some item has no vote"),
        ([0, 1], [1, 1], [0, 1], "some annotator has no vote"),
        ([0, 0], [0, 1], [0, 2], "label is not among 0 to 1"),
        ([0, 1, 1], [0, 0, 0], [0, 1, 1], "no item has votes of two annotators"),
        ([], [], [], "no votes"),
    ],
)
def test_votes_that_cannot_be_fitted_are_refused(item, annotator, label, told):
    numbers = (np.array(column, np.int64) for column in (item, annotator, label))
    with pytest.raises(EstimateError, match=told):
        fit_dawid_skene(*numbers, 2)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"most_steps": 3}, "did not converge in 3 steps"),
        ({"known": np.array([0, 1])}, "known labels must be -1 or one of 0, 1 for each of 6 items"),
        ({"known": np.full(6, 2)}, "known labels"),
        ({"weight": np.zeros(18)}, "weight of a vote"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(settings, told):
    with pytest.raises(EstimateError, match=told):
        fit(VOTES, **settings)


def test_parts_are_named_by_their_lowest_annotator():
    item = np.array([0, 0, 1, 1, 2, 2, 3])
    annotator = np.array([0, 3, 1, 4, 4, 2, 5])
    assert parts(item, annotator).tolist() == [0, 1, 1, 0, 1, 5]


def test_a_long_chain_of_annotators_is_one_part():
    link = np.arange(2000)
    assert (parts(np.repeat(link, 2), np.stack([link, link + 1], axis=1).ravel()) == 0).all()


@pytest.fixture(scope="module")
def llmbar(shared_data):
    """Who voted what, and the truth: 130 judges (model, strategy and order) on 326 pairs, tied ratings left out."""
    folder = shared_data / "llmbar"
    import polars as pl

    items = pl.read_parquet(folder / "items.parquet")
    votes = pl.read_parquet(folder / "votes.parquet").with_columns(
        item=pl.col("item_id").replace_strict(items["item_id"], np.arange(len(items))),
        judge=pl.concat_str("base_model", "strategy", "swapped", separator="/"),
    )
    tied = (pl.col("score_1") == pl.col("score_2")).fill_null(value=False)
    return votes.filter(pl.col("vote").is_not_null() & ~tied), items["label"].to_numpy() - 1


def judged(votes, fitted, **settings) -> Opinions:
    judge = votes["judge"].rank("dense").to_numpy() - 1
    return fitted(votes["item"].to_numpy(), judge, votes["vote"].to_numpy() - 1, 2, **settings)


def accuracy(found: Opinions, truth: np.ndarray) -> float:
    return float((found.posterior.argmax(axis=1) == truth).mean())


def test_real_judges_are_sorted_out_where_the_majority_fails(llmbar):
    votes, truth = llmbar
    assert votes["judge"].n_unique() == 130
    left, right = (np.bincount(votes.filter(vote=k)["item"], minlength=326) for k in (1, 2))
    majority = ((left < right) == truth)[left != right].sum() + (left == right).sum() / 2
    assert majority / 326 == pytest.approx(0.632, abs=0.005)
    full, one = judged(votes, fit_dawid_skene), judged(votes, fit_one_coin)
    assert accuracy(full, truth) == pytest.approx(0.850, abs=0.005)
    assert accuracy(one, truth) == pytest.approx(0.862, abs=0.005)


def test_real_judges_who_are_mostly_wrong_are_warned_of(llmbar):
    votes, truth = llmbar
    votes = votes.filter(votes["base_model"] != "GPT-4")
    full, one = judged(votes, fit_dawid_skene), judged(votes, fit_one_coin)
    assert accuracy(full, truth) == pytest.approx(0.420, abs=0.01)
    assert accuracy(one, truth) == pytest.approx(0.448, abs=0.01)
    for found in (full, one):
        assert found.doubt.below_chance < 0.1  # by its own lights all is well
        assert "swing together" in found.doubt.warning
    known = np.where(np.arange(326) % 10 == 5, truth, -1)
    found = judged(votes, fit_dawid_skene, known=known)
    assert found.doubt.known_right < 0.7
    assert "known labels" in found.doubt.warning


def test_people_who_judge_independently_are_not_doubted(shared_data):
    path = shared_data / "pandalm_human" / "pairs.parquet"
    import polars as pl

    people = pl.read_parquet(path).select("annotator1", "annotator2", "annotator3").to_numpy()
    assert (people.min(axis=1) == people.max(axis=1)).mean() == pytest.approx(0.849, abs=0.001)
    item, annotator = np.indices(people.shape)
    found = fit_dawid_skene(
        item.ravel(), annotator.ravel(), people.ravel(), 3, mirror=np.array([0, 2, 1])
    )  # 0 is a tie
    assert found.doubt.warning is None
    assert found.confusion.diagonal(axis1=1, axis2=2).min() > 0.7
