"""Differences between two texts: pieces that add up to the texts, and marks where a reader would put them."""

import random
import time

from hypothesis import given
from hypothesis import strategies as st

from prefkit.marked import Piece, mark


def test_a_changed_word_is_marked_on_both_sides():
    found = mark("The cat sat down.", "The dog sat down.")
    assert found.one == (Piece("The ", True), Piece("cat", False), Piece(" sat down.", True))
    assert found.other == (Piece("The ", True), Piece("dog", False), Piece(" sat down.", True))
    assert found.shared == 0.8


def test_added_words_are_marked_on_one_side_alone():
    found = mark("Yes, it is.", "Yes, of course it is.")
    assert found.one == (Piece("Yes, it is.", True),)
    assert found.other == (Piece("Yes, ", True), Piece("of course", False), Piece(" it is.", True))


def test_a_changed_phrase_is_one_piece():
    assert mark("a b c d", "a x y d").other == (Piece("a ", True), Piece("x y", False), Piece(" d", True))


def test_space_of_another_kind_is_no_difference():
    found = mark("one two", "one\n\n two")
    assert found.other == (Piece("one\n\n two", True),)
    assert found.shared == 1


def test_empty_texts_are_alike():
    assert mark("", "") == ((), (), 1.0)
    assert mark("a", "") == ((Piece("a", False),), (), 0.0)


@given(st.text(alphabet="ab \n.é", max_size=60), st.text(alphabet="ab \n.é", max_size=60))
def test_pieces_add_up_and_what_is_shared_is_the_same_on_both_sides(one: str, other: str):
    found = mark(one, other)
    assert "".join(piece.text for piece in found.one) == one
    assert "".join(piece.text for piece in found.other) == other
    same = [
        "".join("".join(piece.text.split()) for piece in side if piece.same)
        for side in (found.one, found.other)
    ]
    assert same[0] == same[1]
    assert 0 <= found.shared <= 1


def test_long_texts_take_no_time_to_speak_of():
    draw = random.Random(0)
    one, other = (" ".join(str(draw.randrange(5000)) for _ in range(15_000)) for _ in range(2))
    begun = time.process_time()
    found = mark(one, other)
    assert time.process_time() - begun < 2
    assert "".join(piece.text for piece in found.one) == one
    assert 0 < found.shared < 1


def test_long_texts_that_differ_in_a_word_are_matched_exactly():
    text = "word " * 50_000
    found = mark(f"{text}this {text}", f"{text}that {text}")
    assert [piece.text for piece in found.one if not piece.same] == ["this"]
    assert [piece.text for piece in found.other if not piece.same] == ["that"]
