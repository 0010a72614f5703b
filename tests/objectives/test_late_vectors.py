"""The worked numbers of methods 16 to 33 on rows: how each comes out of the public objects, or why it does not."""

from math import exp, log
from typing import Any

import numpy as np
import pytest
import torch

from prefkit.engines.soup import blend

MODPO = "{ preset: modpo, weights: { helpful: 0.5 } }"
SPPO_HARD = (
    "{ link: { pointwise-squared: { beta: 0.1, hard: true } }, reward: { log-ratio: { beta: 1 } }, scale: 2 }"
)


def one_gap(value: float) -> tuple[float, float, float, float]:
    """A pair whose log-ratios differ by this much."""
    return (value, 0.0, 0.0, 0.0)


def w(lab: Any, margin: float, settings: str = "") -> float:
    told: float = lab.costs(f"{{ preset: madpo{settings} }}", lab.pairs(margin=margin)).weight.item()
    return told


def c(lab: Any, margin: float) -> float:
    """c(m), from the weight sigmoid(c m) / sigmoid(m)."""
    top = w(lab, margin) / (1 + exp(-margin))
    return log(top / (1 - top)) / margin


def history(lab: Any, settings: str) -> Any:
    """The pair P0, and one earlier policy that gave it -12.6 and -13.9."""
    spelling = f"{{ reward: {{ mixture-log-ratio: {{ over: sum }} }}{settings} }}"
    past = torch.tensor([[[-12.6, -13.9]]], dtype=torch.float64)
    batch = lab.pairs()
    return lab.costs(spelling, batch._replace(columns={"ref_history": past}))


def slope_ratio(lab: Any) -> float:
    """How much steeper the loss is in the probability of rejected than in that of chosen."""
    chosen, rejected = lab.slopes("dpo")[:, 0]
    return float(abs(rejected) / exp(-14.5) / (abs(chosen) / exp(-12.0)))


def posterior(lab: Any, reliability: float, *rows: tuple[float, float, float, float]) -> torch.Tensor:
    told: torch.Tensor = lab.costs("lcpo", lab.pairs(*rows, reliability=reliability)).belief
    return told


B3 = [one_gap(2.0), one_gap(-1.0), one_gap(0.5)]


def learned(lab: Any, settings: str) -> np.ndarray:
    labels = lab.objective(f"{{ preset: lcpo{settings} }}").labels
    belief = posterior(lab, 0.9, *B3).numpy()
    told: np.ndarray = labels.learn(labels.start(1), np.zeros(3, dtype=int), belief, 0)
    return told


def soup(lab: Any) -> list[float]:
    one, other = torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        one.weight.copy_(torch.tensor([[0.2, -0.4]]))
        other.weight.copy_(torch.tensor([[0.6, 0.0]]))
    blend(one, other, 0.5)
    told: list[float] = one.weight.flatten().tolist()
    return told


HEADS = "{ preset: mah-dpo, dimensions: [a, b, c], shares: [0.25, 0.75, 0] }"
OTHER = {"chosen_helpful": 0.3, "rejected_helpful": -0.2}
WON = {"chosen_win_rate": 0.8, "rejected_win_rate": 0.3}
VECTORS = {
    "A16.madpo.tau": lambda lab: lab.objective("madpo").weights.tau,
    "A16.madpo.c(0)": lambda lab: c(lab, 1e-5),  # at 0 the weight is 1 whatever c
    "A16.madpo.c(-8)": lambda lab: c(lab, 8),  # c is even, and below -tau the weight does not show it
    "A16.madpo.w(0)": lambda lab: w(lab, 0),
    "A16.madpo.w(-8)": lambda lab: w(lab, -8),
    "A16.madpo.w(1).tau2": lambda lab: w(lab, 1, ", tau: 2"),
    "A16.madpo.w(4).tau2": lambda lab: w(lab, 4, ", tau: 2"),
    "A16.madpo.effective_target_margin(2)": lambda lab: 2 * c(lab, 2),
    "A16.madpo.loss.m2": lambda lab: lab.step("madpo", lab.pairs(margin=2.0)),
    "A16.madpo.loss.m2.tau2": lambda lab: lab.step("{ preset: madpo, tau: 2 }", lab.pairs(margin=2.0)),
    "A21.modpo.z": lambda lab: lab.logit(MODPO, lab.pairs(**OTHER)),
    "A21.modpo.loss": lambda lab: lab.cost(MODPO, **OTHER),
    "A21.mahdpo.mean_over_heads": lambda lab: lab.step(HEADS, lab.pairs(*B3, dimension=[0, 1, 2])),
    "A21.mahdpo.unbalanced(3,1,0)": lambda lab: lab.step(
        HEADS, lab.pairs(*B3, one_gap(1.0), dimension=[0, 0, 0, 1])
    ),
    "A21.mahdpo.ensemble_logits": lambda lab: (
        np.asarray(lab.objective(HEADS).heads.mixture()) @ [[2, 0.5, -1], [0, 1, 1], [0, 0, 0]]
    ),
    "A22.bvpo.trace": lambda lab: lab.cost("bvpo", trace_mode=1.0),
    "A22.bvpo.empty": lambda lab: lab.cost("bvpo", one_gap(0.6), trace_mode=0.0),
    "A22.bvpo.alpha0.5": lambda lab: lab.step(
        "bvpo", lab.pairs(one_gap(2.0), one_gap(0.6), trace_mode=[1.0, 0.0])
    ),
    "A24.egpo.loss.p0.7_0.4.beta0.1": lambda lab: lab.cost(
        "egpo", tokens=(1, 1), chosen_win_rate=0.7, rejected_win_rate=0.4
    ),
    "A24.mnpo.logit": lambda lab: history(lab, "").chosen_reward - history(lab, "").rejected_reward,
    "A24.mnpo.loss.eta0.0075": lambda lab: (
        history(lab, f", link: {{ squared: {{ target: {1 / 0.015} }} }}").loss
    ),
    "A24.mnpo.loss.eta0.1": lambda lab: history(lab, ", link: { squared: { target: 5 } }").loss,
    "A24.sppo.soft.pw0.8.pl0.3.beta0.1": lambda lab: lab.cost("{ preset: sppo, beta: 0.1 }", **WON),
    "A24.sppo.soft.pw0.8.pl0.3.beta0.001": lambda lab: lab.cost("sppo", **WON),
    "A24.sppo.trl_hard.beta0.1": lambda lab: lab.cost(SPPO_HARD),
    "A26.ofs.L_F": lambda lab: lab.cost("dpo", (-11.5, -15.0, -13.0, -13.5)),
    "A26.ofs.L_S": lambda lab: lab.cost("dpo", (-12.5, -14.0, -13.0, -13.5)),
    "A26.ofs.L_FS": lambda lab: lab.cost("dpo", (-11.5, -15.0, -12.5, -14.0)),
    "A27.salsa.soup": soup,
    "A29.flexdpo.b+0.1.b-0.05": lambda lab: lab.cost("flex-dpo"),
    "A29.flexdpo+sft0.1": lambda lab: lab.cost("{ preset: flex-dpo, eta: 0.1 }"),
    "A29.grad_ratio(|dl/dp_l|/|dl/dp_w|)=p_w/p_l": slope_ratio,
    "A30.lcpo.p": lambda lab: posterior(lab, 0.5),  # an annotator who tells nothing
    "A30.lcpo.w.eta0.9": lambda lab: posterior(lab, 0.9),
    "A30.lcpo.loss": lambda lab: lab.cost("lcpo", reliability=0.9),
    "A30.lcpo.ipo.gibbs_logit": lambda lab: lab.cost("ipo", one_gap(-2.0)) - lab.cost("ipo", one_gap(2.0)),
    "A30.lcpo.B3.w": lambda lab: posterior(lab, 0.9, *B3),
    "A30.lcpo.eta_full_update": lambda lab: learned(lab, ", momentum: 0"),
    "A30.lcpo.eta_ema0.9": lambda lab: learned(lab, ""),
    "A32.mapo.mean_logp_w": lambda lab: (
        lab.costs("{ reward: { mean-log-prob: { beta: 1 } } }", lab.pairs()).chosen_reward
    ),
    "A32.mapo.log_odds_diff": lambda lab: lab.logit("mapo-text", lab.pairs()),
    "A32.mapo.analogueA.beta0.1": lambda lab: lab.cost("mapo-text"),
    "A32.mapo.analogueB.s0.5.T1.beta0.1": lambda lab: lab.cost(
        "{ reward: mapo-error, scale: 0.1, extras: [{ sft: { coefficient: 1 } }] }"
    ),
}
MARGINS = {"0.5": 0.5, "2": 2.0, "6.90675": log(0.999 / 0.001), "10": 10.0, "-0.5": -0.5, "-2": -2.0}
VECTORS |= {f"A16.madpo.c({told})": lambda lab, m=margin: c(lab, m) for told, margin in MARGINS.items()}
VECTORS |= {f"A16.madpo.w({told})": lambda lab, m=margin: w(lab, m) for told, margin in MARGINS.items()}
FRESH, LOOP = "needs fresh samples at every step", "how a loop moves weights or rounds, which is no loss"
EXPORT = "what a trained model tells of tokens, which is an export and no loss"
LEFT_OUT = {
    "A22.bvpo.alpha_star": "what share to choose, given statistics of gradients",
    "A23.apo.policy.alpha0.3": LOOP,
    "A23.apo.params.alpha0.3": LOOP,
    "A24.egpo.tabular.pi_half": LOOP,
    "A24.egpo.tabular.pi_next": LOOP,
    "A25.trpa.pairs": FRESH,
    "A25.trpa.pair_loss": FRESH,
    "A25.trpa.total.kl0.02.coef0.001": FRESH,
    "A25.trpa.fallback.all_level1": FRESH,
    "A26.ofs.fast.alpha0.1": LOOP,
    "A26.ofs.slow.alpha0.1": LOOP,
    "A26.cofs.params": LOOP,
    "A27.salsa.reward.r1.5.beta0.02.u0.9": FRESH,
    "A30.lcpo.ipo.p": "the difference of costs is capped at 10 before it becomes a belief",
    "A31.rto.dpo_token_reward": EXPORT,
    "A31.rto.reward": EXPORT,
    "A31.credit.beta_logratio": EXPORT,
    "A31.credit.cumsum": EXPORT,
    "A31.credit.share": EXPORT,
    "A33.amft.mixed.mu0.4": "not a method on preferences",
}


@pytest.mark.parametrize("name", VECTORS)
def test_a_worked_number_comes_out(lab: Any, name: str) -> None:
    lab.equal(VECTORS[name](lab), name, "late")


def test_every_number_is_covered_or_left_out_for_a_stated_reason(lab: Any) -> None:
    assert {*VECTORS, *LEFT_OUT} == set(lab.golden("late"))
    assert (len(VECTORS), len(LEFT_OUT)) == (55, 20)
