"""Length: how long a response is, or how close to a wanted length."""

from typing import ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.rules.rule import Rule
from prefkit.tables import last_content

__all__ = ["Length"]


@final
class Length(Rule):
    """Score the length of a response: 1 within the band, less the further outside; without a band, the length itself.

    Outside the band the score is the ratio of the length to the nearer bound, or its inverse: a response of twice the
    most has 0.5.
    """

    name: ClassVar[str] = "length"

    unit: Literal["chars", "words"] = "chars"
    """What is counted: characters, or runs of what is not whitespace."""
    at_least: PositiveInt | None = None
    """Shortest length that scores 1."""
    at_most: PositiveInt | None = None
    """Greatest length that scores 1."""

    @model_validator(mode="after")
    def _has_room(self) -> "Length":
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least is {self.at_least}, more than at_most, {self.at_most}")
        return self

    def reads(self) -> Columns:
        return types("response")

    def score(self, table: pa.Table) -> pa.Array:
        text = last_content(table["response"])
        count = pc.utf8_length(text) if self.unit == "chars" else pc.count_substring_regex(text, r"\S+")
        length = count.cast(pa.float64())
        if self.at_least is None and self.at_most is None:
            return length
        shares = [pa.array([1.0] * len(length))]
        if self.at_least is not None:
            shares.append(pc.divide(length, float(self.at_least)))
        if self.at_most is not None:
            shares.append(pc.divide(float(self.at_most), pc.max_element_wise(length, 1.0, skip_nulls=False)))
        return pc.min_element_wise(*shares, skip_nulls=False)
