"""Demands that a program can check."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.conditioning.constraints import KINDS, Constraint, demanded, holds, picked, telling
from prefkit.engines import Message

LONG = "we walked along the old river until evening fell there"
SHORT = "we went home"


def test_long_and_short_answers_are_told_apart():
    # golden data.json V12: 10 words with "river" against 3 without; at least 5 words, mention "river"
    wanted = [Constraint("least-words", "5"), Constraint("mention", "river")]
    assert [sum(holds(one, text) for one in wanted) for text in (LONG, SHORT)] == [2, 0]
    found = telling(LONG, SHORT)
    assert Constraint("mention", "river") in found
    assert [one for one in found if one.kind == "least-words"] == [Constraint("least-words", "7")]
    assert Constraint("most-words", "6") in telling(SHORT, LONG)


@pytest.mark.parametrize(
    ("kind", "argument", "yes", "no"),
    [
        ("least-words", "2", "a b", "a"),
        ("most-words", "1", "a", "a b"),
        ("mention", "river", "The River.", "rivers"),
        ("avoid", "river", "rivers", "River"),
        ("least-bullets", "2", "- a\n2. b", "- a"),
        ("no-bullets", "", "a - b", "* a"),
        ("lower-case", "", "a 1", "A"),
        ("no-commas", "", "a", "a, b"),
        ("no-digits", "", "a", "a1"),
        ("question-last", "", "so? \n", "so? yes"),
    ],
)
def test_each_kind_holds_and_fails(kind, argument, yes, no):
    assert holds(Constraint(kind, argument), yes)
    assert not holds(Constraint(kind, argument), no)
    assert "{}" not in Constraint(kind, argument).words()


def test_every_kind_is_tried_above():
    assert len(KINDS) == 10


TEXTS = st.text("abcd AB1,?\n-", max_size=40)


@given(TEXTS, TEXTS, st.integers(1, 3))
def test_what_tells_two_texts_apart_holds_for_one_and_not_the_other(text, other, most):
    found = telling(text, other)
    assert all(holds(one, text) and not holds(one, other) for one in found)
    some = picked(found, [0.5] * len(found), most)
    assert len(some) == min(most, len({one.kind for one in found}))
    assert len({one.kind for one in some}) == len(some)


def test_demands_follow_the_request():
    prompt = [Message("system", "s"), Message("user", "hi")]
    asked = demanded(prompt, [Constraint("no-commas"), Constraint("mention", "sea")])
    assert asked[0] == prompt[0]
    assert asked[1].content.startswith("hi\n\nYour answer must")
    assert asked[1].content.endswith('- Use no commas.\n- Mention the word "sea".')
    assert demanded([], [Constraint("no-commas")])[0].role == "user"
