"""Votes in the order in which expectation maximisation walks them: by item, with annotator and label in one number.

A pass over a million votes is then two reads of memory in sequence and one small table that stays in the cache.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["Crowd", "parts", "read_crowd"]


class Crowd(NamedTuple):
    """Who said what of which item, sorted by item."""

    items: int
    classes: int
    group: np.ndarray
    """Number of the matrix of an annotator, int64 [annotators], or [annotators, contexts] where it has one in each
    context; those with few votes share the last."""
    item: np.ndarray
    """int64 [votes], rising."""
    cell: np.ndarray
    """Matrix times classes plus label, int64 [votes]."""
    start: np.ndarray
    """Where the votes on each item begin, int64 [items]."""
    weight: np.ndarray | None
    """float64 [votes]; None where every vote counts once."""
    total: np.ndarray
    """Votes of each cell, float64 [matrices * classes]."""

    def said(self, share: np.ndarray) -> np.ndarray:
        """Return how many votes of each cell fall on a class of which each item has this share."""
        each = share[self.item]
        if self.weight is not None:
            each *= self.weight
        return np.bincount(self.cell, each, len(self.total))

    def sums(self, value: np.ndarray) -> np.ndarray:
        """Return for each item the sum of `value` [cells] over its votes."""
        each = value[self.cell]
        if self.weight is not None:
            each *= self.weight
        total: np.ndarray = np.add.reduceat(each, self.start)
        return total

    def shares(self) -> np.ndarray:
        """Return the share of each class among the votes on each item, float64 [items, classes]."""
        label = np.arange(len(self.total)) % self.classes
        counts = np.stack([self.sums((label == k).astype(np.float64)) for k in range(self.classes)], axis=1)
        shares: np.ndarray = counts / counts.sum(axis=1, keepdims=True)
        return shares


def read_crowd(
    item: np.ndarray,
    annotator: np.ndarray,
    label: np.ndarray,
    classes: int,
    weight: np.ndarray | None = None,
    few: int = 0,
    context: np.ndarray | None = None,
    contexts: int = 1,
) -> Crowd:
    """Check votes and sort them. Annotators with fewer than `few` votes get one matrix together.

    Shapes: all [votes]; `item` and `annotator` are integers from 0 without gaps, `label` is below `classes`. With
    `context`, integers below `contexts`, an annotator has a matrix in each.
    Raises: EstimateError if a number is out of range or left out, if no item has votes of two annotators, or if the
    votes fall into parts that share no item and no annotator.
    """
    item, annotator, label = (np.asarray(column, np.int64) for column in (item, annotator, label))
    votes_each = _check(item, annotator, label, classes, weight)
    pooled = votes_each < few
    group = np.where(pooled, np.count_nonzero(~pooled), np.cumsum(~pooled) - 1)
    # One sort of one number: several times faster than sorting by item, and sums do not depend on the rows' order.
    across = contexts * classes
    width = len(votes_each) * across
    key = item * width + annotator * across + label
    if context is not None:
        key += context * classes
    if weight is None:
        key.sort()
    else:
        order = np.argsort(key, kind="stable")
        key, weight = key[order], np.asarray(weight, np.float64)[order]
    item = key // width
    said = key - item * width
    start = np.flatnonzero(np.concatenate([[True], item[1:] > item[:-1]]))
    _check_graph(item, said // across, start)
    cell = (group[:, None] * across + np.arange(across)).ravel()[said]
    total = np.bincount(cell, weight, (int(group.max()) + 1) * across).astype(np.float64)
    if context is not None:
        group = group[:, None] * contexts + np.arange(contexts)
    return Crowd(len(start), classes, group, item, cell, start, weight, total)


def parts(item: np.ndarray, annotator: np.ndarray) -> np.ndarray:
    """Return the part of each annotator, int64 [annotators]: those who share an item, through any chain, are one.

    Shapes: `item` and `annotator` [votes], integers from 0 without gaps. A part goes by its lowest annotator.
    """
    item, annotator = np.asarray(item, np.int64), np.asarray(annotator, np.int64)
    order = np.argsort(item, kind="stable")
    item, annotator = item[order], annotator[order]
    start = np.flatnonzero(np.concatenate([[True], item[1:] > item[:-1]]))
    return _parts(item, annotator, start)


def _parts(item: np.ndarray, annotator: np.ndarray, start: np.ndarray) -> np.ndarray:
    part = np.arange(int(annotator.max()) + 1)
    while True:
        here = part[annotator]
        lowest = np.minimum.reduceat(here, start)[item]
        moves = lowest < here
        if not moves.any():
            return part
        np.minimum.at(part, here[moves], lowest[moves])
        while (part[part] != part).any():
            part = part[part]


def _check(
    item: np.ndarray, annotator: np.ndarray, label: np.ndarray, classes: int, weight: np.ndarray | None
) -> np.ndarray:
    """Return how many votes each annotator has."""
    if not len(item):
        raise EstimateError("there are no votes")
    if classes < 2:
        raise EstimateError(f"there must be at least 2 classes, not {classes}")
    if label.min() < 0 or label.max() >= classes:
        raise EstimateError(f"a label is not among 0 to {classes - 1}: {label.min()} to {label.max()}")
    for name, numbers in (("item", item), ("annotator", annotator)):
        if numbers.min() < 0 or not (counts := np.bincount(numbers)).all():
            raise EstimateError(f"some {name} has no vote", hint="number them from 0 without gaps")
    if weight is not None and not (np.isfinite(weight) & (np.asarray(weight) > 0)).all():
        raise EstimateError("the weight of a vote must be finite and above 0")
    return counts


def _check_graph(item: np.ndarray, annotator: np.ndarray, start: np.ndarray) -> None:
    found = len(np.unique(_parts(item, annotator, start)))
    if found > 1:
        what = f"the votes fall into {found} parts that share no item and no annotator, so they cannot be compared"
        raise EstimateError(what, hint="fit each part by itself")
    if (np.minimum.reduceat(annotator, start) == np.maximum.reduceat(annotator, start)).all():
        what = "no item has votes of two annotators, so nothing tells who is right"
        raise EstimateError(what, hint="collect a second vote on some items")
