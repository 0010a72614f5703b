"""Columns as the browser of a page treats them: what can be filtered, sorted or read, and what each means."""

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import COLUMNS, MESSAGES
from prefkit.page.derived import DERIVED

__all__ = ["Kind", "described", "kind_of"]

Kind = Literal["number", "flag", "category", "name", "conversation", "prose", "structure", "left-out"]
"""`category`: few short values; `name`: short, but many; `prose`: long; `left-out`: tokens one by one, of no use to read."""
_CATEGORIES, _SHORT = 50, 80


def kind_of(column: pa.ChunkedArray) -> Kind:
    """Return how a column is treated, by its type and, for text, by its values."""
    kind = column.type
    if kind == MESSAGES:
        return "conversation"
    if pa.types.is_boolean(kind):
        return "flag"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _of_text(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return (
            "left-out" if pa.types.is_nested(kind.value_type) and _is_deep(kind.value_type) else "structure"
        )
    return "structure"


def described(name: str, kind: Kind, meant: str | None = None) -> dict[str, str]:
    """Return what the page says of a column: its name, its kind, what it means (`meant`, if it is given) and in which unit."""
    meaning, unit = _meaning(name)
    return {"name": name, "kind": kind, "meaning": meant or meaning, "unit": unit}


def _of_text(column: pa.ChunkedArray) -> Kind:
    longest = pc.max(pc.utf8_length(column)).as_py() or 0
    if longest > _SHORT:
        return "prose"
    return "category" if pc.count_distinct(column).as_py() <= _CATEGORIES else "name"


def _is_deep(kind: pa.DataType) -> bool:
    """Say whether there is a list within: a list a token, say."""
    if pa.types.is_struct(kind):
        return any(pa.types.is_nested(field.type) for field in kind)
    return bool(pa.types.is_nested(kind))


def _meaning(name: str) -> tuple[str, str]:
    if name in DERIVED:
        return DERIVED[name], ""
    if name.endswith("_chars"):
        return f"characters of {name.removesuffix('_chars')}", ""
    known = COLUMNS.get(name)
    if known is not None:
        return known.meaning, known.unit
    side, _, rest = name.partition("_")
    known = COLUMNS.get(rest) if side in ("chosen", "rejected") else None
    return (f"of {side}: {known.meaning}", known.unit) if known else ("", "")
