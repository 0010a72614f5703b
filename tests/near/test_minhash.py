"""MinHash: the curve of what is found, and that hashes agree as often as texts are similar."""

import numpy as np
import pyarrow as pa
import pytest

from prefkit.near.minhash import (
    Banding,
    fingerprints,
    found_probability,
    midpoint,
    promising,
    sketched,
    tuned,
)
from prefkit.near.words import grams, parts


def runs(*texts: str, n: int = 1):
    return grams(parts(pa.array(texts)), n)


def test_the_curve_of_fourteen_bands_of_eight():
    banding = Banding(14, 8)
    assert midpoint(banding) == pytest.approx(0.719008, abs=1e-6)
    found = [found_probability(similarity, banding) for similarity in (0.8, 0.7, 0.5)]
    assert found == pytest.approx([0.923548, 0.564504, 0.053320], abs=1e-6)


@pytest.mark.parametrize("threshold", np.linspace(0.05, 1, 20))
def test_99_in_100_pairs_at_the_threshold_are_found(threshold):
    banding = tuned(threshold)
    assert found_probability(threshold, banding) >= 0.99
    assert banding.bands * banding.rows <= 128
    longer = Banding(128 // (banding.rows + 1), banding.rows + 1)
    assert threshold == 1 or found_probability(threshold, longer) < 0.99


@pytest.mark.parametrize("shared", [20, 60, 90])
def test_bands_agree_as_often_as_texts_are_similar(shared):
    texts = [
        " ".join(f"w{word}" for word in range(start, start + 100))
        for pair in range(0, 20_000, 200)
        for start in (pair, pair + 100 - shared)
    ]
    sketch = sketched(runs(*texts), Banding(128, 1))
    agreed = sketch.keys[::2] == sketch.keys[1::2]
    similarity = shared / (200 - shared)
    doubt = np.sqrt(similarity * (1 - similarity) / agreed.size)
    assert agreed.mean() == pytest.approx(similarity, abs=4 * doubt)
    left = np.arange(0, len(texts), 2)
    assert promising(sketch.bits, left, left + 1, similarity).mean() >= 0.98
    assert promising(sketch.bits, left, left + 1, similarity - 0.1).all()
    assert promising(sketch.bits, left, left + 1, min(similarity + 0.3, 0.999)).mean() <= 0.02
    assert not promising(sketch.bits, left, np.roll(left, 1), 0.2).any()


def test_keys_do_not_know_of_order_repetition_or_neighbours():
    keys = sketched(runs("a b c", "", "c a b a a", "a b d"), Banding(4, 2)).keys
    assert keys[0].tolist() == keys[2].tolist() == sketched(runs("b c a"), Banding(4, 2)).keys[0].tolist()
    assert keys[0].tolist() != keys[3].tolist()
    assert len(set(keys[0].tolist())) == 4  # a bucket of one band is none of another


def test_fingerprints_are_equal_for_equal_runs_alone():
    prints = fingerprints(runs("a b a", "A, a; b", "a b", "b a", ""))
    assert prints[0].tolist() == prints[1].tolist()
    assert prints[2].tolist() == prints[3].tolist() != prints[0].tolist()
    ordered = fingerprints(runs("a b", "b a", n=2))
    assert ordered[0].tolist() != ordered[1].tolist()
