"""Which rows are alike: as comparing all with all would find, whatever the order and the cuts."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from prefkit.columns import MESSAGES
from prefkit.executors.calls import Calls
from prefkit.near.alike import Lying, Runs, alike
from prefkit.near.minhash import Banding, tuned

WORDS = Runs(1)
SURE = Banding(40, 1)
"""Misses a pair of similarity 0.5 one time in 10**12."""


def said(texts, chunks: int = 1) -> pa.ChunkedArray:
    rows = [None if text is None else [{"role": "user", "content": text}] for text in texts]
    cuts = np.linspace(0, len(rows), chunks + 1).astype(int)
    pieces = [pa.array(rows[start:stop], MESSAGES) for start, stop in pairwise(cuts)]
    return pa.chunked_array(pieces, MESSAGES)


def found(texts, threshold: float, runs: Runs = WORDS, banding: Banding = SURE, chunks: int = 1):
    within = np.zeros(len(texts), np.int64)
    return alike([said(texts, chunks)], runs, threshold, banding, within)


def same(labels) -> np.ndarray:
    return labels[:, None] == labels[None, :]


def brute(texts, threshold: float) -> np.ndarray:
    sets = [set(text.split()) for text in texts]
    near = np.array([
        [(len(a & b) / len(a | b) >= threshold) if a | b else True for b in sets] for a in sets
    ])  # fmt: skip
    for _ in texts:
        near = near @ near
    return near


TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=8).map(" ".join), min_size=1, max_size=8)


@settings(max_examples=40)
@given(TEXTS, st.sampled_from([0.5, 0.7, 1.0]), st.integers(1, 4), st.randoms())
def test_what_is_found_is_what_comparing_all_with_all_finds_in_any_order_and_cut(
    texts, threshold, chunks, random
):
    order = random.sample(range(len(texts)), len(texts))
    shuffled = found([texts[row] for row in order], threshold, chunks=chunks)
    back = np.empty_like(shuffled)
    back[order] = shuffled
    assert (same(back) == brute(texts, threshold)).all()


def planted(similarity: float, pairs: int, size: int, seed: int):
    """Return texts of `size` words, each followed by one that shares words to about this similarity."""
    draw = np.random.default_rng(seed)
    texts = []
    for pair in range(pairs):
        words = [f"p{pair}w{at}" for at in range(size)]
        other = list(words)
        for at in draw.choice(size, round(size * (1 - similarity) / (1 + similarity)), replace=False):
            other[at] = f"p{pair}x{at}"
        texts += [" ".join(words), " ".join(other)]
    return texts


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_planted_pairs_above_the_threshold_are_found_and_none_below(threshold):
    pairs = 200
    for similarity in (threshold - 0.03, threshold + 0.01, threshold + 0.05):
        texts = planted(similarity, pairs, 200, seed=round(similarity * 1000))
        labels = found(texts, threshold, banding=tuned(threshold))
        joined = (labels[::2] == labels[1::2]).mean()
        assert joined == 0 if similarity < threshold else joined >= 0.98
        assert len(set(labels.tolist())) == 2 * pairs - round(joined * pairs)


def test_a_lower_threshold_never_parts_what_a_higher_one_joins():
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(list("abcdefghij"), 6)) for _ in range(40)]
    pairs = [same(found(texts, threshold)) for threshold in (0.5, 0.7, 0.9, 1.0)]
    sizes = [int(pair.sum()) for pair in pairs]
    assert all((high <= low).all() for low, high in pairwise(pairs))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1]


def test_only_rows_within_the_same_are_compared():
    labels = alike([said(["a b c"] * 4)], Runs(1), 0.5, SURE, np.array([0, 1, 0, 1]))
    assert same(labels).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]] * 2


def test_words_of_one_column_are_not_those_of_another():
    columns = [said(["a b", "c d", "a b"]), said(["c d", "a b", "c d"])]
    labels = alike(columns, Runs(1), 0.1, SURE, np.zeros(3, np.int64))
    assert labels[0] == labels[2] != labels[1]


def test_rows_without_words_are_alike_where_they_are_equal():
    labels = found(["", None, "  ", "?!", "?!\n", "!?", "a"], 0.3)
    assert same(labels)[0].tolist() == [True, True, True, False, False, False, False]
    assert labels[3] == labels[4]
    assert len(set(labels.tolist())) == 4


def test_short_texts_are_told_apart_by_characters():
    texts = ["recieve the parcel", "receive the parcel", "send a letter"]
    by_words = found(texts, 0.5, Runs(5))
    by_characters = found(texts, 0.5, Runs(3, "characters"))
    assert len(set(by_words.tolist())) == 3
    assert by_characters[0] == by_characters[1] != by_characters[2]


def test_a_chain_is_one_cluster():
    labels = found(["a b c d", "b c d e", "c d e f"], 0.6)
    assert len(set(labels.tolist())) == 1
    assert len(set(found(["a b c d", "c d e f"], 0.6).tolist())) == 2


@pytest.mark.parametrize("some", [False, True])
def test_rows_that_lie_in_files_are_sketched_in_worker_processes_with_the_same_result(tmp_path, some):
    texts = [f"{'one two three four' if row % 3 else ''} {row // 4}" for row in range(60)]
    whole, work, files = pa.table({"prompt": said(texts)}), tmp_path / "work", []
    work.mkdir()
    for start, stop in ((0, 25), (25, 25), (25, 31), (31, 60)):
        path = tmp_path / f"{start}-{stop}.arrow"
        with ipc.new_file(str(path), whole.schema) as file:
            file.write_table(whole.slice(start, stop - start))
        files.append((path, stop - start))
    rows = np.flatnonzero(np.arange(60) % 31 > 2) if some else None
    within = np.zeros(60 if rows is None else len(rows), np.int64)
    given = ([whole["prompt"]], WORDS, 0.7, SURE, within)
    lying = Lying(Calls(2), files, ["prompt"])
    there = alike(*given, rows=rows, work=work, lying=lying)
    assert (work / "bits").stat().st_size == len(within) * SURE.bands * SURE.rows
    assert (same(there) == same(alike(*given, rows=rows))).all()
    assert 1 < len(set(there.tolist())) < len(within)
