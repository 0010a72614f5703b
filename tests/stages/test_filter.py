"""The filter stage: each reason, its level, and that every row is accounted for."""

import math
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.errors import ContractError
from prefkit.stages.filter import Filter, Top
from prefkit.testing import check_stage, run_stage

LOOP = "I am sorry, I am sorry, " * 12


def reasons(stage: Filter, table: pa.Table) -> list[str | None]:
    """Return why each row was dropped, or None, in the order of the table."""
    out = run_stage(stage, table)
    why = {row["id"]: row["drop_reason"] for part in out.dropped for row in part.to_pylist()}
    assert sorted([*why, *out.table["id"].to_pylist()]) == sorted(table["id"].to_pylist())
    return [why.get(id_) for id_ in table["id"].to_pylist()]


def test_empty_and_whitespace_responses_go(make_responses):
    texts = {"p": ["", " \n\t ", "ok", "\u00a0\u3000", None]}
    responses = make_responses({"p": [1.0] * 5}, texts)
    assert reasons(Filter(drop=("empty",)), responses) == ["empty", "empty", None, "empty", "empty"]
    check_stage(Filter(drop=("empty",)), responses)


def test_either_side_of_a_pair_may_be_empty(make_pairs):
    pairs = make_pairs(chosen=["a", "", "b"], rejected=["b", "c", " "])
    assert reasons(Filter(drop=("empty",)), pairs) == [None, "empty", "empty"]


def test_prompts_are_looked_at_in_prompt_rows(make_responses):
    prompts = make_responses({"p": [1.0], "q": [1.0]}).select(["id", "prompt_id", "prompt"])
    empty = pa.array(
        [[{"role": "user", "content": " "}], [{"role": "user", "content": "hi"}]], prompts["prompt"].type
    )
    assert reasons(Filter(drop=("empty",)), prompts.set_column(2, "prompt", empty)) == ["empty", None]


def test_truncated_responses_go(make_responses):
    responses = make_responses({"p": [1.0] * 3}, finish=["length", "stop", None])
    assert reasons(Filter(drop=("truncated",)), responses) == ["truncated", None, None]
    check_stage(Filter(drop=("truncated",)), responses)


def test_truncated_asks_for_its_column(make_responses):
    with pytest.raises(ContractError, match="reads column 'finish'"):
        Filter(drop=("truncated",))(make_responses({"p": [1.0]}))


def test_loops_go_and_prose_stays(make_responses):
    prose = "The river rose in the night, and by the morning the lower fields were under water as far as the mill."
    listing = "\n".join(
        f"{i}. {word} is a fruit" for i, word in enumerate(["apple", "pear", "plum", "fig", "lime"])
    )
    texts = {"p": [LOOP, prose, listing, "!" * 80, "我爱你" * 30, "ha", ""]}
    found = reasons(Filter(drop=("repeating",)), make_responses({"p": [1.0] * 7}, texts))
    assert found == ["repeating", None, None, "repeating", "repeating", None, None]


def test_how_much_repetition_is_too_much_is_a_setting(make_responses):
    half = "one two three four five six seven eight nine ten. " * 2
    responses = make_responses({"p": [1.0, 1.0]}, {"p": [half, "plain"]})
    assert reasons(Filter(drop=("repeating",)), responses) == [None, None]
    assert reasons(Filter(drop=("repeating",), repeating_above=0.3), responses) == ["repeating", None]


@pytest.mark.parametrize(
    "leak",
    [
        "Sure.\n\nHuman: and then?",
        "USER: hi",
        "ok <|im_end|>",
        "[INST] x [/INST]",
        "### Response: y",
        "done</s>",
    ],
)
def test_text_that_speaks_for_another_role_goes(make_responses, leak):
    responses = make_responses(
        {"p": [1.0, 1.0]}, {"p": [leak, "The user: a person. A human is <b>kind</b>."]}
    )
    assert reasons(Filter(drop=("role-leak",)), responses) == ["role-leak", None]


def test_identical_sides_go(make_pairs):
    pairs = make_pairs(chosen=["a b", "a"], rejected=["a  b\n", "A"])
    assert reasons(Filter(drop=("identical",)), pairs) == ["identical", None]
    check_stage(Filter(drop=("identical",)), pairs)


def test_lengths_are_in_characters(make_responses):
    responses = make_responses({"p": [1.0] * 4}, {"p": ["é😀", "abc", "", "abcdef"]})
    found = reasons(Filter(min_chars=2, max_chars=5), responses)
    assert found == [None, None, "too-short", "too-long"]


def test_length_ratio_of_pairs(make_pairs):
    # golden data.json V29: (900, 300) no, (400, 300) yes, (280, 410) yes at a factor of 1.5
    pairs = make_pairs(chosen=["a" * n for n in (900, 400, 280)], rejected=["b" * n for n in (300, 300, 410)])
    assert reasons(Filter(length_ratio_max=1.5), pairs) == ["length-ratio", None, None]


def test_a_score_must_be_there_and_finite(make_responses):
    responses = make_responses({"p": [1.0, None, math.nan, math.inf]})
    stage = Filter.model_validate({"keep": {"column": "score"}})
    assert reasons(stage, responses) == [None, *["score/missing"] * 3]
    check_stage(stage, responses)


def test_a_column_may_have_limits(make_responses):
    stage = Filter.model_validate({"keep": {"column": "score", "min": 0.5, "max": 0.8}})
    responses = make_responses({"p": [0.5, 0.4, 0.8, 0.9, None]})
    assert reasons(stage, responses) == [None, "score/too-low", None, "score/too-high", "score/missing"]


def test_a_column_may_be_words_or_truth(make_pairs):
    words = Filter.model_validate({"keep": [{"column": "domain", "any_of": ["law", "maths"]}]})
    pairs = make_pairs(domain=["law", "art", None], tie=[True, False, None])
    assert reasons(words, pairs) == [None, "domain/other", "domain/missing"]
    truth = Filter.model_validate({"keep": {"column": "tie", "any_of": False}})
    assert reasons(truth, pairs) == ["tie/other", None, "tie/missing"]
    check_stage(truth, pairs)


def test_whole_numbers_of_the_vocabulary_are_numbers(make_responses):
    responses = make_responses({"p": [1.0] * 3}, n_tokens=[5, 50, None])
    stage = Filter.model_validate({"keep": {"column": "n_tokens", "max": 10}})
    assert reasons(stage, responses) == [None, "n_tokens/too-high", "n_tokens/missing"]


def test_the_best_few_of_each_prompt_stay(make_responses):
    responses = make_responses({"p": [1.0, 3.0, 3.0, None], "q": [0.0], "r": [2.0, 5.0, 4.0]})
    stage = Filter(top=Top(column="score", k=2))
    out = check_stage(stage, responses)
    assert out["id"].to_pylist() == ["p1", "p2", "q0", "r1", "r2"]
    assert stage.scope() == "group"


def test_the_ends_of_a_column_are_cut_off_over_the_dataset(make_pairs):
    stage = Filter.model_validate({"cut": {"column": "margin", "lowest": 0.2, "highest": 0.1}})
    pairs = make_pairs(margin=[float(i) for i in range(10)] + [None])
    found = reasons(stage, pairs)
    assert found == ["margin/lowest"] * 2 + [None] * 7 + ["margin/highest", None]
    assert stage.scope() == "global"
    check_stage(stage, pairs)


def test_scorers_that_disagree_with_the_label_are_dropped(make_pairs):
    # golden data.json V09: a margin below 0 disagrees
    stage = Filter.model_validate({"keep": {"column": "margin", "min": 0.0}})
    assert reasons(stage, make_pairs(margin=[2.5, 0.4, -0.3, 1.0])) == [None, None, "margin/too-low", None]


def test_the_first_reason_is_counted(make_responses):
    responses = make_responses({"p": [0.0, 0.0, 1.0]}, {"p": ["", "ok", "ok"]})
    stage = Filter.model_validate({"drop": "empty", "min_chars": 1, "keep": {"column": "score", "min": 0.5}})
    out = run_stage(stage, responses)
    assert out.notes == {"dropped/empty": 1, "dropped/score/too-low": 1}


def test_every_reason_is_declared(make_responses):
    stage = Filter.model_validate(
        {
            "drop": ["empty", "role-leak"],
            "min_chars": 1,
            "max_chars": 9,
            "keep": {"column": "score"},
            "top": {"column": "score", "k": 1},
            "cut": {"column": "score", "lowest": 0.1},
        }
    )
    assert set(stage.drops()) == {
        *("empty", "role-leak", "too-short", "too-long", "score/missing", "score/too-low", "score/too-high"),
        *("score/other", "score/not-top", "score/lowest", "score/highest"),
    }


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({}, "nothing to do"),
        ({"drop": ["emtpy"]}, "'empty'"),
        ({"keep": {"column": "x", "min": 1, "any_of": ["a"]}}, "any_of is for words"),
        ({"keep": {"column": "x", "any_of": ["a", True]}}, "not both"),
        ({"cut": {"column": "x", "lowest": 1.5}}, "less than 1"),
        ({"top": {"column": "x", "k": 0}}, "greater than 0"),
        ({"max_chars": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Filter.model_validate(config)


def test_a_missing_column_is_named_before_running(make_pairs):
    stage = Filter.model_validate({"keep": {"column": "difficulty", "min": 1}})
    with pytest.raises(ContractError, match="reads column 'difficulty'"):
        stage.output_schema(make_pairs(1).schema)


texts = st.sampled_from(["", " ", "ok", "ok ok", LOOP, "Human: hi", "x" * 30])
rows = st.lists(st.tuples(texts, st.one_of(st.none(), st.floats(-1, 1))), min_size=2, max_size=8)


@settings(max_examples=40)
@given(rows)
def test_every_row_stays_or_has_one_reason(make_responses, rows):
    responses = make_responses({"p": [row[1] for row in rows]}, {"p": [row[0] for row in rows]})
    stage = Filter.model_validate(
        {
            "drop": ["empty", "repeating", "role-leak"],
            "max_chars": 20,
            "keep": {"column": "score", "min": 0.0},
        }
    )
    check_stage(stage, responses)
    out = run_stage(stage, responses)
    assert out.table.num_rows + sum(out.notes.values()) == len(rows)


def test_a_long_response_is_read(make_responses):
    words = "".join(chr(97 + i * 7919 % 26) + (" " if i * 31 % 7 == 0 else "") for i in range(2_000_000))
    responses = make_responses({"p": [1.0, 1.0]}, {"p": [words, "x" * 100_000]})
    found = reasons(Filter(drop=("empty", "repeating", "role-leak")), responses)
    assert found[1] == "repeating"


def best(table: pa.Table, **settings: object) -> list[str]:
    stage = Filter.model_validate({"best": settings})
    check_stage(stage, table)
    return run_stage(stage, table).table["id"].to_pylist()


def test_the_hardest_of_each_stratum_stay(make_responses):
    # golden data.json V23
    values = [9.0, 3.0, 7.0, 2.0, 1.5, 4.0]
    kinds = ["tool"] * 4 + ["chat"] * 2
    responses = make_responses({"t": [1.0] * 4, "n": [1.0] * 2}, ppl=values, domain=kinds)
    assert best(responses, column="ppl", share=0.5, by="domain") == ["t0", "t2", "n1"]
    assert best(responses, column="ppl", share=0.5, by="domain", order="lowest") == ["t1", "t3", "n0"]
    assert best(responses, column="ppl", k=1) == ["t0"]


def test_offsets_change_only_the_order_between_sources(make_pairs):
    source = ["magpie", "magpie", "human", None]
    pairs = make_pairs(chosen_a=[0.9, 0.7, 0.8, None], rejected_a=[0.9, 0.7, 0.8, 0.1], source=source)
    plain = {"column": ["chosen_a", "rejected_a"]}
    assert best(pairs, k=1, **plain) == ["r000"]
    assert best(pairs, k=1, offsets={"magpie": -0.15}, **plain) == ["r002"]
    assert best(pairs, k=3, offsets={"magpie": -0.15}, **plain) == ["r000", "r001", "r002"]
    assert (
        reasons(Filter.model_validate({"best": {"k": 9, **plain}}), pairs)[3]
        == "chosen_a+rejected_a/not-best"
    )


def test_a_larger_share_keeps_the_same_rows_and_more(make_pairs):
    pairs = make_pairs(margin=[float(7 * i % 20) for i in range(20)], domain=["a", "b"] * 10)
    kept = [set(best(pairs, column="margin", share=share, by="domain")) for share in (0.1, 0.25, 0.6, 1.0)]
    assert [len(each) for each in kept] == [2, 4, 12, 20]
    assert kept == sorted(kept, key=len)
    assert all(one <= other for one, other in pairwise(kept))


def test_scorers_must_agree_where_they_are_asked(make_pairs):
    pairs = make_pairs(
        chosen_a=[1.0, 1.0, 1.0, None],
        rejected_a=[0.0, 0.0, 2.0, 0.0],
        chosen_b=[1.0, 0.0, 1.0, 1.0],
        rejected_b=[0.0, 1.0, 0.0, 0.0],
        domain=["safety", "safety", "maths", "safety"],
    )
    both = Filter.model_validate({"agree": {"scores": ["a", "b"]}})
    assert reasons(both, pairs) == [None, *["scorers-disagree"] * 3]
    asked = Filter.model_validate({"agree": {"scores": ["a", "b"], "where": {"domain": "safety"}}})
    assert reasons(asked, pairs) == [None, "scorers-disagree", None, "scorers-disagree"]
    check_stage(asked, pairs)


def peers(make_pairs, a, b, **settings):
    zero = [0.0] * len(a)
    pairs = make_pairs(chosen_a=a, rejected_a=zero, chosen_b=b, rejected_b=zero)
    stage = Filter.model_validate({"peers": {"scores": ["a", "b"], **settings}})
    check_stage(stage, pairs)
    return [int(each[1:]) for each in run_stage(stage, pairs).table["id"].to_pylist()]


def test_peers_choose_for_each_other(make_pairs):
    # golden data.json V16
    a, b = [2, -1, 0.3, 1.2, -0.2, 0.8], [1.5, 0.4, -0.6, 1, 0.1, -0.9]
    assert peers(make_pairs, a, b, noise=0.5) == [0, 3]
    assert peers(make_pairs, a, b, noise=0.5, keep="either") == [0, 1, 3, 5]
    assert peers(make_pairs, b, a, noise=0.5) == [0, 3]
    assert peers(make_pairs, a, b, noise=0) == list(range(6))
    assert peers(make_pairs, a, b) == peers(
        make_pairs, a, b, noise=1 / 3
    )  # two of six are contradicted by each


def test_flaws_of_answers_have_their_reason(make_pairs):
    pairs = make_pairs(
        chosen=["fine", "I cannot help with that.", "fine", "fine", "fine"],
        rejected=["mail ann@firm.de", "ok", "x <|im_end|>", "```\nx", "ok"],
    )
    stage = Filter(drop=("personal-data", "refusal", "special-token", "cut-off", "other-script"))
    assert reasons(stage, pairs) == ["personal-data", "refusal", "special-token", "cut-off", None]
    check_stage(stage, pairs)
    prompts = pairs.select(["id", "prompt_id", "prompt"])
    assert reasons(Filter(drop="other-script"), prompts) == [None] * 5


def test_a_filter_without_new_settings_is_what_it_was():
    told = Filter(drop=("empty",)).model_dump(mode="json")
    assert set(told) == {
        "drop",
        "min_chars",
        "max_chars",
        "length_ratio_max",
        "repeating_above",
        "keep",
        "top",
        "cut",
    }
