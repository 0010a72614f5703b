from collections.abc import Callable
from fractions import Fraction
from importlib.util import find_spec

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from prefkit.columns import COLUMNS, MESSAGES
from prefkit.engines import Model
from prefkit.errors import DataError, RecipeError
from prefkit.recipe import Recipe
from prefkit.rules import BUILTIN, AnyRule, Rule, judged, parse
from prefkit.rules.answer import final_number

Spelled = str | dict


class Holder(BaseModel):
    rule: AnyRule


def held(spelled: Spelled) -> Rule:
    return Holder(rule=spelled).rule


def said(role: str, texts) -> pa.Array:
    return pa.array([None if text is None else [{"role": role, "content": text}] for text in texts], MESSAGES)


def scores(spelled: Spelled, *texts: str | None, reference: str | None = None, prompt: str = "x") -> list:
    table = pa.table(
        {
            "prompt": said("user", [prompt] * len(texts)),
            "response": said("assistant", texts),
            "reference_answer": pa.array([reference] * len(texts), pa.string()),
        }
    )
    result = held(spelled).score(table)
    assert result.type == pa.float64()
    return result.to_pylist()


EXAMPLES: dict[str, Spelled] = {
    "length": {"length": {"unit": "words", "at_most": 3}},
    "regex": {"regex": {"pattern": "h[aeiou]"}},
    "format": {"format": {"contains": ["a", "b"], "ends": "."}},
    "structure": {"structure": {"has": ["list"], "tags": ["think"]}},
    "style": {"style": {"feature": "headings"}},
    "json-valid": {"json-valid": {"keys": {"a": "number"}}},
    "json-schema": {"json-schema": {"schema": {"type": "object"}}},
    "exact-answer": {"exact-answer": {"marker": "A:"}},
    "math-answer": "math-answer",
    "math-equal": "math-equal",
    "unit-tests": {"unit-tests": {"allow_execution": True, "tests": ["assert f(1) == 2"]}},
    "toy-gold": "toy-gold",
}


if find_spec("jsonschema") is None:  # without prefkit[verify] its rule cannot even be read
    EXAMPLES.pop("json-schema")
READABLE = {rule.name for rule in BUILTIN} - ({"json-schema"} - set(EXAMPLES))


def test_every_rule_keeps_its_spelling_and_survives_a_round_trip():
    assert set(EXAMPLES) == READABLE
    for name, spelled in EXAMPLES.items():
        holder = Holder(rule=spelled)
        assert list(holder.model_dump(mode="json")["rule"]) == [name]
        assert Holder.model_validate_json(holder.model_dump_json()) == holder


def test_every_rule_reads_known_columns_and_gives_null_for_no_response():
    for name, spelled in EXAMPLES.items():
        rule = held(spelled)
        assert set(rule.reads()) <= set(COLUMNS), name
        prompt = "Add 7, 5 and 4 step by step."
        assert scores(spelled, None, reference="1", prompt=prompt) == [None], name


def test_the_editors_schema_knows_every_rule_and_its_settings():
    schema = Holder.model_json_schema()["properties"]["rule"]["anyOf"]
    assert schema[0]["enum"] == [rule.name for rule in BUILTIN]
    assert {"pattern", "how"} == set(schema[2]["properties"]["regex"]["properties"])


@pytest.mark.parametrize(
    ("spelled", "told"),
    [
        ("lenght", r"no rule is called 'lenght' \(did you mean 'length'\?\)"),
        ({"length": {}, "regex": {}}, "one name with its settings"),
        ({"regex": {}}, "rule 'regex': pattern: field required"),
        ({"regex": {"pattern": "("}}, "is no RE2 pattern: missing"),
        ({"regex": {"pattern": "(?=x)"}}, "is no RE2 pattern"),
        ({"length": {"at_least": 5, "at_most": 2}}, "at_least is 5, more than at_most, 2"),
        ("format", "set at least one of"),
        ({"json-valid": {"keys": {"a": "text"}}}, "rule 'json-valid': keys.a"),
        (7, "should be a valid dictionary or instance of Rule"),
    ],
)
def test_a_wrong_rule_says_what_is_wrong(spelled, told):
    with pytest.raises(ValidationError, match=told):
        held(spelled)


def test_a_rule_already_made_is_taken_as_it_is():
    rule = parse("length")
    assert parse(rule) is rule


def test_a_setting_that_came_later_is_no_part_of_an_older_identity():
    assert held("length").model_dump(mode="json") == {
        "length": {"unit": "chars", "at_least": None, "at_most": None}
    }


def test_length_counts_tokens_of_the_tokenizer_that_is_named():
    rule = {"length": {"unit": "tokens", "tokenizer": {"id": "prefkit/toy-policy"}, "at_most": 1000}}
    assert scores(rule, "Dear Ann", "", None) == [1.0, 1.0, None]
    plain = {"length": {"unit": "tokens", "tokenizer": {"id": "prefkit/toy-policy"}}}
    short, long = scores(plain, "Dear Ann", "Dear Ann " * 10)
    assert 0 < short < long
    with pytest.raises(ValidationError, match="go together"):
        held({"length": {"unit": "tokens"}})


def test_a_recipe_names_the_tokenizer_as_it_names_models(tmp_path):
    recipe = """
        name: sized
        models: { policy: { id: prefkit/toy-policy } }
        data: [ { file: prompts.jsonl } ]
        build:
          - sample: { model: policy }
          - score: { rule: { length: { unit: tokens, tokenizer: NAME } } }
    """
    path = tmp_path / "sized.yaml"
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hi"}\n')
    path.write_text(recipe.replace("NAME", "policy"))
    assert Recipe.load(path).build[1].rule.tokenizer == Model(id="prefkit/toy-policy")
    path.write_text(recipe.replace("NAME", "polcy"))
    with pytest.raises(RecipeError, match="no model is called 'polcy'") as error:
        Recipe.load(path)
    assert "did you mean 'policy'" in str(error.value)


def test_rows_that_a_plain_rule_cannot_judge_are_counted():
    table = pa.table({"response": said("assistant", ["a", None]), "reference_answer": ["a", "a"]})
    found = judged(held("exact-answer"), table)
    assert (found.scores.to_pylist(), found.notes) == ([1.0, None], {"not-judged": 1})


def test_length_counts_characters_not_bytes():
    assert scores("length", "né", "", "🙂🙂🙂") == [2.0, 0.0, 3.0]
    assert scores({"length": {"unit": "words"}}, "one  two\nthree", " ") == [3.0, 0.0]


def test_a_length_outside_the_band_scores_the_ratio_to_it():
    band = {"length": {"at_least": 2, "at_most": 4}}
    assert scores(band, "", "a", "ab", "abcd", "abcdefgh", None) == [0.0, 0.5, 1.0, 1.0, 0.5, None]
    assert scores({"length": {"at_most": 4}}, "", "abcdefgh") == [1.0, 0.5]
    assert scores({"length": {"at_least": 4}}, "ab", "a" * 100) == [0.5, 1.0]


def test_regex_finds_matches_whole_or_counts():
    assert scores({"regex": {"pattern": r"\d"}}, "a1", "b") == [1.0, 0.0]
    assert scores({"regex": {"pattern": "a|b", "how": "whole"}}, "a", "ab", "a\n") == [1.0, 0.0, 0.0]
    assert scores({"regex": {"pattern": "a", "how": "count"}}, "banana", "x") == [3.0, 0.0]


def test_a_pattern_that_explodes_elsewhere_takes_no_time_here():
    assert scores({"regex": {"pattern": "(a+)+$"}}, "a" * 100_000 + "b") == [0.0]


def test_format_scores_the_share_of_requirements_met():
    rule = {"format": {"contains": ["Dear", "regards"], "lacks": ["lol"], "starts": "Dear", "ends": "."}}
    assert scores(rule, "Dear A, hello. Kind regards. ", "Dear A", "lol") == [1.0, 0.6, 0.0]


def test_json_is_valid_or_not():
    assert scores("json-valid", '{"a": 1}', "[]", "{", "", "NaN", "[" * 100_000) == [
        1.0,
        1.0,
        0.0,
        0.0,
        0.0,
        0.0,
    ]
    keys = {"json-valid": {"keys": {"a": "number", "b": "array"}}}
    wrong = ['{"a": true, "b": []}', '{"a": 1}', '[{"a": 1, "b": []}]', '{"a": "1", "b": []}']
    assert scores(keys, '{"a": 1.5, "b": [], "c": 0}', *wrong) == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_json_in_a_block_counts_where_it_may():
    block = '```json\n{"a": 1}\n```'
    assert scores("json-valid", block) == [0.0]
    assert scores({"json-valid": {"fenced": True}}, block, '{"a": 1}', f"Here: {block}") == [1.0, 1.0, 0.0]


def test_an_exact_answer_is_the_reference_but_for_case_space_and_full_stop():
    assert scores("exact-answer", " The  Cat.", "the dog", reference="the cat") == [1.0, 0.0]
    rule = {"exact-answer": {"marker": ["Answer:", "A:"]}}
    assert scores(rule, "A: no\nAnswer: Paris.\nDone", "Paris", "A:", reference="paris") == [1.0, 0.0, 0.0]
    assert scores(rule, "A: x", reference=None) == [None]


SOLUTIONS = {
    "She makes 9 * 2 = $<<9*2=18>>18 every day.\nA: 18": 1.0,
    "So 13 * 2 = $<<13*2=26>>26\nA: 26": 0.0,
    "#### 18": 1.0,
    "A: $18.00": 1.0,
    "A: 36/2": 1.0,
    "A: 18 eggs, of 20": 1.0,
    "A: -18": 0.0,
    "A: none": 0.0,
    "A: 18\nA: 19": 0.0,
    "it is 18": 1.0,
    "": 0.0,
}


def test_a_math_answer_is_the_number_after_the_last_marker():
    assert scores("math-answer", *SOLUTIONS, reference="18") == list(SOLUTIONS.values())
    assert scores("math-answer", "A: 18", reference="9 * 2 = 18\n#### 18") == [1.0]
    strict = {"math-answer": {"strict": True}}
    assert scores(strict, "it is 18", "A: 18", reference="18") == [0.0, 1.0]
    assert scores({"math-answer": {"tolerance": 0.01}}, "A: 0.333", "A: 0.35", reference="1/3") == [1.0, 0.0]


def test_without_a_reference_number_a_math_answer_has_no_score():
    assert scores("math-answer", "A: 1", reference=None) == [None]
    assert scores("math-answer", "A: 1", reference="unknown") == [None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234,567.5", Fraction(2469135, 2)),
        ("1,2", Fraction(2)),
        (".5", Fraction(1, 2)),
        ("10-4", Fraction(4)),
        ("x = -4", Fraction(-4)),
        ("\u22124", Fraction(-4)),
        ("-$3", Fraction(-3)),
        ("20%", Fraction(20)),
        ("3/0", None),
        ("no number", None),
        ("USA: 5 and 6", Fraction(6)),
    ],
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert final_number(text, ("A:", "####")) == value


@given(st.text(max_size=200))
def test_any_text_has_a_number_or_none(text):
    assert final_number(text, ("####",)) is None or isinstance(final_number(text, ("####",)), Fraction)


def test_toy_gold_is_the_worlds_own_and_refuses_other_prompts():
    prompt = "Add 7, 5 and 4 step by step."
    right, wrong = "7 + 5 = 12. 12 + 4 = 16. Answer: 16.", "7 + 5 = 13."
    found = scores("toy-gold", right, wrong, prompt=prompt)
    assert found[0] == 1.0
    assert found[1] < 0.5
    with pytest.raises(DataError):
        scores("toy-gold", right, prompt="What is the capital of France?")


def test_rules_read_slices_and_chunks_alike():
    whole = pa.table({"response": said("assistant", ["a", "bb", None, "dddd"])})
    pieces = pa.concat_tables([whole.slice(0, 1), whole.slice(1, 2), whole.slice(3)])
    rule: Callable[..., pa.Array] = held("length").score
    assert rule(whole.slice(1)).to_pylist() == [2.0, None, 4.0]
    assert rule(pieces).to_pylist() == rule(whole).to_pylist() == [1.0, 2.0, None, 4.0]
