import json
import re
from pathlib import Path
from typing import Any

import pytest

from prefkit.schema import recipe_schema
from prefkit.shipped import SCHEMA, folder
from prefkit.stages import BUILTIN
from prefkit.yaml_strict import parse, plain, read

SMALL = """
name: small
models: { policy: { id: org/model } }
data: [{ file: rows.jsonl }]
build:
  - pair
  - margin: { scale: 2.0 }
train: { model: policy, objective: { preset: dpo, beta: 0.2 }, learning_rate: 5e-7 }
"""

_TYPES = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def complaints(value: Any, schema: dict[str, Any], shared: dict[str, Any], where: str = "") -> list[str]:
    """Check a value against the words of JSON schema that the recipe's schema uses, as an editor would."""
    if "$ref" in schema:
        return complaints(value, shared[schema["$ref"].rpartition("/")[2]], shared, where)
    if "anyOf" in schema and all(complaints(value, choice, shared, where) for choice in schema["anyOf"]):
        return [f"{where}: fits no choice"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{where}: not one of {schema['enum']}"]
    if "const" in schema and value != schema["const"]:
        return [f"{where}: not {schema['const']}"]
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{where}: not {kind}"]
    found = _bounds(value, schema, where)
    if isinstance(value, dict):
        found += _keys(value, schema, shared, where)
    if isinstance(value, list) and "items" in schema:
        for at, item in enumerate(value):
            found += complaints(item, schema["items"], shared, f"{where}.{at}")
    return found


def _bounds(value: Any, schema: dict[str, Any], where: str) -> list[str]:
    tests = {
        "minimum": lambda bound: value >= bound,
        "exclusiveMinimum": lambda bound: value > bound,
        "maximum": lambda bound: value <= bound,
        "exclusiveMaximum": lambda bound: value < bound,
        "minItems": lambda bound: len(value) >= bound,
        "maxProperties": lambda bound: len(value) <= bound,
        "pattern": lambda bound: re.search(bound, value) is not None,
    }
    return [f"{where}: {name}" for name, test in tests.items() if name in schema and not test(schema[name])]


def _keys(value: dict[str, Any], schema: dict[str, Any], shared: dict[str, Any], where: str) -> list[str]:
    found = [f"{where}: lacks {key}" for key in schema.get("required", ()) if key not in value]
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        if key in known:
            found += complaints(item, known[key], shared, f"{where}.{key}")
        elif others is False:
            found.append(f"{where}: unknown {key}")
        elif isinstance(others, dict):
            found += complaints(item, others, shared, f"{where}.{key}")
    return found


def told(text: str) -> list[str]:
    schema = recipe_schema()
    return complaints(plain(parse(text.encode(), "r.yaml").root), schema, schema["$defs"])


def test_the_golden_schema_beside_the_recipes_is_the_current_one(golden):
    golden(f"../../recipes/{SCHEMA}", json.dumps(recipe_schema(), indent=1) + "\n")


def test_every_stage_and_section_is_in_the_schema():
    schema = recipe_schema()
    text = json.dumps(schema["properties"]["build"])
    assert len(BUILTIN) >= 5
    assert all(f'"{stage.name}"' in text for stage in BUILTIN)
    assert set(schema["properties"]) >= {"name", "seed", "models", "data", "build", "train"}


def test_every_reference_in_the_schema_leads_somewhere():
    schema = recipe_schema()
    targets = set(re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema)))
    assert len(targets) > 5
    assert targets <= set(schema["$defs"])


def test_a_recipe_fits_the_schema():
    assert told(SMALL) == []
    assert told(SMALL.replace("{ preset: dpo, beta: 0.2 }", "dpo")) == []
    assert told(SMALL.replace("{ preset: dpo, beta: 0.2 }", "{ reward: log-ratio, link: hinge }")) == []


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("name: small", "name: a b"),
        ("scale: 2.0", "scale: 0"),
        ("scale: 2.0", "scales: 2.0"),
        ("- pair", "- pear"),
        ("id: org/model", "di: org/model"),
        ("model: policy", "model: { id: org/model }"),
        ("file: rows.jsonl", "fil: rows.jsonl"),
        ("learning_rate: 5e-7", "learning_rate: small"),
        ("data: [{ file: rows.jsonl }]", "data: []"),
        ("preset: dpo", "preset: dop"),
    ],
)
def test_an_editor_sees_what_the_loader_would_refuse(good, bad):
    assert told(SMALL.replace(good, bad)) != []


def test_shipped_recipes_fit_the_schema_and_name_it():
    recipes = sorted(folder().glob("*.yaml"))
    assert len(recipes) >= 1
    schema = recipe_schema()
    for path in recipes:
        assert path.read_text().startswith(f"# yaml-language-server: $schema={SCHEMA}\n")
        assert complaints(plain(read(path).root), schema, schema["$defs"], path.name) == []


def test_the_recipes_folder_is_the_one_of_this_checkout():
    assert folder() == Path(__file__).parent.parent / "recipes"
