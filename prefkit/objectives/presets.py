"""Presets: the losses people know by name, each as the pieces it is made of.

A preset's parameters keep the paper's name and default. Where two papers share a name, the preset takes the
unambiguous one: `rdpo` is the robust loss, not length-regularised DPO; `rpo` is DPO with an SFT term.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, validate_call
from pydantic_core import PydanticCustomError

from prefkit.catalog import suggest
from prefkit.objectives.batchwise import KlRobust, RowWeight, Sft
from prefkit.objectives.labels import Robust, Smooth, Soft
from prefkit.objectives.links import Davidson, Exponential, Hinge, Logistic, RaoKupper, Squared
from prefkit.objectives.objective import Objective
from prefkit.objectives.rewards import Constant, LogRatio, Margin, MeanLogProb, MeanLogRatio

__all__ = ["PRESETS", "make"]

Rate = Annotated[float, Field(ge=0, lt=0.5)]


def dpo(beta: PositiveFloat = 0.1) -> Objective:
    """Direct Preference Optimization. Rafailov et al. (2023), eq. 7."""
    return Objective(reward=LogRatio(beta=beta))


def cdpo(beta: PositiveFloat = 0.1, rate: Rate | None = 0.1) -> Objective:
    """Conservative DPO: label smoothing. `rate: null` reads each row's `flip_prob`. Mitchell (2023)."""
    return Objective(reward=LogRatio(beta=beta), labels=Smooth(rate=rate))


def rdpo(beta: PositiveFloat = 0.1, rate: Rate | None = 0.1) -> Objective:
    """Provably robust DPO (2024), eq. 11. `rate: null` reads each row's `flip_prob`."""
    return Objective(reward=LogRatio(beta=beta), labels=Robust(rate=rate))


def soft_dpo(beta: PositiveFloat = 0.1) -> Objective:
    """DPO on graded labels: each row believed by its `p_chosen`."""
    return Objective(reward=LogRatio(beta=beta), labels=Soft())


def weighted_dpo(beta: PositiveFloat = 0.1) -> Objective:
    """DPO with each row counted by its `weight`."""
    return Objective(reward=LogRatio(beta=beta), weights=RowWeight())


def ipo(tau: PositiveFloat = 0.1) -> Objective:
    """IPO as published: the summed log-ratio gap is pulled to 1 / (2 tau). Azar et al. (2023), eq. 17."""
    return Objective(reward=LogRatio(beta=1.0), link=Squared(target=1 / (2 * tau)))


def ipo_mean(tau: PositiveFloat = 0.1) -> Objective:
    """IPO on per-token means, which later code (TRL) calls IPO; not the same objective at the same tau."""
    return Objective(reward=MeanLogRatio(beta=1.0), link=Squared(target=1 / (2 * tau)))


def ln_dpo(beta: PositiveFloat = 2.0) -> Objective:
    """Length-normalised DPO. The Hitchhiker's Guide to Human Alignment with *PO (2024)."""
    return Objective(reward=MeanLogRatio(beta=beta))


def simpo(beta: PositiveFloat = 2.0, gamma: NonNegativeFloat = 0.5) -> Objective:
    """SimPO: mean log-probs, no reference, a target margin gamma in reward units. Meng et al. (2024), eq. 6."""
    return Objective(reward=MeanLogProb(beta=beta), offset=Constant(value=gamma))


def hinge(beta: PositiveFloat = 0.1) -> Objective:
    """SLiC's hinge on log-ratios. Zhao et al. (2023)."""
    return Objective(reward=LogRatio(beta=beta), link=Hinge())


def odpo(beta: PositiveFloat = 0.1, scale: PositiveFloat = 1.0) -> Objective:
    """DPO with an offset: the gap has to beat `scale * margin` (2024), eq. 7."""
    return Objective(reward=LogRatio(beta=beta), offset=Margin(scale=scale))


def dpo_rk(beta: PositiveFloat = 0.1, nu: Annotated[float, Field(gt=1)] = 3.0) -> Objective:
    """DPO with ties by Rao and Kupper (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=RaoKupper(nu=nu))


def dpo_d(beta: PositiveFloat = 0.1, nu: PositiveFloat = 1.0) -> Objective:
    """DPO with ties by Davidson (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=Davidson(nu=nu))


def bpo(beta: PositiveFloat = 0.1) -> Objective:
    """Bregman preference optimization at its published lambda of -1/2 and s of 4 (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=Exponential())


def kldpo(beta: PositiveFloat = 0.1, tau: PositiveFloat = 0.05) -> Objective:
    """KL-robust DPO, weights normalised as in the paper (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), reducer=KlRobust(tau=tau))


def rpo(beta: PositiveFloat = 0.5, eta: PositiveFloat = 0.2) -> Objective:
    """Regularized PO, average form: DPO plus eta times the mean token loss of chosen (NeurIPS 2024)."""
    return Objective(reward=LogRatio(beta=beta), link=Logistic(), extras=(Sft(coefficient=eta),))


def flex_dpo(
    beta_plus: PositiveFloat = 0.1, beta_minus: NonNegativeFloat = 0.05, eta: PositiveFloat | None = None
) -> Objective:
    """Flex-DPO: its own scale for rejected, and an optional SFT term. 3D-Properties (ICLR 2025)."""
    extras = () if eta is None else (Sft(coefficient=eta),)
    return Objective(reward=LogRatio(beta=beta_plus, beta_rejected=beta_minus), extras=extras)


PRESETS: Mapping[str, Callable[..., Objective]] = {
    preset.__name__.replace("_", "-"): preset
    for preset in (
        dpo,
        cdpo,
        rdpo,
        soft_dpo,
        weighted_dpo,
        ipo,
        ipo_mean,
        ln_dpo,
        simpo,
        hinge,
        odpo,
        dpo_rk,
        dpo_d,
        bpo,
        kldpo,
        rpo,
        flex_dpo,
    )
}


def make(name: str, settings: Mapping[str, object]) -> Objective:
    """Build a preset from its recipe spelling. Raises PydanticCustomError or ValidationError with what is wrong."""
    if name not in PRESETS:
        hint = suggest(name, list(PRESETS)) or f"one of: {', '.join(PRESETS)}"
        raise PydanticCustomError("preset", f"no objective is called '{name}' ({hint})")
    made: Objective = validate_call(PRESETS[name])(**settings)
    return made
