"""From YAML nodes to frozen configs: the field decides what a word means, and every error has its line.

A value is taken for what it is: no text becomes a number, no number a boolean. Where a field turns a value down, two
readings of what stands there are tried before it is an error, because only the field can know: a number, boolean or
null where a text is wanted is the text as it was written (`revision: 1.10`), and a word where a model is wanted is a
name from `models:`. So models enter a config, and with it its identity, wherever an author annotated `Model`, however
deep, and no stage has to do anything for it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, core_schema

from prefkit.catalog import suggest
from prefkit.engines import Model
from prefkit.errors import PrefkitError, Problem
from prefkit.yaml_strict import Node, plain

__all__ = ["Filled", "Owner", "fill", "problem", "shown"]

C = TypeVar("C", bound=BaseModel)
Loc = tuple[int | str, ...]


@dataclass(frozen=True)
class Owner:
    """Who a config belongs to, for its errors."""

    file: str
    """The recipe, as its user typed it."""
    title: str = ""
    """`stage 'flip'`."""
    help: str = ""
    """What says which settings there are: `prefkit stages flip`."""
    models: Mapping[str, Model] | None = None
    """What names stand for; None where no model may be named."""


class Filled(NamedTuple, Generic[C]):
    """A config, or what is wrong with it."""

    config: C | None
    problems: tuple[Problem, ...] = ()


class _Place(NamedTuple):
    node: Node
    loc: Loc
    """How to get there: the keys and positions that exist in the tree."""
    lacks: str = ""
    """The last key asked for, where it does not exist."""


def fill(kind: type[C], node: Node, owner: Owner) -> Filled[C]:
    """Read a node as a config of this kind. Finds every problem of the node, and raises none."""
    data, unknown, tried = plain(node), dict[Loc, Problem](), set[Loc]()
    while True:
        try:
            config, errors = _validate(kind, data)
        except PrefkitError as error:  # a validator that knows better than pydantic what to do
            return Filled(None, (problem(f"{_prefix(owner)}{error.what}", node, owner, error.hint),))
        if config is not None:
            return Filled(config)
        readings = [_reread(item, node, owner, unknown) for item in errors]
        changes = [reading for reading in readings if reading is not None and reading.loc not in tried]
        if not changes:
            return Filled(None, tuple(_explain(kind, node, errors, owner, unknown)))
        for loc, value in changes:
            tried.add(loc)
            data = _put(data, loc, value)


class _Checked(NamedTuple, Generic[C]):
    config: C | None
    errors: list[ErrorDetails]


_COERCED = ("int_type", "float_type", "bool_type")


def _validate(kind: type[C], data: object) -> _Checked[C]:
    """Validate without turning one scalar into another, but with lists for tuples and sets.

    Strict JSON would do, were it not that whatever passed through a validator written in Python counts as Python, for
    which strict means that a list is no tuple. So what strict refuses counts only where it is about a scalar.
    """
    text, strict = json.dumps(data), list[ErrorDetails]()
    try:
        return _Checked(kind.model_validate_json(text, strict=True), [])
    except ValidationError as error:
        found = error.errors(include_url=False)
        strict = [
            item for item in found if item["type"] in _COERCED and not isinstance(item["input"], list | dict)
        ]
    try:
        config = kind.model_validate_json(text)
    except ValidationError as error:
        return _Checked(None, [*error.errors(include_url=False), *strict])
    return _Checked(None, strict) if strict else _Checked(config, [])


def problem(what: str, node: Node, owner: Owner, hint: str = "") -> Problem:
    """Return a problem that points at a node."""
    if node.origin:
        return Problem(what, where=node.origin, hint=hint)
    return Problem(what, where=f"{owner.file}:{node.line}", hint=hint, line=node.line)


def shown(node: Node) -> str:
    """Return a value as an error shows it: one line, no control characters, not long."""
    if isinstance(node.value, tuple):
        return "a list"
    if isinstance(node.value, Mapping):
        return "a mapping"
    text = node.text if node.text is not None else repr(node.value)
    return text if len(text) <= 80 else text[:77] + "..."


class _Reading(NamedTuple):
    loc: Loc
    value: object


def _reread(error: ErrorDetails, root: Node, owner: Owner, unknown: dict[Loc, Problem]) -> _Reading | None:
    """Return the other reading of a value that a field turned down, if it has one."""
    node, loc, _ = _find(root, error["loc"])
    if error["input"] != plain(node):
        return None
    if error["type"] == "string_type" and node.text is not None:
        return _Reading(loc, node.text)
    if not _wants_model(error) or not isinstance(node.value, str) or owner.models is None:
        return None
    if node.value in owner.models:
        return _Reading(loc, owner.models[node.value].model_dump(mode="json"))
    what = f"{_prefix(owner)}{_path(loc)}: no model is called {shown(node)}"
    known = ", ".join(owner.models) or "nothing yet"
    unknown[loc] = problem(
        what, node, owner, suggest(node.value, list(owner.models)) or f"`models:` has {known}"
    )
    return None


def _wants_model(error: ErrorDetails) -> bool:
    return error["type"] == "model_type" and error["ctx"]["class_name"] == Model.__name__


def _find(root: Node, loc: Loc) -> _Place:
    """Follow an error's location through the tree. Pydantic adds labels for unions and validators: they are skipped."""
    node, found, lacks = root, list[int | str](), ""
    for step in loc:
        lacks = ""
        if isinstance(node.value, Mapping) and step in node.value:
            node = node.value[str(step)]
        elif isinstance(node.value, tuple) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        else:
            lacks = str(step)
            continue
        found.append(step)
    return _Place(node, tuple(found), lacks)


def _put(data: Any, loc: Loc, value: object) -> Any:
    """Return plain data with one value replaced."""
    if not loc:
        return value
    head, rest = loc[0], loc[1:]
    if isinstance(data, list):
        return [_put(item, rest, value) if at == head else item for at, item in enumerate(data)]
    return {key: _put(item, rest, value) if key == head else item for key, item in data.items()}


def _explain(
    kind: type[BaseModel],
    root: Node,
    errors: Sequence[ErrorDetails],
    owner: Owner,
    unknown: Mapping[Loc, Problem],
) -> Iterator[Problem]:
    """Yield one problem per place: a union reports once per branch, and its user made one mistake."""
    places: dict[tuple[Loc, str], list[ErrorDetails]] = {}
    for error in errors:
        place = _find(root, error["loc"])
        key = (place.loc, place.lacks if error["type"] == "missing" else "")
        places.setdefault(key, []).append(error)
    for (loc, lacks), group in places.items():
        if loc in unknown:
            yield unknown[loc]
        elif lacks:
            what = f"{_prefix(owner)}'{_path((*loc, lacks))}' is missing"
            yield problem(what, _find(root, loc).node, owner, owner.help)
        elif group[0]["type"] == "extra_forbidden":
            yield _unknown_key(kind, root, loc, owner)
        else:
            yield _rejected(root, loc, group, owner)


def _unknown_key(kind: type[BaseModel], root: Node, loc: Loc, owner: Owner) -> Problem:
    word = str(loc[-1])
    names = list(kind.model_fields) if len(loc) == 1 else sorted(_field_names(kind, set()))
    hint = suggest(word, names) or owner.help or f"keys here: {', '.join(names)}"
    what = (
        f"{_prefix(owner)}no setting is called '{_path(loc)}'"
        if owner.title
        else f"no key is called '{word}'"
    )
    return problem(what, _find(root, loc).node, owner, hint)


def _rejected(root: Node, loc: Loc, group: Sequence[ErrorDetails], owner: Owner) -> Problem:
    node = _find(root, loc).node
    reasons = list(dict.fromkeys(_reason(error) for error in group))
    got = "" if not any(error["type"] in _PYDANTIC for error in group) else f", got {shown(node)}"
    where = f"{_path(loc)}: " if loc else ""
    what = f"{_prefix(owner)}{where}{', or '.join(reasons)}{got}"
    return problem(what, node, owner, _hint(node, group) or owner.help)


_PYDANTIC = frozenset(get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
_MESSAGES = {
    "model_type": "input should be a mapping of settings",
    "dict_type": "input should be a mapping",
    "list_type": "input should be a list",
    "tuple_type": "input should be a list",
    "set_type": "input should be a list",
    "frozen_set_type": "input should be a list",
    "string_type": "input should be text",
    "int_type": "input should be a whole number",
    "int_from_float": "input should be a whole number",
    "int_parsing": "input should be a whole number",
    "int_parsing_size": "input should be a whole number",
    "float_type": "input should be a number",
    "float_parsing": "input should be a number",
    "bool_type": "input should be true or false",
    "bool_parsing": "input should be true or false",
}


def _reason(error: ErrorDetails) -> str:
    if _wants_model(error):
        return "input should be a name from `models:`"
    text = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return _MESSAGES.get(error["type"], text[:1].lower() + text[1:]).rstrip(".")


def _hint(node: Node, group: Sequence[ErrorDetails]) -> str:
    kinds = {error["type"] for error in group}
    if kinds & {"int_type", "float_type", "bool_type"} and isinstance(node.value, str):
        if node.value in ("~", "none", "None"):
            return "write null"
        if "bool_type" in kinds and node.value.lower() in ("yes", "on", "no", "off", "true", "false"):
            return f"write {'true' if node.value.lower() in ('yes', 'on', 'true') else 'false'}, unquoted"
        if node.value.replace(".", "", 1).isdecimal():
            return "remove the quotes"
    words = [
        word.strip("'") for error in group if error["type"] == "literal_error" for word in _expected(error)
    ]
    return suggest(str(node.value), words) if words else ""


def _expected(error: ErrorDetails) -> list[str]:
    return str(error["ctx"]["expected"]).replace(" or ", ", ").split(", ")


def _field_names(kind: type[BaseModel], seen: set[type[BaseModel]]) -> set[str]:
    """Return the field names of a config and of every config inside it."""
    if kind in seen:
        return set()
    seen.add(kind)
    names = set(kind.model_fields)
    for info in kind.model_fields.values():
        for inner in _configs(info.annotation):
            names |= _field_names(inner, seen)
    return names


def _configs(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _configs(part)


def _prefix(owner: Owner) -> str:
    return f"{owner.title}: " if owner.title else ""


def _path(loc: Loc) -> str:
    return ".".join(str(step) for step in loc)
