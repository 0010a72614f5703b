import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.sources.chunks import BadRowError
from prefkit.sources.verdicts import Verdict, as_votes, read_verdict, second_wins

TIE = Verdict("tie", 0.5)
FIRST, SECOND = Verdict("first", 1.0), Verdict("second", 0.0)
NONE = Verdict(None)


@pytest.mark.parametrize(
    ("value", "coding", "verdict"),
    [
        (1, "one-two", FIRST),
        (2.0, "one-two", SECOND),
        ("2", "one-two", SECOND),
        (1.5, "one-two", TIE),
        (0, "one-two", TIE),
        (0.0, "one-two", TIE),
        (1.25, "one-two", Verdict("first", 0.75)),
        (1.0000211, "one-two", Verdict("first", pytest.approx(0.9999789))),
        (2.0000211, "one-two", SECOND),
        (0, "zero-one", FIRST),
        (False, "zero-one", FIRST),
        (1, "zero-one", SECOND),
        (2, "zero-one", TIE),
        (0.5, "zero-one", TIE),
        (-3, "signed", Verdict("first", None, 3)),
        (2, "signed", Verdict("second", None, -2)),
        (0, "signed", Verdict("tie", None, 0)),
        *[(tie, "one-two", TIE) for tie in ("Tie", "tie", "both", "tie (bothbad)")],
        ("model_a", "zero-one", FIRST),
        ("B", "signed", SECOND),
        (None, "one-two", NONE),
        ("garbage", "one-two", NONE),
        ("", "zero-one", NONE),
        (float("nan"), "one-two", NONE),
        ({}, "one-two", NONE),
    ],
)
def test_a_verdict_is_read_in_every_spelling(value, coding, verdict):
    assert read_verdict(value, coding) == verdict


@pytest.mark.parametrize(
    ("value", "coding"), [(3, "one-two"), (-1, "one-two"), (3, "zero-one"), (1e400, "signed")]
)
def test_a_number_out_of_range_is_a_wrong_coding_and_not_a_verdict(value, coding):
    with pytest.raises(BadRowError, match="out of the range"):
        read_verdict(value, coding)


@given(st.floats(1, 2))
def test_swapping_the_sides_mirrors_a_graded_verdict(value):
    one, other = read_verdict(value, "one-two"), read_verdict(3 - value, "one-two")
    assert one.p == pytest.approx(1 - other.p)


@given(st.floats(-3, 3), st.sampled_from([True, False, None]))
def test_a_vote_told_from_the_other_side_says_the_same(value, swapped):
    verdict = read_verdict(value, "signed")
    (straight,) = as_votes([{"swapped": swapped}], [verdict], swap=False)
    (turned,) = as_votes([{"swapped": swapped}], [verdict], swap=True)
    other = {"chosen": "rejected", "rejected": "chosen", "tie": "tie"}
    assert turned["winner"] == other[straight["winner"]]
    assert turned["strength"] == -straight["strength"]
    if swapped is None:
        assert turned["order"] is straight["order"] is None
    else:
        assert {turned["order"], straight["order"]} == {"chosen-first", "rejected-first"}


def test_the_majority_decides_and_a_draw_keeps_the_order():
    assert second_wins([SECOND, SECOND, FIRST])
    assert not second_wins([FIRST, SECOND])
    assert not second_wins([TIE, NONE])
    assert second_wins([TIE, SECOND, NONE])


def test_without_a_preference_the_votes_decide_and_with_one_they_do_not(load, write_jsonl):
    row = {"q": "What is 2 + 3?", "x": "6", "y": "5", "a": 2, "b": 2, "c": 1, "gold": 1}
    folder = write_jsonl("rows.jsonl", [row])
    columns = {"prompt": "q", "first": "x", "second": "y", "votes": ["a", "b", "c"]}
    (by_votes,) = load(folder, file="rows.jsonl", columns=columns).rows
    assert by_votes["chosen"][0]["content"] == "5"
    assert [(vote["judge"], vote["winner"]) for vote in by_votes["votes"]] == [
        ("a", "chosen"),
        ("b", "chosen"),
        ("c", "rejected"),
    ]
    (by_gold,) = load(folder, file="rows.jsonl", columns={**columns, "preference": "gold"}).rows
    assert by_gold["chosen"][0]["content"] == "6"
    assert [vote["winner"] for vote in by_gold["votes"]] == ["rejected", "rejected", "chosen"]


def test_ties_and_failures_keep_the_sides_as_listed_and_are_noted(load, write_jsonl):
    rows = [{"q": f"What is {n}?", "x": "1", "y": "2", "p": p} for n, p in enumerate([0, None, "garbage", 2])]
    columns = {"prompt": "q", "first": "x", "second": "y", "preference": "p"}
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl", columns=columns)
    assert [row["chosen"][0]["content"] for row in loaded.rows] == ["1", "1", "1", "2"]
    assert loaded.notes["tied verdict, sides as listed"] == 1
    assert loaded.notes["no verdict, sides as listed"] == 2


def test_a_verdict_out_of_range_is_a_bad_row(load, write_jsonl):
    rows = [{"q": "What?", "x": "1", "y": "2", "p": p} for p in (1, 7)]
    columns = {"prompt": "q", "first": "x", "second": "y", "preference": "p"}
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl", columns=columns, max_bad=0.5)
    assert loaded.reasons == {"verdict out of the range of 'one-two'": 1}


def test_sides_called_chosen_and_rejected_keep_their_direction_whatever_the_votes_say(load, write_jsonl):
    row = {"prompt": "What?", "chosen": "1", "rejected": "2", "a": 2, "b": 2}
    columns = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "votes": ["a", "b"]}
    (row,) = load(write_jsonl("rows.jsonl", [row]), file="rows.jsonl", columns=columns).rows
    assert row["chosen"][0]["content"] == "1"
    assert [vote["winner"] for vote in row["votes"]] == ["rejected", "rejected"]


def test_models_and_scores_go_with_their_side(load, write_jsonl):
    row = {"q": "What?", "x": "1", "y": "2", "m": "A", "n": "B", "s": 0.1, "t": 0.9, "p": 2}
    columns = {
        "prompt": "q",
        "first": "x",
        "second": "y",
        "first_model": "m",
        "second_model": "n",
        "first_score": "s",
        "second_score": "t",
        "preference": "p",
    }
    (row,) = load(write_jsonl("rows.jsonl", [row]), file="rows.jsonl", columns=columns).rows
    assert (row["chosen_model"], row["rejected_model"]) == ("B", "A")
    assert (row["chosen_score"], row["rejected_score"]) == (0.9, 0.1)
