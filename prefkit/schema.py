"""The recipe's grammar as JSON schema, so that an editor completes and checks a recipe while it is typed.

It is made from the same configs that check a recipe, and says the same, with two differences that an editor must know
of: a model in a setting is written as a name from `models:`, and a step as a name or as one name with its settings.
"""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from prefkit.described import Described, meanings
from prefkit.engines import Model
from prefkit.experiment.settings import CompareSettings
from prefkit.gates.rules import RULES, Rule, Then
from prefkit.gates.said import Limit
from prefkit.objectives import PRESETS
from prefkit.recipe import KEYS, Recipe
from prefkit.sources import Source
from prefkit.stage import Stage
from prefkit.stages import BUILTIN
from prefkit.train.settings import TrainSettings

__all__ = ["recipe_schema"]

_MODEL_NAME = {"type": "string", "description": "A name from `models:`."}
_SPELLED = {"anyOf": [{"type": "string"}, {"type": "object", "maxProperties": 1}]}
"""A piece: its name, or its name with its settings."""


def recipe_schema(stages: Sequence[type[Stage]] = BUILTIN) -> dict[str, Any]:
    """Return the schema of recipes that may name these stages. The shipped one knows the built-in stages."""
    kinds: list[type[BaseModel]] = [Model, Source, TrainSettings, CompareSettings, Limit, *stages]
    found, shared = models_json_schema(
        [(kind, "validation") for kind in kinds], ref_template=_REF, schema_generator=Described
    )
    definitions = dict(shared["$defs"])
    names = {
        kind: str(found[kind, "validation"]["$ref"]).removeprefix(_REF.format(model="")) for kind in kinds
    }
    definitions["model"] = definitions.pop(names[Model])
    definitions[names[Model]] = _MODEL_NAME  # every reference from a setting
    definitions["Objective"] = _objective(definitions["Objective"])
    definitions["Extra"] = _SPELLED
    head = Recipe.model_json_schema(ref_template=_REF, schema_generator=Described)["properties"]
    properties = {name: _plain(head[name]) for name in _SINGLE}
    properties["models"] = _described("models", type="object", additionalProperties=_ref("model"))
    properties["data"] = _described("data", type="array", minItems=1, items=_ref(names[Source]))
    properties["build"] = _described(
        "build", type="array", items={"anyOf": [_step(kind, names) for kind in stages]}
    )
    properties["train"] = _described("train", **_ref(names[TrainSettings]))
    properties["compare"] = _described("compare", **_ref(names[CompareSettings]))
    properties["fail_if"] = _described(
        "fail_if",
        type="object",
        additionalProperties=False,
        properties={name: _gate(rule, names[Limit]) for name, rule in RULES.items()},
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "prefkit recipe",
        "description": Recipe.__doc__,
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "data"],
        "properties": {name: properties[name] for name in KEYS},
        "$defs": dict(sorted(definitions.items())),
    }


_REF = "#/$defs/{model}"
_SINGLE = ("name", "seed", "max_failures", "license", "language")


def _step(kind: type[Stage], names: Mapping[type[BaseModel], str]) -> dict[str, Any]:
    word, summary = kind.name, (kind.__doc__ or "").partition("\n")[0]
    settings = {
        "type": "object",
        "description": summary,
        "properties": {word: _ref(names[kind])},
        "required": [word],
        "additionalProperties": False,
    }
    if any(info.is_required() for info in kind.model_fields.values()):
        return settings
    return {"anyOf": [{"const": word, "description": summary}, settings]}


def _gate(rule: Rule, limit: str) -> dict[str, Any]:
    """Return what a recipe may say of a gate: what happens, or a limit."""
    return {"description": rule.meaning, "anyOf": [{"enum": list(get_args(Then))}, _ref(limit)]}


def _objective(pieces: Mapping[str, Any]) -> dict[str, Any]:
    """Add to the pieces written out the two shorter spellings: a preset, and a preset with its settings."""
    preset = {"enum": list(PRESETS)}
    with_settings = {"type": "object", "properties": {"preset": preset}, "required": ["preset"]}
    return {"description": pieces["description"], "anyOf": [preset, with_settings, dict(pieces)]}


def _described(name: str, **rest: object) -> dict[str, Any]:
    return {"description": meanings(Recipe)[name], **rest}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(model=name)}


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "title"}
