"""More presets: losses that shape the gap, hold the policy, rank lists or learn from a teacher."""

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from prefkit.objectives.extras import Advantage, Degree, Distill, EmbeddingGradient, Sft, TokenKl, Value
from prefkit.objectives.heads import Heads
from prefkit.objectives.links import Bregman, Davidson, RaoKupper
from prefkit.objectives.masks import Facts, Phrases, SpanWeights, Steps
from prefkit.objectives.more_links import (
    PlackettLuce,
    RewardRanking,
)
from prefkit.objectives.objective import Objective
from prefkit.objectives.offsets import Margin, OtherRewards
from prefkit.objectives.reducers import KlRobust, PerDimension, SoftMin
from prefkit.objectives.rewards import (
    FDivergence,
    LogProb,
    LogRatio,
    MeanLogProb,
    SequentialKl,
)
from prefkit.objectives.weights import EachPair, LambdaRank, MarginAdaptive, NoPreference, Untouched, Views

__all__ = ["MORE"]

Share = Annotated[float, Field(ge=0, le=1)]


def odpo(beta: PositiveFloat = 0.1, scale: PositiveFloat = 1.0) -> Objective:
    """DPO with an offset: the gap has to beat `scale * margin` (2024)."""
    return Objective(reward=LogRatio(beta=beta), offset=Margin(scale=scale))


def modpo(weights: Mapping[str, float], beta: PositiveFloat = 0.1, w: PositiveFloat = 0.5) -> Objective:
    """Multi-Objective DPO (MODPO, 2023): `w` is of the labels, `weights` of the other scores."""
    others = OtherRewards(weights={name: weight / w for name, weight in weights.items()})
    return Objective(reward=LogRatio(beta=beta / w), offset=others)


def mah_dpo(
    dimensions: tuple[str, ...], beta: PositiveFloat = 0.1, shares: tuple[NonNegativeFloat, ...] | None = None
) -> Objective:
    """Multi-Action-Head DPO (MAH-DPO, 2025): an output head per dimension, averaged over dimensions."""
    heads = Heads(dimensions=dimensions, shares=shares)
    return Objective(reward=LogRatio(beta=beta), reducer=PerDimension(), heads=heads)


def madpo(
    beta: PositiveFloat = 0.1,
    c_max: Annotated[float, Field(gt=1)] = 2.0,
    c_min: Annotated[float, Field(gt=0, lt=1)] | None = None,
    tau: PositiveFloat = 6.906754778648554,
) -> Objective:
    """Margin Adaptive DPO (MADPO, 2025): rows weighted so that the optimal gap is c(m) times the margin."""
    weights = MarginAdaptive(c_max=c_max, c_min=1 / c_max if c_min is None else c_min, tau=tau)
    return Objective(reward=LogRatio(beta=beta), weights=weights)


def dpo_rk(beta: PositiveFloat = 0.1, nu: Annotated[float, Field(gt=1)] = 3.0) -> Objective:
    """DPO with ties by Rao and Kupper (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=RaoKupper(nu=nu))


def dpo_d(beta: PositiveFloat = 0.1, nu: PositiveFloat = 1.0) -> Objective:
    """DPO with ties by Davidson (NeurIPS 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=Davidson(nu=nu))


def bpo(
    beta: PositiveFloat = 0.1,
    power: Annotated[float, Field(gt=-1)] = -0.5,
    s: PositiveFloat = 4.0,
    low: PositiveFloat | None = 0.01,
    high: PositiveFloat | None = None,
) -> Objective:
    """Bregman preference optimization (BPO, NeurIPS 2025), table 1: the scaled basic power family."""
    return Objective(reward=LogRatio(beta=beta), link=Bregman(power=power, s=s, low=low, high=high))


def f_dpo(
    divergence: Literal["reverse-kl", "forward-kl", "jensen-shannon", "alpha", "chi2-mix"] = "forward-kl",
    beta: PositiveFloat = 0.1,
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.5,
) -> Objective:
    """DPO under another divergence. Beyond Reverse KL (f-DPO, 2023), table 1."""
    return Objective(reward=FDivergence(divergence=divergence, beta=beta, alpha=alpha))


def kldpo(beta: PositiveFloat = 0.01, tau: PositiveFloat = 0.05, *, normalise: bool = True) -> Objective:
    """KL-robust DPO (NeurIPS 2025); not normalised, it is the released code's form."""
    return Objective(reward=LogRatio(beta=beta), reducer=KlRobust(tau=tau, normalise=normalise))


def wdpo(beta: PositiveFloat = 0.01, rho: PositiveFloat = 1.0, *, root: bool = True) -> Objective:
    """Wasserstein-robust DPO (NeurIPS 2025): a penalty on the gradient at the embeddings; rootless in its code."""
    return Objective(reward=LogRatio(beta=beta), penalty=EmbeddingGradient(rho=rho, root=root))


def dr_dpo(beta: PositiveFloat = 0.1, tau: PositiveFloat = 1.0) -> Objective:
    """Dr. DPO (ICLR 2025): a soft minimum, which trusts rows less the worse they fit."""
    return Objective(reward=LogRatio(beta=beta), reducer=SoftMin(tau=tau))


def rpo(
    beta: PositiveFloat = 0.5, eta: PositiveFloat = 0.2, over: Literal["mean", "sum", "step"] = "mean"
) -> Objective:
    """Regularized PO (RPO, NeurIPS 2024): DPO plus eta times the token loss of chosen; over the `sum` times beta."""
    coefficient = eta * beta if over == "sum" else eta
    return Objective(reward=LogRatio(beta=beta), extras=(Sft(coefficient=coefficient, over=over),))


def vpo(beta: PositiveFloat = 0.1, alpha: PositiveFloat = 0.01) -> Objective:
    """Value-incentivized PO, offline (VPO, ICLR 2025): pessimism, with chosen to calibrate on."""
    return Objective(reward=LogRatio(beta=beta), extras=(Value(coefficient=alpha * beta),))


def flex_dpo(
    beta_plus: PositiveFloat = 0.1, beta_minus: NonNegativeFloat = 0.05, eta: PositiveFloat | None = None
) -> Objective:
    """Flex-DPO: its own scale for rejected, and an optional SFT term. 3D-Properties (ICLR 2025)."""
    extras = () if eta is None else (Sft(coefficient=eta),)
    return Objective(reward=LogRatio(beta=beta_plus, beta_rejected=beta_minus), extras=extras)


def spo_degree(beta: PositiveFloat = 0.1, gamma: PositiveFloat = 0.1, degrees: int = 3) -> Objective:
    """Self-supervised PO (SPO, EMNLP Findings 2024): a head tells how much was taken out of a response."""
    extra = Degree(coefficient=gamma, degrees=degrees)
    return Objective(reward=LogRatio(beta=beta), weights=Untouched(), extras=(extra,))


def bvpo(beta: PositiveFloat = 0.1, share: Share = 0.5) -> Objective:
    """Bias-variance optimized PO (BVPO, 2025): rows with reasoning and rows without, mixed."""
    return Objective(reward=LogRatio(beta=beta), weights=Views(share=share))


def rrpo(beta: PositiveFloat = 0.1, alpha: PositiveFloat = 0.01) -> Objective:
    """Refined Regularized PO (RRPO, NeurIPS 2025): only differing phrases, held by a token KL on chosen."""
    return Objective(mask=Phrases(), reward=LogRatio(beta=beta), extras=(TokenKl(coefficient=alpha),))


def mask_dpo(beta: PositiveFloat = 0.1) -> Objective:
    """Mask-DPO (ICLR 2025): chosen's true sentences against rejected's false ones."""
    return Objective(mask=Facts(), reward=LogRatio(beta=beta))


def tdpo(beta: PositiveFloat = 0.1) -> Objective:
    """Token-level DPO (TDPO, 2024): the sequential KL of both sides in the reward."""
    return Objective(reward=SequentialKl(beta=beta))


def sparsepo(beta: PositiveFloat = 0.8) -> Objective:
    """SparsePO (2024), with token weights that the rows carry: sparse log-ratios and sparse KL."""
    return Objective(mask=SpanWeights(), reward=SequentialKl(beta=beta))


def lipo(beta: PositiveFloat = 0.05) -> Objective:
    """Listwise PO with lambda weights (LiPO, NAACL 2025)."""
    return Objective(reward=LogRatio(beta=beta), weights=LambdaRank())


def list_logistic(beta: PositiveFloat = 0.05) -> Objective:
    """DPO summed over the pairs of a list, averaged over lists (pair-logistic of LiPO, NAACL 2025)."""
    return Objective(reward=LogRatio(beta=beta), weights=EachPair())


def list_mle(beta: PositiveFloat = 0.05) -> Objective:
    """Plackett and Luce's likelihood of the list's order (list-MLE of LiPO, NAACL 2025)."""
    return Objective(reward=LogRatio(beta=beta), link=PlackettLuce())


def tpo(
    beta: PositiveFloat = 0.5, weigh: Literal["one", "one-plus-cos", "one-minus-cos"] = "one"
) -> Objective:
    """Tree Preference Optimization (TPO, ICLR 2025): mean over steps of their sums, ranked as a list."""
    return Objective(mask=Steps(weigh=weigh), reward=LogRatio(beta=beta), weights=LambdaRank())


def pro(sft: PositiveFloat = 0.05) -> Objective:
    """Preference Ranking Optimization (PRO, AAAI 2024): no reference, temperatures from the scores."""
    extra = Sft(coefficient=sft, over="best")
    return Objective(reward=MeanLogProb(beta=1.0), link=RewardRanking(), extras=(extra,))


def adpa(gamma: PositiveFloat = 1.0, eta: PositiveFloat = 1.0) -> Objective:
    """Advantage-guided distillation (ADPA, ICLR 2025): SFT on chosen, a teacher's advantage on rejected."""
    extras = (Sft(coefficient=eta), Advantage(coefficient=gamma))
    return Objective(reward=LogProb(beta=1.0), weights=NoPreference(), extras=extras)


def dckd(
    chosen: NonNegativeFloat = 1.0, rejected: NonNegativeFloat = 1.0, eta: PositiveFloat = 1.0
) -> Objective:
    """Dual-constrained distillation (DCKD of ADPA, ICLR 2025): SFT on chosen, a teacher's KL on both sides."""
    extras = (Sft(coefficient=eta), Distill(chosen=chosen, rejected=rejected))
    return Objective(reward=LogProb(beta=1.0), weights=NoPreference(), extras=extras)


_SHAPED = (odpo, modpo, mah_dpo, madpo, dpo_rk, dpo_d, bpo, f_dpo, kldpo, wdpo, dr_dpo)
_HELD = (rpo, vpo, flex_dpo, spo_degree, bvpo, rrpo, mask_dpo, tdpo, sparsepo)
_LISTS = (lipo, list_logistic, list_mle, tpo, pro)
MORE: tuple[Callable[..., Objective], ...] = (*_SHAPED, *_HELD, *_LISTS, adpa, dckd)
