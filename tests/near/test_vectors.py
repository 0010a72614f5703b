"""Vectors: which point the same way, as one product of all with all would say."""

import numpy as np
import pytest

from prefkit.near import vectors as module
from prefkit.near.vectors import alike_vectors, unit_vectors


def same(labels) -> np.ndarray:
    return labels[:, None] == labels[None, :]


def near_vectors(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    middle = draw.normal(size=(count // 3 + 1, 16))
    vectors = middle[np.arange(count) % len(middle)] + 0.3 * draw.normal(size=(count, 16))
    return unit_vectors(vectors)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9])
def test_clusters_are_those_of_all_products_in_any_order(threshold, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK", 16)
    vectors = near_vectors(100)
    within = np.arange(100) % 2
    exact = vectors.astype(np.float64)
    near = (exact @ exact.T >= threshold) & (within[:, None] == within[None, :]) | np.eye(100, dtype=bool)
    for _ in range(7):
        near = near @ near
    assert 100 < near.sum() < 10_000
    assert (same(alike_vectors(vectors, threshold, within)) == near).all()
    order = np.random.default_rng(1).permutation(100)
    shuffled = alike_vectors(vectors[order], threshold, within[order])
    assert (same(shuffled) == near[np.ix_(order, order)]).all()


def test_a_cosine_at_the_threshold_is_alike_and_one_below_is_not():
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    exact = float(vectors[1].astype(np.float64) @ vectors[0].astype(np.float64))
    assert same(alike_vectors(vectors[:2], exact, np.zeros(2, np.int64))).all()
    assert not same(alike_vectors(vectors[:2], np.nextafter(exact, 1), np.zeros(2, np.int64)))[0, 1]


def test_what_has_no_direction_is_like_nothing():
    vectors = unit_vectors(np.array([[0.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [3.0, 4.0], [6.0, 8.0]]))
    assert vectors.tolist()[3] == pytest.approx([0.6, 0.8])
    labels = alike_vectors(vectors, 0.5, np.zeros(5, np.int64))
    assert labels[3] == labels[4]
    assert len(set(labels.tolist())) == 4


def test_no_vector():
    assert len(alike_vectors(np.zeros((0, 3), np.float32), 0.9, np.zeros(0, np.int64))) == 0
