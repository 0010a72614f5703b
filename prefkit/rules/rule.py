"""What a rule is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, final

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from prefkit.columns import Columns

__all__ = ["Explained", "Judged", "Rule", "judged"]


class Judged(NamedTuple):
    """What a rule makes of a table."""

    scores: pa.Array
    """One number a row: float64, null where it cannot tell."""
    notes: Mapping[str, int]
    """How many rows are null and for what reason, and what else is worth knowing."""


class Rule(BaseModel, ABC):
    """A frozen config that scores responses, each by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: ClassVar[str]
    """How recipes spell it."""
    added: ClassVar[frozenset[str]] = frozenset()
    """Settings that the rule's first version did not have: left out of its identity while they say nothing new."""

    @abstractmethod
    def reads(self) -> Columns:
        """Return the columns of a response row that it cannot do without, with their types."""

    @abstractmethod
    def score(self, table: pa.Table) -> pa.Array:
        """Return one number a row: float64, null where it cannot tell. `table` has the columns of `reads()`."""

    @model_serializer(mode="wrap")
    def _wrapped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        silent = {name for name in self.added if getattr(self, name) == fields[name].default}
        return {self.name: {name: value for name, value in plain.items() if name not in silent}}


class Explained(Rule, ABC):
    """A rule that says for what reason it cannot tell."""

    @abstractmethod
    def judge(self, table: pa.Table) -> Judged:
        """Return the scores, and a count for each reason."""

    @final
    def score(self, table: pa.Table) -> pa.Array:
        return self.judge(table).scores


def judged(rule: Rule, table: pa.Table) -> Judged:
    """Return the scores of any rule, and how many rows are null: by reason where the rule gives one."""
    if isinstance(rule, Explained):
        return rule.judge(table)
    scores = rule.score(table)
    return Judged(scores, {"not-judged": scores.null_count} if scores.null_count else {})
