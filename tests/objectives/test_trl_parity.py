"""Losses and gradients against the numbers of TRL 1.16.0's trainers, kept in tests/parity/trl_losses.json."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from prefkit.objectives import Objective, Pairs, Response

PARITY = json.loads((Path(__file__).parents[1] / "parity" / "trl_losses.json").read_text())
BATCHES = {batch["name"]: batch for batch in PARITY["batches"]}
SORTED = "sorts the rewards of a batch, so that a step could not be cut into micro-batches"
PER_TOKEN = "f-divergences of token means, where ours are of sums"
DIVERGENCES = {"forward_kl": "forward-kl", "js_divergence": "jensen-shannon", "alpha_divergence": "alpha"}


def left_out(case: dict[str, Any]) -> str | None:
    """Say why a case has no spelling here, or nothing."""
    kinds, alpha = set(case["loss_types"]), case.get("f_alpha_divergence_coef")
    if kinds & {"aot", "aot_unpaired"}:
        return SORTED
    if case.get("use_weighting"):
        return "weights of tokens by the policy's own distribution (WPO)"
    if case.get("ld_alpha") not in {None, 1.0}:
        return "a discount of the tokens that one side has more of (LD-DPO)"
    if kinds & {"sigmoid_norm", "ipo"} and case.get("f_divergence_type"):
        return PER_TOKEN
    if alpha is not None and alpha > 1 and kinds != {"sft"}:
        return "alpha divergences outside of (0, 1)"
    return None


def reward(case: dict[str, Any], kind: str) -> dict[str, Any]:
    beta, divergence = case["beta"], case.get("f_divergence_type")
    if kind in {"ipo", "sppo_hard"}:
        beta = 1
    if kind in {"ipo", "sigmoid_norm"}:
        return {"mean-log-ratio": {"beta": beta}}
    if divergence is None or kind == "sft":
        return {"log-ratio": {"beta": beta}}
    alpha = 1 - case.get("f_alpha_divergence_coef", 0.5)  # theirs is the power of the ratio, plus 1
    if alpha == 0:
        return {"f-divergence": {"divergence": "reverse-kl", "beta": beta}}
    return {"f-divergence": {"divergence": DIVERGENCES[divergence], "alpha": alpha, "beta": beta}}


def spelling(case: dict[str, Any], kind: str) -> dict[str, Any]:
    """Spell one loss type of a case."""
    rate, beta = case.get("label_smoothing") or 0.0, case["beta"]
    more: dict[str, Any] = {
        "sigmoid": {},  # TRL 1.16 ignores label_smoothing here
        "sigmoid_norm": {},
        "hinge": {"link": "hinge"},
        "ipo": {"link": {"squared": {"target": 1 / (2 * beta)}}},
        "robust": {"labels": {"robust": {"rate": rate}}},
        "exo_pair": {"link": {"exo": {"rate": rate or 1e-3}}},
        "nca_pair": {"link": "nca"},
        "bco_pair": {"link": "binary"},
        "sppo_hard": {"link": {"pointwise-squared": {"hard": True, "beta": beta}}, "scale": 2},
        "apo_zero": {"link": "apo-zero"},
        "apo_down": {"link": "apo-down"},
        "discopop": {"link": {"discovered": {"tau": case.get("discopop_tau", 0.05)}}},
        "sft": {"weights": "none", "extras": [{"sft": {"coefficient": 1, "over": "step"}}]},
    }[kind]
    return {"reward": reward(case, kind), **more}


def pairs_of(case: dict[str, Any], dtype: str = "float64") -> Pairs:
    batch, kind = BATCHES[case["batch"]], getattr(torch, dtype)

    def side(name: str) -> Response:
        policy = torch.tensor(batch[f"policy_{name}_logps"], dtype=kind).requires_grad_()
        reference = torch.tensor(batch[f"ref_{name}_logps"], dtype=kind)
        return Response(policy, torch.tensor(batch[f"{name}_tokens"], dtype=kind), reference)

    return Pairs(side("chosen"), side("rejected"))


def losses(case: dict[str, Any], batch: Pairs) -> torch.Tensor:
    """Return what the loss types of a case cost together, by row."""
    types = case["loss_types"]
    total = batch.chosen.logp * 0
    for kind, weight in zip(types, case.get("loss_weights") or [1.0] * len(types), strict=True):
        costs = Objective.model_validate(spelling(case, kind))(batch)
        total = total + weight * (costs.weight * costs.loss + costs.extra)
    return total


CASES = [case for case in PARITY["dpo"] if left_out(case) is None]


def test_every_case_is_covered_or_left_out_for_a_stated_reason() -> None:
    reasons = Counter(left_out(case) or "covered" for case in PARITY["dpo"])
    assert sum(reasons.values()) == len(PARITY["dpo"]) == 544
    assert sorted(reasons.values()) == [20, 20, 24, 48, 72, 360]
    assert reasons["covered"] == len(CASES) == 360


def named(case: dict[str, Any]) -> str:
    return "-".join(
        [*case["loss_types"], case.get("f_divergence_type", "kl"), case["batch"], f"{case['beta']}"]
    )


@pytest.mark.parametrize("case", CASES, ids=named)
def test_losses_and_gradients_equal_those_of_trl(case: dict[str, Any]) -> None:
    batch, near = pairs_of(case, case["dtype"]), 1e-9
    if "exo_pair" in case["loss_types"]:
        near = 1e-7  # theirs takes the logarithm of the label in float32
    if case["dtype"] == "float32":
        near = 1e-5
    found = losses(case, batch)
    assert found.mean().item() == pytest.approx(case["loss"], abs=near, rel=near)
    if "losses" in case:
        assert found.tolist() == pytest.approx(case["losses"], abs=near, rel=near)
    if "grad_chosen_logps" in case:
        found.mean().backward()
        slopes = batch.chosen.logp.grad, batch.rejected.logp.grad
        for slope, side in zip(slopes, ("chosen", "rejected"), strict=True):
            given = torch.zeros_like(batch.chosen.logp) if slope is None else slope
            assert given.tolist() == pytest.approx(case[f"grad_{side}_logps"], abs=near, rel=near)


FREE = {"simpo": "mean-log-prob", "sigmoid": "log-prob", "hinge": "log-prob", "ipo": "mean-log-prob"}


def free_spelling(case: dict[str, Any]) -> dict[str, Any]:
    """Spell a case without a reference. TRL's CPO adds its SFT term elsewhere."""
    if "loss_type" not in case:
        return {"reward": "log-odds", "scale": case["beta"]}
    kind, rate = case["loss_type"], case["label_smoothing"]
    told: dict[str, Any] = {"reward": {FREE[kind]: {"beta": 1 if kind == "ipo" else case["beta"]}}}
    if kind == "ipo":
        told["link"] = {"squared": {"target": 1 / (2 * case["beta"])}}
    if kind == "hinge":
        told["link"] = "hinge"
    if kind == "simpo":
        told["offset"] = case["simpo_gamma"]
    return {**told, "labels": {"smooth": {"rate": rate}} if rate else "hard"}


REFERENCE_FREE = [case for case in PARITY["reference_free"] if not case.get("alpha")]


def test_every_case_without_a_reference_is_covered_or_left_out() -> None:
    """AlphaPO (`alpha` above 0) is left out: a power of the probability for a reward."""
    kinds = Counter(case.get("loss_type", "orpo") for case in REFERENCE_FREE)
    assert kinds == {"simpo": 8, "sigmoid": 8, "hinge": 4, "ipo": 4, "orpo": 4}
    assert len(PARITY["reference_free"]) - len(REFERENCE_FREE) == 4


@pytest.mark.parametrize(
    "case", REFERENCE_FREE, ids=lambda case: f"{case.get('loss_type', 'orpo')}-{case['batch']}-{case['beta']}"
)
def test_losses_without_a_reference_equal_those_of_trl(case: dict[str, Any]) -> None:
    batch, orpo = pairs_of(case), "loss_type" not in case
    costs = Objective.model_validate(free_spelling(case))(batch)
    sign, near = (-1, 1e-6) if orpo else (1, 1e-9)  # theirs is float32 there, and told to be subtracted
    assert (sign * costs.loss).tolist() == pytest.approx(case["losses"], abs=near, rel=near)
    if not orpo:
        costs.loss.mean().backward()
        for side, name in ((batch.chosen, "chosen"), (batch.rejected, "rejected")):
            by = side.tokens if case["inputs"] == "mean per token" else 1
            found = side.logp.grad * by
            assert found.tolist() == pytest.approx(case[f"grad_{name}"], abs=near, rel=near)
            rewards = costs.chosen_reward if name == "chosen" else costs.rejected_reward
            by = case["beta"] if case["loss_type"] == "ipo" else 1
            assert (by * rewards).tolist() == pytest.approx(case[f"{name}_rewards"], abs=near, rel=near)
