"""Texts: whitespace, lengths and sameness of whole columns, against Python's own strings."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import MESSAGES
from prefkit.texts import (
    characters,
    contents,
    digests,
    repeated_share,
    same_codes,
    slices,
    squeeze,
    transcripts,
)

space = st.sampled_from([" ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x85", "\u00a0", "\u2003", "\u3000"])
texts = st.lists(
    st.one_of(space, st.text(st.characters(exclude_categories=["Cs"]), max_size=4)), max_size=8
).map("".join)


def said(*rows: list[str | None] | None) -> pa.ChunkedArray:
    turns = [None if row is None else [{"role": "user", "content": text} for text in row] for row in rows]
    return pa.chunked_array([pa.array(turns, MESSAGES)])


@given(st.lists(texts, max_size=6), st.integers(0, 3))
def test_squeezing_is_what_split_and_join_do(given_texts, skip):
    array = pa.array(["  before ", *given_texts, None], pa.string()).slice(min(skip, len(given_texts)))
    # str.split also splits at four separator characters of ASCII, which are no whitespace in Unicode
    kept = [text or "" for text in array.to_pylist()]
    plain = [" ".join(text.translate(dict.fromkeys(range(0x1C, 0x20), "?")).split()) for text in kept]
    found = [text.translate(dict.fromkeys(range(0x1C, 0x20), "?")) for text in squeeze(array).to_pylist()]
    assert found == plain


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
def test_texts_have_equal_digests_if_and_only_if_they_are_the_same(pairs):
    one, other = (said(*[[pair[side]] for pair in pairs]) for side in (0, 1))
    same = (digests(one) == digests(other)).all(axis=1).tolist()
    squeezed = [squeeze(pa.array([pair[side] for pair in pairs])).to_pylist() for side in (0, 1)]
    assert same == [a == b for a, b in zip(*squeezed, strict=True)]


def test_case_may_count_or_not():
    column = said(["Été"], ["ÉTÉ"])
    assert len(set(map(tuple, digests(column)))) == 2
    assert len(set(map(tuple, digests(column, fold_case=True)))) == 1


def test_digests_do_not_depend_on_chunks():
    column = said(["a"], ["b", "c"], None, ["a"])
    chopped = pa.chunked_array([column.chunk(0).slice(row, 1) for row in range(4)])
    assert (digests(column) == digests(chopped)).all()


def test_contents_join_turns_and_keep_null():
    column = said(["a", "b"], None, [], ["c"], [None])
    assert contents(column).to_pylist() == ["a\nb", None, "", "c", ""]
    assert contents(column.slice(3)).to_pylist() == ["c", ""]


def test_transcripts_tell_turns_apart():
    one, other = said(["a", "b"]), said(["a\nb"])
    assert transcripts(one).to_pylist() != transcripts(other).to_pylist()


def test_characters_count_all_turns():
    column = said(["é😀", "b"], None, [], ["abc"], [None])
    assert characters(column).tolist()[0] == 3.0
    assert np.isnan(characters(column)[1])
    assert characters(column).tolist()[2:] == [0.0, 3.0, 0.0]
    assert characters(column.slice(3)).tolist() == [3.0, 0.0]


def test_same_codes_are_equal_where_all_columns_are():
    one, other = np.array([1, 1, 2, 1]), np.array([[5, 6], [5, 7], [5, 6], [5, 6]])
    codes = same_codes(one, other)
    assert codes[0] == codes[3]
    assert len(set(codes.tolist())) == 3


def test_repeated_share_of_loops_and_prose():
    prose = "The river rose in the night, and by the morning the lower fields were under water as far as the mill."
    column = pa.chunked_array([[prose, prose * 4, "a" * 500, "", None, "short", "我爱你" * 50]], pa.string())
    share = repeated_share(column)
    assert share[0] == 0
    assert 0.7 < share[1] < 0.8
    assert share[2] > 0.95
    assert share[3:6].tolist() == [0, 0, 0]
    assert share[6] > 0.9


@given(st.lists(texts, min_size=1, max_size=5))
def test_repeated_share_does_not_see_neighbours(given_texts):
    whole = repeated_share(pa.chunked_array([given_texts], pa.string()))
    alone = [repeated_share(pa.chunked_array([[text]], pa.string()))[0] for text in given_texts]
    assert whole.tolist() == alone


def test_slices_are_small_and_complete():
    column = pa.chunked_array([["x" * 1_000_000] * 10, ["y"] * 10_000], pa.string())
    pieces = list(slices(column))
    assert max(len(piece) for piece in pieces) <= 4096
    assert max(len(piece) for piece in pieces[:5]) <= 3
    assert [text for piece in pieces for text in piece.to_pylist()] == column.to_pylist()
