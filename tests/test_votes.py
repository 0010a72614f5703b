"""Votes: made from ratings, counted and mirrored."""

import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import RATINGS, VOTES
from prefkit.votes import mirror_votes, tally, votes_of


def ratings(*rows: list[tuple[str | None, float | None]] | None) -> pa.ChunkedArray:
    entries = [
        None if row is None else [{"annotator": who, "score": score, "comment": None} for who, score in row]
        for row in rows
    ]
    return pa.chunked_array([pa.array(entries, RATINGS)])


def brief(votes: pa.Array) -> list[list[tuple[str, str, float]] | None]:
    return [
        None if row is None else [(vote["judge"], vote["winner"], vote["strength"]) for vote in row]
        for row in votes.to_pylist()
    ]


def made(column: pa.ChunkedArray, *pairs: tuple[int, int]) -> list[list[tuple[str, str, float]] | None]:
    return brief(votes_of(column, np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])))


def test_who_rated_both_votes():
    column = ratings([("b", 2.0), ("a", 1.0)], [("a", 3.0), ("c", 9.0)], [("b", 2.0)])
    assert made(column, (0, 1), (0, 2), (1, 2)) == [[("a", "rejected", -2.0)], [("b", "tie", 0.0)], None]


def test_ratings_that_say_nothing_give_no_vote():
    column = ratings(
        [("a", None), (None, 1.0), ("b", math.nan)], [("a", 1.0), (None, 0.0), ("b", 2.0)], None, []
    )
    assert made(column, (0, 1), (1, 2), (2, 3), (3, 1)) == [None] * 4


def test_two_ratings_by_one_annotator_count_as_their_mean():
    column = ratings([("a", 1.0), ("a", 4.0)], [("a", 2.0)])
    assert made(column, (0, 1)) == [[("a", "chosen", 0.5)]]


def test_no_ratings_and_no_pairs():
    assert made(ratings(None, None), (0, 1)) == [None]
    assert made(ratings([("a", 1.0)])) == []
    assert votes_of(ratings([("a", 1.0)]), np.zeros(0, np.int64), np.zeros(0, np.int64)).type == VOTES


people = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, 2.5])), max_size=3, unique_by=lambda r: r[0]
)


@given(st.lists(st.one_of(st.none(), people), min_size=2, max_size=6))
def test_votes_agree_with_a_plain_loop(rows):
    column = ratings(*rows)
    pairs = [(one, other) for one in range(len(rows)) for other in range(len(rows)) if one != other]
    wanted = []
    for one, other in pairs:
        first, second = dict(rows[one] or []), dict(rows[other] or [])
        gaps = [(who, first[who] - second[who]) for who in sorted(first) if who in second]
        wanted.append(
            [(who, ("rejected", "tie", "chosen")[(gap > 0) - (gap < 0) + 1], gap) for who, gap in gaps]
            or None
        )
    assert made(column, *pairs) == wanted


@given(st.lists(st.one_of(st.none(), people), min_size=2, max_size=6))
def test_mirrored_votes_are_the_votes_of_the_swapped_pair(rows):
    column = ratings(*rows)
    one, other = np.arange(len(rows)), np.roll(np.arange(len(rows)), 1)
    mirrored = mirror_votes(pa.chunked_array([votes_of(column, one, other)]), np.ones(len(rows), bool))
    assert brief(mirrored) == brief(votes_of(column, other, one))


def test_tally_counts_and_averages():
    entries = [
        {"judge": "a", "order": None, "winner": "chosen", "p": 0.75, "strength": 2.0, "rationale": None},
        {"judge": "b", "order": None, "winner": "tie", "p": None, "strength": -1.0, "rationale": None},
        {"judge": "c", "order": None, "winner": "both bad", "p": 0.25, "strength": None, "rationale": None},
        {"judge": "d", "order": None, "winner": None, "p": math.nan, "strength": None, "rationale": None},
    ]
    votes = tally(pa.chunked_array([pa.array([entries, None], VOTES), pa.array([[]], VOTES)]))
    assert [votes.wins.tolist(), votes.ties.tolist(), votes.losses.tolist()] == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
    ]
    assert votes.mean_p[0] == 0.5
    assert votes.mean_strength[0] == 0.5
    assert np.isnan(votes.mean_p[1:]).all()


def test_entries_hidden_under_a_null_are_not_counted():
    vote = {"judge": "a", "order": None, "winner": "chosen", "p": 1.0, "strength": 1.0, "rationale": None}
    whole = pa.array([[vote], [vote], [vote]], VOTES)
    second_is_null = pa.py_buffer(bytes([0b101]))
    hidden = pa.Array.from_buffers(VOTES, 3, [second_is_null, whole.buffers()[1]], children=[whole.values])
    assert hidden.to_pylist() == [[vote], None, [vote]]
    assert tally(pa.chunked_array([hidden])).wins.tolist() == [1, 0, 1]
    mirrored = mirror_votes(pa.chunked_array([hidden]), np.array([False, True, True]))
    assert [None if row is None else row[0]["winner"] for row in mirrored.to_pylist()] == [
        "chosen",
        None,
        "rejected",
    ]
