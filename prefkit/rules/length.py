"""Length: how long a response is, or how close to a wanted length."""

from typing import ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import PositiveInt, model_validator

from prefkit.columns import Columns, types
from prefkit.engines import Model
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

    added: ClassVar[frozenset[str]] = frozenset({"tokenizer"})

    unit: Literal["chars", "words", "tokens"] = "chars"
    """What is counted: characters, runs of what is not whitespace, or tokens of `tokenizer`."""
    at_least: PositiveInt | None = None
    """Shortest length that scores 1."""
    at_most: PositiveInt | None = None
    """Greatest length that scores 1."""
    tokenizer: Model | None = None
    """Whose tokens are counted, for `unit: tokens`; special tokens are not."""

    @model_validator(mode="after")
    def _has_its_tokenizer(self) -> "Length":
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise ValueError("unit 'tokens' and a tokenizer go together")
        return self

    @model_validator(mode="after")
    def _has_room(self) -> "Length":
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least is {self.at_least}, more than at_most, {self.at_most}")
        return self

    def reads(self) -> Columns:
        return types("response")

    def score(self, table: pa.Table) -> pa.Array:
        text = last_content(table["response"])
        length = self._count(text).cast(pa.float64())
        if self.at_least is None and self.at_most is None:
            return length
        shares = [pa.array([1.0] * len(length))]
        if self.at_least is not None:
            shares.append(pc.divide(length, float(self.at_least)))
        if self.at_most is not None:
            shares.append(pc.divide(float(self.at_most), pc.max_element_wise(length, 1.0, skip_nulls=False)))
        return pc.min_element_wise(*shares, skip_nulls=False)

    def _count(self, text: pa.Array) -> pa.Array:
        if self.unit == "chars":
            return pc.utf8_length(text)
        if self.tokenizer is None:
            return pc.count_substring_regex(text, r"\S+")
        from prefkit.engines.weights import load_tokenizer

        tokenizer, _ = load_tokenizer(self.tokenizer)
        there = [each for each in text.to_pylist() if each is not None]
        ids = tokenizer(there, add_special_tokens=False, verbose=False)["input_ids"] if there else []
        lengths = iter(ids)
        return pa.array(
            [len(next(lengths)) if valid.as_py() else None for valid in text.is_valid()], pa.int64()
        )
