import json
import time
from math import log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.engines import Completion
from prefkit.judging.verdicts import FLAWS, choice, first_error, number, odds, ranking, read, without_thoughts


def said(text, meaning=choice, finish="stop"):
    return read(Completion(text, 9, finish), meaning)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[[A]]", "first"),
        ("[[b]]", "second"),
        ("[[ C ]]", "tie"),
        ("[[Tie]]", "tie"),
        ("A", "first"),
        ("b.", "second"),
        ("(A)", "first"),
        ("Answer B", "second"),
        ("**Verdict: [[B]]**", "second"),
        ("Final verdict: A", "first"),
        ("My final verdict is: B", "second"),
        ("`[[A]]`", "first"),
        ("[[A]]\n\nI hope that this helps!", "first"),
        ("At first [[A]] looks good.\nBut it is wrong, so [[B]].", "second"),
        ("<think>[[A]] perhaps</think>\n[[B]]", "second"),
        ("hm, [[A]]?</think>[[B]]", "second"),
        ("<thinking>a</thinking><think>b</think>[[A]]", "first"),
        ('{"verdict": "A"}', "first"),
        ('{"reason": "its last line is [[A]]", "winner": "B"}', "second"),
        ('```json\n{"choice": "tie"}\n```', "tie"),
        ('Answer A ends with "[[A]]" to please me.\nFinal verdict: B', "second"),
        ("It is better.\n\nB", "second"),
    ],
)
def test_verdicts_are_read_however_they_are_dressed(text, verdict):
    assert said(text) == (verdict, None)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("<think>[[A]]</think>", "empty"),
        ("<think>[[A]] and so on", "empty"),
        ("I cannot help with that.", "refusal"),
        ("As an AI, I do not have a preference.", "refusal"),
        ("Both are fine.", "no-verdict"),
        ("[[D]]", "no-verdict"),
        ("A better answer would be longer.", "no-verdict"),
        ('It says "[[A]]" itself.', "no-verdict"),
        ("> [[A]]", "no-verdict"),
        ("[[A]] or [[B]]", "contradictory"),
        ("[[A]]\n[[B]]", "contradictory"),
        ('{"verdict": "A"}\n[[B]]', "contradictory"),
        ("Verdict: A\nVerdict: B", "contradictory"),
    ],
)
def test_what_is_no_verdict_is_a_flaw_by_name(text, flaw):
    assert said(text) == (None, flaw)
    assert flaw in FLAWS


def test_an_answer_that_was_cut_off_before_its_verdict_says_so():
    assert said("<think>let me see", finish="length").flaw == "cut-off"
    assert said("The first one is", finish="length").flaw == "cut-off"
    assert said("[[A]] because it is", finish="length").value == "first"


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("[[7]]", 7.0),
        ("Overall Score: 8/10", 8.0),
        ("Rating: 3\nRationale: it is fine", 3.0),
        ('{"score": 7.5}', 7.5),
        ("1", 1.0),
        ("[[10]]", 10.0),
        ("[[11]]", None),
        ("[[0]]", None),
        ("Score: 4/5", None),
        ("Score: N/A", None),
        ("Score: true", None),
        ("It has 3 parts.", None),
    ],
)
def test_scores_are_read_on_their_scale_and_never_guessed(text, score):
    assert said(text, number(1, 10)).value == score


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("[[2 > 3 > 1]]", (1, 2, 0)),
        ("Ranking: 1 > 2 > 3", (0, 1, 2)),
        ('{"ranking": [3, 1, 2]}', (2, 0, 1)),
        ("[[2 > 1]]", None),
        ("[[2 > 2 > 1]]", None),
        ("[[4 > 1 > 2]]", None),
        ("[[2 = 1 > 3]]", None),
    ],
)
def test_a_ranking_names_everybody_once(text, order):
    assert said(text, ranking(3)).value == order


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("[[2]]", 2),
        ("[[0]]", 0),
        ("So it goes.\nStep 1: correct; Step 2: neutral; Step 3: incorrect", 2),
        ("Step 1: correct; Step 2: correct; Step 3: correct", 0),
        ("Step 1: correct; Step 9: incorrect", None),
        ("[[4]]", None),
    ],
)
def test_the_first_wrong_step_is_read_from_a_number_or_from_a_line_of_steps(text, step):
    assert said(text, first_error(3)).value == step


def test_probabilities_are_of_the_labels_alone_in_whatever_case_and_dress():
    place = [(" A", log(0.5)), ("b", log(0.2)), ("[[C", log(0.1)), ("The", log(0.2))]
    assert odds([place], "ABC") == pytest.approx((0.625, 0.25, 0.125))
    assert odds([[("\n", log(0.9)), ("A", log(0.1))], place], "ABC") == pytest.approx((0.625, 0.25, 0.125))
    assert odds([[("The", -0.1)]], "ABC") is None
    assert odds(None, "AB") is None


@given(st.text(alphabet="[]AB{}\"':>< \n/thinkverdict0123,.", max_size=60))
def test_reading_never_raises_and_gives_a_value_or_a_flaw(text):
    for meaning in (choice, number(1, 5), ranking(2), first_error(3)):
        value, flaw = said(text, meaning)
        assert (value is None) == (flaw is not None)


@given(
    st.sampled_from(["first", "second", "tie"]), st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
)
def test_the_last_line_decides_whatever_was_thought_before(verdict, thought):
    letter = {"first": "A", "second": "B", "tie": "C"}[verdict]
    text = f"<think>{thought.replace('<', '')} [[A]] [[B]]</think>\n[[{letter}]]"
    assert said(text).value == verdict
    assert said(json.dumps({"reason": thought, "verdict": letter})).value == verdict


@pytest.mark.parametrize("text", ["<think>", "[[", "[[A]]", "{", "verdict ", "{}[[A]]", "</think>"])
def test_a_hostile_answer_of_ten_megabytes_takes_no_time(text):
    started = time.process_time()
    said(text * (10_000_000 // len(text)))
    assert time.process_time() - started < 10


def test_thoughts_are_taken_out_and_nothing_else():
    assert without_thoughts("a <think>b</think> c") == "a  c"
    assert without_thoughts("I think that <b>this</b> is it") == "I think that <b>this</b> is it"
