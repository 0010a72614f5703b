"""Rewards: the number a response earns.

A reward with a reference is a log-ratio: how much likelier the policy finds the response than the reference does. Sum
and mean over tokens are two rewards with two names, since they are different objectives at the same beta: the sum is
what DPO derives, the mean takes the length out and needs a beta some ten to a hundred times larger.
"""

from math import log
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Pairs, Response, Reward, TokenTerm

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "REWARDS",
    "FDivergence",
    "LogOdds",
    "LogProb",
    "LogRatio",
    "MapoError",
    "MeanLogProb",
    "MeanLogRatio",
    "MixtureLogRatio",
    "SequentialKl",
]

REFERENCE = types("ref_chosen_logp", "ref_rejected_logp", "ref_fingerprint")


@final
class LogRatio(Reward):
    """`beta * sum_t log(policy / reference)`: the implicit reward of DPO.

    With `beta_rejected` the two sides have their own scale (Flex-DPO), which is no KL-regularised optimum any more.
    Source: Rafailov et al. (2023), eq. 5; 3D-Properties (2025) for the two scales.
    """

    name: ClassVar[str] = "log-ratio"

    beta: PositiveFloat = 0.1
    """Strength of the pull to the reference: reward units per nat."""
    beta_rejected: NonNegativeFloat | None = None
    """Scale of the rejected side, if another."""

    def reads(self) -> Columns:
        return REFERENCE

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        other = self.beta if self.beta_rejected is None else self.beta_rejected
        return self.beta * log_ratio(pairs.chosen), other * log_ratio(pairs.rejected)


@final
class MeanLogRatio(Reward):
    """`beta * mean_t log(policy / reference)`: LN-DPO, and the averaged form of IPO.

    Source: The Hitchhiker's Guide to Human Alignment with *PO (2024), length-normalised DPO.
    """

    name: ClassVar[str] = "mean-log-ratio"

    beta: PositiveFloat = 2.0
    """Reward units per nat and token."""

    def reads(self) -> Columns:
        return REFERENCE

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        chosen, rejected = pairs.chosen, pairs.rejected
        return self.beta * mean_log_ratio(chosen), self.beta * mean_log_ratio(rejected)


@final
class LogProb(Reward):
    """`beta * sum_t log policy`: no reference (CPO without its SFT term)."""

    name: ClassVar[str] = "log-prob"

    beta: PositiveFloat = 0.1
    """Reward units per nat."""

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        return self.beta * pairs.chosen.logp, self.beta * pairs.rejected.logp


@final
class MeanLogProb(Reward):
    """`beta * mean_t log policy`: the reward of SimPO; no reference. Source: Meng et al. (2024), eq. 4."""

    name: ClassVar[str] = "mean-log-prob"

    beta: PositiveFloat = 2.0
    """Reward units per nat and token."""

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        return self.beta * mean_logp(pairs.chosen), self.beta * mean_logp(pairs.rejected)


@final
class FDivergence(Reward):
    """`beta * f'(policy / reference)`: DPO under another divergence than the reverse KL.

    With u the log-ratio: forward KL -exp(-u); Jensen-Shannon log 2 + log sigmoid(u); alpha -exp(-alpha u) / alpha;
    chi2-mix exp(u) + u. Exponents are capped at 80, where float32 ends. Source: Beyond Reverse KL (2023), table 1;
    chi2-mix is of chi-PO (2024).
    """

    name: ClassVar[str] = "f-divergence"

    divergence: Literal["reverse-kl", "forward-kl", "jensen-shannon", "alpha", "chi2-mix"]
    """Which divergence the policy is held to its reference by."""
    beta: PositiveFloat = 0.1
    """Reward units per unit of f'."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Of the alpha divergence alone: towards 0 it is the reverse KL, towards 1 the forward KL."""

    def reads(self) -> Columns:
        return REFERENCE

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        return self.beta * self._slope(pairs.chosen), self.beta * self._slope(pairs.rejected)

    def _slope(self, response: Response) -> "Tensor":
        from torch.nn.functional import logsigmoid

        ratio = log_ratio(response)
        if self.divergence == "reverse-kl":
            return ratio
        if self.divergence == "jensen-shannon":
            return log(2) + logsigmoid(ratio)
        if self.divergence == "chi2-mix":
            return ratio.clamp(max=80).exp() + ratio
        power = 1.0 if self.divergence == "forward-kl" else self.alpha
        return -(-power * ratio).clamp(max=80).exp() / power


@final
class LogOdds(Reward):
    """`beta * log(p / (1 - p))`, p the mean token probability (geometric): the odds of ORPO, and of MaPO on text.

    Source: ORPO (2024), eq. 4; Margin-aware Preference Optimization (2024), carried over to text.
    """

    name: ClassVar[str] = "log-odds"

    beta: PositiveFloat = 1.0
    """Reward units per nat of odds."""

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        return self.beta * self._odds(pairs.chosen), self.beta * self._odds(pairs.rejected)

    def _odds(self, response: Response) -> "Tensor":
        mean = mean_logp(response).clamp(max=-1e-6)  # a response that is certain has no finite odds
        return mean - (-mean.expm1()).log()


@final
class MapoError(Reward):
    """`steps * s x / (exp(s x) - 1)`, x the mean token loss: MaPO's own reward, with tokens for denoising errors.

    Source: Margin-aware Preference Optimization (2024), released loss.
    """

    name: ClassVar[str] = "mapo-error"

    s: PositiveFloat = 0.5
    """How fast the reward falls with the loss."""
    steps: PositiveFloat = 1.0
    """Scale; the number of denoising steps in the original."""

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        return self._reward(pairs.chosen), self._reward(pairs.rejected)

    def _reward(self, response: Response) -> "Tensor":
        error = (-self.s * mean_logp(response)).clamp(min=1e-6, max=80)
        return self.steps * error / error.expm1()


@final
class MixtureLogRatio(Reward):
    """The log-ratio to a mixture of the reference and of earlier policies: the reward of multiplayer games.

    `log policy - share * log reference - (1 - share) * sum_j weight_j log earlier_j`, weights normalised.
    Source: Multiplayer Nash Preference Optimization (MNPO, 2025)
    """

    name: ClassVar[str] = "mixture-log-ratio"

    share: Annotated[float, Field(ge=0, le=1)] = 1 / 3
    """Of the reference in the mixture."""
    weights: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)] = (1.0,)
    """Of the earlier policies in `ref_history`, latest first; policies beyond them are left out."""
    over: Literal["mean", "sum"] = "mean"
    """Whether a response counts by its mean token or by all of them."""

    def reads(self) -> Columns:
        return {**REFERENCE, **types("ref_history")}

    def refuse(self, table: pa.Table) -> str | None:
        fewest = pc.min(pc.list_value_length(table["ref_history"])).as_py() or 0
        if fewest < len(self.weights):
            return f"the reward weighs {len(self.weights)} earlier policies, and 'ref_history' has {fewest}"
        return None if sum(self.weights) else "the weights of the earlier policies are all 0"

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        history = pairs.columns["ref_history"][:, : len(self.weights)]
        weights = history.new_tensor(self.weights)[:, None] / sum(self.weights)
        earlier = (history * weights).sum(1)
        sides = []
        for at, response in enumerate((pairs.chosen, pairs.rejected)):
            other = self.share * reference(response) + (1 - self.share) * earlier[:, at]
            ratio = response.logp - other
            sides.append(ratio / response.tokens.clamp(min=1) if self.over == "mean" else ratio)
        return sides[0], sides[1]


@final
class SequentialKl(Reward):
    """`beta * (log-ratio + sum_t KL(reference || policy))`, both by the mask: SparsePO; without a mask TDPO.

    The KL is part of the reward, with its gradient. Source: Token-level DPO (2024); SparsePO (2024)
    """

    name: ClassVar[str] = "sequential-kl"

    beta: PositiveFloat = 0.1
    """Reward units per nat."""

    def reads(self) -> Columns:
        return REFERENCE

    def terms(self) -> tuple[TokenTerm, ...]:
        return (TokenTerm("masked-kl", kl_from_reference, reference=True, masked=True),)

    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        chosen, rejected = (log_ratio(one) + one.terms["masked-kl"] for one in (pairs.chosen, pairs.rejected))
        return self.beta * chosen, self.beta * rejected


def reference(response: Response) -> "Tensor":
    """Return the log-prob of a response under its reference, nats, [pairs]."""
    if response.ref_logp is None:
        raise ValueError("this reward needs reference log-probs, and the batch has none")
    return response.ref_logp


def log_ratio(response: Response) -> "Tensor":
    """Return the summed log-ratio of a response to its reference, nats, [pairs]."""
    return response.logp - reference(response)


def mean_log_ratio(response: Response) -> "Tensor":
    """Return the log-ratio a token, nats, [pairs]."""
    return log_ratio(response) / response.tokens.clamp(min=1)


def mean_logp(response: Response) -> "Tensor":
    """Return the log-prob a token, nats, [pairs]."""
    return response.logp / response.tokens.clamp(min=1)


def kl_from_reference(
    policy: "Tensor", reference: "Tensor | None", _: "tuple[Tensor, Tensor] | None"
) -> "Tensor":
    """Return KL(reference || policy) at each token, nats, [tokens], from log-softmax values [tokens, vocab]."""
    assert reference is not None
    return (reference.exp() * (reference - policy)).sum(-1)


REWARDS: tuple[type[Reward], ...] = (
    LogRatio,
    MeanLogRatio,
    LogProb,
    MeanLogProb,
    FDivergence,
    LogOdds,
    MapoError,
    MixtureLogRatio,
    SequentialKl,
)
