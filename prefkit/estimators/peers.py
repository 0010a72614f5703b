"""Peer review: two scorers each say which pairs the other may learn from.

A scorer that learned a wrong label finds it right; one that started elsewhere has made other mistakes, and finds it
odd. So each is taught by what its peer finds clear. Scores must come from scorers that were not trained on the pair
(cross-fitted), or both have learned its label by heart. Right but hard pairs go too.
Source: Collaborative Reward Modeling (2025); the schedule is that of Co-teaching (Han et al. 2018).
"""

from typing import NamedTuple

import numpy as np

from prefkit.ranking import share_of

__all__ = ["Reviewed", "keep_rate", "noise_seen", "peer_review"]


class Reviewed(NamedTuple):
    """Which pairs each scorer finds clear: both bool [pairs]."""

    by_first: np.ndarray
    """What the second scorer may learn from."""
    by_second: np.ndarray
    """What the first scorer may learn from."""


def peer_review(first: np.ndarray, second: np.ndarray, keep: float, ids: np.ndarray) -> Reviewed:
    """Return which pairs are among the share `keep` of largest margins of each scorer; rounded down, equals by id.

    The share is of the pairs that both have a margin for; the others are kept by neither.
    Shapes: margins float64 [pairs], NaN is missing; `ids` [pairs], of anything that sorts, unique.
    """
    there = np.flatnonzero(np.isfinite(first) & np.isfinite(second))
    count = share_of(len(there), keep)
    kept = []
    for margin in (first, second):
        order = np.lexsort((ids[there], -margin[there]))
        mask = np.zeros(len(margin), dtype=bool)
        mask[there[order[:count]]] = True
        kept.append(mask)
    return Reviewed(*kept)


def noise_seen(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean share of pairs that a scorer finds the wrong way round.

    More than the noise by what scorers err themselves; less where they were trained on the pairs.
    """
    there = np.isfinite(first) & np.isfinite(second)
    return float(np.mean([(margin[there] < 0).mean() for margin in (first, second)])) if there.any() else 0.0


def keep_rate(noise: float, epoch: int, ramp: int) -> float:
    """Return what share to keep in an epoch, from 0: all at first, 1 - noise from epoch `ramp` on."""
    return 1 - noise * min(epoch / ramp, 1.0)
