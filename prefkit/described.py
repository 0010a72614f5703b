"""What the settings of a config mean: the docstrings below its fields, read when somebody asks.

Pydantic can read them too, as each class is made, for every command and for no reader: a quarter of the time it took
prefkit to start.
"""

import ast
import inspect
from textwrap import dedent
from typing import Any

from pydantic import AliasChoices, BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

__all__ = ["Described", "meanings"]


def meanings(kind: type[BaseModel]) -> dict[str, str]:
    """Return field name to docstring, inherited ones included; without those of a class that has no source file."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            found |= _own(each)
    return {name: meaning for name, meaning in found.items() if name in kind.model_fields}


class Described(GenerateJsonSchema):
    """JSON schemas whose properties say what they mean."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Return the schema of a config, with the meaning of each of its properties."""
        made = super().model_schema(schema)
        kind: type[BaseModel] = schema["cls"]
        for name, meaning in meanings(kind).items():
            spelled = kind.model_fields[name].validation_alias or name
            choices = spelled.choices if isinstance(spelled, AliasChoices) else [spelled]
            shown = next(made["properties"][each] for each in choices if each in made["properties"])
            shown.setdefault("description", meaning)
        return made


def _own(kind: type[BaseModel]) -> dict[str, str]:
    try:
        written = ast.parse(dedent(inspect.getsource(kind))).body[0]
    except (OSError, TypeError):
        return {}  # made in a terminal, say
    assert isinstance(written, ast.ClassDef)
    return {
        line.target.id: inspect.cleandoc(below.value.value)
        for line, below in zip(written.body, written.body[1:], strict=False)
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
