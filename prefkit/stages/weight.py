"""Weight: how much each pair counts in training, from what is believed of its label."""

from typing import ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.weights import certainty, effective_size, kl_dro, to_mean_one
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import floats, nullable, put

__all__ = ["Weight"]

_READS = {"certainty": "p_chosen", "trust": "flip_prob", "kl-dro": "margin"}


@final
class Weight(Stage):
    """Write `weight`, of mean 1; null where what it is made from is missing. Notes the effective number of rows."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "weight"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS

    strategy: Literal["certainty", "trust", "kl-dro", "column"] = Field("certainty", alias="kind")
    """`certainty` of `p_chosen`, `trust` in the label (1 - `flip_prob`), `kl-dro` against the worst case, or a `column`."""
    by: str = ""
    """For `column`: a column that the weight is proportional to, at least 0."""
    temperature: PositiveFloat = 1.0
    """For `kl-dro`: the lower, the more the pairs with the lowest margins count."""
    clip: PositiveFloat | None = None
    """The greatest weight, after scaling to mean 1."""

    @model_validator(mode="after")
    def _has_its_column(self) -> Self:
        if bool(self.by) != (self.strategy == "column"):
            raise ValueError("by and kind 'column' go together")
        return self

    def reads(self) -> Columns:
        return {self.by: pa.float64()} if self.by else types(_READS[self.strategy])

    def writes(self) -> Columns:
        return types("weight")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        weight = self._weights(table)
        weight = weight if self.clip is None else np.minimum(weight, self.clip)
        ctx.notes["weight/effective-rows"] += round(effective_size(weight))
        return put(table, "weight", nullable(weight))

    def _weights(self, table: pa.Table) -> np.ndarray:
        values = floats(table[self.by or _READS[self.strategy]])
        values = np.where(np.isfinite(values), values, np.nan)
        if self.strategy == "kl-dro":
            return kl_dro(values, self.temperature)
        if self.strategy == "certainty":
            values = certainty(values)
        return to_mean_one(1 - values if self.strategy == "trust" else values)
