"""What a rule is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from prefkit.columns import Columns

__all__ = ["Rule"]


class Rule(BaseModel, ABC):
    """A frozen config that scores responses, each by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: ClassVar[str]
    """How recipes spell it."""

    @abstractmethod
    def reads(self) -> Columns:
        """Return the columns of a response row that it cannot do without, with their types."""

    @abstractmethod
    def score(self, table: pa.Table) -> pa.Array:
        """Return one number a row: float64, null where it cannot tell. `table` has the columns of `reads()`."""

    @model_serializer(mode="wrap")
    def _wrapped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: handler(self)}
