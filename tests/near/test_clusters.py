"""Clusters: what hangs together by chains, in which order ever, and what it costs to find out."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prefkit.near.clusters import clusters, joined


def grouped(labels) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


def by_hand(count: int, pairs) -> set[frozenset[int]]:
    groups = [{text} for text in range(count)]
    for left, right in pairs:
        one, other = (next(group for group in groups if text in group) for text in (left, right))
        if one is not other:
            groups.remove(other)
            one |= other
    return set(map(frozenset, groups))


@st.composite
def worlds(draw):
    count, bands = draw(st.integers(1, 10)), draw(st.integers(1, 3))
    row = st.lists(st.integers(0, 3), min_size=bands, max_size=bands)
    keys = np.array(draw(st.lists(row, min_size=count, max_size=count)), np.uint64)
    alike = np.array(draw(st.lists(st.booleans(), min_size=count**2, max_size=count**2)))
    alike = alike.reshape(count, count)
    return keys, alike | alike.T, np.array(draw(st.permutations(range(count))))


@given(worlds())
def test_whoever_shares_a_bucket_and_is_alike_hangs_together_in_any_order(world):
    keys, alike, order = world
    pairs = [
        (i, j)
        for i in range(len(keys))
        for j in range(i)
        if alike[i, j] and (keys[i] == keys[j]).any()
    ]  # fmt: skip
    wanted = by_hand(len(keys), pairs)
    assert grouped(clusters(keys, lambda left, right: alike[left, right])) == wanted
    shuffled = clusters(keys[order], lambda left, right: alike[order[left], order[right]])
    back = np.empty_like(shuffled)
    back[order] = shuffled
    assert grouped(back) == wanted


def test_a_bucket_of_texts_that_are_alike_costs_one_look_each():
    looked = []

    def look(left, right):
        looked.append(len(left))
        return np.ones(len(left), dtype=bool)

    labels = clusters(np.zeros((5000, 1), np.uint64), look)
    assert len(set(labels.tolist())) == 1
    assert sum(looked) == 4999


def test_nothing_and_one_text():
    for count in (0, 1):
        labels = clusters(np.zeros((count, 4), np.uint64), lambda left, _: np.ones(len(left), dtype=bool))
        assert len(labels) == count


def test_joining_follows_chains():
    labels = joined(np.arange(5), np.array([0, 3]), np.array([1, 1]))
    assert grouped(labels) == {frozenset({0, 1, 3}), frozenset({2}), frozenset({4})}
