"""Rules: scorers that need no model. Each is a frozen config that maps responses to one number each.

A rule reads in a recipe by name (`score: {rule: length}`) or with its settings (`score: {rule: {length: {unit: words,
at_most: 80}}}`). Higher is better. A rule gives null where it cannot tell, for instance where there is no reference
answer to compare with, and never a number that stands for "unknown".

To add one: write its class in a file here, add it to BUILTIN. Rules of other packages are entry points of the group
`prefkit.rules`.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, GetJsonSchemaHandler, SerializeAsAny, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError

from prefkit.catalog import Catalog
from prefkit.errors import PrefkitError
from prefkit.rules.answer import ExactAnswer, MathAnswer
from prefkit.rules.form import Format, JsonValid
from prefkit.rules.json_schema import JsonSchema
from prefkit.rules.length import Length
from prefkit.rules.math_equal import MathEqual
from prefkit.rules.regex import Regex
from prefkit.rules.rule import Explained, Judged, Rule, judged
from prefkit.rules.structure import Structure
from prefkit.rules.style import Style
from prefkit.rules.toy_gold import ToyGold
from prefkit.rules.unit_tests import UnitTests

__all__ = ["BUILTIN", "AnyRule", "Explained", "Judged", "Rule", "judged", "parse"]

BUILTIN: tuple[type[Rule], ...] = (
    Length,
    Regex,
    Format,
    Structure,
    Style,
    JsonValid,
    JsonSchema,
    ExactAnswer,
    MathAnswer,
    MathEqual,
    UnitTests,
    ToyGold,
)


def parse(value: object) -> object:
    """Read a rule as recipes spell it: `name`, `{name: {setting: value}}`, or a rule already made.

    Raises PydanticCustomError, so that the message lands on the line of the recipe.
    """
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1:
        raise PydanticCustomError("rule", f"a rule is one name with its settings, got {sorted(value)}")
    ((name, settings),) = value.items()
    catalog = Catalog("rule", "prefkit.rules", {rule.name: rule for rule in BUILTIN})
    try:
        return catalog.get(str(name)).model_validate(settings or {})
    except ValidationError as error:
        _pass_on_names_of_models(str(name), error)
        told = "; ".join(_one(problem["loc"], problem["msg"]) for problem in error.errors())
        raise PydanticCustomError("rule", f"rule '{name}': {told}") from error
    except PrefkitError as error:
        raise PydanticCustomError("rule", f"{error.what} ({error.hint})") from error


def _pass_on_names_of_models(rule: str, error: ValidationError) -> None:
    """Raise an error that is only about models as it is, but with its whole path: the recipe knows what names mean."""
    wanted = [
        each for each in error.errors() if each["type"] == "model_type" and isinstance(each["input"], str)
    ]
    if len(wanted) < error.error_count():
        return
    lines = [
        InitErrorDetails(type="model_type", loc=(rule, *each["loc"]), input=each["input"], ctx=each["ctx"])
        for each in wanted
    ]
    raise ValidationError.from_exception_data(error.title, lines)


def _one(loc: tuple[int | str, ...], message: str) -> str:
    text = message.removeprefix("Value error, ")
    where = f"{'.'.join(str(part) for part in loc)}: " if loc else ""
    return f"{where}{text[:1].lower()}{text[1:]}"


class _Spelling:
    """Say to editors how a rule is written, with the settings of each."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        names: dict[str, Any] = {"type": "string", "enum": [rule.name for rule in BUILTIN]}
        spelled = [
            {
                "type": "object",
                "properties": {rule.name: handler.resolve_ref_schema(handler(rule.__pydantic_core_schema__))},
                "required": [rule.name],
                "additionalProperties": False,
            }
            for rule in BUILTIN
        ]
        return {"anyOf": [names, *spelled]}


AnyRule = Annotated[SerializeAsAny[Rule], BeforeValidator(parse), _Spelling()]
"""A field that holds a rule."""
