"""The worked numbers of methods 0 to 13: how each comes out of the public objects, or why it does not."""

from typing import Any

import pytest
import torch

from prefkit.objectives import Rows

B3 = [(2.0, 0.0, 0.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.5, 0.0, 0.0, 0.0)]
SWAPPED = (-14.5, -12.0, -13.5, -13.0)


def z(value: float) -> tuple[float, float, float, float]:
    """A pair whose log-ratios differ by this much."""
    return (value, 0.0, 0.0, 0.0)


def rewards(lab: Any, spelling: object, **kind: object) -> tuple[float, float]:
    told = lab.costs(spelling, lab.pairs(**kind))
    return told.chosen_reward.item(), told.rejected_reward.item()


def t0(lab: Any) -> Any:
    return lab.costs("{ preset: dpo, beta: 1 }", lab.masked("everything", [], []))


def apart(lab: Any, spelling: object, batch: Any) -> float:
    told = lab.costs(spelling, batch)
    return (told.chosen_reward - told.rejected_reward).item()


BASICS = {
    "A00.u_w": lambda lab: rewards(lab, "{ preset: dpo, beta: 1 }")[0],
    "A00.u_l": lambda lab: rewards(lab, "{ preset: dpo, beta: 1 }")[1],
    "A00.delta": lambda lab: apart(lab, "{ preset: dpo, beta: 1 }", lab.pairs()),
    "A00.z": lambda lab: apart(lab, "dpo", lab.pairs()),
    "A00.T0.u_w": lambda lab: t0(lab).chosen_reward,
    "A00.T0.u_l": lambda lab: t0(lab).rejected_reward,
    "A01.dpo": lambda lab: lab.cost("dpo"),
    "A01.dpo.grad_weight_sigma(-z)": lambda lab: -lab.slopes("{ preset: dpo, beta: 1 }", z(0.2))[0, 0],
    "A01.dpo.dL_dpi_w": lambda lab: lab.slopes("dpo")[0, 0],
    "A01.cdpo.eps0.1": lambda lab: lab.cost("{ preset: cdpo, rate: 0.1 }"),
    "A01.cdpo.eps0.1.dL_dz": lambda lab: lab.slopes("{ preset: cdpo, beta: 1, rate: 0.1 }", z(0.2))[0, 0],
    "A01.softlabel.p0.7": lambda lab: lab.cost("soft-dpo", p_chosen=0.7),
    "A01.dpo.batchB3.mean": lambda lab: lab.step("dpo", lab.pairs(*B3)),
    "A02.rdpo.eps0.1": lambda lab: lab.cost("{ preset: rdpo, rate: 0.1 }"),
    "A02.rdpo.eps0.3": lambda lab: lab.cost("{ preset: rdpo, rate: null }", flip_prob=0.3),
    "A02.rdpo.eps0.1.dL_dz": lambda lab: lab.slopes("{ preset: rdpo, beta: 1, rate: 0.1 }", z(0.2))[0, 0],
    "A02.rdpo.eps0.1.z=-3": lambda lab: lab.cost("rdpo", z(-30)),
    "A02.rdpo.eps0.1.z=+8 (negative on purpose)": lambda lab: lab.cost("rdpo", z(80)),
    "A03.rk.win": lambda lab: lab.cost("dpo-rk", tie=0.0),
    "A03.rk.lose": lambda lab: lab.cost("dpo-rk", SWAPPED, tie=0.0),
    "A03.rk.tie": lambda lab: lab.cost("dpo-rk", tie=1.0),
    "A03.rk.tie.d=0": lambda lab: lab.cost("dpo-rk", z(0), tie=1.0),
    "A03.rk.win.dL_dd": lambda lab: lab.slopes("{ preset: dpo-rk, beta: 1 }", z(0.2), tie=0.0)[0, 0],
    "A03.rk.tie.dL_dd": lambda lab: lab.slopes("{ preset: dpo-rk, beta: 1 }", z(0.2), tie=1.0)[0, 0],
    "A03.dav.win": lambda lab: lab.cost("dpo-d", tie=0.0),
    "A03.dav.lose": lambda lab: lab.cost("dpo-d", SWAPPED, tie=0.0),
    "A03.dav.tie": lambda lab: lab.cost("dpo-d", tie=1.0),
    "A03.dav.win.dL_dd": lambda lab: lab.slopes("{ preset: dpo-d, beta: 1 }", z(0.2), tie=0.0)[0, 0],
    "A03.dav.tie.dL_dd": lambda lab: lab.slopes("{ preset: dpo-d, beta: 1 }", z(0.2), tie=1.0)[0, 0],
    # KLIEP costs R + log R, and log R is minus the logit
    "A04.R": lambda lab: lab.cost("{ link: { bregman: { form: kliep } } }") + 0.2,
    "A04.lr": lambda lab: lab.cost("{ link: logistic }"),
    "A04.kliep": lambda lab: lab.cost("{ link: { bregman: { form: kliep } } }"),
    "A04.lsif(table form)": lambda lab: lab.cost("{ link: { bregman: { form: lsif } } }"),
    "A04.ba.lam0.5": lambda lab: lab.cost("{ link: { bregman: { form: ba, power: 0.5 } } }"),
    "A04.sba.lam-0.5": lambda lab: lab.cost("bpo"),
    "A04.sba.lam0": lambda lab: lab.cost("{ preset: bpo, power: 0 }"),
    "A04.sba.lam0.5": lambda lab: lab.cost("{ preset: bpo, power: 0.5 }"),
    "A04.sba.lam1": lambda lab: lab.cost("{ preset: bpo, power: 1 }"),
    "A04.sba.lam-0.5.dL_dz": lambda lab: lab.slopes("{ preset: bpo, beta: 1 }", z(0.2))[0, 0],
    "A04.sba.lam0.5.dL_dz": lambda lab: lab.slopes("{ preset: bpo, beta: 1, power: 0.5 }", z(0.2))[0, 0],
}


def shares(lab: Any, spelling: str) -> torch.Tensor:
    losses = lab.costs("dpo", lab.pairs(*B3)).loss.detach()
    told: torch.Tensor = lab.objective(spelling).reducer(Rows(losses, {}, 3))
    return told


def soft_minimum(lab: Any) -> float:
    """The value whose gradient the shares have: their mean loss plus tau times their KL to equal shares."""
    share = shares(lab, "dr-dpo")
    return (share * (lab.costs("dpo", lab.pairs(*B3)).loss + (3 * share).log())).sum().item()


def squares(lab: Any) -> torch.Tensor:
    return torch.from_numpy(lab.slopes("dpo", *B3)[0]) ** 2 * torch.tensor([4.0, 1.0, 2.25])


def wdpo(lab: Any, form: str) -> float:
    told: float = lab.step(f"{{ preset: wdpo, beta: 0.1, root: {form} }}", lab.pairs(*B3), squares(lab))
    return told


def kldpo(lab: Any, settings: str) -> float:
    told: float = lab.step(f"{{ preset: kldpo, beta: 0.1, {settings} }}", lab.pairs(*B3))
    return told


def best_gap(lab: Any) -> float:
    """A quadratic is at its lowest one Newton step away."""
    score = {"chosen_score": 1.2, "rejected_score": 0.3}
    here, further = (lab.slopes("copg", z(gap), **score)[0, 0] for gap in (2, 3))
    return float(2 - here / (further - here))


SCORES = {"chosen_score": 1.2, "rejected_score": 0.3}
RATES = {"chosen_win_rate": 0.7, "rejected_win_rate": 0.4}
ROBUST = {
    "A05.B3.losses": lambda lab: lab.costs("dpo", lab.pairs(*B3)).loss,
    "A05.kldpo.paper.weights.tau0.05": lambda lab: shares(lab, "{ preset: kldpo, tau: 0.05 }"),
    "A05.kldpo.paper.tau0.05": lambda lab: kldpo(lab, "tau: 0.05"),
    "A05.kldpo.code.tau0.05": lambda lab: kldpo(lab, "tau: 0.05, normalise: false"),
    "A05.kldpo.paper.tau1": lambda lab: kldpo(lab, "tau: 1"),
    "A05.kldpo.code.tau1": lambda lab: kldpo(lab, "tau: 1, normalise: false"),
    "A05.drdpo(softmin).beta'1": soft_minimum,
    "A05.wdpo.sqnorm": squares,
    "A05.wdpo.paper.rho1": lambda lab: wdpo(lab, "true"),
    "A05.wdpo.code.rho1": lambda lab: wdpo(lab, "false"),
    "A06.ipo.sum.tau0.1": lambda lab: lab.cost("{ preset: ipo, tau: 0.1 }"),
    "A06.ipo.avg.tau0.1": lambda lab: lab.cost("{ preset: ipo-mean, tau: 0.1 }"),
    "A06.online_ipo.soft.p0.8.tau0.1": lambda lab: lab.cost("online-ipo", p_chosen=0.8),
    "A06.online_ipo.expected_hard.p0.8.tau0.1": lambda lab: lab.cost(
        "{ reward: { log-ratio: { beta: 1 } }, link: squared, labels: soft }", p_chosen=0.8
    ),
    "A06.online_ipo.v1.p(y>y'')0.7.p(y'>y'')0.4.tau0.1": lambda lab: lab.cost(
        "{ reward: { log-ratio: { beta: 1 } }, link: { squared: { target: 10, times: win-rate } } }", **RATES
    ),
    "A07.copg.square_form": lambda lab: lab.cost("copg", **SCORES),
    "A07.copg.R1.2_0.3.beta0.1": lambda lab: lab.cost("copg", **SCORES) - 0.9**2 / 0.2,  # no policy is in it
    "A07.copg.dL_ddelta": lambda lab: lab.slopes("copg", **SCORES)[0, 0],
    "A07.copg.optimal_delta": best_gap,
}


def degree(lab: Any, coefficient: float) -> torch.Tensor:
    """Loss and extra of a pair whose classifier says 0.5, 1.5, -0.2 of both sides, where 1 is true."""
    batch = lab.pairs(degree=1.0)
    sides = [side._replace(hidden=torch.ones(1, 1, dtype=torch.float64)) for side in batch[:2]]
    heads = {"degree": torch.tensor([[0.5], [1.5], [-0.2]], dtype=torch.float64)}
    spelling = {"extras": [{"degree": {"coefficient": coefficient}}]}
    told = lab.costs(spelling, batch._replace(chosen=sides[0], rejected=sides[1], heads=heads))
    return torch.cat([told.loss, told.extra])


ADDED = {
    "A08.spo.degree_ce": lambda lab: degree(lab, 1.0)[1],
    "A08.spo.total.gamma0.1": lambda lab: degree(lab, 0.1).sum(),
    "A08.spo.ordinal_variant": lambda lab: lab.cost("dpo", z(0.6), z(0.4), z(1.0)),
    "A09.rpo.sum.eta0.005": lambda lab: lab.cost("{ preset: rpo, beta: 0.1, eta: 0.005, over: sum }"),
    "A09.rpo.mean.eta0.2": lambda lab: lab.cost("{ preset: rpo, beta: 0.1, eta: 0.2 }"),
    "A09.rpo.trl.eta0.005": lambda lab: lab.cost("{ preset: rpo, beta: 0.1, eta: 0.005, over: step }"),
    "A10.hypo.dpo": lambda lab: lab.cost("dpo"),
    "A11.vpo.offline.alpha0.1.cal=chosen": lambda lab: lab.cost("{ preset: vpo, alpha: 0.1 }"),
    "A12.fdpo.reverse_kl": lambda lab: lab.cost("{ preset: f-dpo, divergence: reverse-kl }"),
    "A12.fdpo.forward_kl": lambda lab: lab.cost("f-dpo"),
    "A12.fdpo.js": lambda lab: lab.cost("{ preset: f-dpo, divergence: jensen-shannon }"),
    "A12.fdpo.alpha": lambda lab: lab.cost("{ preset: f-dpo, divergence: alpha }"),
    "A12.fdpo.chi2_mix": lambda lab: lab.cost("{ preset: f-dpo, divergence: chi2-mix }"),
    "A13.lndpo.beta2": lambda lab: lab.cost("ln-dpo"),
    "A13.lndpo.beta0.1": lambda lab: lab.cost("{ preset: ln-dpo, beta: 0.1 }"),
    "A13.simpo.beta2.gamma1": lambda lab: lab.cost("{ preset: simpo, gamma: 1 }"),
}

VECTORS = {**BASICS, **ROBUST, **ADDED}
LEFT_OUT = {
    "A06.ipomd.mixture.c0.125": "how tokens are sampled, which is the generator's business",
    "A06.nashmd_pg.coef.p0.8.tau0.1": "a policy gradient on fresh samples",
    "A10.hypo.kl_estimate_k1": "a policy gradient on fresh samples",
    "A10.hypo.surrogate_value.lam1e-4": "a policy gradient on fresh samples",
    "A10.hypo.coef_on_grad_logpi.lam1e-4": "a policy gradient on fresh samples",
    "A10.hypo.reported.lam0.1": "a policy gradient on fresh samples",
    "A11.vpo.online.alpha0.1.cal_u=-0.4": "needs fresh samples of a calibration policy",
    "A12.fdpg.t": "a policy gradient on fresh samples",
    "A12.fdpg.coef.forward_kl": "a policy gradient on fresh samples",
    "A12.fdpg.coef.reverse_kl": "a policy gradient on fresh samples",
    "A12.fdpg.coef.tv": "a policy gradient on fresh samples",
    "A12.fdpg.coef.js": "a policy gradient on fresh samples",
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_worked_number_comes_out(lab: Any, name: str) -> None:
    lab.equal(VECTORS[name](lab), name, "early")


def test_every_number_is_covered_or_left_out_for_a_stated_reason(lab: Any) -> None:
    assert {*VECTORS, *LEFT_OUT} == set(lab.golden("early"))
    assert (len(VECTORS), len(LEFT_OUT)) == (75, 12)
