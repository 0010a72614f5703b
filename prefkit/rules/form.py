"""Form: whether a response has the form that was asked for."""

import json
from collections.abc import Mapping
from functools import reduce
from typing import Any, ClassVar, Literal, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from prefkit.columns import Columns, types
from prefkit.rules.rule import Rule
from prefkit.tables import last_content

__all__ = ["Format", "JsonValid", "is_json", "unfenced"]


@final
class Format(Rule):
    """Score the share of requirements that a response meets, letter by letter."""

    name: ClassVar[str] = "format"

    contains: tuple[str, ...] = ()
    """Texts it must contain."""
    lacks: tuple[str, ...] = ()
    """Texts it must not contain."""
    starts: str = ""
    """How it must start, whitespace aside."""
    ends: str = ""
    """How it must end, whitespace aside."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> "Format":
        if not (self.contains or self.lacks or self.starts or self.ends):
            raise ValueError("set at least one of contains, lacks, starts, ends")
        return self

    def reads(self) -> Columns:
        return types("response")

    def score(self, table: pa.Table) -> pa.Array:
        text = last_content(table["response"])
        bare = pc.utf8_trim_whitespace(text)
        met = [pc.match_substring(text, part) for part in self.contains]
        met += [pc.invert(pc.match_substring(text, part)) for part in self.lacks]
        met += [pc.starts_with(bare, self.starts)] if self.starts else []
        met += [pc.ends_with(bare, self.ends)] if self.ends else []
        total = reduce(pc.add, [each.cast(pa.int32()) for each in met])
        return pc.divide(total.cast(pa.float64()), float(len(met)))


Kind = Literal["string", "number", "boolean", "array", "object", "null"]
_KINDS: Mapping[Kind, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}
_FENCE = r"(?s)\A\s*```(?:json)?\s*\n(?P<body>.*?)\n?\s*```\s*\z"


@final
class JsonValid(Rule):
    """Score 1 where a response is valid JSON with the wanted keys, else 0."""

    name: ClassVar[str] = "json-valid"

    keys: Mapping[str, Kind] = Field(default_factory=dict)
    """Keys that the object must have, and what each must be. Other keys are allowed. Empty: any JSON will do."""
    fenced: bool = False
    """Whether JSON in a ``` block counts too."""

    def reads(self) -> Columns:
        return types("response")

    def score(self, table: pa.Table) -> pa.Array:
        text = last_content(table["response"])
        if self.fenced:
            text = unfenced(text)
        # A Python loop: there is no vectorised JSON parser that reports errors by row.
        good = [None if each is None else float(self._is_good(each)) for each in text.to_pylist()]
        return pa.array(good, pa.float64())

    def _is_good(self, text: str) -> bool:
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        if not self.keys:
            return True
        return isinstance(value, dict) and all(
            name in value and _is_kind(value[name], kind) for name, kind in self.keys.items()
        )


def unfenced(texts: pa.Array) -> pa.Array:
    """Return each text, or what is in its ``` block where it is nothing else."""
    body = pc.struct_field(pc.extract_regex(texts, _FENCE), "body")
    return pc.if_else(pc.is_valid(body), body, texts)


def is_json(text: str) -> bool:
    """Return whether a text is JSON by the letter: no NaN, and not nested without end."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _is_kind(value: Any, kind: Kind) -> bool:
    return isinstance(value, _KINDS[kind]) and not (kind == "number" and isinstance(value, bool))


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
