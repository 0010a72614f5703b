"""Jaccard similarity, counted: against sets."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.near.jaccard import blocks, distinct, jaccard, sets
from prefkit.near.words import grams, parts

TEXTS = st.lists(st.lists(st.sampled_from("abcdef"), max_size=10), min_size=1, max_size=6)


def runs(texts):
    return grams(parts(pa.array([" ".join(text) for text in texts], pa.string())), 1)


def test_two_of_four_words_are_a_half():
    known = sets([runs(["abc", "bcd"])])
    assert jaccard(known, np.array([0]), np.array([1])).tolist() == [0.5]


@given(TEXTS, TEXTS)
def test_similarities_are_those_of_sets(first, second):
    texts = [set(text) for text in [*first, *second]]
    pairs = np.array([(i, j) for i in range(len(texts)) for j in range(len(texts))])
    found = jaccard(sets([runs(first), runs(second)]), *pairs.T)
    wanted = [len(texts[i] & texts[j]) / max(len(texts[i] | texts[j]), 1) for i, j in pairs]
    assert found.tolist() == pytest.approx(wanted)


@given(st.lists(st.integers(0, 9)), st.integers(1, 20))
def test_blocks_cover_everything_once_and_hold_the_limit(sizes, most):
    cut = list(blocks(np.array(sizes, np.int64), most))
    assert [size for block in cut for size in sizes[block]] == sizes
    assert all(sum(sizes[block]) <= max(most, *sizes[block]) for block in cut)


@given(st.lists(st.integers(-3, 3)))
def test_distinct_values_come_once_in_order(values):
    assert distinct(np.array(values, np.int64)).tolist() == sorted(set(values))
