"""Weights, reducers and extras: how rows count, how a step becomes one number, and what stands beside the cost."""

from typing import TYPE_CHECKING, ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Extra, Pairs, Reducer, Weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["EXTRAS", "REDUCERS", "WEIGHTS", "Equal", "KlRobust", "Mean", "RowWeight", "Sft"]


@final
class Equal(Weights):
    """Every row counts the same."""

    name: ClassVar[str] = "equal"

    def __call__(self, pairs: Pairs) -> "Tensor":
        import torch

        return torch.ones_like(pairs.chosen.logp)


@final
class RowWeight(Weights):
    """Each row counts by its `weight`, which has mean 1 over the dataset."""

    name: ClassVar[str] = "column"

    def reads(self) -> Columns:
        return types("weight")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["weight"], 1.0)).as_py():
            return "weights 'column' change nothing: every weight is 1"
        return None

    def __call__(self, pairs: Pairs) -> "Tensor":
        return pairs.columns["weight"]


@final
class Mean(Reducer):
    """`sum_i weight_i loss_i / rows`."""

    name: ClassVar[str] = "mean"

    def __call__(self, losses: "Tensor", weights: "Tensor", rows: int) -> "Tensor":
        return weights / rows


@final
class KlRobust(Reducer):
    """Weigh rows by `exp((loss - mean) / tau)`, normalised: KLDPO, the worst case within a KL ball.

    It trains hardest on what it gets wrong, so also on wrong labels. tau to infinity is the mean, tau to 0 the worst
    row. Source: Robust LLM Alignment via Distributionally Robust DPO (NeurIPS 2025), the paper's normalised form.
    """

    name: ClassVar[str] = "kl-robust"
    two_pass: ClassVar[bool] = True

    tau: PositiveFloat = 0.05
    """Temperature, in units of the loss."""

    def __call__(self, losses: "Tensor", weights: "Tensor", rows: int) -> "Tensor":
        return weights * (losses / self.tau).softmax(0)


@final
class Sft(Extra):
    """`coefficient * -log policy(chosen)`, by token mean or sum: the SFT term of RPO.

    Source: Provably Mitigating Overoptimization in RLHF (NeurIPS 2024). Its cumulative form is `over: sum` with the
    coefficient times beta, its average form `over: mean`.
    """

    name: ClassVar[str] = "sft"

    coefficient: PositiveFloat = 0.2
    """How much the term counts beside the preference cost."""
    over: Literal["mean", "sum"] = "mean"
    """Whether a response counts by its mean token or by all of them."""

    def __call__(self, pairs: Pairs) -> "Tensor":
        chosen = pairs.chosen
        return -self.coefficient * (chosen.logp / chosen.tokens if self.over == "mean" else chosen.logp)


WEIGHTS: tuple[type[Weights], ...] = (Equal, RowWeight)
REDUCERS: tuple[type[Reducer], ...] = (Mean, KlRobust)
EXTRAS: tuple[type[Extra], ...] = (Sft,)
