"""Split: which prompts are held out. A prompt is on one side with everything made from it, so nothing can leak.

People may be held out instead, to see how well a model does for somebody new. Their prompts are then on both sides, as
others have judged them too; to hold out both, rows of a new person on an old prompt, and the reverse, have to go.
"""

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.stage import ANY, Context, Flow, Kind, Stage
from prefkit.tables import put

__all__ = ["Split"]

_NOBODY, _CROSSES = "no-annotator", "new-prompt-or-person-alone"


@final
class Split(Stage):
    """Write `split`: `test` for a share of the prompts, or people, `train` for the others, by hash.

    The seed of the recipe has no part in it: the same prompt is on the same side in every dataset, and stays there
    when the share grows.
    """

    name: ClassVar[str] = "split"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = ANY

    test: Annotated[float, Field(ge=0, le=1)] = 0.02
    """Share of the prompts that is held out, or of people, or of either."""
    salt: str = ""
    """Another text gives another split."""
    by: Literal["prompt", "annotator", "both"] = "prompt"
    """`annotator`: people are held out, with all rows of theirs; rows of nobody are dropped. `both`: the test is about new
    people on new prompts, and rows that are new in one way only are dropped."""

    @model_serializer(mode="wrap")
    def _without_later(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a setting that came later where it says nothing, so that older configs keep their identity."""
        plain: dict[str, Any] = dump(self)
        return {name: value for name, value in plain.items() if (name, value) != ("by", "prompt")}

    def reads(self) -> Columns:
        needed = {"prompt": ("prompt_id",), "annotator": ("annotator",), "both": ("prompt_id", "annotator")}
        return types(*needed[self.by])

    def drops(self) -> Collection[str]:
        return {"prompt": (), "annotator": (_NOBODY,), "both": (_NOBODY, _CROSSES)}[self.by]

    def writes(self) -> Columns:
        return types("split")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        held_out = [self._held_out(table, name) for name in self.reads()]
        table = put(table, "split", pa.array(np.where(held_out[0], "test", "train"), pa.string()))
        if self.by == "prompt":
            return table
        reasons = np.where(held_out[0] != held_out[-1], _CROSSES, "").astype(object)
        reasons[table["annotator"].is_null().to_numpy()] = _NOBODY
        return ctx.drop(table, pa.array(reasons, pa.string(), mask=reasons == ""))

    def _held_out(self, table: pa.Table, name: str) -> np.ndarray:
        """Return which rows have a prompt, or a person, of the share: bool [rows]."""
        values = pc.unique(table[name])
        # Prompts and people are drawn apart, so that both may have the same name.
        of = "" if name == "prompt_id" else f"{name}/"
        draw = rng.uniform(0, f"split/{of}{self.salt}", [value or "" for value in values.to_pylist()])
        held_out: np.ndarray = (draw < self.test)[pc.index_in(table[name], values).to_numpy()]
        return held_out
