"""Dawid and Skene's model: what is true of each item, and how each annotator confuses it, from who said what.

Two variants. The full one learns a confusion matrix an annotator. In the *mirrored* one, classes come in pairs that
are each other's mirror image (left and right; a tie is its own), and an annotator treats both alike, as is fair where
left and right were drawn by lot. Annotators are taken to err independently; where most of them share a mistake, the
model locks onto it, and more of them make it surer.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError

__all__ = ["Opinions", "fit_dawid_skene"]

_STEPS = 1000


class Opinions(NamedTuple):
    """What the votes add up to."""

    posterior: np.ndarray
    """Probability of each class for each item, float64 [items, classes]."""
    confusion: np.ndarray
    """P(says l | is k) of each annotator, float64 [annotators, classes (k), classes (l)]."""
    prior: np.ndarray
    """float64 [classes]."""
    log_likelihood: float
    """Of the votes, nats."""
    steps: int


def fit_dawid_skene(
    item: np.ndarray,
    annotator: np.ndarray,
    label: np.ndarray,
    classes: int,
    *,
    mirror: np.ndarray | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-6,
) -> Opinions:
    """Fit by expectation maximisation, started from vote shares.

    Shapes: `item`, `annotator`, `label` are integers from 0, [votes]; every item and annotator up to the highest
    number must have a vote. `mirror` [classes] gives each class its mirror image and chooses the mirrored variant.
    `smoothing` is added to every cell of a confusion matrix. Stops when the log-likelihood moves by less than
    `tolerance` times itself.
    Raises: EstimateError if it does not stop, or if the votes fall into parts that share no item and no annotator.
    Source: Dawid and Skene (1979), Applied Statistics 28.
    """
    _check(item, annotator, label, classes)
    items, annotators = int(item.max()) + 1, int(annotator.max()) + 1
    cell = annotator * classes + label
    votes = np.stack([np.bincount(item, label == k, items) for k in range(classes)], axis=1)
    posterior = votes / votes.sum(axis=1, keepdims=True)
    before = -np.inf
    for step in range(1, _STEPS + 1):
        said = [np.bincount(cell, posterior[item, k], annotators * classes) for k in range(classes)]
        counts = np.stack([one.reshape(annotators, classes) for one in said], axis=1)
        prior, confusion = _rates(posterior.mean(axis=0), counts, mirror, smoothing)
        joint = _joint(item, cell, items, prior, confusion)
        evidence = np.logaddexp.reduce(joint, axis=1)
        posterior, likelihood = np.exp(joint - evidence[:, None]), float(evidence.sum())
        if abs(likelihood - before) <= tolerance * max(1.0, abs(likelihood)):
            return Opinions(posterior, confusion, prior, likelihood, step)
        before = likelihood
    raise EstimateError(f"the model of Dawid and Skene did not converge in {_STEPS} steps")


def _rates(
    prior: np.ndarray, counts: np.ndarray, mirror: np.ndarray | None, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    counts = counts + smoothing
    if mirror is not None:
        prior, counts = (prior + prior[mirror]) / 2, counts + counts[:, mirror][:, :, mirror]
    return prior, counts / counts.sum(axis=2, keepdims=True)


def _joint(
    item: np.ndarray, cell: np.ndarray, items: int, prior: np.ndarray, confusion: np.ndarray
) -> np.ndarray:
    """Return ln P(votes on the item, its class) [items, classes]."""
    with np.errstate(divide="ignore"):
        told, before = np.log(confusion), np.log(prior)
    sums = [np.bincount(item, told[:, k].ravel()[cell], items) for k in range(len(prior))]
    joint: np.ndarray = before + np.stack(sums, axis=1)
    return joint


def _check(item: np.ndarray, annotator: np.ndarray, label: np.ndarray, classes: int) -> None:
    if not len(item):
        raise EstimateError("there are no votes")
    if label.min() < 0 or label.max() >= classes:
        raise EstimateError(f"a label is not among 0 to {classes - 1}: {label.min()} to {label.max()}")
    for name, numbers in (("item", item), ("annotator", annotator)):
        if numbers.min() < 0 or not np.bincount(numbers).all():
            raise EstimateError(f"some {name} has no vote", hint="number them from 0 without gaps")
    parts = _parts(item, annotator)
    if parts > 1:
        what = f"the votes fall into {parts} parts that share no item and no annotator, so they cannot be compared"
        raise EstimateError(what, hint="fit each part by itself")


def _parts(item: np.ndarray, annotator: np.ndarray) -> int:
    """Count the connected parts of the graph of items and annotators, by passing the lowest number along."""
    part = np.arange(int(annotator.max()) + 1)
    while True:
        of_item = np.full(int(item.max()) + 1, len(part))
        np.minimum.at(of_item, item, part[annotator])
        lowest = part.copy()
        np.minimum.at(lowest, annotator, of_item[item])
        if (lowest == part).all():
            return len(np.unique(part))
        part = lowest
