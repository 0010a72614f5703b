"""The shape of a source: everything about its rows that is fixed before the first one is read.

It is decided from the source's settings and the head of the data, once, and both planning and reading use it.
So the columns that a plan shows are the columns that come out, whatever rows follow.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from prefkit.catalog import suggest
from prefkit.columns import COLUMNS, RATINGS, VOTES, Level
from prefkit.errors import DataError
from prefkit.sources.carried import CARRIED
from prefkit.sources.layouts import LAYOUTS, Head, Layout, by_name, recognise
from prefkit.sources.source import Coding, Source, mapped_level

__all__ = ["JOINED_COLUMN", "KEPT", "Shape", "placeholders", "shape_of"]

JOINED_COLUMN = "\0join"
"""Name under which a chunk carries what a join brought. No file has it."""
KEPT = "\0keep/"
"""Prefix under which an unfolded row carries the columns to keep."""
_PLACE = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Shape:
    """How rows of a source become canonical rows."""

    layout: str
    level: Level
    targets: Mapping[str, tuple[str, ...]]
    """Target to the columns that hold it."""
    scores: Mapping[str, str]
    """Named score to the column that holds it; at pair level to the end of two names, `first_` and `second_`."""
    kept: Mapping[str, str]
    extras: Mapping[str, pa.DataType]
    layout_made: Layout | None
    """The layout, if it unfolds rows."""
    coding: Coding
    schema: pa.Schema

    def column(self, target: str) -> str | None:
        """Return the column that holds a target, if there is one."""
        found = self.targets.get(target)
        return found[0] if found else None

    def needed(self, source: Source) -> list[str] | None:
        """Return the only columns that must be read; None for all."""
        if self.layout_made is not None or source.explode:
            return None
        named = [name for names in self.targets.values() for name in names]
        joined = list(source.join.on) if source.join else []
        places = placeholders(source.prompt_template)
        return [*named, *self.scores.values(), *self.kept.values(), *source.where, *joined, *places]


def placeholders(template: str) -> list[str]:
    """Return the columns that a prompt template names."""
    return _PLACE.findall(template)


def shape_of(source: Source, head: Head, place: str) -> Shape:
    """Return the shape of a source from its first rows. Raises DataError, saying what columns there are."""
    layout = _layout(source, head, place)
    if layout is not None and layout.unfold is not None:
        _refuse_with_unfold(source, layout, place)
    targets: dict[str, tuple[str, ...]] = {}
    if layout is not None:
        targets = {**layout.targets(head.names), **{target: (target,) for target in layout.gives}}
    for target, names in source.columns.items():
        targets[target] = (names,) if isinstance(names, str) else names
    if source.prompt_template:
        targets.pop("prompt", None)
    level = layout.level if layout is not None else mapped_level(source.columns)
    unfolds = layout is not None and layout.unfold is not None
    scores = {**{name: name for name in (layout.scores if layout else ())}, **source.scores}
    extras = dict(layout.extras) if layout else {}
    coding = layout.coding if layout is not None and not source.columns else source.coding
    _check_columns(source, targets, head, place, unfolds=unfolds)
    kept = {name: _kept_type(head, column, place) for name, column in source.keep.items()}
    fields = {**_columns(source, level, targets), **_score_columns(level, scores), **extras, **kept}
    return Shape(
        layout=layout.name if layout else "columns",
        level=level,
        targets=targets,
        scores=scores,
        kept=source.keep,
        extras=extras,
        layout_made=layout if unfolds else None,
        coding=coding,
        schema=_ordered(fields),
    )


def _layout(source: Source, head: Head, place: str) -> Layout | None:
    if source.format != "auto":
        layout = by_name(source.format)
        if layout is None:
            names = [one.name for one in LAYOUTS]
            hint = suggest(source.format, names) or f"one of: {', '.join(names)}"
            raise DataError(f"no layout is called '{source.format}'", where=place, hint=hint)
        if not layout.has_columns([*head.names, *(_mapped(source))]):
            needs = ", ".join(" or ".join(alternatives) for alternatives in layout.needs)
            what = f"'{source.format}' needs the columns {needs}; here are {_shown(head.names)}"
            raise DataError(
                what, where=place, hint="leave out `format`, or map columns: { prompt: ..., ... }"
            )
        return layout
    if source.columns or source.prompt_template or source.explode:
        return None
    layout = recognise(head)
    if layout is None:
        hint = "say what its columns mean: columns: { prompt: ..., response: ... }"
        raise DataError(f"no known layout has the columns {_shown(head.names)}", where=place, hint=hint)
    return layout


def _mapped(source: Source) -> list[str]:
    """Return the columns that a flat layout need not have, because the source maps their targets."""
    return [str(target) for target in source.columns]


def _refuse_with_unfold(source: Source, layout: Layout, place: str) -> None:
    settings = ("columns", "scores", "prompt_template", "explode", "join", "coding")
    wrong = [name for name in settings if name in source.changed]
    if wrong:
        what = f"'{wrong[0]}' cannot be set for rows in the layout '{layout.name}', whose columns have fixed meanings"
        raise DataError(what, where=place, hint="leave it out, or map every column with `columns`")


def _check_columns(
    source: Source, targets: Mapping[str, tuple[str, ...]], head: Head, place: str, *, unfolds: bool
) -> None:
    if "prompt" not in targets and not source.prompt_template:
        hint = "add columns: { prompt: ... }, or a prompt_template"
        raise DataError("nothing says which column is the prompt", where=place, hint=hint)
    if source.explode and source.explode not in head.names:
        raise _missing(source.explode, "explode", head, place)
    if source.explode:
        return  # what the items hold is seen only when they are read
    wanted: dict[str, Iterable[str]] = {
        "prompt_template": placeholders(source.prompt_template),
        "keep": source.keep.values(),
        "where": source.where,
        "join": source.join.on if source.join else (),
    }
    if not unfolds:
        wanted["columns"] = [name for names in targets.values() for name in names]
        wanted["scores"] = source.scores.values()
    for setting, names in wanted.items():
        for name in names:
            if name not in head.names:
                raise _missing(name, setting, head, place)


def _missing(name: str, setting: str, head: Head, place: str) -> DataError:
    hint = suggest(name, head.names) or f"columns here: {_shown(head.names)}"
    return DataError(f"'{setting}' names the column '{name}', which is not there", where=place, hint=hint)


def _columns(source: Source, level: Level, targets: Mapping[str, Any]) -> dict[str, pa.DataType]:
    names = ["id", "prompt_id", "prompt", "source"]
    names += [name for name in ("tools", "reference_answer", "domain") if name in targets]
    if level == "response":
        names += ["response", "index", "model", "origin"]
        names += ["score"] if "score" in targets else []
        names += ["ratings"] if "ratings" in targets or source.join else []
    if level == "pair":
        names += ["chosen", "rejected", "chosen_id", "rejected_id"]
        names += [name for name in ("margin",) if name in targets]
        names += ["rationales"] if "rationale" in targets else []
        names += ["votes"] if {"votes", "preference"} & targets.keys() or source.join else []
        for what in ("model", "score"):
            sides = {f"{side}_{what}" for side in ("chosen", "rejected", "first", "second")}
            names += [f"chosen_{what}", f"rejected_{what}"] if sides & targets.keys() else []
    names += [name for name in CARRIED[level] if name in targets]
    types: dict[str, pa.DataType] = {name: COLUMNS[name].type for name in names}
    assert types.get("ratings", RATINGS) == RATINGS
    assert types.get("votes", VOTES) == VOTES
    return types


def _score_columns(level: Level, scores: Iterable[str]) -> dict[str, pa.DataType]:
    if level == "pair":
        return {f"{side}_{name}": pa.float64() for name in scores for side in ("chosen", "rejected")}
    return dict.fromkeys(scores, pa.float64())


def _ordered(fields: Mapping[str, pa.DataType]) -> pa.Schema:
    """Return a schema in the order of the vocabulary, further columns last."""
    known = [name for name in COLUMNS if name in fields]
    rest = [name for name in fields if name not in COLUMNS]
    return pa.schema([(name, fields[name]) for name in [*known, *rest]])


def _kept_type(head: Head, column: str, place: str) -> pa.DataType:
    if head.schema is not None and column in head.schema.names:
        return _plain(head.schema.field(column).type)
    values = list(head.values(column))
    try:
        kind = pa.array(values).type if values else pa.string()
    except (pa.ArrowException, OverflowError, ValueError) as error:
        what = f"column '{column}' holds values of different types"
        raise DataError(what, where=place, hint="leave it out of `keep`, or make its values alike") from error
    return _plain(kind)


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type under which a column is carried; what has no plain form is carried as text."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind) and kind.num_fields:
        return pa.struct([(field.name, _plain(field.type)) for field in _fields(kind)])
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return kind
    return pa.string()


def _fields(kind: pa.DataType) -> Iterator[pa.Field]:
    return (kind.field(index) for index in range(kind.num_fields))


def _shown(names: Iterable[str]) -> str:
    listed = [f"'{name}'" for name in names]
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20} more" if len(listed) > 20 else "")
