"""Presets: the losses people know by name, each as the pieces it is made of.

A preset's parameters keep the paper's name and default. Where two papers share a name, the preset takes the
unambiguous one: `rdpo` is the robust loss, not length-regularised DPO; `rpo` is DPO with an SFT term; `kldpo` is a
soft maximum over the batch and `dr-dpo` a soft minimum.

Methods that are one of these losses inside a loop over rounds (iterated DPO, extragradient, extrapolation, fast and
slow weights) or that need fresh samples at every step (HyPO, online VPO) are not presets: the loop owns data and
reference, and calls the trainer with one of these.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, validate_call
from pydantic_core import PydanticCustomError

from prefkit.catalog import suggest
from prefkit.objectives.extras import Sft
from prefkit.objectives.labels import Posterior, Robust, Smooth, Soft
from prefkit.objectives.links import Discovered, Exo, Hinge, Squared
from prefkit.objectives.more_links import (
    ApoDown,
    ApoZero,
    Binary,
    Nca,
    PointwiseSquared,
)
from prefkit.objectives.objective import Objective
from prefkit.objectives.offsets import Constant
from prefkit.objectives.presets_more import MORE
from prefkit.objectives.rewards import (
    LogOdds,
    LogProb,
    LogRatio,
    MeanLogProb,
    MeanLogRatio,
    MixtureLogRatio,
)
from prefkit.objectives.weights import RowWeight

__all__ = ["PRESETS", "make", "parameters"]

Rate = Annotated[float, Field(ge=0, lt=0.5)]
Share = Annotated[float, Field(ge=0, le=1)]


def dpo(beta: PositiveFloat = 0.1) -> Objective:
    """Direct Preference Optimization. Rafailov et al. (2023), eq. 7."""
    return Objective(reward=LogRatio(beta=beta))


def salsa(beta: PositiveFloat = 0.1) -> Objective:
    """SALSA (2024), offline: DPO whose reference is an average of two models, which the `reference` stage says."""
    return Objective(reward=LogRatio(beta=beta))


def cdpo(beta: PositiveFloat = 0.1, rate: Rate | None = 0.1) -> Objective:
    """Conservative DPO: label smoothing. `rate: null` reads each row's `flip_prob`. Mitchell (2023)."""
    return Objective(reward=LogRatio(beta=beta), labels=Smooth(rate=rate))


def rdpo(beta: PositiveFloat = 0.1, rate: Rate | None = 0.1) -> Objective:
    """Provably robust DPO (2024). `rate: null` reads each row's `flip_prob`."""
    return Objective(reward=LogRatio(beta=beta), labels=Robust(rate=rate))


def soft_dpo(beta: PositiveFloat = 0.1) -> Objective:
    """DPO (2023), eq. 7, on graded labels: each row believed by its `p_chosen`."""
    return Objective(reward=LogRatio(beta=beta), labels=Soft())


def weighted_dpo(beta: PositiveFloat = 0.1) -> Objective:
    """DPO (2023), eq. 7, with each row counted by its `weight`."""
    return Objective(reward=LogRatio(beta=beta), weights=RowWeight())


def lcpo(
    beta: PositiveFloat = 0.1,
    eta: Annotated[float, Field(ge=0.5, lt=1)] = 0.9,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    warmup: NonNegativeInt = 0,
    by: Literal["annotator", "none"] = "annotator",
) -> Objective:
    """Latent Collective Preference Optimization (2025): annotators' reliabilities learned by EM while training."""
    labels = Posterior(reliability=eta, momentum=momentum, warmup=warmup, by=by)
    return Objective(reward=LogRatio(beta=beta), labels=labels)


def ipo(tau: PositiveFloat = 0.1) -> Objective:
    """IPO as published: the summed log-ratio gap is pulled to 1 / (2 tau). Azar et al. (2023), eq. 17."""
    return Objective(reward=LogRatio(beta=1.0), link=Squared(target=1 / (2 * tau)))


def ipo_mean(tau: PositiveFloat = 0.1) -> Objective:
    """IPO (2023), eq. 17, on per-token means, which later code (TRL) calls IPO; another loss at the same tau."""
    return Objective(reward=MeanLogRatio(beta=1.0), link=Squared(target=1 / (2 * tau)))


def online_ipo(tau: PositiveFloat = 0.1) -> Objective:
    """Online IPO (2024), on labels as they were given: the target is graded by `p_chosen`."""
    return Objective(reward=LogRatio(beta=1.0), link=Squared(target=1 / (2 * tau), times="p-chosen"))


def egpo(beta: PositiveFloat = 0.1) -> Objective:
    """The loss of Extragradient Preference Optimization (EGPO, 2025): mean log-ratios, target by win rates."""
    return Objective(reward=MeanLogRatio(beta=1.0), link=Squared(target=1 / beta, times="win-rate"))


def mnpo(
    eta: PositiveFloat = 0.0075, ratio: Share = 1 / 3, weights: tuple[NonNegativeFloat, ...] = (1.0,)
) -> Objective:
    """Multiplayer Nash Preference Optimization (MNPO, 2025): earlier policies in the reference."""
    return Objective(reward=MixtureLogRatio(share=ratio, weights=weights), link=Squared(target=1 / (2 * eta)))


def sppo(beta: PositiveFloat = 1e-3) -> Objective:
    """Self-Play Preference Optimization (SPPO, 2024), eq. 4.7; beta is 1 / eta."""
    return Objective(reward=LogRatio(beta=1.0), link=PointwiseSquared(beta=beta))


def copg(beta: PositiveFloat = 0.1) -> Objective:
    """Contrastive Policy Gradient (CoPG, 2024): the gap is regressed on the difference of scores."""
    link = Squared(target=1 / beta, times="score")
    return Objective(reward=LogRatio(beta=1.0), link=link, scale=beta / 2)


def ln_dpo(beta: PositiveFloat = 2.0) -> Objective:
    """Length-normalised DPO. The Hitchhiker's Guide to Human Alignment with *PO (2024)."""
    return Objective(reward=MeanLogRatio(beta=beta))


def simpo(beta: PositiveFloat = 2.0, gamma: NonNegativeFloat = 0.5) -> Objective:
    """SimPO: mean log-probs, no reference, a target margin gamma in reward units. Meng et al. (2024), eq. 6."""
    return Objective(reward=MeanLogProb(beta=beta), offset=Constant(value=gamma))


def cpo(beta: PositiveFloat = 0.1, eta: PositiveFloat = 1.0) -> Objective:
    """Contrastive Preference Optimization (CPO, 2024): no reference, and an SFT term."""
    return Objective(reward=LogProb(beta=beta), extras=(Sft(coefficient=eta, over="step"),))


def orpo(beta: PositiveFloat = 0.1) -> Objective:
    """Odds Ratio Preference Optimization (ORPO, 2024), eq. 6, its odds of mean token probabilities."""
    return Objective(reward=LogOdds(), scale=beta, extras=(Sft(coefficient=1.0, over="step"),))


def mapo_text(beta: PositiveFloat = 0.1) -> Objective:
    """Margin-aware Preference Optimization (MaPO, 2024) carried over to text: SFT and odds, no reference."""
    return Objective(reward=LogOdds(), scale=beta, extras=(Sft(coefficient=1.0),))


def hinge(beta: PositiveFloat = 0.1) -> Objective:
    """SLiC's hinge on log-ratios. Zhao et al. (2023)."""
    return Objective(reward=LogRatio(beta=beta), link=Hinge())


def exo(beta: PositiveFloat = 0.1, rate: Annotated[float, Field(gt=0, lt=0.5)] = 1e-3) -> Objective:
    """Efficient Exact Optimization (EXO, 2024), eq. 16: the reverse KL to a smoothed label."""
    return Objective(reward=LogRatio(beta=beta), link=Exo(rate=rate))


def nca(beta: PositiveFloat = 0.1) -> Objective:
    """Noise Contrastive Alignment (NCA, 2024) of pairs: chosen does not fall while the gap grows."""
    return Objective(reward=LogRatio(beta=beta), link=Nca())


def bco(beta: PositiveFloat = 0.1) -> Objective:
    """Binary Classifier Optimization (BCO, 2024) of pairs, without the shift of its unpaired form."""
    return Objective(reward=LogRatio(beta=beta), link=Binary())


def apo_zero(beta: PositiveFloat = 0.1) -> Objective:
    """Anchored Preference Optimization (APO, 2024), eq. 7: chosen up, rejected down."""
    return Objective(reward=LogRatio(beta=beta), link=ApoZero())


def apo_down(beta: PositiveFloat = 0.1) -> Objective:
    """Anchored Preference Optimization (APO, 2024), eq. 8: both down, rejected further."""
    return Objective(reward=LogRatio(beta=beta), link=ApoDown())


def discopop(beta: PositiveFloat = 0.05, tau: PositiveFloat = 0.05) -> Objective:
    """Discovered Preference Optimization (DiscoPOP, 2024), eq. 5."""
    return Objective(reward=LogRatio(beta=beta), link=Discovered(tau=tau))


_PAIRWISE = (
    dpo,
    salsa,
    cdpo,
    rdpo,
    soft_dpo,
    weighted_dpo,
    lcpo,
    hinge,
    exo,
    nca,
    bco,
    apo_zero,
    apo_down,
    discopop,
)
_SQUARES = (ipo, ipo_mean, online_ipo, egpo, mnpo, sppo, copg)
_FREE = (ln_dpo, simpo, cpo, orpo, mapo_text)
PRESETS: Mapping[str, Callable[..., Objective]] = {
    preset.__name__.replace("_", "-"): preset for preset in (*_PAIRWISE, *_SQUARES, *_FREE, *MORE)
}


def make(name: str, settings: Mapping[str, object]) -> Objective:
    """Build a preset from its recipe spelling. Raises PydanticCustomError or ValidationError with what is wrong."""
    if name not in PRESETS:
        hint = suggest(name, list(PRESETS)) or f"one of: {', '.join(PRESETS)}"
        raise PydanticCustomError("preset", f"no objective is called '{name}' ({hint})")
    made: Objective = validate_call(PRESETS[name])(**settings)
    return made


def parameters(name: str) -> frozenset[str]:
    """Return the names of a preset's parameters; none for a name that is no preset."""
    return frozenset(signature(PRESETS[name]).parameters) if name in PRESETS else frozenset()
