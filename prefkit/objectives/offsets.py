"""Offsets: how much a gap has to beat before it counts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Offset, Pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["OFFSETS", "Constant", "Margin", "OtherRewards"]


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

    Source: Direct Preference Optimization with an Offset (2024)
    """

    name: ClassVar[str] = "margin"

    scale: PositiveFloat = 1.0
    """Reward units per unit of margin."""

    def reads(self) -> Columns:
        return types("margin")

    def refuse(self, table: pa.Table) -> str | None:
        if pc.all(pc.equal(table["margin"], 0.0)).as_py():
            return "offset 'margin' changes nothing: every margin is 0"
        return None

    def __call__(self, pairs: Pairs) -> "Tensor":
        return self.scale * pairs.columns["margin"]


@final
class OtherRewards(Offset):
    """`sum_j weight_j (chosen_j - rejected_j)`: what other scores already say of the pair, by the scores' names.

    The others must be on the scale of the reward. Source: MODPO (2023)
    """

    name: ClassVar[str] = "rewards"

    weights: Annotated[Mapping[str, float], Field(min_length=1)]
    """Of each score, by its name: `helpful` reads `chosen_helpful` and `rejected_helpful`."""

    def reads(self) -> Columns:
        return {f"{side}_{name}": pa.float64() for name in self.weights for side in ("chosen", "rejected")}

    def refuse(self, table: pa.Table) -> str | None:
        same = [pc.all(pc.equal(table[f"chosen_{name}"], table[f"rejected_{name}"])) for name in self.weights]
        if all(one.as_py() for one in same):
            return f"offset 'rewards' changes nothing: {sorted(self.weights)} are equal within every pair"
        return None

    def __call__(self, pairs: Pairs) -> "Tensor":
        columns = pairs.columns
        gaps = [
            weight * (columns[f"chosen_{name}"] - columns[f"rejected_{name}"])
            for name, weight in self.weights.items()
        ]
        total = gaps[0]
        for gap in gaps[1:]:
            total = total + gap
        return total


OFFSETS: tuple[type[Offset], ...] = (Constant, Margin, OtherRewards)
