"""Reducers: how the rows of one optimizer step become one number."""

from typing import TYPE_CHECKING, ClassVar, final

import pyarrow as pa
from pydantic import PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Reducer, Rows

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["REDUCERS", "KlRobust", "Mean", "PerDimension", "SoftMin"]


@final
class Mean(Reducer):
    """The mean over rows; for a listwise objective the mean over lists of their sums."""

    name: ClassVar[str] = "mean"

    def __call__(self, rows: Rows) -> "Tensor":
        import torch

        return torch.full_like(rows.losses, 1 / rows.units)


@final
class KlRobust(Reducer):
    """Weigh rows by `exp((loss - mean) / tau)`: KLDPO, the worst case within a KL ball.

    It trains hardest on what it gets wrong, so also on wrong labels. tau to infinity is the mean, tau to 0 the worst
    row. Source: Robust LLM Alignment via Distributionally Robust DPO (NeurIPS 2025), the paper's normalised form; the
    released code caps each weight at 10 and does not normalise.
    """

    name: ClassVar[str] = "kl-robust"
    two_pass: ClassVar[bool] = True

    tau: PositiveFloat = 0.05
    """Temperature, in units of the loss."""
    normalise: bool = True
    """The paper's form; without, the released code's, whose learning rate is in effect another."""

    def __call__(self, rows: Rows) -> "Tensor":
        if self.normalise:
            return (rows.losses / self.tau).softmax(0)
        return ((rows.losses - rows.losses.mean()) / self.tau).clamp(max=80).exp().clamp(max=10) / rows.units


@final
class SoftMin(Reducer):
    """Weigh rows by `exp(-loss / tau)`, normalised: Dr. DPO, which trusts rows less the worse they fit.

    The opposite of `kl-robust`. Source: Towards Robust Alignment: Distributionally Robustifying DPO (ICLR 2025)
    """

    name: ClassVar[str] = "soft-min"
    two_pass: ClassVar[bool] = True

    tau: PositiveFloat = 1.0
    """Beta' of the paper, in units of the loss."""

    def __call__(self, rows: Rows) -> "Tensor":
        return (-rows.losses / self.tau).softmax(0)


@final
class PerDimension(Reducer):
    """The mean over dimensions of the mean over their rows, of the dimensions that the step has.

    Source: Simultaneous Multi-objective Alignment (MAH-DPO, 2025).
    """

    name: ClassVar[str] = "per-dimension"

    def reads(self) -> Columns:
        return types("dimension")

    def refuse(self, table: pa.Table) -> str | None:
        if len(table["dimension"].unique()) < 2:
            return "reducer 'per-dimension' changes nothing: the rows have one dimension"
        return None

    def __call__(self, rows: Rows) -> "Tensor":
        import torch

        _, group, count = torch.unique(rows.columns["dimension"], return_inverse=True, return_counts=True)
        share: Tensor = 1 / (count[group] * len(count)).to(rows.losses.dtype)
        return share


REDUCERS: tuple[type[Reducer], ...] = (Mean, KlRobust, SoftMin, PerDimension)
