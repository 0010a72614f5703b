"""Judges and orders: planted position bias, ties, noise flags, and what one more vote is worth."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.estimators.judge_order import (
    LEFT,
    LEFT_FIRST,
    RIGHT,
    RIGHT_FIRST,
    TIE,
    UNKNOWN_ORDER,
    Judges,
    fit_judges,
    next_votes,
    vote_gain,
)

MIRROR = np.array([RIGHT, TIE, LEFT])
FAIR = np.array([[0.85, 0.1, 0.05], [0.1, 0.8, 0.1], [0.05, 0.1, 0.85]])
LEANS = np.array([[0.95, 0.03, 0.02], [0.6, 0.3, 0.1], [0.4, 0.1, 0.5]])
GUESSES = np.full((3, 3), 1 / 3)


def court(seed: int, seen=(FAIR, FAIR, LEANS, LEANS, GUESSES), pairs: int = 600):
    """Every judge sees every pair in both orders; `seen` is P(first, tie, second | first, tie, second is better)."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, pairs, p=[0.4, 0.2, 0.4])
    pair, judge, order = (one.ravel() for one in np.indices((pairs, len(seen), 2)))
    shown = np.where(order == LEFT_FIRST, truth[pair], MIRROR[truth[pair]])
    draw = rng.random(len(pair))
    said = (draw[:, None] > np.array(seen)[judge, shown].cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return truth, pair, judge, order, np.where(order == LEFT_FIRST, said, MIRROR[said])


def test_a_judge_who_leans_to_the_first_is_found_out_in_either_order():
    truth, *votes = court(0)
    found = fit_judges(*votes)
    assert found.seen[:2] == pytest.approx(np.stack([FAIR, FAIR]), abs=0.08)
    assert found.seen[2:4] == pytest.approx(np.stack([LEANS, LEANS]), abs=0.08)
    assert found.reliability[2, :2] == pytest.approx([0.95, 0.5], abs=0.06)
    assert np.isnan(found.reliability[:, UNKNOWN_ORDER]).all()
    assert found.position_bias == pytest.approx([0, 0, 0.45, 0.45, 0], abs=0.1)
    assert (found.posterior.argmax(axis=1) == truth).mean() > 0.9
    assert found.prior == pytest.approx([0.4, 0.2, 0.4], abs=0.05)
    assert found.doubt.warning is None


def test_the_matrix_of_the_other_order_is_the_mirror_image():
    _, *votes = court(1, pairs=50)
    found = fit_judges(*votes)
    mirrored = found.confusion[:, LEFT_FIRST][:, MIRROR][:, :, MIRROR]
    assert found.confusion[:, RIGHT_FIRST] == pytest.approx(mirrored)
    assert found.confusion.sum(axis=-1) == pytest.approx(np.ones((5, 3, 3)))


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_exchanging_left_and_right_mirrors_everything(seed):
    _, pair, judge, order, verdict = court(seed, pairs=40)
    one = fit_judges(pair, judge, order, verdict)
    other = fit_judges(pair, judge, 1 - order, MIRROR[verdict])
    assert one.posterior == pytest.approx(other.posterior[:, ::-1], abs=1e-9)
    assert one.p_left == pytest.approx(1 - other.p_left, abs=1e-9)
    assert one.seen == pytest.approx(other.seen, abs=1e-9)
    assert (one.recorded == MIRROR[other.recorded]).all()
    assert one.flip == pytest.approx(other.flip, abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from(["true", "said"]))
def test_the_trace_never_falls(seed, ties):
    _, pair, judge, order, verdict = court(seed, pairs=30)
    order = np.where(pair % 3 == 0, UNKNOWN_ORDER, order)
    found = fit_judges(pair, judge, order, verdict, ties=ties)
    assert (np.diff(found.trace) >= -1e-9).all()


def test_an_unknown_order_is_told_apart_and_costs_knowledge():
    truth, pair, judge, order, verdict = court(2)
    known = fit_judges(pair, judge, order, verdict)
    unknown = fit_judges(pair, judge, np.full(len(order), UNKNOWN_ORDER), verdict)
    assert np.isnan(unknown.reliability[:, :2]).all()
    assert unknown.reliability[2, 2] == pytest.approx((0.95 + 0.5) / 2, abs=0.08)
    right = [np.log(found.posterior[np.arange(600), truth]).mean() for found in (known, unknown)]
    assert right[0] > right[1]


def test_where_ties_are_only_said_no_pair_is_one():
    truth, *votes = court(3)
    found = fit_judges(*votes, ties="said")
    assert (found.posterior[:, TIE] == 0).all()
    sided = truth != TIE
    assert (found.posterior.argmax(axis=1) == truth)[sided].mean() > 0.95


def test_recorded_labels_that_were_turned_round_are_flagged():
    truth, *votes = court(4)
    turned = np.random.default_rng(0).random(600) < 0.2
    recorded = np.where(turned, MIRROR[truth], truth)
    found = fit_judges(*votes, recorded=recorded)
    wrong = recorded != truth
    assert found.flip[wrong].mean() > 0.9
    assert found.flip[~wrong].mean() < 0.1
    assert found.is_noisy[wrong].mean() > 0.9
    assert (found.is_noisy == (found.flip > 0.5)).all()
    assert (recorded == truth)[~found.is_noisy].mean() > (recorded == truth).mean() + 0.1


def test_without_recorded_labels_the_majority_is_suspected_and_a_draw_is_a_tie():
    pair, judge = (one.ravel() for one in np.indices((4, 4)))
    verdict = np.array(
        [[LEFT, LEFT, LEFT, RIGHT], [RIGHT, RIGHT, LEFT, LEFT], [TIE, TIE, RIGHT, TIE], [RIGHT] * 4]
    )
    found = fit_judges(pair, judge, pair % 2, verdict.ravel(), few=0)
    assert found.recorded.tolist() == [LEFT, TIE, TIE, RIGHT]


def test_one_more_vote_of_a_coin_or_on_a_certain_pair_is_worth_nothing():
    posterior = np.array([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.7, 0.1, 0.2]])
    assert vote_gain(posterior, GUESSES) == pytest.approx([0, 0, 0], abs=1e-12)
    told = vote_gain(posterior, np.eye(3))
    entropy = -(0.7 * np.log(0.7) + 0.1 * np.log(0.1) + 0.2 * np.log(0.2))
    assert told == pytest.approx([np.log(2), 0, entropy])
    # by hand: a judge right 3 times of 4 on a fair question, ln 2 - H(1/4)
    two = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert vote_gain(np.array([[0.5, 0.5]]), two) == pytest.approx([np.log(2) - 0.562335], abs=1e-6)


@given(st.lists(st.floats(0.01, 1), min_size=12, max_size=12))
def test_the_gain_is_the_expected_fall_of_the_entropy_and_never_negative(numbers):
    posterior = np.array(numbers[:3]) / sum(numbers[:3])
    confusion = np.array(numbers[3:]).reshape(3, 3)
    confusion = confusion / confusion.sum(axis=1, keepdims=True)
    joint = posterior[:, None] * confusion
    said = joint.sum(axis=0)
    after = joint / said
    expected = -(posterior * np.log(posterior)).sum() + (said * (after * np.log(after)).sum(axis=0)).sum()
    gain = vote_gain(posterior[None], confusion)[0]
    assert gain == pytest.approx(expected, abs=1e-9)
    assert gain >= 0


def test_the_next_vote_goes_to_the_judge_and_order_that_tell_most():
    _, *votes = court(5)
    found = fit_judges(*votes)
    best = next_votes(found)
    gains = np.array(
        [
            [vote_gain(found.posterior, found.confusion[j, o]) for o in (LEFT_FIRST, RIGHT_FIRST)]
            for j in range(5)
        ]
    )
    assert best.gain == pytest.approx(gains.max(axis=(0, 1)))
    assert best.gain == pytest.approx(gains[best.judge, best.order, np.arange(600)])
    unsure = found.posterior.max(axis=1) < 0.9
    assert set(best.judge[unsure]) <= {0, 1, 2, 3}
    only = next_votes(found, among=np.array([4]))
    assert (only.judge == 4).all()
    assert (only.gain <= best.gain + 1e-12).all()


def test_a_dear_judge_is_asked_only_where_it_is_worth_its_price():
    _, *votes = court(5)
    found = fit_judges(*votes)
    dear = next_votes(found, price=np.array([1e6, 1.0, 1.0, 1.0, 1.0]))
    assert not (dear.judge == 0).any()


def test_orders_that_do_not_exist_are_refused():
    with pytest.raises(EstimateError, match="order is not among 0 to 2"):
        fit_judges(np.array([0, 0]), np.array([0, 1]), np.array([0, 3]), np.array([0, 0]))


@pytest.fixture(scope="module")
def llmbar(shared_data: Path) -> tuple[np.ndarray, Judges]:
    folder = shared_data / "llmbar"
    import polars as pl

    items = pl.read_parquet(folder / "items.parquet")
    votes = pl.read_parquet(folder / "votes.parquet").filter(pl.col("vote").is_not_null())
    votes = votes.with_columns(
        pair=pl.col("item_id").replace_strict(items["item_id"], np.arange(len(items))),
        judge=pl.concat_str("base_model", "strategy", separator="/").rank("dense") - 1,
        tied=(pl.col("score_1") == pl.col("score_2")).fill_null(value=False),
    )
    verdict = np.where(votes["tied"], TIE, np.where(votes["vote"] == 1, LEFT, RIGHT))
    columns = (votes[name].to_numpy().astype(np.int64) for name in ("pair", "judge", "swapped"))
    found = fit_judges(*columns, verdict, ties="said")
    return np.where(items["label"].to_numpy() == 1, LEFT, RIGHT), found


def test_real_judges_are_told_apart_by_order_and_their_noise_is_found(llmbar):
    truth, found = llmbar
    assert len(found.seen) == 65
    assert (found.posterior.argmax(axis=1) == truth).mean() == pytest.approx(0.859, abs=0.006)
    assert found.position_bias.max() > 0.7  # Falcon with a chain of thought names the first answer
    assert found.position_bias.min() < -0.25
    right = found.recorded == truth
    assert right.mean() == pytest.approx(0.62, abs=0.02)
    assert right[~found.is_noisy].mean() > 0.8
    assert "swing together" in found.doubt.warning
