"""Dawid and Skene's model: what is true of each item, and how each annotator confuses it, from who said what.

Three variants. The full one learns a confusion matrix an annotator. In the *mirrored* one, classes come in pairs that
are each other's mirror image (left and right; a tie is its own), and an annotator treats both alike, as is fair where
left and right were drawn by lot. With *one coin* an annotator has a single chance of being right.

Annotators are taken to err independently. Where most of them share a mistake, the model locks onto it, and more of
them make it surer; nothing in the votes alone tells that solution from the right one. So every fit says how far the
votes are from independent (`Doubt`), and takes the few labels that are known for certain.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.crowd import Crowd, read_crowd
from prefkit.estimators.doubt import Doubt, doubt

__all__ = ["Opinions", "fit_dawid_skene", "fit_one_coin", "fit_tied"]

Tie = Callable[[np.ndarray], np.ndarray]
"""From how often annotators said l of k, smoothed, [annotators, k, l], to their P(says l | is k) of the same shape."""

_TINY = 1e-300


class Opinions(NamedTuple):
    """What the votes add up to."""

    posterior: np.ndarray
    """Probability of each class for each item, float64 [items, classes]."""
    confusion: np.ndarray
    """P(says l | is k) of each annotator, float64 [annotators, classes (k), classes (l)]."""
    prior: np.ndarray
    """float64 [classes]."""
    log_likelihood: float
    """Of the votes and the known labels, nats."""
    trace: np.ndarray
    """What each step of EM found, nats, float64 [steps]: the log-likelihood plus that of the smoothing as a Dirichlet
    prior, less its constant. It never falls."""
    steps: int
    doubt: Doubt
    """Why the result may be wrong although it converged."""


def fit_dawid_skene(
    item: np.ndarray,
    annotator: np.ndarray,
    label: np.ndarray,
    classes: int,
    *,
    weight: np.ndarray | None = None,
    known: np.ndarray | None = None,
    mirror: np.ndarray | None = None,
    smoothing: float = 0.01,
    few: int = 5,
    tolerance: float = 1e-6,
    most_steps: int = 1000,
) -> Opinions:
    """Fit confusion matrices by expectation maximisation, started from vote shares.

    Shapes: `item`, `annotator`, `label` are integers from 0, [votes]; every item and annotator up to the highest
    number must have a vote. `weight` [votes] counts a vote so many times. `known` [items] is the class of an item, or
    -1; with it a second start, from what annotators said of known items, is tried too and the likelier end is kept.
    `mirror` [classes] gives each class its mirror image and chooses the mirrored variant. `smoothing` is added to
    every cell of a confusion matrix. Annotators with fewer than `few` votes share one matrix. EM stops when a step
    moves the log-likelihood, and its trace, by at most `tolerance` times its size (or `tolerance` nats, if that is
    more).
    Raises: EstimateError if it does not stop in `most_steps`, if no item has votes of two annotators, or if the votes
    fall into parts that share no item and no annotator.
    Source: Dawid and Skene (1979), Applied Statistics 28.
    """
    crowd = read_crowd(item, annotator, label, classes, weight, few)
    tie = _rows if mirror is None else _mirrored(mirror)
    return fit_tied(crowd, tie, mirror, known, smoothing, tolerance, most_steps)


def fit_one_coin(
    item: np.ndarray,
    annotator: np.ndarray,
    label: np.ndarray,
    classes: int,
    *,
    weight: np.ndarray | None = None,
    known: np.ndarray | None = None,
    smoothing: float = 0.01,
    few: int = 5,
    tolerance: float = 1e-6,
    most_steps: int = 1000,
) -> Opinions:
    """Fit one chance of being right an annotator, wrong answers being equally likely; else as `fit_dawid_skene`.

    `smoothing` is added to the right votes, and to the wrong ones once for every wrong class.
    """
    crowd = read_crowd(item, annotator, label, classes, weight, few)
    return fit_tied(crowd, _one_coin, None, known, smoothing / classes, tolerance, most_steps)


def fit_tied(
    crowd: Crowd,
    tie: Tie,
    mirror: np.ndarray | None = None,
    known: np.ndarray | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-6,
    most_steps: int = 1000,
    possible: np.ndarray | None = None,
) -> Opinions:
    """Fit confusion matrices of any form that `tie` gives them.

    `tie` must return the matrices that make sum(counts * log(matrices)) largest within its form, else the trace may
    fall. With `mirror`, the prior gives a class and its mirror image the same chance. `possible`, bool [classes], says
    which classes an item may have; the others are only said.
    Raises: as `fit_dawid_skene`.
    """
    possible = np.ones(crowd.classes, bool) if possible is None else possible
    model = _Model(crowd, tie, mirror, _check_known(known, crowd, possible), possible, smoothing)
    ends = [_climb(model, posterior, tolerance, most_steps) for posterior in _starts(model)]
    end = max(ends, key=lambda one: float(one.trace[-1]))
    rates, group = end.rates, crowd.group
    joint = np.stack([np.zeros(crowd.items), *_odds(crowd, rates)], axis=1)
    free = np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None])
    told = doubt(crowd, rates.confusion, rates.prior, free, model.known)
    posterior = np.stack(end.posterior, axis=1)
    return Opinions(
        posterior,
        rates.confusion[group],
        rates.prior,
        end.log_likelihood,
        end.trace,
        len(end.trace),
        told,
    )


class _Model(NamedTuple):
    crowd: Crowd
    tie: Tie
    mirror: np.ndarray | None
    known: np.ndarray
    possible: np.ndarray
    smoothing: float


class _Rates(NamedTuple):
    prior: np.ndarray
    confusion: np.ndarray


class _End(NamedTuple):
    posterior: list[np.ndarray]
    """One array a class."""
    rates: _Rates
    log_likelihood: float
    trace: np.ndarray


def _climb(model: _Model, posterior: list[np.ndarray], tolerance: float, most_steps: int) -> _End:
    trace: list[float] = []
    before = -np.inf
    for _ in range(most_steps):
        rates = _maximise(model, posterior)
        posterior, likelihood = _expect(model, rates)
        penalty = model.smoothing * float(np.log(np.maximum(rates.confusion, _TINY)).sum())
        trace.append(likelihood + penalty)
        room = tolerance * max(1.0, abs(likelihood))
        if abs(likelihood - before) <= room and trace[-1] - trace[-2] <= room:
            return _End(posterior, rates, likelihood, np.array(trace))
        before = likelihood
    what = (
        f"the model of Dawid and Skene did not converge in {most_steps} steps to a tolerance of {tolerance:g}"
    )
    raise EstimateError(what, hint="give it more steps or a higher tolerance")


def _maximise(model: _Model, posterior: list[np.ndarray]) -> _Rates:
    # The first class is what the others leave, so that two classes cost one pass over the votes and not two.
    crowd = model.crowd
    said = [crowd.said(share) for share in posterior[1:]]
    first = np.maximum(crowd.total - np.sum(said, axis=0), 0.0)
    counts = np.stack([one.reshape(-1, crowd.classes) for one in (first, *said)], axis=1)
    prior = np.array([share.mean() for share in posterior])
    if model.mirror is not None:
        prior = (prior + prior[model.mirror]) / 2
    return _Rates(prior, model.tie(counts + model.smoothing))


def _expect(model: _Model, rates: _Rates) -> tuple[list[np.ndarray], float]:
    """Return the posterior, one array a class, and the log-likelihood."""
    crowd = model.crowd
    odds = _odds(crowd, rates)
    first = np.log(np.maximum(rates.confusion[:, 0], _TINY)).ravel()
    base = float(crowd.total @ first) + crowd.items * float(_log_prior(rates.prior)[0])
    top = np.maximum(np.max(odds, axis=0), 0.0)
    parts = [np.exp(-top), *(np.exp(one - top) for one in odds)]
    whole = np.sum(parts, axis=0)
    evidence = top + np.log(whole)
    posterior = [part / whole for part in parts]
    fixed = np.flatnonzero(model.known >= 0)
    if len(fixed):
        truth = model.known[fixed]
        told = np.stack([np.zeros(crowd.items), *odds])[truth, fixed]
        for k, share in enumerate(posterior):
            share[fixed] = truth == k
        return posterior, base + float(evidence.sum() - evidence[fixed].sum() + told.sum())
    return posterior, base + float(evidence.sum())


def _odds(crowd: Crowd, rates: _Rates) -> list[np.ndarray]:
    """Return ln P(votes on the item, class k) less that of class 0, for each k above 0."""
    told, prior = np.log(np.maximum(rates.confusion, _TINY)), _log_prior(rates.prior)
    return [
        crowd.sums((told[:, k] - told[:, 0]).ravel()) + (prior[k] - prior[0]) for k in range(1, crowd.classes)
    ]


def _log_prior(prior: np.ndarray) -> np.ndarray:
    # Far below what the votes on an item say together, so that what cannot be stays at 0, and yet finite.
    with np.errstate(divide="ignore"):
        logs: np.ndarray = np.maximum(np.log(prior), -1e4)
    return logs


def _starts(model: _Model) -> list[list[np.ndarray]]:
    crowd, known = model.crowd, model.known
    even = model.possible / model.possible.sum()
    shares = crowd.shares() * model.possible
    whole = shares.sum(axis=1, keepdims=True)
    shares = np.where(whole > 0, shares / np.where(whole > 0, whole, 1.0), even)
    fixed = known >= 0
    shares[fixed] = np.eye(crowd.classes)[known[fixed]]
    if not fixed.any():
        return [list(shares.T.copy())]
    there = np.where(fixed[:, None], shares, 0.0)
    counts = np.stack([crowd.said(share).reshape(-1, crowd.classes) for share in there.T.copy()], axis=1)
    taught, _ = _expect(model, _Rates(even, model.tie(counts + 1.0)))
    return [list(shares.T.copy()), taught]


def _rows(counts: np.ndarray) -> np.ndarray:
    rates: np.ndarray = counts / counts.sum(axis=2, keepdims=True)
    return rates


def _mirrored(mirror: np.ndarray) -> Tie:
    return lambda counts: _rows(counts + counts[:, mirror][:, :, mirror])


def _one_coin(counts: np.ndarray) -> np.ndarray:
    classes = counts.shape[1]
    same = np.eye(classes, dtype=bool)
    right = counts[:, same].sum(axis=1) / counts.sum(axis=(1, 2))
    wrong = (1 - right) / max(classes - 1, 1)
    rates: np.ndarray = np.where(same, right[:, None, None], wrong[:, None, None])
    return rates


def _check_known(known: np.ndarray | None, crowd: Crowd, possible: np.ndarray) -> np.ndarray:
    if known is None:
        return np.full(crowd.items, -1)
    known = np.asarray(known, np.int64)
    fits = known.shape == (crowd.items,) and np.isin(known, [-1, *np.flatnonzero(possible)]).all()
    if not fits:
        classes = ", ".join(str(k) for k in np.flatnonzero(possible))
        raise EstimateError(f"known labels must be -1 or one of {classes} for each of {crowd.items} items")
    return known
