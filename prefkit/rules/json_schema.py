"""JSON Schema: whether a response is JSON of the wanted shape, as the standard defines it.

`jsonschema` does the checking, in a jail: a pattern of a schema may take forever on a text that was made for it. A
schema may not refer to anything outside itself: nothing is fetched.
"""

from typing import Annotated, Any, ClassVar, final

import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveFloat, field_validator

from prefkit.columns import Columns, types
from prefkit.rules.form import is_json, unfenced
from prefkit.rules.rule import Explained, Judged
from prefkit.rules.tally import tally
from prefkit.sandbox import Answer, Ask, Cell, in_parallel
from prefkit.tables import last_content

__all__ = ["JsonSchema"]

_SCORES = {"valid": 1.0, "invalid": 0.0}


@final
class JsonSchema(Explained):
    """Score 1 where a response is JSON that a JSON Schema allows, else 0. Needs `prefkit[verify]`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    name: ClassVar[str] = "json-schema"

    wanted: Annotated[dict[str, Any], Field(alias="schema")]
    """The schema; by draft 2020-12 unless its `$schema` says otherwise."""
    fenced: bool = False
    """Whether JSON in a ``` block counts too."""
    seconds: PositiveFloat = 2.0
    """Processor time for one response; one that takes longer has no score."""

    @field_validator("wanted")
    @classmethod
    def _is_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            from jsonschema.exceptions import SchemaError
            from jsonschema.validators import validator_for
        except ImportError as error:
            raise ValueError("the package 'jsonschema' is missing: pip install 'prefkit[verify]'") from error
        try:
            validator_for(value).check_schema(value)
        except SchemaError as error:
            raise ValueError(f"this is no JSON Schema: {error.message} (at {error.json_path})") from error
        return value

    def reads(self) -> Columns:
        return types("response")

    def judge(self, table: pa.Table) -> Judged:
        text = last_content(table["response"])
        texts = (unfenced(text) if self.fenced else text).to_pylist()
        asked = {at: each for at, each in enumerate(texts) if each is not None and is_json(each)}
        cell = Cell(
            "prefkit.sandbox.json_shape", {"schema": self.wanted}, self.seconds, packages=True, extra="verify"
        )
        ran = in_parallel(cell, _judge, list(asked.values()), per_jail=2_000)
        said = dict(zip(asked, ran.results, strict=True))
        verdicts = [
            "no-response" if each is None else said.get(at, "invalid") for at, each in enumerate(texts)
        ]
        return tally(verdicts, _SCORES)


def _judge(ask: Ask, text: str) -> str:
    answer: Answer = ask(text)
    return answer.lost or str(answer.said)
