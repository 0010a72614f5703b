"""What is true of losses whatever the model: optima, invariances, monotony, scale. Each sweep counts what it swept."""

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefkit.objectives import PRESETS, Lists, Pairs, Response
from prefkit.objectives.more_links import LINKS
from prefkit.objectives.piece import Gap
from prefkit.objectives.rewards import REWARDS

Z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)


def column(values: object) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


# optima

CALIBRATED = {
    "logistic": [{}],
    "hinge": [{}],
    "squared": [{}, {"target": 1.5}],
    "bregman": [
        {},
        {"power": 0},
        {"power": 1},
        {"form": "ba", "power": 0.5},
        {"form": "kliep"},
        {"form": "lsif"},
    ],
}
UNCALIBRATED = {
    "exo": "its optimum is that of a smoothed label",
    "discovered": "not convex, and unbounded below at certain labels",
    "rao-kupper": "models a tie as a third outcome",
    "davidson": "models a tie as a third outcome",
    "pointwise-squared": "has a target for each side",
    "nca": "looks at both sides apart",
    "binary": "looks at both sides apart",
    "apo-zero": "looks at both sides apart",
    "apo-down": "looks at both sides apart",
    "plackett-luce": "costs a list, not a pair",
    "reward-ranking": "costs a list, not a pair",
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_expected_cost_is_lowest_at_the_optimum_a_link_tells(name: str) -> None:
    (link,) = [link for link in LINKS if link.name == name]
    gap, batch = Gap(Z / 2, -Z / 2, Z), Pairs(*[Response(Z, Z)] * 2)
    for settings in CALIBRATED[name]:
        piece = link(**settings)
        for p in (0.05, 0.2, 0.5, 0.8, 0.95):
            best = piece.optimum(p)
            expected = p * piece(gap, batch) + (1 - p) * piece(gap.mirrored(), batch)
            if best is None:  # flat between -1 and 1
                assert (name, p) == ("hinge", 0.5)
                assert expected[Z.abs() < 1].max() - expected.min() < 1e-9
            else:
                assert Z[expected.argmin()].item() == pytest.approx(best, abs=2e-3)


def test_every_link_tells_its_optimum_or_why_it_has_none() -> None:
    assert {*CALIBRATED, *UNCALIBRATED} == {link.name for link in LINKS}
    assert (len(CALIBRATED), len(UNCALIBRATED), len(LINKS)) == (4, 11, 15)
    for link in LINKS:
        if link.name in UNCALIBRATED:
            assert link().optimum(0.8) is None


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_smoothed_labels_move_the_optimum_to_the_odds_of_being_right(lab: Any, rate: float) -> None:
    batch = Pairs(Response(Z, Z, Z * 0), Response(Z * 0, Z, Z * 0))
    told = lab.costs(f"{{ preset: cdpo, beta: 1, rate: {rate} }}", batch).loss
    assert Z[told.argmin()].item() == pytest.approx(log((1 - rate) / rate), abs=1e-3)


# noise


@given(logps=st.tuples(*[st.floats(-500, 0)] * 4), rate=st.floats(0, 0.45))
def test_the_robust_loss_is_unbiased_under_flips(
    lab: Any, logps: tuple[float, float, float, float], rate: float
) -> None:
    a, b, c, d = logps
    robust = {"preset": "rdpo", "rate": rate}
    seen = (1 - rate) * lab.cost(robust, (a, b, c, d)) + rate * lab.cost(robust, (b, a, d, c))
    assert seen == pytest.approx(lab.cost("dpo", (a, b, c, d)), rel=1e-9, abs=1e-9)


def test_the_posterior_finds_each_annotators_planted_noise_to_two_points(lab: Any) -> None:
    draw, planted = np.random.default_rng(0), np.asarray([0.95, 0.7])
    who = draw.integers(0, 2, 10_000)
    logits = draw.normal(0, 3, 10_000)
    right = draw.random(10_000) < 1 / (
        1 + np.exp(-logits)
    )  # of a pair with this log-odds, which side is better
    faithful = draw.random(10_000) < planted[who]
    seen = np.where(right == faithful, logits, -logits)
    objective = lab.objective("{ preset: lcpo, beta: 1, momentum: 0 }")
    known = objective.labels.start(2)
    zero = torch.zeros(10_000).double()
    for step in range(60):
        batch = Pairs(
            Response(column(seen), zero + 1, zero),
            Response(zero, zero + 1, zero),
            {"annotator": column(who), "reliability": column(known[who])},
        )
        known = objective.labels.learn(known, who, objective(batch).belief.numpy(), step)
    assert known == pytest.approx(planted, abs=0.02)


@pytest.mark.parametrize("gap", [-8.0, -3.0, -0.5, 0.0, 0.2, 4.0, 9.0])
@pytest.mark.parametrize("preset", ["dpo-rk", "dpo-d"])
@pytest.mark.parametrize("nu", [1.01, 1.5, 3.0, 7.0])
def test_win_lose_and_tie_are_all_that_can_happen(lab: Any, preset: str, gap: float, nu: float) -> None:
    spelling = {"preset": preset, "beta": 1, "nu": nu}
    win = lab.cost(spelling, (gap, 0, 0, 0), tie=0.0)
    lose = lab.cost(spelling, (0, gap, 0, 0), tie=0.0)
    tie = lab.cost(spelling, (gap, 0, 0, 0), tie=1.0)
    assert exp(-win) + exp(-lose) + exp(-tie) == pytest.approx(1, abs=1e-12)
    assert tie == pytest.approx(lab.cost(spelling, (0, gap, 0, 0), tie=1.0), abs=1e-12)
    even = lab.cost(spelling, (0.0, 0.0, 0.0, 0.0), tie=1.0)
    assert exp(-even) == pytest.approx((nu - 1) / (nu + 1) if preset == "dpo-rk" else nu / (1 + nu))
    assert tie >= even


# every preset

COLUMNS = {
    "p_chosen": 0.8,
    "flip_prob": 0.1,
    "tie": 0.0,
    "margin": 0.3,
    "weight": 1.5,
    "reliability": 0.8,
    "chosen_win_rate": 0.8,
    "rejected_win_rate": 0.3,
    "chosen_kind": 0.5,
    "rejected_kind": 0.2,
    "dimension": 0.0,
    "trace_mode": 1.0,
    "degree": 1.0,
}
TERMS = {"teacher": (0.3, 0.4), "advantage": (0.2, 0.1), "masked-kl": (0.5, 0.2), "kl": (0.4, 0.4)}
NEEDED: dict[str, dict[str, object]] = {
    "modpo": {"weights": {"kind": 0.5}},
    "mah-dpo": {"dimensions": ["a"]},
    "mnpo": {"eta": 0.1},  # a target that log-probs below 0 can pass
    "sppo": {"beta": 0.1},
}


def moved(lab: Any, preset: str, chosen: np.ndarray, rejected: np.ndarray) -> torch.Tensor:
    """Return preference cost and extras of a list of three whose log-probs are moved by as much, [moves, pairs, 2]."""
    count = len(chosen)
    one = lab.ranked([-301.0, -303.0, -302.0], [0.9, 0.5, 0.1], tokens=[9, 9, 9])
    columns = {name: column([value] * 3 * count) for name, value in COLUMNS.items()}
    columns |= {name: values.repeat(count) for name, values in one.columns.items()}
    columns["ref_history"] = column([[[-302.5, -303.0]]] * 3 * count)
    said = []
    for at, (side, by) in enumerate(zip(one[:2], (chosen, rejected), strict=True)):
        logp = (side.logp.detach() + column(by)[:, None]).flatten()
        terms = {name: column([both[at]] * 3 * count) for name, both in TERMS.items()}
        said.append(
            Response(logp, logp * 0 + 9, logp * 0 - 303, terms=terms, hidden=column([[1.0]] * 3 * count))
        )
    prompt = torch.arange(count).repeat_interleave(3)
    lists = Lists(prompt, *(prompt * 3 + which.repeat(count) for which in one.lists[1:]))
    heads = {"degree": column([[0.1], [0.5], [-0.3]])}
    objective = lab.objective({"preset": preset, **NEEDED.get(preset, {})})
    told = objective(Pairs(*said, columns, lists, heads))
    return torch.stack([told.loss, told.extra], -1).reshape(count, 3, 2)


APART = {"f-dpo", "sppo", "flex-dpo", "orpo", "mapo-text", "nca", "bco", "apo-zero", "apo-down", "pro"}
"""Presets whose cost sees more of a pair than how far its sides are apart."""


@pytest.mark.parametrize("preset", PRESETS)
def test_moving_both_sides_alike_costs_nothing_but_where_sides_count_apart(lab: Any, preset: str) -> None:
    by = np.asarray([0.0, 2.5, 295.0])
    told = moved(lab, preset, by, by)[..., 0]
    assert torch.allclose(told, told[:1], rtol=1e-9, atol=1e-9) == (preset not in APART)


NOT_MONOTONE = {
    **dict.fromkeys(["ipo", "ipo-mean", "online-ipo", "egpo", "mnpo", "sppo", "copg"], "past its target"),
    **dict.fromkeys(["cdpo", "soft-dpo", "exo"], "past the odds of being right"),
    "lcpo": "a row that is not believed costs less the further it is from its label",
    "nca": "chosen has a best probability of its own",
    "apo-down": "chosen is held to be worse than what the policy says",
    "discopop": "not convex",
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_likelier_chosen_response_never_costs_more_but_where_told(lab: Any, preset: str) -> None:
    by = np.linspace(-300, 300, 1201)
    told = moved(lab, preset, by, by * 0).sum((1, 2))
    assert bool((told.diff() <= 1e-9).all()) == (preset not in NOT_MONOTONE)


def test_the_exemptions_are_presets_and_few() -> None:
    assert set(PRESETS) > APART
    assert set(PRESETS) > set(NOT_MONOTONE)
    assert (len(PRESETS), len(APART), len(NOT_MONOTONE)) == (53, 10, 14)


# scale

LINEAR = {"log-ratio", "mean-log-ratio", "log-prob", "mean-log-prob", "sequential-kl"}
CURVED = {"f-divergence", "log-odds"}
UNSCALED = {"mapo-error", "mixture-log-ratio"}


def test_twice_the_beta_on_half_the_log_ratio_is_the_same_reward_where_it_is_linear(lab: Any) -> None:
    assert {reward.name for reward in REWARDS} == LINEAR | CURVED | UNSCALED
    for name in LINEAR | CURVED:
        more = {"divergence": "forward-kl"} if name == "f-divergence" else {}
        found = []
        for by in (1, 2):
            batch = lab.pairs(
                (-12 / by, -14.5 / by, -13 / by, -13.5 / by), terms={"masked-kl": (0.4 / by, 0.2 / by)}
            )
            told = lab.costs({"reward": {name: {"beta": 0.1 * by, **more}}}, batch)
            found.append([told.chosen_reward.item(), told.rejected_reward.item()])
        assert (found[0] == pytest.approx(found[1], rel=1e-9)) == (name in LINEAR)


@pytest.mark.parametrize("preset", ["dpo", "cdpo", "rdpo", "ln-dpo", "kldpo", "tdpo"])
def test_a_policy_that_is_its_reference_costs_log_two(lab: Any, preset: str) -> None:
    batch = lab.pairs((-7.0, -9.0, -7.0, -9.0), terms={"masked-kl": (0.0, 0.0)})
    assert lab.costs(preset, batch).loss.item() == pytest.approx(log(2))
