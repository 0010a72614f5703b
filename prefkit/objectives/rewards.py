"""Rewards and offsets: the number a response earns, and the number a gap must beat.

A reward with a reference is a log-ratio: how much likelier the policy finds the response than the reference does. Sum
and mean over tokens are two rewards with two names, since they are different objectives at the same beta: the sum is
what DPO derives, the mean takes the length out and needs a beta some ten to a hundred times larger.
"""

from typing import TYPE_CHECKING, ClassVar, final

from pydantic import NonNegativeFloat, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Offset, Pairs, Response, Reward

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OFFSETS", "REWARDS", "Constant", "LogProb", "LogRatio", "Margin", "MeanLogProb", "MeanLogRatio"]

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
        return (
            self.beta * log_ratio(chosen) / chosen.tokens,
            self.beta * log_ratio(rejected) / rejected.tokens,
        )


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
        chosen, rejected = pairs.chosen, pairs.rejected
        return self.beta * chosen.logp / chosen.tokens, self.beta * rejected.logp / rejected.tokens


@final
class Constant(Offset):
    """The same offset for every pair: gamma of SimPO. A plain number in a recipe means this."""

    name: ClassVar[str] = "constant"

    value: float = 0.0
    """Reward units."""

    def __call__(self, pairs: Pairs) -> float:
        return self.value


@final
class Margin(Offset):
    """`scale * margin`: pairs that are further apart have to be told further apart.

    Source: Direct Preference Optimization with an Offset (2024), eq. 7.
    """

    name: ClassVar[str] = "margin"

    scale: PositiveFloat = 1.0
    """Reward units per unit of margin."""

    def reads(self) -> Columns:
        return types("margin")

    def __call__(self, pairs: Pairs) -> "Tensor":
        return self.scale * pairs.columns["margin"]


def log_ratio(response: Response) -> "Tensor":
    """Return the summed log-ratio of a response to its reference, nats, [pairs]."""
    if response.ref_logp is None:
        raise ValueError("this reward needs reference log-probs, and the batch has none")
    return response.logp - response.ref_logp


REWARDS: tuple[type[Reward], ...] = (LogRatio, MeanLogRatio, LogProb, MeanLogProb)
OFFSETS: tuple[type[Offset], ...] = (Constant, Margin)
