"""What pairs should count by what is believed of them: doubt, novelty, how they were picked, and who labelled them."""

from itertools import pairwise

import numpy as np

from prefkit.errors import EstimateError
from prefkit.scorers.embedded import cosines

__all__ = ["nearest", "novelty", "propensity", "reliability", "sureness"]

_BLOCK = 1 << 16
"""Pairs of vectors compared at once: 400 MB for vectors of 384 numbers."""


def sureness(p: np.ndarray, information: np.ndarray, sharpness: float = 1.0) -> np.ndarray:
    """Return |2p - 1| (1 - B)^sharpness, elementwise: members must be sure, and sure of the same.

    `information` B is BALD in nats. Alone it does not tell a close call from a clear one: a pair that all members find
    even has none. Source: (1 - B)^mu of Uncertainty-enhanced Preference Optimization (UPO, 2024), times a certainty of ours.
    """
    told: np.ndarray = np.abs(2 * p - 1) * (1 - information) ** sharpness
    return told


def novelty(similarity: np.ndarray, ceiling: float = 2.0) -> np.ndarray:
    """Return ceiling - similarity, not below 0: what the policy cannot write yet counts more.

    `similarity` is that of chosen to what the policy wrote. Source: SoPo (2024), whose ceiling is 2.
    """
    told: np.ndarray = np.maximum(ceiling - similarity, 0.0)
    return told


def nearest(one: np.ndarray, other: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the largest cosine of each vector of `one` to the vectors of `other` in its group; NaN where there is none.

    Shapes: `one` and `other` [rows, size], NaN for what has no vector; `group` int64 [rows].
    """
    order = np.argsort(group, kind="stable")
    _, first, size = np.unique(group[order], return_index=True, return_counts=True)
    widths, starts = np.repeat(size, size), np.repeat(first, size)
    blocks = np.cumsum(widths) // _BLOCK
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(group)]
    best = np.full(len(group), -np.inf)
    # A Python loop over blocks, each of some rows with all they are compared with.
    for begin, end in pairwise(edges):
        here = np.arange(begin, end)
        left = np.repeat(here, widths[here])
        within = np.arange(len(left)) - np.repeat(np.cumsum(widths[here]) - widths[here], widths[here])
        right = np.repeat(starts[here], widths[here]) + within
        told = cosines(one[order[left]], other[order[right]])
        np.maximum.at(best, order[left], np.where(np.isfinite(told), told, -np.inf))
    return np.where(np.isfinite(best), best, np.nan)


def propensity(probability: np.ndarray) -> np.ndarray:
    """Return 1 / probability: what was unlikely to be picked stands for more that was not. NaN stays.

    Source: Horvitz and Thompson (1952); at mean 1, Hajek's form of it.
    Raises: EstimateError for a probability outside (0, 1].
    """
    known = probability[np.isfinite(probability)]
    odd = known[(known <= 0) | (known > 1)]
    if len(odd):
        hint = "rows that could not be picked stand for nothing; keep the probabilities with which rows were picked"
        raise EstimateError(f"a probability of being picked is {odd[0]:g}", hint=hint)
    told: np.ndarray = 1 / probability
    return told


def reliability(annotator: np.ndarray, right: np.ndarray, pseudo: float = 10.0) -> np.ndarray:
    """Return how often each annotator is right: float64 [annotators], towards the mean of all where little is known.

    Shapes: `annotator` int64 [rows], -1 for none; `right` float64 [rows], how probable it is that the label is right, NaN
    for unknown. `pseudo` is how many labels the mean of all counts for.
    Source: the M-step of Latent Collective Preference Optimization (LCPO, 2025), shrunk.
    """
    there = (annotator >= 0) & np.isfinite(right)
    count = int(annotator.max(initial=-1)) + 1
    totals = np.bincount(annotator[there], weights=right[there], minlength=count)
    counts = np.bincount(annotator[there], minlength=count)
    overall = float(right[there].mean()) if there.any() else np.nan
    with np.errstate(invalid="ignore"):
        told: np.ndarray = (totals + pseudo * overall) / (counts + pseudo)
    return told
