"""Which characters of a text are a differing phrase, a sentence or a step."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.marks import differing, sentences, steps, words

TEXTS = st.text(alphabet="ab c.\n!1é你。\t", max_size=40)
WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


def parts(text, marks):
    return [text[mark.start : mark.end] for mark in marks]


def test_a_replaced_phrase_has_one_id_on_both_sides_and_an_inserted_one_its_own():
    chosen, rejected = "The cat sat on the mat today.", "The big dog sat on a mat."
    found = differing(chosen, rejected)
    assert [(mark.id, chosen[mark.start : mark.end]) for mark in found.chosen] == [
        (1, "cat"),
        (2, "the"),
        (3, "today"),
    ]
    assert [(mark.id, rejected[mark.start : mark.end]) for mark in found.rejected] == [
        (1, "big dog"),
        (2, "a"),
    ]


@pytest.mark.parametrize(("one", "other"), [("same", "same"), ("a b", "a  b\n"), ("", ""), (" ", "\n")])
def test_the_same_words_give_no_phrase(one, other):
    assert differing(one, other) == ([], [])


def test_a_text_against_none_is_one_phrase():
    assert differing("all of it", "") == ([(0, 9, 1)], [])


def test_texts_without_a_common_word_are_one_phrase_each_under_one_id():
    assert differing("red blue", "one two three") == ([(0, 8, 1)], [(0, 13, 1)])


def test_offsets_count_characters_and_not_bytes():
    found = differing("😀😀 naïve café", "😀😀 naïve bar")
    assert parts("😀😀 naïve café", found.chosen) == ["café"]


def test_ideographs_are_words_of_their_own():
    assert parts("我很好", differing("我很好", "我不好").chosen) == ["很"]


def longest_common(one, other):
    """Return the length of a longest common subsequence by the textbook's table."""
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for a, left in enumerate(one):
        for b, right in enumerate(other):
            same = table[a][b] + 1
            table[a + 1][b + 1] = same if left == right else max(table[a][b + 1], table[a + 1][b])
    return table[-1][-1]


@given(WORDS, WORDS)
@settings(max_examples=200, deadline=None)
def test_what_is_not_marked_is_a_longest_common_subsequence(one, other):
    texts = " ".join(one), " ".join(other)
    rest = []
    for text, marks in zip(texts, differing(*texts), strict=True):
        inside = {at for mark in marks for at in range(mark.start, mark.end)}
        rest.append(words("".join(" " if at in inside else mark for at, mark in enumerate(text))))
    assert rest[0] == rest[1]
    assert len(rest[0]) == longest_common(one, other)


@given(WORDS, WORDS)
@settings(max_examples=100, deadline=None)
def test_ids_count_up_and_pair_what_stands_between_the_same_words(one, other):
    found = differing(" ".join(one), " ".join(other))
    for marks in found:
        assert all(before.id < after.id and before.end < after.start for before, after in pairwise(marks))
    ids = {mark.id for marks in found for mark in marks}
    assert ids == set(range(1, len(ids) + 1))


def test_a_change_in_a_long_text_is_found_at_once():
    text = [f"word{at % 97}" for at in range(20_000)]
    changed = [*text[:10_000], "other", *text[10_001:]]
    found = differing(" ".join(text), " ".join(changed))
    assert [len(marks) for marks in found] == [1, 1]


def test_longer_middles_are_one_phrase():
    one, other = (" ".join(f"{name}{at}" for at in range(20_001)) for name in "ab")
    found = differing(f"same {one} end", f"same {other} end")
    assert found == ([(5, 5 + len(one), 1)], [(5, 5 + len(other), 1)])


SENTENCES = [
    ("One. Two! Three?", ["One.", " Two!", " Three?"]),
    ('He said "No." Then he left', ['He said "No."', " Then he left"]),
    ("It is 3.14, e.g. here, says Dr. A. Who. Yes.", ["It is 3.14, e.g. here, says Dr. A. Who.", " Yes."]),
    ("It was in 2019. So it was.", ["It was in 2019.", " So it was."]),
    ("Steps:\n1. Wash it.\n2. Dry it.\n\n", ["Steps:\n", "1. Wash it.\n", "2. Dry it.\n\n"]),
    ("no mark\nnext line", ["no mark\n", "next line"]),
    ("So did I.\nYes.", ["So did I.\n", "Yes."]),
    ("Wait ... what?! ...", ["Wait ...", " what?! ..."]),
    ("你好。我很好！", ["你好。", "我很好！"]),
    ("...", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "wanted"), SENTENCES, ids=range(len(SENTENCES)))
def test_sentences(text, wanted):
    assert parts(text, sentences(text)) == wanted


STEPS = [
    ("first\nsecond", {}, ["first\n", "second"]),
    ("\nfirst\n\n\nsecond\n", {}, ["\nfirst\n\n\n", "second\n"]),
    ("a\n\nb\nc", {"separator": "\n\n"}, ["a\n\n", "b\nc"]),
    ("a ## b##c", {"separator": "##"}, ["a ##", " b##", "c"]),
    ("a\nb\nc\nd", {"most": 2}, ["a\n", "b\nc\nd"]),
    ("a\nb", {"most": 5}, ["a\n", "b"]),
    ("", {}, []),
]


@pytest.mark.parametrize(("text", "how", "wanted"), STEPS, ids=range(len(STEPS)))
def test_steps(text, how, wanted):
    assert parts(text, steps(text, **how)) == wanted


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_sentences_and_steps_put_together_are_the_text(text):
    for marks in (sentences(text), steps(text), steps(text, most=2), steps(text, "a")):
        assert [mark.id for mark in marks] == list(range(1, len(marks) + 1))
        assert "".join(parts(text, marks)) == (text if marks else "")
        assert bool(marks) == bool(re.search(r"[^\W_]", text))
