"""Labels: how far the stored direction of a pair is believed.

All of them mix the cost of a pair with the cost of its mirror image, `a cost(z) + b cost(-z)` with a + b = 1. For the
logistic link that is DPO plus b z: cDPO and soft labels tilt towards the mirror image (b > 0), the robust loss away
from it (b < 0), so that its mean over rows flipped at the stated rate is DPO on the clean ones.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Labels, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LABELS", "Hard", "Robust", "Smooth", "Soft"]

Rate = Annotated[float, Field(ge=0, lt=0.5)]
Cost = Callable[["Tensor"], "Tensor"]


@final
class Hard(Labels):
    """Believe every row."""

    name: ClassVar[str] = "hard"

    def __call__(self, cost: "Cost", logit: "Tensor", pairs: Pairs) -> "Tensor":
        return cost(logit)


@final
class Smooth(Labels):
    """Believe each row with probability 1 - rate: cDPO. Optimum of the logistic link: log((1 - rate) / rate).

    Source: A note on DPO with noisy preferences (2023).
    """

    name: ClassVar[str] = "smooth"

    rate: Rate | None = None
    """Share of wrong labels; left out, each row's own `flip_prob`."""

    def reads(self) -> Columns:
        return {} if self.rate is not None else types("flip_prob")

    def refuse(self, table: pa.Table) -> str | None:
        return no_rate(self.name, self.rate, table)

    def __call__(self, cost: "Cost", logit: "Tensor", pairs: Pairs) -> "Tensor":
        rate = self.rate if self.rate is not None else pairs.columns["flip_prob"]
        return (1 - rate) * cost(logit) + rate * cost(-logit)


@final
class Robust(Labels):
    """Undo label noise in the mean: rDPO, unbiased under flips at the stated rate, and unbounded below.

    Source: Provably Robust DPO (2024), eq. 11.
    """

    name: ClassVar[str] = "robust"

    rate: Rate | None = None
    """Share of wrong labels; left out, each row's own `flip_prob`, which must stay below 0.5."""

    def reads(self) -> Columns:
        return {} if self.rate is not None else types("flip_prob")

    def refuse(self, table: pa.Table) -> str | None:
        if self.rate is None and (pc.max(table["flip_prob"]).as_py() or 0.0) >= 0.5:
            return "labels 'robust' need every flip_prob below 0.5: flip or drop such rows first"
        return no_rate(self.name, self.rate, table)

    def __call__(self, cost: "Cost", logit: "Tensor", pairs: Pairs) -> "Tensor":
        rate = self.rate if self.rate is not None else pairs.columns["flip_prob"]
        return ((1 - rate) * cost(logit) - rate * cost(-logit)) / (1 - 2 * rate)


@final
class Soft(Labels):
    """Believe each row by its own `p_chosen`."""

    name: ClassVar[str] = "soft"

    def reads(self) -> Columns:
        return types("p_chosen")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["p_chosen"], 1.0)).as_py():
            return "labels 'soft' change nothing: every p_chosen is 1"
        return None

    def __call__(self, cost: "Cost", logit: "Tensor", pairs: Pairs) -> "Tensor":
        belief = pairs.columns["p_chosen"]
        return belief * cost(logit) + (1 - belief) * cost(-logit)


def no_rate(name: str, rate: float | None, table: pa.Table) -> str | None:
    """Return why noise-aware labels would be a silent no-op, or None."""
    highest = rate if rate is not None else pc.max(table["flip_prob"]).as_py()
    return None if highest else f"labels '{name}' change nothing: every flip rate is 0"


LABELS: tuple[type[Labels], ...] = (Hard, Smooth, Robust, Soft)
