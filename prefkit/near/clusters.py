"""Clusters: what hangs together, given which pairs are worth looking at and a way to look.

Two texts are in one cluster if a chain of pairs that were looked at and found alike joins them. Whoever hangs together
already is not looked at again, so a bucket of a thousand texts that are all alike costs a thousand looks and not half a
million; a bucket of texts that are not alike costs all of them. Nothing depends on the order of the texts.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from prefkit.near.jaccard import distinct
from prefkit.near.kept import Shelf

__all__ = ["Look", "clusters", "clusters_of", "joined"]

Look = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes the numbers of the left and right texts of pairs, int64 [pairs]; returns which are alike, bool [pairs]."""

_PAIRS = 1 << 20
"""Candidates that are held at once."""


class _Band(NamedTuple):
    """The shared buckets of one band."""

    texts: np.ndarray
    """int64 [members], bucket after bucket."""
    after: np.ndarray
    """How many members of the bucket come after this one, int64 [members]."""


def clusters(keys: np.ndarray, look: Look) -> np.ndarray:
    """Return the cluster of each text: int64 [texts]; equal numbers hang together, and mean nothing else.

    Shapes: `keys` uint64 [texts, bands]; texts with an equal key in any band are candidates.
    """
    return clusters_of(len(keys), keys.T, look, Shelf(None))


def clusters_of(texts: int, bands: Iterable[np.ndarray], look: Look, shelf: Shelf) -> np.ndarray:
    """Return the same for `bands` that come one by one: uint64 [texts] each.

    Memory: 50 bytes a text while a band is sorted, the band being read, and 2**20 candidates. What is kept of a band,
    16 bytes for each text that shares its bucket, is on the shelf.
    """
    labels = np.arange(texts)
    farthest = []
    for at, keys in enumerate(bands):
        band = _shared(keys)
        farthest.append(int(band.after.max(initial=0)))
        if farthest[-1]:
            shelf.put(f"band-{at}-texts", band.texts)
            shelf.put(f"band-{at}-after", band.after)
    largest = max(farthest, default=0)
    near = 1
    while near <= largest:  # neighbours first, then at up to twice the distance: most are joined by then
        held: list[np.ndarray] = []
        count = 0
        for at in (at for at, far in enumerate(farthest) if far >= near):
            band = _Band(shelf.get(f"band-{at}-texts"), shelf.get(f"band-{at}-after"))
            for pairs in _at(band, range(near, min(2 * near, largest + 1))):
                held.append(_apart(labels, pairs))
                count += len(held[-1])
                if count >= _PAIRS:
                    labels, held, count = _looked(labels, held, look), [], 0
        labels = _looked(labels, held, look)
        near *= 2
    return labels


def joined(labels: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return the clusters after these pairs of texts were joined: int64 [texts]."""
    from scipy.sparse import coo_matrix  # type: ignore[import-untyped]
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    if not len(left):
        return labels
    edges = (np.ones(len(left), np.int8), (labels[left], labels[right]))
    size = int(labels.max()) + 1
    _, merged = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)
    found: np.ndarray = merged[labels].astype(np.int64)
    return found


def _shared(keys: np.ndarray) -> _Band:
    some = _colliding(keys)
    keys = keys[some]
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    sizes = np.diff(np.append(starts, len(ordered)))
    after = np.repeat(starts + sizes, sizes) - 1 - np.arange(len(ordered))
    several = np.repeat(sizes > 1, sizes)
    return _Band(some[order[several]], after[several])


def _colliding(keys: np.ndarray) -> np.ndarray:
    """Return the texts that may share their key: int64, ascending. Most share none, and need not be sorted.

    One slot for every value of the low bits, at least two a text; whoever is alone in a slot has a key of its own.
    """
    texts = np.arange(len(keys), dtype=np.uint32 if len(keys) < 1 << 32 else np.uint64)
    slots = (keys & np.uint64((2 << len(keys).bit_length()) - 1)).astype(np.int64)
    last = np.empty(2 << len(keys).bit_length(), texts.dtype)
    last[slots] = texts
    several = np.zeros(len(last), np.bool_)
    several[slots[last[slots] != texts]] = True
    return np.flatnonzero(several[slots])


def _at(band: _Band, distances: range) -> Iterator[np.ndarray]:
    """Yield the pairs whose places in a bucket are so far apart: int64 [pairs, 2]."""
    for distance in distances:
        first = np.flatnonzero(band.after >= distance)
        if not len(first):
            break
        yield np.stack([band.texts[first], band.texts[first + distance]], axis=1)


def _apart(labels: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    found: np.ndarray = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    return found


def _looked(labels: np.ndarray, held: list[np.ndarray], look: Look) -> np.ndarray:
    """Look at pairs, each once, and join those that are alike."""
    pairs = _apart(labels, np.concatenate([np.zeros((0, 2), np.int64), *held]))
    if not len(pairs):
        return labels
    texts = len(labels)
    numbers = distinct(np.minimum(*pairs.T) * texts + np.maximum(*pairs.T))
    left, right = numbers // texts, numbers % texts
    alike = look(left, right)
    return joined(labels, left[alike], right[alike])
