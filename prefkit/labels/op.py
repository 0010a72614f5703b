"""What a label op is: a frozen config that maps pairs to pairs, row by row unless it says otherwise.

Ops are spelled as in recipes, in JSON too: `orient`, or `{tie: {delta: 0.05}}`. A config is identified by what it names,
so a new op does not change the recipes that do not use it.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from prefkit.columns import Columns

__all__ = ["Op", "World", "may_fit", "op_name"]


class World:
    """What an op may know besides its table: draws, one a row, and where to count."""

    def __init__(self, draw: Callable[[], np.ndarray], notes: Counter[str]) -> None:
        self.draw = draw
        self.notes = notes


class Op(BaseModel, ABC):
    """One step of a label stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """How recipes spell it."""
    later: ClassVar[frozenset[str]] = frozenset()
    """Settings that came later: left out where they are as by default, so that older configs keep their identity."""

    @abstractmethod
    def reads(self) -> Columns:
        """Return the columns it cannot do without."""

    @abstractmethod
    def writes(self) -> Columns:
        """Return the columns it adds or replaces."""

    @abstractmethod
    def apply(self, table: pa.Table, world: World) -> pa.Table:
        """Do the work."""

    def is_global(self) -> bool:
        """Return whether a row's label depends on other rows under these settings."""
        return False

    def draws(self) -> bool:
        """Return whether it draws random numbers under these settings."""
        return False

    def touches(self) -> tuple[str, ...]:
        """Return patterns of further columns that it changes where they exist."""
        return ()

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        if value == cls.name:
            return {}
        if isinstance(value, Mapping) and set(value) == {cls.name}:
            return {} if value[cls.name] is None else value[cls.name]
        return value

    @model_serializer(mode="plain")
    def _wrapped(self) -> dict[str, dict[str, Any]]:
        fields = type(self).model_fields
        return {self.name: {k: v for k, v in self if k not in self.later or v != fields[k].default}}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        settings = handler.resolve_ref_schema(handler(core))
        return {
            "title": cls.name,
            "anyOf": [
                {"const": cls.name},
                {
                    "type": "object",
                    "properties": {cls.name: settings},
                    "required": [cls.name],
                    "additionalProperties": False,
                },
            ],
        }


def may_fit(table: pa.Table) -> np.ndarray:
    """Return which rows something may be fitted to, bool [rows]: those of the test split may not."""
    if "split" not in table.column_names:
        return np.ones(table.num_rows, dtype=bool)
    told: np.ndarray = pc.fill_null(pc.not_equal(table["split"], "test"), True).to_numpy()
    return told


def op_name(value: object) -> str | None:
    """Return which op a value of a recipe names, or None."""
    if isinstance(value, Op):
        return value.name
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and len(value) == 1:
        return str(next(iter(value)))
    return None
