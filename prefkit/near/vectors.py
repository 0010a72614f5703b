"""Vectors: which embeddings point nearly the same way, by blocks of products.

All vectors are compared with all, so nothing is missed and time grows with the square: 100,000 vectors of 384 numbers
are 2e12 multiplications. Memory does not: a block of products is 1024 x 1024 numbers, 4 MB, beside the vectors
themselves, 4 bytes a number.

Products are taken in float32 and those near the threshold once more in float64, pair by pair: how a library cuts a
product into blocks then decides nothing.
"""

from collections.abc import Iterator

import numpy as np

from prefkit.near.clusters import joined

__all__ = ["alike_vectors", "unit_vectors"]

_BLOCK = 1024
_SLACK = 1e-4
"""More than float32 can be wrong by in a cosine of vectors with some thousand numbers."""
_HELD = 1 << 20


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return vectors at length 1, float32 [rows, size]; those without a direction are all 0."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    sound = np.isfinite(lengths) & (lengths > 0)
    return np.where(sound, vectors / np.where(sound, lengths, 1.0), 0.0).astype(np.float32)


def alike_vectors(vectors: np.ndarray, threshold: float, within: np.ndarray) -> np.ndarray:
    """Return the cluster of each vector: int64 [rows], equal where a chain of pairs at the threshold joins two.

    Shapes: `vectors` float32 [rows, size] of length 1, or 0 for what is like nothing; `within` int64 [rows]: only rows
    with equal numbers are compared.
    Units: `threshold` is a cosine.
    """
    order = np.argsort(within, kind="stable")
    labels = np.arange(len(vectors))
    held: list[np.ndarray] = []
    for pairs in _pairs(vectors[order], threshold, within[order]):
        held.append(pairs)
        if sum(map(len, held)) >= _HELD:
            labels, held = _joined(labels, held), []
    found: np.ndarray = np.empty(len(vectors), np.int64)
    found[order] = _joined(labels, held)
    return found


def _joined(labels: np.ndarray, held: list[np.ndarray]) -> np.ndarray:
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *held])
    return joined(labels, pairs[:, 0], pairs[:, 1])


def _pairs(vectors: np.ndarray, threshold: float, within: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the pairs of each two blocks that may share a number: int64 [pairs, 2]. Rows are sorted by `within`."""
    for top in range(0, len(vectors), _BLOCK):
        for low in range(top, len(vectors), _BLOCK):
            if within[low] > within[min(top + _BLOCK, len(vectors)) - 1]:
                break
            rows, others = vectors[top : top + _BLOCK], vectors[low : low + _BLOCK]
            left, right = np.nonzero(rows @ others.T >= threshold - _SLACK)
            left, right = left + top, right + low
            near = (left < right) & (within[left] == within[right])
            left, right = left[near], right[near]
            sure = _cosines(vectors, left, right) >= threshold
            yield np.stack([left[sure], right[sure]], axis=1)


def _cosines(vectors: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the products of pairs in float64, a few thousand pairs at a time: float64 [pairs]."""
    found = np.zeros(len(left))
    for start in range(0, len(left), _BLOCK):
        span = slice(start, start + _BLOCK)
        one, other = vectors[left[span]].astype(np.float64), vectors[right[span]].astype(np.float64)
        found[span] = (one * other).sum(axis=1)
    return found
