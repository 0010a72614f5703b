"""The dedup stage: what counts as the same, and which of the same stays."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.errors import ContractError
from prefkit.stages.dedup import Dedup
from prefkit.testing import check_stage, run_stage


def turns(*rows: list[tuple[str, str]]) -> pa.Array:
    return pa.array([[{"role": role, "content": text} for role, text in row] for row in rows], MESSAGES)


def test_the_same_response_to_a_prompt_goes(make_responses):
    texts = {"p": ["Yes.", "no", " yes. ", "YES."], "q": ["yes."]}
    responses = make_responses({"p": [1.0, 2.0, 3.0, 4.0], "q": [1.0]}, texts)
    out = check_stage(Dedup(by="response"), responses)
    assert out["id"].to_pylist() == ["p0", "p1", "q0"]
    assert run_stage(Dedup(by="response"), responses).notes == {"dropped/duplicate": 2}


def test_the_same_response_anywhere_goes(make_responses):
    texts = {"p": ["Yes.", "no"], "q": ["yes.", "maybe"]}
    stage = Dedup(by="response", within="dataset")
    out = check_stage(stage, make_responses({"p": [1.0, 2.0], "q": [1.0, 1.0]}, texts))
    assert out["id"].to_pylist() == ["p0", "p1", "q1"]


def test_the_best_of_the_same_stays(make_responses):
    texts = {"p": ["a", "A", "a ", "b", "B"]}
    responses = make_responses({"p": [1.0, 3.0, 3.0, None, 0.0]}, texts)
    out = check_stage(Dedup(by="response", keep="best"), responses)
    assert out["id"].to_pylist() == ["p1", "p4"]


def test_the_best_does_not_depend_on_the_order_of_rows(make_responses):
    responses = make_responses({"p": [1.0, 3.0, 3.0, 2.0]}, {"p": ["a"] * 4})
    stage = Dedup(by="response", keep="best")
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert run_stage(stage, responses.take(order)).table["id"].to_pylist() == ["p1"]


def test_of_prompts_that_read_the_same_the_first_keeps_all_its_rows(make_responses):
    responses = make_responses({"p": [1.0, 2.0], "q": [3.0, 4.0], "r": [5.0]})
    prompt = turns(*[[("user", "Say hi")]] * 2, *[[("user", "say  HI\n")]] * 2, [("user", "say bye")])
    responses = responses.set_column(2, "prompt", prompt)
    out = check_stage(Dedup(by="prompt"), responses)
    assert out["id"].to_pylist() == ["p0", "p1", "r0"]


def test_prompts_with_other_tools_or_other_speakers_differ(make_responses):
    prompts = make_responses({key: [1.0] for key in "pqrs"}).select(["id", "prompt_id", "prompt"])
    prompt = turns([("user", "hi")], [("user", "hi")], [("system", "hi")], [("user", "hi")])
    prompts = prompts.set_column(2, "prompt", prompt).append_column(
        "tools", pa.array([None, "[]", None, None])
    )
    assert check_stage(Dedup(by="prompt"), prompts)["id"].to_pylist() == ["p0", "q0", "r0"]


def test_turns_are_not_run_together(make_responses):
    prompts = make_responses({key: [1.0] for key in "pq"}).select(["id", "prompt_id", "prompt"])
    prompt = turns([("user", "a"), ("user", "b")], [("user", "a user b")])
    assert check_stage(Dedup(by="prompt"), prompts.set_column(2, "prompt", prompt)).num_rows == 2


def test_pairs_with_the_same_sides_go(make_pairs):
    pairs = make_pairs(
        chosen=["a", "A", "b", "a"], rejected=["b", "b ", "a", "b"], prompt_id=["p", "p", "p", "q"]
    )
    assert check_stage(Dedup(by="pair"), pairs)["id"].to_pylist() == ["r000", "r002", "r003"]
    assert check_stage(Dedup(by="pair", within="dataset"), pairs)["id"].to_pylist() == ["r000", "r002"]


def test_pairs_with_the_same_chosen_go(make_pairs):
    pairs = make_pairs(
        chosen=["a", "a", "b"], rejected=["x", "y", "z"], prompt_id=["p"] * 3, margin=[1.0, 2.0, 3.0]
    )
    assert check_stage(Dedup(by="chosen"), pairs)["id"].to_pylist() == ["r000", "r002"]
    best = Dedup(by="chosen", keep="best", score="margin")
    assert check_stage(best, pairs)["id"].to_pylist() == ["r001", "r002"]


def test_empty_texts_are_the_same(make_responses):
    responses = make_responses({"p": [1.0] * 3}, {"p": ["", " ", "x"]})
    assert run_stage(Dedup(by="response"), responses).table["id"].to_pylist() == ["p0", "p2"]


def test_case_and_space_outside_ascii_are_made_alike(make_responses):
    responses = make_responses({"p": [1.0] * 3}, {"p": ["Élan\u00a0vital", "élan vital", "elan vital"]})
    assert run_stage(Dedup(by="response"), responses).table["id"].to_pylist() == ["p0", "p2"]


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "A ", "b", " b", "c", ""]), min_size=1, max_size=12))
def test_exactly_one_of_the_same_stays_and_a_second_pass_drops_nothing(make_responses, words):
    responses = make_responses({"p": [1.0] * len(words)}, {"p": words})
    once = run_stage(Dedup(by="response"), responses)
    plain = [" ".join(row[0]["content"].split()).lower() for row in once.table["response"].to_pylist()]
    wanted = list(dict.fromkeys(" ".join(word.split()).lower() for word in words))
    assert plain == wanted
    assert once.table.num_rows + once.notes.get("dropped/duplicate", 0) == len(words)
    assert run_stage(Dedup(by="response"), once.table).dropped == []


def test_the_scope_follows_the_settings():
    assert Dedup(by="prompt").scope() == "global"
    assert Dedup(by="response").scope() == "group"
    assert Dedup(by="response", within="dataset").scope() == "global"


def test_the_level_must_fit(make_responses, make_pairs):
    with pytest.raises(ContractError, match="reads column 'chosen'"):
        Dedup(by="pair")(make_responses({"p": [1.0]}))
    with pytest.raises(ContractError, match="reads column 'response'"):
        Dedup(by="response")(make_pairs(1))


def test_a_prompt_has_no_score():
    with pytest.raises(ValidationError, match="a prompt has no score"):
        Dedup(by="prompt", keep="best")


def test_one_row_and_no_row(make_responses):
    responses = make_responses({"p": [1.0]})
    for stage in (Dedup(), Dedup(by="response"), Dedup(by="response", keep="best")):
        assert run_stage(stage, responses).table.num_rows == 1
        assert run_stage(stage, responses.slice(0, 0)).table.num_rows == 0
