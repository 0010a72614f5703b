"""Coverage: how much of a benchmark's items a text holds.

A word of an item is covered if some run of n words that it is part of is also in the text; the coverage of the item is
the share of its words that are. Boilerplate that many items open with covers only its own words, so it takes a good
part of an item to reach a threshold. An item of fewer than n words has no run: only a text that is equal to it, word by
word, covers it, and does so wholly.

Source: n = 8 and one half of the words, Lambert et al. (2024), Tulu 3, section 3.2; any run of 13, Brown et al. (2020),
Language models are few-shot learners, appendix C.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefkit.near.jaccard import blocks, distinct
from prefkit.near.words import Words, grams

__all__ = ["Index", "Overlap", "best", "index", "overlaps"]

_MOST_SIEVE_BITS = 26
_EXPANDED = 1 << 22
"""Places in items that texts are held against at once."""


class Index(NamedTuple):
    """A benchmark's items, ready to be looked for."""

    n: int
    bounds: np.ndarray
    """Where each item's words begin among all words, and the end: int64 [items + 1]."""
    runs: np.ndarray
    """Hashes of all runs, sorted, uint64 [runs]."""
    places: np.ndarray
    """With which word, of all words, each run begins, int64 [runs]."""
    sieve: np.ndarray
    """True where some run's hash has these upper bits, bool [power of two]: most runs of most texts fall through."""


class Overlap(NamedTuple):
    """What texts share with items, one entry for each two that share something."""

    owner: np.ndarray
    """Whose texts, int64 [overlaps], ascending."""
    item: np.ndarray
    """int64 [overlaps]"""
    coverage: np.ndarray
    """Share of the item's words, float64 [overlaps], above 0."""
    place: np.ndarray
    """Which word of the item begins the first run that is shared, int64 [overlaps]."""


def index(pieces: Sequence[Words], n: int) -> Index:
    """Return the items of several pieces of a benchmark, one piece's after the other's, ready to be looked for.

    Memory: 24 bytes a word of the benchmark.
    """
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.diff(piece.bounds) for piece in pieces)])
    runs = np.concatenate([np.zeros(0, np.uint64), *(grams(piece, n).hashes for piece in pieces)])
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    counts = np.where(sizes < n, np.minimum(sizes, 1), sizes - (n - 1))
    places = np.repeat(bounds[:-1] - (np.cumsum(counts) - counts), counts) + np.arange(len(runs))
    order = np.argsort(runs, kind="stable")
    bits = min(_MOST_SIEVE_BITS, len(runs).bit_length() + 4)  # about one in sixteen falls through by chance
    sieve = np.zeros(1 << bits, dtype=bool)
    sieve[_upper(runs, bits)] = True
    return Index(n, bounds, runs[order], places[order], sieve)


def overlaps(texts: Words, items: Index, owners: np.ndarray) -> Overlap:
    """Return what texts share with items.

    Several texts of one owner count together: `owners` int64 [texts], ascending.
    """
    found = grams(texts, items.n)
    caught = np.flatnonzero(items.sieve[_upper(found.hashes, items.sieve.size.bit_length() - 1)])
    first = np.searchsorted(items.runs, found.hashes[caught], side="left")
    counts = np.searchsorted(items.runs, found.hashes[caught], side="right") - first
    owner = np.repeat(owners, np.diff(found.bounds))[caught]
    first, counts, owner = first[counts > 0], counts[counts > 0], owner[counts > 0]
    begins = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])[: len(owner)])
    asked = np.add.reduceat(counts, begins) if len(begins) else np.zeros(0, np.int64)
    ends = np.append(begins[1:], len(owner))
    pieces = [
        _covered(items, first[span], counts[span], owner[span])
        for block in blocks(asked, _EXPANDED)
        for span in [slice(begins[block][0], ends[block][-1])]
    ]
    nothing = np.zeros(0, np.int64)
    pieces.append(Overlap(nothing, nothing, np.zeros(0), nothing))
    return Overlap(*(np.concatenate(column) for column in zip(*pieces, strict=True)))


def best(found: Overlap, threshold: float) -> Overlap:
    """Return each owner's overlap with the item covered most, the first of equals, if it reaches the threshold."""
    order = np.lexsort((found.item, -found.coverage, found.owner))
    owner = found.owner[order]
    first = order[np.append(True, owner[1:] != owner[:-1])[: len(owner)]]
    first = first[found.coverage[first] >= threshold]
    return Overlap(*(column[first] for column in found))


def _upper(hashes: np.ndarray, bits: int) -> np.ndarray:
    upper: np.ndarray = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    return upper


def _covered(items: Index, first: np.ndarray, counts: np.ndarray, owner: np.ndarray) -> Overlap:
    """Return the overlaps of some owners from where their runs stand in the index, ascending by owner."""
    before = np.cumsum(counts) - counts
    places = items.places[np.repeat(first - before, counts) + np.arange(counts.sum())]
    # one number for an owner and a place, so that sorting once brings a text's places in an item into their order
    total = int(items.bounds[-1])
    keys = distinct(np.repeat(owner - owner[0], counts) * total + places)
    owner, places = keys // total + owner[0], keys % total
    item = np.searchsorted(items.bounds, places, side="right") - 1
    fresh = np.append(True, (owner[1:] != owner[:-1]) | (item[1:] != item[:-1]))
    begins = np.flatnonzero(fresh)
    sizes = np.diff(items.bounds)[item]
    gap = np.append(places[1:] - places[:-1], 0)
    gap[np.append(begins[1:], len(places)) - 1] = items.n
    words = np.add.reduceat(np.minimum(gap, np.minimum(items.n, sizes)), begins)
    place = places[begins] - items.bounds[item[begins]]
    return Overlap(owner[begins], item[begins], words / sizes[begins], place)
