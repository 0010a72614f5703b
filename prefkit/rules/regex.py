"""Regex: whether a pattern occurs in a response, or how often.

Patterns are RE2, which takes time linear in the text whatever the pattern: no pattern and no response can make a build
hang. The price is that there are no look-arounds and no back-references.
"""

from typing import ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import field_validator

from prefkit.columns import Columns, types
from prefkit.rules.rule import Rule
from prefkit.tables import last_content

__all__ = ["Regex", "check_pattern"]


def check_pattern(pattern: str) -> str:
    """Return the pattern. Raises ValueError if RE2 does not take it."""
    try:
        pc.match_substring_regex(pa.array([""]), pattern)
    except pa.ArrowInvalid as error:
        told = str(error).removeprefix("Invalid regular expression: ")
        raise ValueError(f"'{pattern}' is no RE2 pattern: {told}") from error
    return pattern


@final
class Regex(Rule):
    """Score 1 where a pattern is found, else 0; or count how often."""

    name: ClassVar[str] = "regex"

    pattern: str
    """An RE2 pattern: `(?i)` for any case, `(?s)` to let a dot match line breaks."""
    how: Literal["find", "whole", "count"] = "find"
    """`find` it anywhere, match the `whole` response, or `count` it."""

    @field_validator("pattern")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        return check_pattern(value)

    def reads(self) -> Columns:
        return types("response")

    def score(self, table: pa.Table) -> pa.Array:
        text = last_content(table["response"])
        if self.how == "count":
            return pc.count_substring_regex(text, self.pattern).cast(pa.float64())
        pattern = rf"\A(?:{self.pattern})\z" if self.how == "whole" else self.pattern
        return pc.match_substring_regex(text, pattern).cast(pa.int8()).cast(pa.float64())
