"""Objectives against hand-computed vectors, their laws, and how they are spelled."""

import json
import subprocess
import sys
from math import exp, log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.errors import TrainError
from prefkit.objectives import PRESETS, Objective, Pairs, Response
from prefkit.objectives.links import LINKS

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "objectives.json").read_text())


def pairs(
    logps: tuple[float, float, float, float] = (-12.0, -14.5, -13.0, -13.5),
    tokens: tuple[int, int] = (8, 10),
    **columns: float,
) -> Pairs:
    """One pair in float64: (chosen, rejected, reference of chosen, reference of rejected). Default: fixture P0."""
    chosen, rejected, ref_chosen, ref_rejected = (
        torch.tensor([value], dtype=torch.float64) for value in logps
    )
    return Pairs(
        Response(chosen.requires_grad_(), torch.tensor([float(tokens[0])]).double(), ref_chosen),
        Response(rejected.requires_grad_(), torch.tensor([float(tokens[1])]).double(), ref_rejected),
        {name: torch.tensor([value], dtype=torch.float64) for name, value in columns.items()},
    )


def objective(spelling: object) -> Objective:
    return Objective.model_validate(spelling)


def cost(spelling: object, batch: Pairs | None = None) -> float:
    return objective(spelling)(pairs() if batch is None else batch).loss.item()


VECTORS = {
    "A01.dpo": "dpo",
    "A01.cdpo.eps0.1": {"preset": "cdpo", "rate": 0.1},
    "A02.rdpo.eps0.1": {"preset": "rdpo", "rate": 0.1},
    "A02.rdpo.eps0.3": {"preset": "rdpo", "rate": 0.3},
    "A04.lr": "dpo",
    "A04.sba.lam-0.5": "bpo",
    "A06.ipo.sum.tau0.1": {"preset": "ipo", "tau": 0.1},
    "A06.ipo.avg.tau0.1": {"preset": "ipo-mean", "tau": 0.1},
    "A09.rpo.mean.eta0.2": {"preset": "rpo", "beta": 0.1, "eta": 0.2},
    "A09.rpo.sum.eta0.005": {
        "reward": {"log-ratio": {"beta": 0.1}},
        "extras": [{"sft": {"coefficient": 0.005 * 0.1, "over": "sum"}}],
    },
    "A13.lndpo.beta2": {"preset": "ln-dpo", "beta": 2},
    "A13.lndpo.beta0.1": {"preset": "ln-dpo", "beta": 0.1},
    "A13.simpo.beta2.gamma1": {"preset": "simpo", "beta": 2, "gamma": 1},
    "A29.flexdpo.b+0.1.b-0.05": "flex-dpo",
    "A29.flexdpo+sft0.1": {"preset": "flex-dpo", "eta": 0.1},
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_preset_costs_what_the_worked_example_says(name: str) -> None:
    assert cost(VECTORS[name]) == pytest.approx(GOLDEN[name], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "spelling", "columns"),
    [
        ("A01.softlabel.p0.7", "soft-dpo", {"p_chosen": 0.7}),
        ("A01.cdpo.eps0.1", {"preset": "cdpo", "rate": None}, {"flip_prob": 0.1}),
        ("A03.rk.win", "dpo-rk", {"tie": 0.0}),
        ("A03.rk.tie", "dpo-rk", {"tie": 1.0}),
        ("A03.dav.win", "dpo-d", {"tie": 0.0}),
        ("A03.dav.tie", "dpo-d", {"tie": 1.0}),
    ],
)
def test_a_preset_that_reads_a_column_costs_what_the_worked_example_says(
    name: str, spelling: object, columns: dict[str, float]
) -> None:
    assert cost(spelling, pairs(**columns)) == pytest.approx(GOLDEN[name], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("A01.cdpo.eps0.1.dL_dz", {"preset": "cdpo", "beta": 1, "rate": 0.1}),
        ("A02.rdpo.eps0.1.dL_dz", {"preset": "rdpo", "beta": 1, "rate": 0.1}),
        ("A04.sba.lam-0.5.dL_dz", {"preset": "bpo", "beta": 1}),
    ],
)
def test_the_gradient_in_the_logit_is_that_of_the_worked_example(name: str, spelling: object) -> None:
    batch = pairs((0.2, 0.0, 0.0, 0.0))
    objective(spelling)(batch).loss.sum().backward()
    assert batch.chosen.logp.grad.item() == pytest.approx(GOLDEN[name], abs=1e-6)


@pytest.mark.parametrize(("tau", "name"), [(0.05, "A05.kldpo.paper.tau0.05"), (1.0, "A05.kldpo.paper.tau1")])
def test_kl_robust_weights_are_detached_and_sum_to_one(tau: float, name: str) -> None:
    losses = torch.tensor(GOLDEN["A05.B3.losses"], dtype=torch.float64)
    share = objective({"preset": "kldpo", "tau": tau}).reducer(losses, torch.ones(3).double(), 3)
    assert share.sum().item() == pytest.approx(1)
    assert (share * losses).sum().item() == pytest.approx(GOLDEN[name], abs=1e-5)


BRADLEY_TERRY = ["dpo", "cdpo", "rdpo", "ln-dpo", "kldpo", {"preset": "dpo", "beta": 3.0}]


@pytest.mark.parametrize("spelling", BRADLEY_TERRY)
def test_a_policy_that_is_its_reference_costs_log_two(spelling: object) -> None:
    assert cost(spelling, pairs((-7.0, -9.0, -7.0, -9.0))) == pytest.approx(log(2))


@given(
    logps=st.tuples(*[st.floats(-500, 0) for _ in range(4)]),
    rate=st.floats(0, 0.45),
)
def test_the_robust_loss_is_unbiased_under_flips(
    logps: tuple[float, float, float, float], rate: float
) -> None:
    a, b, c, d = logps
    robust = {"preset": "rdpo", "rate": rate}
    seen = (1 - rate) * cost(robust, pairs((a, b, c, d))) + rate * cost(robust, pairs((b, a, d, c)))
    assert seen == pytest.approx(cost("dpo", pairs((a, b, c, d))), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("link", LINKS, ids=lambda link: link.name)
def test_a_link_has_the_optimum_it_advertises(link: type) -> None:
    piece = link()
    checked = 0
    for p in (0.05, 0.2, 0.8, 0.95):
        best = piece.optimum(p)
        if best is None:
            continue
        grid = torch.linspace(-12, 12, 240_001, dtype=torch.float64)
        batch = pairs()
        expected = p * piece(grid, batch) + (1 - p) * piece(-grid, batch)
        assert grid[expected.argmin()].item() == pytest.approx(best, abs=1e-3)
        checked += 1
    assert checked == (4 if link.symmetric else 0)


@pytest.mark.parametrize("gap", [-3.0, -0.5, 0.0, 0.2, 4.0])
@pytest.mark.parametrize("spelling", ["dpo-rk", "dpo-d"])
def test_win_lose_and_tie_are_all_that_can_happen(spelling: str, gap: float) -> None:
    model = objective({"preset": spelling, "beta": 1})
    win = model(pairs((gap, 0, 0, 0), tie=0.0)).loss.item()
    lose = model(pairs((-gap, 0, 0, 0), tie=0.0)).loss.item()
    tie = model(pairs((gap, 0, 0, 0), tie=1.0)).loss.item()
    assert exp(-win) + exp(-lose) + exp(-tie) == pytest.approx(1)
    assert tie == pytest.approx(model(pairs((-gap, 0, 0, 0), tie=1.0)).loss.item())


ALL = [*PRESETS]
COLUMNS = {"p_chosen": 0.8, "flip_prob": 0.1, "tie": 0.0, "margin": 0.3, "weight": 1.5}


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    point = (-12.0, -14.5, -13.0, -13.5)
    batch = pairs(point, **COLUMNS)
    objective(name)(batch).loss.sum().backward()
    found = (batch.chosen.logp.grad.item(), batch.rejected.logp.grad.item())
    for side in (0, 1):
        up, down = (
            cost(
                name,
                pairs(
                    tuple(value + (step if at == side else 0) for at, value in enumerate(point)), **COLUMNS
                ),
            )
            for step in (1e-6, -1e-6)
        )
        assert found[side] == pytest.approx((up - down) / 2e-6, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_huge_gaps_stay_finite_in_float32(name: str) -> None:
    model = objective(name)
    for gap in (-1e4, 1e4):
        batch = pairs((gap, 0.0, 0.0, 0.0), **COLUMNS)
        sides = [Response(*(field.float() for field in side)) for side in (batch.chosen, batch.rejected)]
        loss = model(Pairs(*sides, {key: value.float() for key, value in batch.columns.items()})).loss
        assert torch.isfinite(loss).all()


@pytest.mark.parametrize("name", [name for name in ALL if name not in {"rpo", "flex-dpo", "simpo", "odpo"}])
def test_swapping_a_pair_mirrors_its_gradient(name: str) -> None:
    """Where nothing tells the sides apart but their order, mirrored inputs have mirrored gradients."""
    one, other = (
        pairs((-12, -12, -13, -13), (9, 9), **COLUMNS),
        pairs((-12, -12, -13, -13), (9, 9), **COLUMNS),
    )
    objective(name)(one).loss.sum().backward()
    objective(name)(other._replace(chosen=other.rejected, rejected=other.chosen)).loss.sum().backward()
    assert one.chosen.logp.grad.item() == pytest.approx(other.rejected.logp.grad.item())
    assert one.chosen.logp.grad.item() == pytest.approx(-one.rejected.logp.grad.item())


def test_weights_carry_no_gradient_and_reach_the_step() -> None:
    costs = objective("weighted-dpo")(pairs(weight=2.5))
    assert not costs.weight.requires_grad
    assert costs.weight.item() == 2.5


@pytest.mark.parametrize("name", ALL)
def test_an_objective_survives_json_and_reads_what_it_says(name: str) -> None:
    model = objective(name)
    assert Objective.model_validate_json(model.model_dump_json()) == model
    without = {key: value for key, value in COLUMNS.items() if key in model.reads()}
    assert np.isfinite(cost(name, pairs(**without)))


def test_a_preset_and_its_composition_are_the_same_thing() -> None:
    spelled = {"reward": {"log-ratio": {"beta": 0.2}}, "link": "logistic", "offset": 0}
    assert objective(spelled) == objective({"preset": "dpo", "beta": 0.2})


def test_an_objective_without_a_reference_reads_no_columns() -> None:
    assert not objective("simpo").reads()
    assert not objective("simpo").needs_reference()
    assert objective("dpo").needs_reference()


@pytest.mark.parametrize(
    ("spelling", "told"),
    [
        ("dop", "no objective is called 'dop' (did you mean 'dpo'?)"),
        ({"preset": "dpo", "beta": -1}, "preset 'dpo': beta: input should be greater than 0, got -1"),
        ({"preset": "dpo", "bta": 1}, "preset 'dpo': bta: unexpected keyword argument, got 1"),
        ({"link": "logstic"}, "no link is called 'logstic' (did you mean 'logistic'?)"),
        (
            {"reward": {"log-ratio": {"beta": 0}}},
            "reward 'log-ratio': beta: input should be greater than 0, got 0",
        ),
        ({"link": "davidson", "labels": "soft"}, "labels must be 'hard', not 'soft'"),
    ],
)
def test_a_wrong_spelling_is_told_in_one_line(spelling: object, told: str) -> None:
    with pytest.raises(ValidationError) as raised:
        objective(spelling)
    assert told in raised.value.errors()[0]["msg"]


@pytest.mark.parametrize(
    ("spelling", "table", "told"),
    [
        ("dpo", {"id": ["a"]}, "reads column 'ref_chosen_logp', which the pairs do not have"),
        ({"preset": "rdpo", "rate": 0}, {}, "every flip rate is 0"),
        ({"reward": "mean-log-prob", "link": "davidson"}, {"tie": [False, False]}, "no row is a tie"),
        ({"reward": "mean-log-prob", "link": "davidson"}, {"tie": [True, True]}, "every row is a tie"),
        ({"reward": "log-prob", "weights": "column"}, {"weight": [1.0, 1.0]}, "every weight is 1"),
        ({"reward": "log-prob", "labels": "soft"}, {"p_chosen": [0.6, None]}, "is null in 1 of 2 rows"),
    ],
)
def test_missing_columns_and_silent_no_ops_are_refused(
    spelling: object, table: dict[str, list[object]], told: str
) -> None:
    reference = {
        "ref_chosen_logp": [-1.0, -1.0],
        "ref_rejected_logp": [-1.0, -1.0],
        "ref_fingerprint": ["f", "f"],
    }
    rows = pa.table(table if "id" in table else {**reference, **table})
    with pytest.raises(TrainError, match=told) as raised:
        objective(spelling).check(rows)
    assert raised.value.hint


def test_objectives_and_settings_import_no_torch() -> None:
    code = "import sys, prefkit.objectives, prefkit.train.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
