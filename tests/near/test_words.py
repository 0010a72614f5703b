"""Words and runs of them: what separates, what is made alike, and that hashes know of nothing else."""

import re
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.near.words import grams, parts, spelled

TEXTS = st.lists(st.none() | st.text("aB1 -\u00e9\u4e2d\u00df'\n\u200b\uff21", max_size=12), max_size=5)


def words(text: str, unit="words") -> list[str]:
    return spelled(parts(pa.array([text], pa.string()), unit), 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("It's A-1,\n(Nations)!", ["it", "s", "a", "1", "nations"]),
        ("\u00c9LAN e\u0301lan", ["\u00e9lan", "\u00e9lan"]),
        ("soft\u00adware \uff21\uff22", ["software", "ab"]),
        ("\u4e2d\u56fd GPT\u7684", ["\u4e2d", "\u56fd", "gpt", "\u7684"]),
        ("\u043a\u0440\u0430\u0441\u043d\u0430\u044f, \u041f\u041b", ["\u043a\u0440\u0430\u0441\u043d\u0430\u044f", "\u043f\u043b"]),
        ("x" * 40 + " y", ["x" * 32, "x" * 8, "y"]),
        ("-- \t!", []),
        ("", []),
    ],
)  # fmt: skip
def test_words_of_a_text(text, wanted):
    assert words(text) == wanted


def test_characters_have_one_space_between_words_and_none_at_the_ends():
    assert words(" Ab,  \u00e9\u4e2d! ", "characters") == ["a", "b", " ", "\u00e9", "\u4e2d"]
    assert words("...", "characters") == []


def reference(text: str | None) -> list[str]:
    plain = unicodedata.normalize("NFKC", text or "").lower().replace("\u200b", "")
    return re.findall("[\u4e2d]|[a1b\u00e9\u00df]+", plain)


@given(TEXTS)
def test_words_are_those_of_a_regular_expression(texts):
    found = parts(pa.array(texts, pa.string()))
    assert [spelled(found, row) for row in range(len(texts))] == [reference(text) for text in texts]


@given(TEXTS, st.integers(0, 5), st.sampled_from(["words", "characters"]))
def test_hashes_do_not_know_how_the_texts_are_cut(texts, cut, unit):
    whole = pa.array(texts, pa.string())
    together = parts(whole, unit)
    apart = [parts(piece, unit) for piece in (whole.slice(0, cut), whole.slice(cut))]
    assert together.hashes.tolist() == [hash_ for piece in apart for hash_ in piece.hashes.tolist()]
    counts = [np.diff(piece.bounds) for piece in apart]
    assert np.diff(together.bounds).tolist() == np.concatenate(counts).tolist()


def runs_of(words_: list[str], n: int) -> list[tuple[str, ...]]:
    if 0 < len(words_) < n:
        return [("short", *words_)]
    return [tuple(words_[at : at + n]) for at in range(len(words_) - n + 1)]


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), min_size=1, max_size=4), st.integers(1, 6))
def test_two_runs_have_the_same_hash_only_if_their_words_are_the_same(texts, n):
    found = grams(parts(pa.array([" ".join(text) for text in texts])), n)
    told = [run for text in texts for run in runs_of(text, n)]
    assert np.diff(found.bounds).tolist() == [len(runs_of(text, n)) for text in texts]
    assert len(set(zip(told, found.hashes.tolist(), strict=True))) == len(set(told))
    assert len(set(found.hashes.tolist())) == len(set(told))


def test_a_short_text_has_no_run_where_none_is_wanted():
    found = grams(parts(pa.array(["a b", "a b c", ""])), 3, short=False)
    assert np.diff(found.bounds).tolist() == [0, 1, 0]


def test_hashes_are_the_same_on_every_machine():
    found = parts(pa.array(["the same", "number everywhere, always and forever: internationalisation"]))
    assert np.bitwise_xor.reduce(grams(found, 2).hashes) == 0x6E1B890D22862961
