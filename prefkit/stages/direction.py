"""Direction: which of two qualities a prompt asks for, and by how much, and how well each response follows.

A direction is an angle in the plane of two aspects, drawn for each prompt; all responses of the prompt get the same
one. Pair them `by: direction_score`. Aspects that rise and fall together leave a direction nothing to say: bring them
to one scale first, and look at how they correlate.

Source: Directional Preference Alignment (Wang et al., 2024), arXiv 2402.18571.
"""

from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from prefkit.columns import Columns, types
from prefkit.conditioning.goals import Place, direction_text, shown_weights, unit_directions
from prefkit.stage import RESPONSES, Context, Flow, Kind, Stage
from prefkit.stages.conditioned import prompts_with, with_conditions
from prefkit.tables import floats, nullable, put

__all__ = ["Direction"]

Angle = Annotated[float, Field(ge=-180, le=180)]


@final
class Direction(Stage):
    """Say in each prompt which weighted rating to maximise, and write `direction_score`, the response's own."""

    name: ClassVar[str] = "direction"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = RESPONSES
    random: ClassVar[bool] = True

    aspects: tuple[str, str]
    """Two scores; the angle is 0 where only the first counts, and 90 where only the second does."""
    angles: tuple[Angle, Angle] = (-45.0, 0.0)
    """The least and the greatest angle, in degrees; two that are equal fix it."""
    place: Place = "system"
    """Where it is said: in the `system` turn, or before the `first-user` turn."""

    @model_validator(mode="after")
    def _angles_rise(self) -> Self:
        if self.angles[0] > self.angles[1]:
            raise ValueError("angles go from the least to the greatest")
        return self

    def reads(self) -> Columns:
        return {**types("prompt_id", "prompt"), **dict.fromkeys(self.aspects, pa.float64())}

    def writes(self) -> Columns:
        return {**types("prompt", "conditions"), "direction_score": pa.float64()}

    def touches(self) -> tuple[str, ...]:
        return ("conditions",)

    def draws(self) -> bool:
        return self.angles[0] < self.angles[1]

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        low, high = self.angles
        draw: Any = ctx.uniform(self, table["prompt_id"].to_pylist()) if self.draws() else 0.0
        directions = unit_directions(np.full(table.num_rows, low) + (high - low) * draw)
        weights = shown_weights(directions)
        ratings = np.stack([floats(table[name]) for name in self.aspects], axis=1)
        said = [direction_text(self.aspects, each) for each in weights.tolist()]
        entries = [
            [
                {"kind": "weight", "name": name, "value": part, "shown": str(weight)}
                for name, part, weight in zip(self.aspects, parts, whole, strict=True)
            ]
            for parts, whole in zip(directions.tolist(), weights.tolist(), strict=True)
        ]
        table = put(table, "prompt", prompts_with(table["prompt"], said, self.place))
        table = put(table, "direction_score", nullable((directions * ratings).sum(axis=1)))
        return with_conditions(table, entries)
