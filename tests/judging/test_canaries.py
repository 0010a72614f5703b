from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.engines import Completion
from prefkit.judging.canaries import KINDS, copy_of, expected, grade, plant
from prefkit.judging.tasks import Ask, Attempt, Outcome, Side

TEXT = "There are 12 steps here. The answer is 40, and that is all."


def test_each_copy_differs_in_what_its_name_says():
    assert copy_of(TEXT, "identical", 0.3) == TEXT
    assert copy_of(TEXT, "truncated", 0.3) == "There are 12 steps here. The"
    padded = copy_of(TEXT, "padded", 0.3)
    assert padded.startswith(TEXT + "\n\n")
    assert len(padded) >= 1.5 * len(TEXT)
    assert copy_of(TEXT, "wrong-fact", 0.3) == TEXT.replace("40", "43")
    assert copy_of("It is so.", "wrong-fact", 0.3) == "It is not so."
    assert copy_of("Yes.", "wrong-fact", 0.3) is None
    assert copy_of("Yes, of course.", "truncated", 0.3) is None


@given(st.text(max_size=200), st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_anything_can_be_planted_and_a_copy_is_what_it_says(text, which, draw):
    canary = plant(Side("x", text), (which, draw))
    assert canary.kind in KINDS
    if canary.kind in {"truncated", "padded", "wrong-fact"}:
        assert canary.copy.text.split() != text.split()
        assert canary.copy.id == f"x/{canary.kind}"
    else:
        assert canary.copy.text == text


def test_all_kinds_are_drawn_alike():
    drawn = Counter(plant(Side("x", TEXT), (at / 100, 0.5)).kind for at in range(100))
    assert drawn == dict.fromkeys(KINDS, 20)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("first", {"truncated/original": 1, "first": 1}),
        ("second", {"truncated/copy": 1, "second": 1}),
        ("tie", {"truncated/tie": 1}),
        ((1, 0), {"truncated/copy": 1, "second": 1}),
        (None, {"truncated/unread": 1}),
    ],
)
def test_a_canary_is_graded_by_who_won(value, told):
    ask = Ask(0, "p", (Side("x", "long"), Side("x/truncated", "lo")), canary="truncated")
    attempt = Attempt(Completion("", 1, "stop"), None)
    assert grade(ask, Outcome(ask, value, None, (attempt,)), "x") == told
    assert grade(ask, Outcome(ask, error="down"), "x") == {"truncated/failed": 1}


def test_a_padded_copy_may_tie_and_may_not_win():
    assert expected("padded") == {"original", "tie"}
    assert expected("identical") == {"tie"}
    assert expected("wrong-fact") == expected("truncated") == expected("swapped") == {"original"}
