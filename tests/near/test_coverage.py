"""Coverage: the worked example, and the definition spelled out in plain Python."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.near.coverage import best, index, overlaps
from prefkit.near.words import parts


def found(items, texts, n, owners=None):
    asked = index([parts(pa.array([item])) for item in items], n)
    owners = np.arange(len(texts)) if owners is None else np.array(owners)
    return overlaps(parts(pa.array(texts, pa.string())), asked, owners)


def test_four_of_six_words_in_runs_of_three():
    overlap = found(["a b c d e f"], ["x b c d e y"], 3)
    assert overlap.coverage.tolist() == pytest.approx([4 / 6])
    assert overlap.place.tolist() == [1]


def covered(item: list[str], texts: list[list[str]], n: int) -> float:
    if len(item) < n:
        return float(item in texts)
    runs = {tuple(text[at : at + n]) for text in texts for at in range(len(text) - n + 1)}
    hit = {
        at + step for at in range(len(item) - n + 1) if tuple(item[at : at + n]) in runs for step in range(n)
    }
    return len(hit) / len(item)


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=9)


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=4), st.integers(1, 5))
def test_coverage_is_the_share_of_words_in_a_shared_run(items, texts, n):
    owners = [at // 2 for at in range(len(texts))]
    overlap = found([" ".join(item) for item in items], [" ".join(text) for text in texts], n, owners)
    told = {(o, i): c for o, i, c in zip(*(column.tolist() for column in overlap[:3]), strict=True)}
    wanted = {}
    for owner in set(owners):
        mine = [text for text, of in zip(texts, owners, strict=True) if of == owner]
        wanted |= {(owner, at): covered(item, mine, n) for at, item in enumerate(items)}
    assert told == pytest.approx({key: value for key, value in wanted.items() if value})


def test_the_best_is_the_item_covered_most_and_of_equals_the_first():
    overlap = found(["a b c x", "a b c", "c b a", "a b c"], ["a b c", "x y z", "c b a"], 3)
    told = best(overlap, 0.5)
    assert told.owner.tolist() == [0, 2]
    assert told.item.tolist() == [1, 2]
    assert best(overlap, 1).coverage.tolist() == [1, 1]


def test_nothing_to_find_and_nothing_to_look_at():
    assert len(found(["a b c"], [], 3).owner) == 0
    assert len(found(["...", ""], ["a b c", ""], 3).owner) == 0
    assert len(best(found(["a b c"], ["d e f"], 3), 0.5).owner) == 0
