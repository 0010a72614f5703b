"""MinHash: texts that share most of their runs of words fall into the same bucket, without comparing all with all.

A random order of all runs has the same first run in two texts with a probability that is their Jaccard similarity: the
share of the runs of either that both have. With `rows` such orders a band, two texts agree on a whole band with
probability s**rows; with `bands` bands they share at least one bucket with 1 - (1 - s**rows)**bands. Whoever shares a
bucket is only a candidate, and one that agrees on too few of all hashes is none; `prefkit.near.jaccard` counts what the
others share.

Source: Broder (1997), On the resemblance and containment of documents; bands: Leskovec, Rajaraman, Ullman, Mining of
Massive Datasets, section 3.4.
"""

from typing import NamedTuple

import numpy as np

from prefkit.near.jaccard import blocks
from prefkit.near.words import Grams, mix, multipliers

__all__ = [
    "Banding",
    "Sketch",
    "fingerprints",
    "found_probability",
    "midpoint",
    "promising",
    "sketched",
    "tuned",
]

_MOST_HASHES = 128
_WANTED = 0.99
_MISSED = 0.001
_ORDERS, _RUNS = 8, 1 << 15
"""Orders and runs of words that are taken at once: a megabyte, which the cache of a core holds."""
_COMPARED = 1 << 14
"""Pairs that are compared at once: 4 MB."""


class Banding(NamedTuple):
    """How many hashes, and how they are bundled: bands * rows of them."""

    bands: int
    rows: int


class Sketch(NamedTuple):
    """What the hashes say of some texts."""

    keys: np.ndarray
    """A number for each band, equal where all hashes of the band are: uint64 [texts, bands]."""
    bits: np.ndarray
    """The lowest bits of each hash, uint8 [texts, bands * rows]."""


def found_probability(similarity: float, banding: Banding) -> float:
    """Return with which probability two texts of this Jaccard similarity share a bucket."""
    return float(1 - (1 - similarity**banding.rows) ** banding.bands)


def midpoint(banding: Banding) -> float:
    """Return the similarity near which finding goes over from unlikely to likely: (1 / bands) ** (1 / rows)."""
    return float((1 / banding.bands) ** (1 / banding.rows))


def tuned(threshold: float) -> Banding:
    """Return the banding of at most 128 hashes that finds 99 in 100 pairs at the threshold, with the longest rows.

    Longer rows put fewer dissimilar texts into one bucket, so fewer have to be looked at.
    """
    choices = (Banding(_MOST_HASHES // rows, rows) for rows in range(_MOST_HASHES, 0, -1))
    good = (banding for banding in choices if found_probability(threshold, banding) >= _WANTED)
    return next(good, Banding(_MOST_HASHES, 1))


def sketched(grams: Grams, banding: Banding) -> Sketch:
    """Return what the hashes say of each text. A text without runs has a sketch that means nothing.

    The orders are h -> a * h modulo 2**32 for odd a.
    """
    count = len(grams.bounds) - 1
    keys = np.zeros((count, banding.bands), np.uint64)
    bits = np.zeros((count, banding.bands * banding.rows), np.uint8)
    filled = np.flatnonzero(np.diff(grams.bounds))
    if not len(filled):
        return Sketch(keys, bits)
    starts = grams.bounds[filled]
    hashes = (grams.hashes >> np.uint64(32)).astype(np.uint32)
    factors = multipliers(bits.shape[1])
    lowest = np.empty((bits.shape[1], len(filled)), np.uint32)
    ends = np.append(starts, len(hashes))
    for texts in blocks(np.diff(ends), _RUNS):  # a few at a time, and stay in the cache of a core
        some = hashes[ends[texts.start] : ends[texts.stop]]
        first = starts[texts] - ends[texts.start]
        ordered = np.empty((_ORDERS, len(some)), np.uint32)
        for start in range(0, len(factors), _ORDERS):
            these = factors[start : start + _ORDERS, None]
            np.multiply(some, these, out=ordered[: len(these)])
            np.minimum.reduceat(
                ordered[: len(these)], first, axis=1, out=lowest[start : start + len(these), texts]
            )
    bits[filled] = lowest.T
    bands = lowest.reshape(banding.bands, banding.rows, -1)
    key = np.zeros((banding.bands, len(filled)), np.uint64)
    for place in range(banding.rows):
        key = mix(key + np.arange(banding.bands, dtype=np.uint64)[:, None] + bands[:, place])
    keys[filled] = key.T
    return Sketch(keys, bits)


def promising(bits: np.ndarray, left: np.ndarray, right: np.ndarray, threshold: float) -> np.ndarray:
    """Return which pairs of texts agree on so many hashes that they may reach the threshold: bool [pairs].

    Lets 999 in 1000 pairs at the threshold pass, and nearly all above. Eight bits of a hash do for that: they agree by
    chance in one of 256, which only lets more pass.

    Shapes: `bits` of a sketch; `left` and `right` int64 [pairs] are rows of it.
    Source: Li, Koenig (2010), b-bit minwise hashing.
    """
    from scipy.special import bdtr  # type: ignore[import-untyped]

    hashes = bits.shape[1]
    fewest = int(np.argmax(bdtr(np.arange(hashes + 1.0), hashes, threshold) > _MISSED))
    found = np.zeros(len(left), dtype=bool)
    for start in range(0, len(left), _COMPARED):
        span = slice(start, start + _COMPARED)
        found[span] = np.count_nonzero(bits[left[span]] == bits[right[span]], axis=1) >= fewest
    return found


def fingerprints(grams: Grams) -> np.ndarray:
    """Return 128 bits for each text, equal where it has the same runs equally often: uint64 [texts, 2]."""
    found = np.zeros((len(grams.bounds) - 1, 2), np.uint64)
    filled = np.flatnonzero(np.diff(grams.bounds))
    if len(filled):
        starts = grams.bounds[filled]
        found[filled, 0] = np.add.reduceat(grams.hashes, starts)
        found[filled, 1] = np.add.reduceat(mix(grams.hashes), starts)
    return found
