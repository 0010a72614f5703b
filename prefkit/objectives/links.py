"""Links: what a logit costs, z = reward gap minus offset.

Costs are written with softplus, never as the log of a sigmoid, so that |z| of thousands stays finite. Each link knows
its population optimum: the z that minimises p cost(z) + (1 - p) cost(-z), which tests recover numerically.
"""

from math import log, log1p
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Link, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LINKS", "Davidson", "Exponential", "Hinge", "Logistic", "RaoKupper", "Squared"]


@final
class Logistic(Link):
    """`softplus(-z)`: Bradley-Terry, the link of DPO. Optimum log(p / (1 - p)). Rafailov et al. (2023), eq. 7."""

    name: ClassVar[str] = "logistic"

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        from torch.nn.functional import softplus

        return softplus(-logit)

    def optimum(self, p: float) -> float:
        return log(p) - log1p(-p)


@final
class Hinge(Link):
    """`max(0, 1 - z)`: satisfied once chosen leads by 1. Zhao et al. (2023), SLiC, with log-ratio rewards."""

    name: ClassVar[str] = "hinge"

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        return (1 - logit).clamp(min=0)

    def optimum(self, p: float) -> float | None:
        return None if p == 0.5 else (1.0 if p > 0.5 else -1.0)


@final
class Squared(Link):
    """`(z - target)^2`: the link of IPO. Optimum (2p - 1) target. Azar et al. (2023), eq. 17."""

    name: ClassVar[str] = "squared"

    target: PositiveFloat = 5.0
    """The gap to reach; IPO's 1 / (2 tau)."""

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        return (logit - self.target).square()

    def optimum(self, p: float) -> float:
        return (2 * p - 1) * self.target


@final
class Exponential(Link):
    """`exp(-z / 2)`: boosting's loss at half scale. Optimum log(p / (1 - p)).

    It is the scaled basic power divergence of Bregman preference optimization (2025) at lambda -1/2, s 4. The
    exponent is capped at 80, beyond which float32 overflows and the gradient is clipped away anyhow.
    """

    name: ClassVar[str] = "exponential"

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        return (-logit / 2).clamp(max=80).exp()

    def optimum(self, p: float) -> float:
        return log(p) - log1p(-p)


@final
class RaoKupper(Link):
    """Ties by a threshold: P(win) = sigmoid(z - log nu). DPO-RK; reads `tie`.

    Source: On Extending DPO to Accommodate Ties (NeurIPS 2025); Rao and Kupper (1967).
    """

    name: ClassVar[str] = "rao-kupper"
    symmetric: ClassVar[bool] = False

    nu: Annotated[float, Field(gt=1)] = 3.0
    """Evenly matched responses tie with probability (nu - 1) / (nu + 1)."""

    def reads(self) -> Columns:
        return types("tie")

    def refuse(self, table: pa.Table) -> str | None:
        return needs_both(table, self.name)

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        import torch
        from torch.nn.functional import softplus

        alpha = log(self.nu)
        win = softplus(alpha - logit)
        tied = win + softplus(alpha + logit) - log(self.nu**2 - 1)
        return torch.where(pairs.columns["tie"] > 0, tied, win)


@final
class Davidson(Link):
    """Ties by a geometric mean: P(tie) is 2 nu sqrt(P(win) P(lose)). DPO-D; reads `tie`.

    Source: On Extending DPO to Accommodate Ties (NeurIPS 2025); Davidson (1970), eq. 2.3.
    """

    name: ClassVar[str] = "davidson"
    symmetric: ClassVar[bool] = False

    nu: PositiveFloat = 1.0
    """Evenly matched responses tie with probability nu / (1 + nu)."""

    def reads(self) -> Columns:
        return types("tie")

    def refuse(self, table: pa.Table) -> str | None:
        return needs_both(table, self.name)

    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        import torch

        bulk = torch.stack([torch.zeros_like(logit), -logit, log(2 * self.nu) - logit / 2])
        win = bulk.logsumexp(0)
        return torch.where(pairs.columns["tie"] > 0, win + logit / 2 - log(2 * self.nu), win)


def needs_both(table: pa.Table, link: str) -> str | None:
    """Return why a tie link cannot learn from these rows: no ties, or nothing but ties."""
    share = pc.mean(pc.fill_null(table["tie"], False).cast(pa.int8())).as_py() or 0.0
    if 0 < share < 1:
        return None
    return f"link '{link}' needs ties and wins, and {'no' if share == 0 else 'every'} row is a tie"


LINKS: tuple[type[Link], ...] = (Logistic, Hinge, Squared, Exponential, RaoKupper, Davidson)
