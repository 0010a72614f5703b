import pytest
from pydantic import ValidationError

from prefkit.rules.json_schema import JsonSchema

pytest.importorskip("jsonschema", reason="needs prefkit[verify]")

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}


def test_a_response_follows_its_schema_or_not(judge):
    texts = [
        '{"name": "a", "age": 3}',
        '{"name": "a"}',
        '{"age": 3}',
        '{"name": "a", "x": 1}',
        '{"name": 1}',
        "{",
        "",
        None,
    ]
    found = judge({"json-schema": {"schema": PERSON}}, texts)
    assert found == ([1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, None], {"no-response": 1})


def test_json_in_a_block_counts_where_it_may(judge):
    block = '```json\n{"name": "a"}\n```'
    assert judge({"json-schema": {"schema": PERSON}}, [block]).scores == [0.0]
    assert judge({"json-schema": {"schema": PERSON, "fenced": True}}, [block]).scores == [1.0]


def test_a_pattern_that_never_ends_takes_no_more_than_its_time(judge):
    schema = {"type": "string", "pattern": "^(a+)+$"}
    texts = ['"aa"', '"' + "a" * 60 + 'b"', '"b"']
    found = judge({"json-schema": {"schema": schema, "seconds": 0.2}}, texts)
    assert found == ([1.0, None, 0.0], {"timeout": 1})


def test_json_deeper_than_can_be_followed_is_not_judged(judge):
    schema = {"$defs": {"list": {"type": "array", "items": {"$ref": "#/$defs/list"}}}, "$ref": "#/$defs/list"}
    found = judge({"json-schema": {"schema": schema}}, ["[[]]", "[" * 900 + "]" * 900, "[1]"])
    assert found == ([1.0, None, 0.0], {"too-deep": 1})


def test_nothing_is_fetched_for_a_schema_that_refers_elsewhere(judge):
    found = judge({"json-schema": {"schema": {"$ref": "http://127.0.0.1:9/schema.json"}}}, ["1"])
    assert found.scores == [None]


def test_what_is_no_schema_is_refused_where_it_is_written():
    with pytest.raises(ValidationError, match=r"no JSON Schema: 'text' is not valid .*\(at \$\.type\)"):
        JsonSchema(schema={"type": "text"})


def test_a_schema_survives_a_round_trip():
    rule = JsonSchema(schema=PERSON)
    assert rule.model_dump(mode="json") == {
        "json-schema": {"schema": PERSON, "fenced": False, "seconds": 2.0}
    }
