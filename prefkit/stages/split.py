"""Split: which prompts are held out. A prompt is on one side with everything made from it, so nothing can leak."""

from typing import Annotated, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.stage import ANY, Context, Flow, Kind, Stage
from prefkit.tables import put

__all__ = ["Split"]


@final
class Split(Stage):
    """Write `split`: `test` for a share of the prompts, `train` for the others, by hash of the prompt.

    The seed of the recipe has no part in it: the same prompt is on the same side in every dataset, and stays there
    when the share grows.
    """

    name: ClassVar[str] = "split"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = ANY

    test: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the prompts that is held out."""
    salt: str = ""
    """Another text gives another split."""

    def reads(self) -> Columns:
        return types("prompt_id")

    def writes(self) -> Columns:
        return types("split")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        prompts = pc.unique(table["prompt_id"])
        draw = rng.uniform(0, f"split/{self.salt}", prompts.to_pylist())
        sides = pa.array(np.where(draw < self.test, "test", "train"), pa.string())
        return put(table, "split", sides.take(pc.index_in(table["prompt_id"], prompts)))
