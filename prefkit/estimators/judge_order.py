"""One model of judges and presentation orders, with ties: who to believe in which order, and what to ask next.

A judge who leans to the answer shown first is two annotators in one: reliable where the better answer stands first, less
so where it stands second. So every judge has one confusion matrix in the frame that the judge saw (first, tie, second),
and the order of a vote says how that frame lies on the pair (left, tie, right). Left and right themselves are treated
alike, since which answer is stored on which side means nothing: a judge's error in one order is the mirror image of the
error in the other. Ties are a class of what is true, not only of what is said: a pair on which everybody follows the
position is a tie, and not one half of a certainty.
"""

from typing import Literal, NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.crowd import read_crowd
from prefkit.estimators.dawid_skene import fit_tied
from prefkit.estimators.doubt import Doubt

__all__ = [
    "LEFT",
    "LEFT_FIRST",
    "RIGHT",
    "RIGHT_FIRST",
    "TIE",
    "UNKNOWN_ORDER",
    "Judges",
    "NextVotes",
    "fit_judges",
    "next_votes",
    "vote_gain",
]

LEFT, TIE, RIGHT = 0, 1, 2
LEFT_FIRST, RIGHT_FIRST, UNKNOWN_ORDER = 0, 1, 2

_MIRROR = np.array([RIGHT, TIE, LEFT])
_ORDERS = 3


class Judges(NamedTuple):
    """What the votes of judges in known orders add up to."""

    posterior: np.ndarray
    """P(left is better), P(tie), P(right is better) of each pair, float64 [pairs, 3]."""
    p_left: np.ndarray
    """P(left is better) plus half of P(tie), float64 [pairs]."""
    seen: np.ndarray
    """P(says l | is k) of each judge in the frame that it sees, float64 [judges, 3 (k), 3 (l)]: the first answer, a tie,
    the second."""
    confusion: np.ndarray
    """The same on the pair, by order, float64 [judges, 3 (orders), 3 (k), 3 (l)]: left first, right first, unknown."""
    reliability: np.ndarray
    """P(right) of each judge where the better answer stands first, where it stands second, and where the order is not
    known, float64 [judges, 3]. NaN where the judge has no vote that tells."""
    position_bias: np.ndarray
    """Reliability with the better answer first, less that with it second, float64 [judges]: above 0 leans to first."""
    prior: np.ndarray
    """float64 [3]."""
    recorded: np.ndarray
    """The label that each pair has, int64 [pairs]."""
    flip: np.ndarray
    """P(the recorded label is not the true one), float64 [pairs]."""
    is_noisy: np.ndarray
    """Whether that is above one half, bool [pairs]."""
    log_likelihood: float
    trace: np.ndarray
    """As of `dawid_skene.Opinions`."""
    doubt: Doubt


class NextVotes(NamedTuple):
    """The vote on each pair that would tell most. Every array is [pairs]."""

    judge: np.ndarray
    """int64."""
    order: np.ndarray
    """LEFT_FIRST or RIGHT_FIRST, int64."""
    gain: np.ndarray
    """Nats of entropy of the posterior that the vote is expected to remove, float64."""


def fit_judges(
    pair: np.ndarray,
    judge: np.ndarray,
    order: np.ndarray,
    verdict: np.ndarray,
    *,
    weight: np.ndarray | None = None,
    recorded: np.ndarray | None = None,
    known: np.ndarray | None = None,
    ties: Literal["true", "said"] = "true",
    smoothing: float = 0.01,
    few: int = 5,
    tolerance: float = 1e-6,
    most_steps: int = 1000,
) -> Judges:
    """Fit every judge's confusion of what it was shown, and what is true of each pair, by EM.

    Shapes: all [votes], integers; `pair` and `judge` from 0 without gaps, `order` LEFT_FIRST, RIGHT_FIRST or
    UNKNOWN_ORDER, `verdict` LEFT, TIE or RIGHT, of the pair and not of what was shown. `recorded` [pairs] is the label
    to suspect; without it, that of most votes (a draw of left and right is recorded as a tie). `weight`, `known`,
    `smoothing`, `few`, `tolerance` and `most_steps` are those of `fit_dawid_skene`; `few` pools judges, not orders.
    Votes of unknown order have a matrix of their own, equal for both sides. With `ties` "said", one answer of every pair
    is better, and a tie is only one of the things that a judge may say of it.
    Raises: EstimateError as `fit_dawid_skene`.
    Source: Dawid and Skene (1979) with the annotator's matrix fixed in the shown frame, ours.
    """
    judge, order, verdict = (np.asarray(one, np.int64) for one in (judge, order, verdict))
    if len(order) and not np.isin(order, (LEFT_FIRST, RIGHT_FIRST, UNKNOWN_ORDER)).all():
        raise EstimateError(f"an order is not among 0 to 2: {order.min()} to {order.max()}")
    crowd = read_crowd(pair, judge, verdict, 3, weight, few, order, _ORDERS)
    possible = np.array([True, ties == "true", True])
    found = fit_tied(crowd, _seen_as_shown, _MIRROR, known, smoothing, tolerance, most_steps, possible)
    confusion = found.confusion
    recorded = _plurality(crowd.shares()) if recorded is None else np.asarray(recorded, np.int64)
    flip = 1 - np.take_along_axis(found.posterior, recorded[:, None], axis=1)[:, 0]
    reliability = _reliability(confusion, judge, order)
    return Judges(
        posterior=found.posterior,
        p_left=found.posterior[:, LEFT] + found.posterior[:, TIE] / 2,
        seen=confusion[:, LEFT_FIRST],
        confusion=confusion,
        reliability=reliability,
        position_bias=reliability[:, 0] - reliability[:, 1],
        prior=found.prior,
        recorded=recorded,
        flip=flip,
        is_noisy=flip > 0.5,
        log_likelihood=found.log_likelihood,
        trace=found.trace,
        doubt=found.doubt,
    )


def vote_gain(posterior: np.ndarray, confusion: np.ndarray) -> np.ndarray:
    """Return the mutual information, in nats, of what is true of an item and what one more annotator says of it.

    Shapes: `posterior` [items, classes]; `confusion` [classes (k), classes (l)], P(says l | is k). Returns [items]. It is
    0 where the posterior is certain, or the annotator says the same whatever is true, and at most the posterior's entropy.
    Source: Lindley (1956), Annals of Mathematical Statistics 27: H(votes) - H(votes | truth).
    """
    said = posterior @ confusion
    blur = -_x_log_x(confusion).sum(axis=1)
    gain: np.ndarray = np.maximum(-_x_log_x(said).sum(axis=1) - posterior @ blur, 0.0)
    return gain


def next_votes(judges: Judges, among: np.ndarray | None = None, price: np.ndarray | None = None) -> NextVotes:
    """Return which judge to ask in which order about each pair, the posterior being what it is, and what that tells.

    `among` names the judges that may be asked, all by default. With `price` [judges] the vote with the most gain for
    its price is taken; `gain` stays in nats. A vote of a judge who spoke already is valued as if it were independent.
    """
    best = np.full(len(judges.posterior), -1.0)
    gain, who, which = best.copy(), np.zeros(len(best), np.int64), np.zeros(len(best), np.int64)
    for judge in range(len(judges.seen)) if among is None else np.asarray(among):
        for order in (LEFT_FIRST, RIGHT_FIRST):
            told = vote_gain(judges.posterior, judges.confusion[judge, order])
            worth = told if price is None else told / price[judge]
            better = worth > best
            best[better], gain[better] = worth[better], told[better]
            who[better], which[better] = judge, order
    return NextVotes(who, which, gain)


def _x_log_x(p: np.ndarray) -> np.ndarray:
    product: np.ndarray = p * np.log(np.maximum(p, 1e-300))
    return product


def _seen_as_shown(counts: np.ndarray) -> np.ndarray:
    """Tie the matrices of a judge's orders, [judges * orders, k, l]: the second is the first's mirror image."""
    by_order = counts.reshape(-1, _ORDERS, 3, 3)
    seen = by_order[:, LEFT_FIRST] + by_order[:, RIGHT_FIRST][:, _MIRROR][:, :, _MIRROR]
    unknown = by_order[:, UNKNOWN_ORDER] + by_order[:, UNKNOWN_ORDER][:, _MIRROR][:, :, _MIRROR]
    tied = np.stack([seen, seen[:, _MIRROR][:, :, _MIRROR], unknown], axis=1)
    rates: np.ndarray = (tied / tied.sum(axis=3, keepdims=True)).reshape(counts.shape)
    return rates


def _reliability(confusion: np.ndarray, judge: np.ndarray, order: np.ndarray) -> np.ndarray:
    known, unknown = confusion[:, LEFT_FIRST], confusion[:, UNKNOWN_ORDER]
    found = np.stack([known[:, LEFT, LEFT], known[:, RIGHT, RIGHT], unknown[:, LEFT, LEFT]], axis=1)
    votes = np.bincount(judge * _ORDERS + order, minlength=len(found) * _ORDERS).reshape(-1, _ORDERS) > 0
    told = np.stack([votes[:, :2].any(axis=1), votes[:, :2].any(axis=1), votes[:, UNKNOWN_ORDER]], axis=1)
    reliability: np.ndarray = np.where(told, found, np.nan)
    return reliability


def _plurality(shares: np.ndarray) -> np.ndarray:
    """Return the side with most votes, a tie where ties lead or the sides draw, the same for a pair and its mirror."""
    left, tie, right = shares.T
    return np.select([(left > right) & (left >= tie), (right > left) & (right >= tie)], [LEFT, RIGHT], TIE)
