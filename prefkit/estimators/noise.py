"""Noise rates: how often recorded labels are wrong, with a standard error, and how likely each of them is.

With beliefs: a label is recorded right with probability `reliability`, else turned round; a model that has never seen the
label says how likely it is right. Their mixture is the LCPO model, whose EM has one fixed point an annotator. A belief
must be calibrated on *clean* labels: one calibrated on the noisy ones has the noise in it already, and the reliability
comes out as 1 whatever the noise is. A belief from a model trained on the same label learns it by heart and does the same.

With votes: two votes on a pair that are wrong independently differ with probability 2 e (1 - e), so the noise rate e can
be read off how often people differ, with no model and no gold. Pairs on which people truly differ count as noise too.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic

__all__ = [
    "Calibration",
    "Noise",
    "Rate",
    "belief",
    "confidence",
    "fit_noise",
    "moving_average",
    "rate_error",
    "rate_from_votes",
]

_LOWEST, _HIGHEST = 0.5, 1 - 1e-3
_PRIOR = 0.9, 0.0904534
"""Mean and standard deviation of Beta(9, 1), for annotators too few of whose labels are there even together."""


class Noise(NamedTuple):
    """What beliefs say of recorded labels and of those who gave them."""

    confidence: np.ndarray
    """P(the recorded label is right), float64 [pairs]."""
    reliability: np.ndarray
    """P(a label of the annotator is right), float64 [annotators]; at least 1/2 and at most 0.999."""
    error: np.ndarray
    """Its standard error from the observed information, float64 [annotators]; NaN where beliefs say nothing."""
    is_pooled: np.ndarray
    """Whether the annotator has too few labels for a reliability of its own, bool [annotators]."""
    rate: float
    """Share of labels that are wrong: 1 less the mean reliability over the labels."""
    rate_error: float
    """Standard error of `rate`, taking reliabilities as independent; NaN if one of theirs is."""
    log_likelihood: float
    """Of the labels, nats."""
    trace: np.ndarray
    """The log-likelihood at each step, float64 [steps]. It never falls."""


class Rate(NamedTuple):
    """A share of wrong labels and its standard error."""

    rate: float
    error: float


class Calibration(NamedTuple):
    """What a scale of beliefs was found on. Both are float64 [pairs]."""

    margin: np.ndarray
    """What the scale multiplies; positive for the recorded label."""
    verdict: np.ndarray
    """P(the recorded label is right), NaN where nobody was asked."""


def belief(cost: np.ndarray, cost_reversed: np.ndarray) -> np.ndarray:
    """Return P(chosen is better) that a loss implies: exp(-cost) / (exp(-cost) + exp(-cost_reversed)).

    `cost` is the loss of the pair as recorded and `cost_reversed` that with its sides exchanged, nats. The logistic loss
    of a margin gives logistic(margin), IPO's (margin - 1/2)^2 logistic(2 margin).
    Source: LCPO (2025), arXiv 2509.24159.
    """
    return logistic(cost_reversed - cost)


def confidence(p: np.ndarray, reliability: np.ndarray | float) -> np.ndarray:
    """Return P(the recorded label is right) from the belief in it: the E-step of LCPO.

    A belief of one half leaves the reliability as it is; a reliability of 1 leaves no doubt.
    """
    right = reliability * p
    whole = right + (1 - reliability) * (1 - p)
    with np.errstate(invalid="ignore"):
        sure: np.ndarray = np.where(whole > 0, right / whole, reliability)
    return sure


def moving_average(
    reliability: np.ndarray, sure: np.ndarray, annotator: np.ndarray, rate: float = 0.1
) -> np.ndarray:
    """Move the reliability of each annotator in a batch by `rate` towards the mean confidence in its labels there.

    Shapes: `reliability` [annotators]; `sure` (of `confidence`) and `annotator` [batch]. Who is not in the batch stays.
    """
    count = np.bincount(annotator, minlength=len(reliability))
    mean = np.bincount(annotator, sure, len(reliability)) / np.maximum(count, 1)
    moved: np.ndarray = np.where(count > 0, (1 - rate) * reliability + rate * mean, reliability)
    return moved


def fit_noise(
    p: np.ndarray,
    annotator: np.ndarray | None = None,
    *,
    least: int = 30,
    start: float = 0.9,
    tolerance: float = 1e-8,
    most_steps: int = 200,
) -> Noise:
    """Find the reliabilities that make the recorded labels likeliest, and the confidence in each label.

    Shapes: `p` [pairs], belief in the recorded label; `annotator` [pairs], from 0 without gaps, all the same by default.
    Annotators with fewer than `least` labels share one reliability; if those are fewer than `least` together, it is the
    mean 0.9 of a Beta(9, 1). The log-likelihood of a reliability is concave, so EM's fixed point is found by Newton's
    method, kept inside [1/2, 0.999], where EM would take thousands of steps if beliefs are weak.
    Stops when no reliability moves by more than `tolerance`.
    Raises: EstimateError if it does not stop, if a belief is no probability, or if every belief is one half.
    Source: LCPO (2025), arXiv 2509.24159; the standard error is that of maximum likelihood.
    """
    p = np.asarray(p, np.float64)
    annotator = np.zeros(len(p), np.int64) if annotator is None else np.asarray(annotator, np.int64)
    count = _check(p, annotator)
    pooled = (count < least) & (len(count) > 1)
    group = np.where(pooled, np.count_nonzero(~pooled), np.cumsum(~pooled) - 1)
    few = bool(pooled.any() and count[pooled].sum() < least)
    own = group[annotator]
    eta, trace = _newton(2 * p - 1, 1 - p, own, int(group.max()) + 1, start, tolerance, most_steps)
    slope = (2 * p - 1) / np.maximum(1 - p + eta[own] * (2 * p - 1), 1e-300)
    information = np.bincount(own, slope**2, len(eta))
    with np.errstate(divide="ignore"):
        error = np.where(information > 0, 1 / np.sqrt(information), np.nan)
    if few:
        eta[-1], error[-1] = _PRIOR
    labels = np.bincount(own, minlength=len(eta))
    told = np.log(np.maximum(1 - p + eta[own] * (2 * p - 1), 1e-300))
    return Noise(
        confidence=confidence(p, eta[own]),
        reliability=eta[group],
        error=error[group],
        is_pooled=pooled,
        rate=float(1 - (labels * eta).sum() / labels.sum()),
        rate_error=float(np.sqrt(np.square(labels * error).sum()) / labels.sum()),
        log_likelihood=float(told.sum()),
        trace=trace,
    )


def rate_error(
    p: np.ndarray,
    reliability: np.ndarray,
    annotator: np.ndarray,
    cluster: np.ndarray,
    calibration: Calibration | None = None,
) -> float:
    """Return the standard error of the share of wrong labels where those of a cluster are not independent.

    Shapes: all [pairs]; `reliability` is of each label's annotator, `annotator` and `cluster` are integers from 0.
    With `calibration`, p = logistic(scale * margin), and that the scale was found on few labels counts too.
    Source: the sandwich of two estimating equations, of the scale and of the reliabilities; derived here.
    """
    pull = (2 * p - 1) / np.maximum(1 - p + reliability * (2 * p - 1), 1e-300)
    count = np.bincount(annotator)
    weight = (count / len(p) / np.maximum(np.bincount(annotator, pull**2), 1e-300))[annotator]
    influence = weight * pull
    if calibration is not None:
        margin, verdict = calibration.margin, calibration.verdict
        # Of the belief: its derivative by the scale, and how a label's pull follows it.
        moves = p * (1 - p) * margin
        pulled = float((weight * moves / np.maximum(1 - p + reliability * (2 * p - 1), 1e-300) ** 2).sum())
        asked = np.isfinite(verdict)
        missed = np.where(asked, (np.where(asked, verdict, 0.0) - p) * margin, 0.0)
        influence = influence + pulled * missed / max(float((moves * margin)[asked].sum()), 1e-300)
    return float(np.sqrt(np.square(np.bincount(cluster, influence)).sum()))


def rate_from_votes(left: np.ndarray, right: np.ndarray, cluster: np.ndarray | None = None) -> Rate:
    """Return the share of wrong votes from how often votes on the same pair differ, with its standard error.

    Shapes: `left` and `right` [pairs], votes for either side; ties are left out. Every pair of votes on a pair is a
    comparison; pairs of texts with one vote say nothing. If votes differ by chance e, two of them do so with probability
    d = 2 e (1 - e), so e = (1 - sqrt(1 - 2 d)) / 2; the error is that of the mean d over pairs, by the delta method.
    Pairs of one `cluster` (integers from 0, [pairs]) are not taken for independent.
    Holds for votes that are wrong independently, with one rate, less than half the time.
    Raises: EstimateError if no pair has two votes, or if votes agree no more than by chance.
    Source: derived here.
    """
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    total = left + right
    twice = total * (total - 1) / 2
    there = twice > 0
    if not there.any():
        raise EstimateError("no pair has two votes, so how often votes differ cannot be told")
    weight = twice[there] / twice[there].sum()
    differ = left[there] * right[there] / twice[there]
    d = float(weight @ differ)
    if d >= 0.5:
        raise EstimateError(f"two votes on a pair differ {d:.0%} of the time, no less than by chance")
    together = np.arange(len(left)) if cluster is None else np.asarray(cluster, np.int64)
    spread = float(np.sqrt(np.square(np.bincount(together[there], weight * (differ - d))).sum()))
    root = float(np.sqrt(1 - 2 * d))
    return Rate((1 - root) / 2, spread / (2 * root))


def _newton(
    slope: np.ndarray,
    base: np.ndarray,
    own: np.ndarray,
    groups: int,
    start: float,
    tolerance: float,
    most: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Climb the concave sum of ln(base + eta * slope) of each group; where a Newton step falls, take EM's instead."""
    eta = np.full(groups, float(np.clip(start, _LOWEST, _HIGHEST)))
    count = np.bincount(own, minlength=groups)
    value = _value(eta, slope, base, own)
    trace = [float(value.sum())]
    for _ in range(most):
        told = base + eta[own] * slope
        each = slope / np.maximum(told, 1e-300)
        rise, curve = np.bincount(own, each, groups), np.bincount(own, each**2, groups)
        newton = np.clip(eta + rise / np.maximum(curve, 1e-300), _LOWEST, _HIGHEST)
        right = (base + slope) / np.maximum(told, 1e-300)
        em = np.clip(eta * np.bincount(own, right, groups) / count, _LOWEST, _HIGHEST)
        worth = _value(newton, slope, base, own)
        falls = worth < value
        after = np.where(falls, em, newton)
        value = np.where(falls, _value(em, slope, base, own), worth)
        trace.append(float(value.sum()))
        moved, eta = float(np.abs(after - eta).max()), after
        if moved <= tolerance:
            return eta, np.array(trace)
    raise EstimateError(f"reliabilities did not converge in {most} steps to a tolerance of {tolerance:g}")


def _value(eta: np.ndarray, slope: np.ndarray, base: np.ndarray, own: np.ndarray) -> np.ndarray:
    told = np.log(np.maximum(base + eta[own] * slope, 1e-300))
    return np.bincount(own, told, len(eta))


def _check(p: np.ndarray, annotator: np.ndarray) -> np.ndarray:
    """Return how many labels each annotator gave."""
    if not len(p):
        raise EstimateError("there are no labels")
    if not ((p >= 0) & (p <= 1)).all():
        raise EstimateError("a belief is not a probability", hint="drop or fill rows without a belief first")
    if (p == 0.5).all():
        raise EstimateError("every belief is one half, so nothing tells how many labels are wrong")
    if annotator.min() < 0 or not (count := np.bincount(annotator)).all():
        raise EstimateError("some annotator has no label", hint="number them from 0 without gaps")
    return count
