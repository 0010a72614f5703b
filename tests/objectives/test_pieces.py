"""What single pieces do, on numbers that can be checked by eye."""

from math import log
from typing import Any

import numpy as np
import pytest
import torch

from prefkit.objectives import Rows

ONE = "{ reward: { log-ratio: { beta: 1 } } }"


def test_each_side_has_its_own_scale_and_a_scale_of_0_leaves_rejected_alone(lab: Any) -> None:
    told = lab.costs(
        "{ reward: { log-ratio: { beta: 0.5, beta_rejected: 0.1 } } }", lab.pairs((-2.0, -4.0, -6.0, -9.0))
    )
    assert (told.chosen_reward.item(), told.rejected_reward.item()) == pytest.approx((2.0, 0.5))
    chosen, rejected = lab.slopes("{ preset: flex-dpo, beta_minus: 0 }")[:, 0]
    assert chosen < 0
    assert rejected == 0


def test_a_margin_has_to_be_beaten(lab: Any) -> None:
    spelling = "{ preset: odpo, beta: 1, scale: 2 }"
    assert lab.cost(spelling, (3.0, 0.0, 0.0, 0.0), margin=1.0) == pytest.approx(
        lab.cost(ONE, (1.0, 0, 0, 0))
    )


def test_other_scores_count_by_their_weights_together(lab: Any) -> None:
    scores = {"chosen_kind": 1.0, "rejected_kind": 0.5, "chosen_true": 0.2, "rejected_true": 0.8}
    spelling = (
        "{ reward: { log-ratio: { beta: 1 } }, offset: { rewards: { weights: { kind: 2, true: 0.5 } } } }"
    )
    assert lab.logit(spelling, lab.pairs((3.0, 0.0, 0.0, 0.0), **scores)).item() == pytest.approx(
        3 - 1.0 + 0.3
    )


def test_earlier_policies_are_weighed_by_shares_and_those_beyond_the_weights_left_out(lab: Any) -> None:
    batch = lab.pairs((-2.0, -4.0, -3.0, -5.0))
    past = torch.tensor([[[-1.0, -2.0], [-5.0, -8.0], [-99.0, 0.0]]], dtype=torch.float64)
    batch = batch._replace(columns={"ref_history": past})
    for weights in ("[1, 3]", "[10, 30]"):
        spelling = f"{{ reward: {{ mixture-log-ratio: {{ share: 0.5, weights: {weights}, over: sum }} }} }}"
        told = lab.costs(spelling, batch)
        assert told.chosen_reward.item() == pytest.approx(-2 + 0.5 * 3 + 0.5 * (0.25 * 1 + 0.75 * 5))
        assert told.rejected_reward.item() == pytest.approx(-4 + 0.5 * 5 + 0.5 * (0.25 * 2 + 0.75 * 8))


def test_a_masked_mean_is_over_the_mask_and_an_sft_term_over_every_token(lab: Any) -> None:
    batch = lab.masked("phrases", [("phrase", 2, 4, 1, None)], [("phrase", 2, 3, 1, None)])
    told = lab.costs(
        "{ reward: { mean-log-ratio: { beta: 1 } }, extras: [{ sft: { coefficient: 1 } }] }", batch
    )
    assert told.chosen_reward.item() == pytest.approx((-0.2 + 0.7) / 2)
    assert told.rejected_reward.item() == pytest.approx(-1.0)
    assert told.extra.item() == pytest.approx((1.0 + 0.5 + 2.0 + 0.8 + 0.7) / 5)


def test_a_token_kl_on_both_sides_is_their_sum(lab: Any) -> None:
    batch = lab.pairs(terms={"kl": (0.3, 0.5), "reverse-kl": (0.7, 0.9)})
    for settings, expected in (("on: both", 0.8), ("on: chosen", 0.3), ("direction: policy||reference", 0.7)):
        spelling = f"{{ extras: [{{ token-kl: {{ coefficient: 1, {settings} }} }}] }}"
        assert lab.costs(spelling, batch).extra.item() == pytest.approx(expected)


def test_equal_rewards_stand_in_the_order_of_their_scores(lab: Any) -> None:
    """Before the first step all rewards are 0, and the places must still be told apart."""
    even = lab.ranked([0.0, 0.0, 0.0], [0.1, 0.9, 0.5])
    ordered = lab.ranked([0.1, 0.9, 0.5], [0.1, 0.9, 0.5])
    assert lab.costs("lipo", even).weight.tolist() == pytest.approx(
        lab.costs("lipo", ordered).weight.tolist()
    )


def test_places_follow_the_rewards_and_not_the_scores(lab: Any) -> None:
    told = lab.costs("lipo", lab.ranked([0.0, 1.0], [0.9, 0.3])).weight.item()
    assert told == pytest.approx((2**0.9 - 2**0.3) * (1 / log(2) - 1 / log(3)))
    three = lab.costs("lipo", lab.ranked([1.0, 3.0, 2.0], [0.9, 0.5, 0.1])).weight
    places, gains = [3, 1, 2], [2**0.9, 2**0.5, 2**0.1]
    expected = [
        abs(gains[a] - gains[b]) * abs(1 / log(1 + places[a]) - 1 / log(1 + places[b]))
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert three.tolist() == pytest.approx(expected)


def test_views_weigh_rows_with_and_without_reasoning(lab: Any) -> None:
    told = lab.costs(
        "{ preset: bvpo, share: 0.8 }", lab.pairs((0, 0, 0, 0), (0, 0, 0, 0), trace_mode=[1.0, 0.0])
    )
    assert told.weight.tolist() == pytest.approx([1.6, 0.4])


def test_rows_from_which_something_was_taken_out_have_no_preference(lab: Any) -> None:
    rows = [(0.0, 0.0, 0.0, 0.0)] * 3
    assert lab.costs("{ weights: untouched }", lab.pairs(*rows, degree=[0.0, 1.0, 2.0])).weight.tolist() == [
        1,
        0,
        0,
    ]
    assert lab.costs("{ weights: none }", lab.pairs(*rows)).weight.tolist() == [0, 0, 0]
    assert lab.costs("{ weights: column }", lab.pairs(*rows, weight=[0.5, 1.0, 1.5])).weight.tolist() == [
        0.5,
        1,
        1.5,
    ]


def test_one_robust_reducer_trusts_the_worst_row_and_the_other_the_best(lab: Any) -> None:
    rows = Rows(torch.tensor([0.1, 0.9, 0.4]), {}, 3)
    worst, best = (
        lab.objective(f"{{ reducer: {{ {name}: {{ tau: 0.01 }} }} }}").reducer(rows)
        for name in ("kl-robust", "soft-min")
    )
    assert worst.argmax() == 1
    assert best.argmax() == 0
    assert worst.sum() == pytest.approx(1)
    assert best.sum() == pytest.approx(1)
    capped = lab.objective("{ reducer: { kl-robust: { tau: 0.01, normalise: false } } }").reducer(rows)
    assert capped.max() == pytest.approx(10 / 3)


def test_a_penalty_handed_out_by_rows_has_the_value_and_the_slope_of_the_whole(lab: Any) -> None:
    squares = torch.tensor([0.5, 2.0, 0.1], dtype=torch.float64, requires_grad=True)
    penalty = lab.objective("{ penalty: { embedding-gradient: { rho: 3 } } }").penalty
    handed, whole = penalty(squares, squares.mean().item()).mean(), 3 * squares.mean().sqrt()
    assert handed.item() == pytest.approx(whole.item())
    slopes = (torch.autograd.grad(value, squares)[0].tolist() for value in (handed, whole))
    assert next(slopes) == pytest.approx(next(slopes))
    released = lab.objective("{ penalty: { embedding-gradient: { rho: 3, root: false } } }").penalty
    assert released(squares, 1.0).tolist() == pytest.approx([1.5, 6.0, 0.3])
    assert lab.objective("{ penalty: none }").penalty(squares, 1.0).tolist() == [0, 0, 0]


def test_reliabilities_move_once_the_warmup_is_over_and_stay_within_bounds(lab: Any) -> None:
    labels = lab.objective("{ preset: lcpo, eta: 0.8, momentum: 0.5, warmup: 2 }").labels
    who, belief = np.asarray([0, 0, 1]), np.asarray([1.0, 0.9, 0.0])
    known = labels.start(3)
    assert known.tolist() == [1, 1, 1]  # every row is believed while it warms up
    known = labels.learn(known, who, belief, 0)
    assert known.tolist() == [1, 1, 1]
    known = labels.learn(known, who, belief, 1)
    assert known.tolist() == [0.8, 0.8, 0.8]
    known = labels.learn(known, who, belief, 2)
    assert known == pytest.approx(
        [0.875, 0.5, 0.8]
    )  # below a half the labels would turn; the third gave none
    for step in range(3, 40):
        known = labels.learn(known, who, np.asarray([1.0, 1.0, 0.0]), step)
    assert known.tolist() == [0.999, 0.5, 0.8]


def test_a_belief_is_not_moved_by_more_than_ten_nats(lab: Any) -> None:
    spelling = "{ reward: { log-ratio: { beta: 1 } }, link: squared, labels: posterior }"
    told = lab.costs(spelling, lab.pairs((2.0, 0.0, 0.0, 0.0), reliability=0.9)).belief.item()
    assert told == pytest.approx(1 / (1 + np.exp(-10 - log(9))), rel=1e-9)


def test_heads_are_mixed_by_shares_in_the_order_of_their_sorted_names(lab: Any) -> None:
    spelling = "{ preset: mah-dpo, dimensions: [safe, honest, brief], shares: [1, 3, 4] }"
    assert lab.objective(spelling).heads.mixture() == (0.5, 0.375, 0.125)
    equal = lab.objective("{ preset: mah-dpo, dimensions: [safe, honest] }")
    assert equal.heads.mixture() == (0.5, 0.5)


def test_a_log_odds_reward_stays_finite_for_a_response_that_is_certain(lab: Any) -> None:
    told = lab.costs("mapo-text", lab.pairs((0.0, -1e-9, 0.0, 0.0)))
    assert torch.isfinite(told.loss).all()
    assert np.isfinite(lab.slopes("mapo-text", (-1e-9, -3.0, 0.0, 0.0))).all()
