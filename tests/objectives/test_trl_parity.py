"""Losses and gradients against the numbers of TRL 1.16.0's DPOTrainer, kept in tests/parity/trl_losses.json.

Left out, by what the case asks for: `f_divergence_type` (other reward shapes), `ld_alpha` (length desensitisation),
`use_weighting` (WPO), mixed `loss_types`, and the losses in `LEFT_OUT`.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from prefkit.objectives import Objective, Pairs, Response

PARITY = json.loads((Path(__file__).parents[1] / "parity" / "trl_losses.json").read_text())
BATCHES = {batch["name"]: batch for batch in PARITY["batches"]}
LEFT_OUT = {
    "exo_pair",
    "nca_pair",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
}


def spelling(case: dict[str, Any]) -> dict[str, Any] | None:
    """Our spelling of a case, or None where it is left out."""
    options = ("f_divergence_type", "ld_alpha", "use_weighting")
    if len(case["loss_types"]) > 1 or any(case.get(option) is not None for option in options):
        return None
    beta, rate = case["beta"], case.get("label_smoothing")
    names = {
        "sigmoid": {"preset": "dpo", "beta": beta},  # TRL 1.16 ignores label_smoothing here
        "sigmoid_norm": {"preset": "ln-dpo", "beta": beta},
        "hinge": {"preset": "hinge", "beta": beta},
        "ipo": {"preset": "ipo-mean", "tau": beta},
        "robust": {"preset": "rdpo", "beta": beta, "rate": rate},
    }
    return names.get(case["loss_types"][0])


def pairs_of(case: dict[str, Any]) -> Pairs:
    batch, kind = BATCHES[case["batch"]], getattr(torch, case["dtype"])

    def tensor(name: str) -> torch.Tensor:
        return torch.tensor(batch[name], dtype=kind)

    def side(name: str) -> Response:
        policy = tensor(f"policy_{name}_logps").requires_grad_()
        return Response(policy, tensor(f"{name}_tokens"), tensor(f"ref_{name}_logps"))

    return Pairs(side("chosen"), side("rejected"))


CASES = [case for case in PARITY["dpo"] if spelling(case) is not None]


def test_every_case_is_covered_or_left_out_for_a_stated_reason() -> None:
    kinds = Counter(case["loss_types"][0] for case in CASES)
    assert kinds == {"sigmoid": 16, "sigmoid_norm": 12, "hinge": 12, "ipo": 12, "robust": 36}
    others = {case["loss_types"][0] for case in PARITY["dpo"]} - set(kinds)
    assert others == LEFT_OUT


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['loss_types'][0]}-{case['batch']}-{case['beta']}"
)
def test_losses_and_gradients_equal_those_of_trl(case: dict[str, Any]) -> None:
    batch = pairs_of(case)
    costs = Objective.model_validate(spelling(case))(batch)
    costs.loss.mean().backward()
    assert costs.loss.tolist() == pytest.approx(case["losses"], abs=1e-9, rel=1e-9)
    assert batch.chosen.logp.grad.tolist() == pytest.approx(case["grad_chosen_logps"], abs=1e-9, rel=1e-9)
    assert batch.rejected.logp.grad.tolist() == pytest.approx(case["grad_rejected_logps"], abs=1e-9, rel=1e-9)


SIMPO = [case for case in PARITY["reference_free"] if case.get("loss_type") == "simpo" and not case["alpha"]]


@pytest.mark.parametrize("case", SIMPO, ids=lambda case: f"{case['batch']}-{case['beta']}")
def test_simpo_smoothed_or_not_equals_that_of_trl(case: dict[str, Any]) -> None:
    """AlphaPO (`alpha` above 0) is left out: another reward shape."""
    batch = pairs_of({**case, "dtype": "float64"})
    rate = case["label_smoothing"]
    settings = {
        "reward": {"mean-log-prob": {"beta": case["beta"]}},
        "offset": case["simpo_gamma"],
        "labels": {"smooth": {"rate": rate}} if rate else "hard",
    }
    costs = Objective.model_validate(settings)(batch)
    assert costs.loss.tolist() == pytest.approx(case["losses"], abs=1e-9)


def test_simpo_cases_are_counted() -> None:
    assert len(SIMPO) == 8
