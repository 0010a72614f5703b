"""What `stages` prints: the catalog, or one entry of it with its settings and columns."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from prefkit.catalog import suggest
from prefkit.cli.out import print_json, show, table
from prefkit.described import Described
from prefkit.engines import Model
from prefkit.errors import PrefkitError
from prefkit.experiment.settings import CompareSettings
from prefkit.gates.rules import RULES, spelled
from prefkit.gates.said import Limit
from prefkit.parts import STAGES
from prefkit.schema import recipe_schema
from prefkit.sources import Source
from prefkit.stage import Flow, Stage
from prefkit.train.settings import TrainSettings

__all__ = ["all_stages", "one", "schema"]

_SECTIONS: dict[str, type[BaseModel]] = {
    "data": Source,
    "train": TrainSettings,
    "compare": CompareSettings,
}


def schema() -> None:
    """Print the JSON schema of recipes that may name any stage installed here."""
    print(json.dumps(recipe_schema([STAGES.get(name) for name in STAGES.names()]), indent=1))


def all_stages(*, as_json: bool) -> None:
    """List every stage in the catalog."""
    found = [_described(STAGES.get(name)) for name in STAGES.names()]
    if as_json:
        for entry in found:
            print_json(entry)
        return
    shown = table("stage", "kind", "rows", "what it does", wraps=("what it does",))
    for entry in found:
        shown.add_row(entry["stage"], entry["kind"], entry["level"], entry["summary"])
    show(shown)


def one(name: str, *, as_json: bool) -> None:
    """Explain one stage, or what an item of `data` or `train` may say, or which gates `fail_if` has."""
    if name == "fail_if":
        _gates(as_json=as_json)
        return
    if name in _SECTIONS:
        kind: type[BaseModel] = _SECTIONS[name]
    elif name in STAGES.names():
        kind = STAGES.get(name)
    else:
        known = [*STAGES.names(), *_SECTIONS, "fail_if"]
        hint = suggest(name, known) or "`prefkit stages` lists them"
        raise PrefkitError(f"no stage is called '{name}'", hint=hint)
    entry = _described(kind) if issubclass(kind, Stage) else {"stage": name, "summary": _doc(kind)}
    settings = list(_settings(kind))
    if as_json:
        print_json({**entry, "settings": settings})
        return
    show(f"{name} · {_doc(kind)}")
    for key in ("kind", "level", "version", "origin", "reads", "writes", "drops"):
        if entry.get(key):
            value = entry[key]
            show(f"{key:<8} {', '.join(value) if isinstance(value, list) else value}")
    show("")
    shown = table("setting", "type", "default", "meaning", wraps=("type", "meaning"))
    for setting in settings:
        shown.add_row(setting["name"], setting["type"], setting["default"], setting["meaning"])
    show(shown)


def _gates(*, as_json: bool) -> None:
    """List the gates with their defaults."""
    if as_json:
        for rule in RULES.values():
            print_json({**rule._asdict(), "wanted": rule.wanted and rule.wanted._asdict()})
        return
    show("fail_if · What a finished dataset must pass.", "")
    shown = table("gate", "wanted", "if not", "meaning", wraps=("wanted", "meaning"))
    for rule in RULES.values():
        wanted = "not asked" if rule.wanted is None else spelled(rule.wanted, rule.unit)
        shown.add_row(rule.name, wanted, "" if rule.wanted is None else rule.then, rule.meaning)
    show(shown, "", _doc(Limit))
    shown = table("setting", "type", "default", "meaning", wraps=("type", "meaning"))
    for setting in _settings(Limit):
        shown.add_row(setting["name"], setting["type"], setting["default"], setting["meaning"])
    show(shown)


def _described(kind: type[Stage]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "stage": kind.name,
        "kind": kind.kind,
        "level": _flow(kind.level),
        "version": kind.version,
        "origin": STAGES.origin(kind.name),
        "summary": _doc(kind),
    }
    try:
        stage = kind()
    except ValidationError:
        return entry  # what it reads and writes depends on settings that have no default
    return {
        **entry,
        "reads": list(stage.reads()),
        "writes": list(stage.writes()),
        "drops": list(stage.drops()),
    }


def _flow(flow: Flow) -> str:
    takes = "any" if len(flow.takes) == 3 else " or ".join(flow.takes)
    return f"{takes} -> {flow.gives}" if flow.gives else takes


def _doc(kind: type[BaseModel]) -> str:
    return " ".join((kind.__doc__ or "").partition("\n\n")[0].split())


def _settings(kind: type[BaseModel]) -> Iterator[dict[str, str]]:
    schema = kind.model_json_schema(schema_generator=Described)
    yield from _rows(schema, schema.get("$defs", {}), "")


def _rows(schema: Mapping[str, Any], shared: Mapping[str, Any], inside: str) -> Iterator[dict[str, str]]:
    needed = schema.get("required", ())
    for name, entry in schema.get("properties", {}).items():
        default = "needed" if name in needed else _word(entry.get("default"))
        meaning = " ".join(entry.get("description", "").split())
        yield {"name": inside + name, "type": _type(entry, shared), "default": default, "meaning": meaning}
        for part in _parts(entry, shared):
            yield from _rows(part, shared, f"{inside}{name}.")


def _parts(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings that a setting may be, whose keys are explained below it."""
    for choice in (entry, *entry.get("anyOf", ())):
        name = str(choice.get("$ref", "")).rpartition("/")[2]
        if name and name != Model.__name__:
            yield shared[name]


def _word(value: object) -> str:
    """Return a value as a recipe would write it."""
    if isinstance(value, dict) and value:
        return "{ ... }"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


_BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
}


def _type(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """Return a JSON schema as a reader of YAML would say it."""
    if "$ref" in entry:
        name = str(entry["$ref"]).rpartition("/")[2]
        return "model" if name == Model.__name__ else _type(shared[name], shared)
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_type(choice, shared) for choice in entry["anyOf"]))
    if "enum" in entry:
        return ", ".join(_word(word) for word in entry["enum"])
    if "const" in entry:
        return _word(entry["const"])
    kind = entry.get("type", "")
    if kind == "array":
        return f"list of {_type(entry['items'], shared)}" if "items" in entry else "list"
    if kind == "object":
        return "mapping"
    bounds = [f"{sign} {entry[bound]:g}" for bound, sign in _BOUNDS.items() if bound in entry]
    return " ".join([_TYPES.get(kind, "value"), *bounds])
