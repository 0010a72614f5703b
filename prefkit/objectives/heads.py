"""Heads: one output head per dimension of preference over a shared body, mixed into one model afterwards."""

from typing import Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat

from prefkit.columns import Columns, types
from prefkit.objectives.piece import Piece

__all__ = ["Heads"]


@final
class Heads(Piece):
    """A copy of the output head for each value of `dimension`, trained on that dimension's rows alone.

    The head of a row is the place of its dimension among the sorted names. Logits are linear in the head, so the
    ensemble of heads that the paper decodes with is one head, the weighted mean: that is the model which is saved.
    Source: Simultaneous Multi-objective Alignment (MAH-DPO, 2025).
    """

    name: ClassVar[str] = "per-dimension"
    part: ClassVar[str] = "heads"

    dimensions: Annotated[tuple[str, ...], Field(min_length=1)]
    """The values of `dimension`, each with its head."""
    shares: tuple[NonNegativeFloat, ...] | None = None
    """Share of each dimension's head in the saved model, in the order of `dimensions`; left out, equal."""
    noise: NonNegativeFloat = 1e-3
    """Standard deviation of what is added to each copy, so that the heads differ from the start."""

    def reads(self) -> Columns:
        return types("dimension")

    def refuse(self, table: pa.Table) -> str | None:
        found = set(pc.unique(table["dimension"]).to_pylist())
        if found != set(self.dimensions):
            return f"the pairs have the dimensions {sorted(found)}, and the heads are for {sorted(self.dimensions)}"
        return None

    def mixture(self) -> tuple[float, ...]:
        """Return the share of each head in the saved model, in the order of the sorted names; the sum is 1."""
        given = dict(zip(self.dimensions, self.shares or (1.0,) * len(self.dimensions), strict=True))
        return tuple(given[name] / sum(given.values()) for name in sorted(given))
