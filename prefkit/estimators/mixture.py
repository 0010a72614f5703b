"""Groups of annotators who prefer alike: which group each belongs to, and what each group prefers.

A group is a linear reward on features of a response (its embedding, say); an annotator belongs to one group, and all its
labels count together for which one. Soft EM keeps the doubt about who belongs where; hard EM settles it at every step,
as the original does. Groups are known only up to their numbers, and with few labels an annotator may fit two groups
alike: such annotators are marked. Whether there are groups at all is a question of its own, answered by exchanging the
annotators' names at random.
"""

from typing import Literal, NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.regression import log_logistic, log_softmax, logistic_step

__all__ = [
    "Assignment",
    "Groups",
    "Heterogeneity",
    "Shares",
    "annotator_log_likelihood",
    "assign",
    "fit_groups",
    "fit_shares",
    "group_evidence",
    "heterogeneity",
]


class Assignment(NamedTuple):
    """The likeliest group of each annotator. Every array is [annotators]."""

    group: np.ndarray
    """int64; of equally likely groups the first."""
    gap: np.ndarray
    """Log-likelihood over that of the next group, nats; infinite where there is one group."""
    is_unassigned: np.ndarray
    """Whether that gap is too small to tell."""


class Shares(NamedTuple):
    """How annotators spread over groups whose preferences are given."""

    prior: np.ndarray
    """Share of each group, float64 [groups]."""
    responsibility: np.ndarray
    """P(annotator belongs to the group), float64 [annotators, groups]."""
    trace: np.ndarray
    """Log-likelihood at each step, nats. It never falls."""


class Groups(NamedTuple):
    """Groups and who belongs to them."""

    heads: np.ndarray
    """Linear reward of each group, float64 [groups, dims]; the margin of a pair is its feature difference times it."""
    prior: np.ndarray
    """Share of annotators, float64 [groups]; by the likeliest group under hard EM."""
    responsibility: np.ndarray
    """P(annotator belongs to the group), float64 [annotators, groups]; 0 or 1 under hard EM."""
    assignment: Assignment
    accuracy: np.ndarray
    """Share of the labels of its own annotators that each group's reward orders right, float64 [groups]; NaN if empty."""
    log_likelihood: float
    """Of the labels, nats, without the penalty."""
    trace: np.ndarray
    """What each step found, nats: the log-likelihood less the penalty. It never falls."""


class Heterogeneity(NamedTuple):
    """Whether annotators differ in more than chance."""

    gain: float
    """Held-out log-likelihood of the groups less that of one group, nats per pair."""
    gain_by_chance: np.ndarray
    """The same with the annotators' names exchanged at random, float64 [permutations]."""
    p_value: float
    """Share of exchanges that gain as much, the real one counted."""


def annotator_log_likelihood(margins: np.ndarray, annotator: np.ndarray) -> np.ndarray:
    """Return ln P(all labels of an annotator | group), float64 [annotators, groups].

    Shapes: `margins` [pairs, groups], of the recorded winner over the loser, by each group's reward; `annotator` [pairs].
    """
    told = log_logistic(margins)
    sums = [np.bincount(annotator, told[:, k]) for k in range(told.shape[1])]
    return np.stack(sums, axis=1)


def assign(log_likelihood: np.ndarray, least_gap: float = 1.0) -> Assignment:
    """Give each annotator its likeliest group. Shapes: [annotators, groups]. A gap below `least_gap` nats is no answer.

    Source: hard E-step of MaxMin-RLHF (2024), arXiv 2402.08925; the gap is ours.
    """
    if log_likelihood.shape[1] == 1:
        count = len(log_likelihood)
        return Assignment(np.zeros(count, np.int64), np.full(count, np.inf), np.zeros(count, bool))
    top = np.sort(log_likelihood, axis=1)
    gap = top[:, -1] - top[:, -2]
    return Assignment(log_likelihood.argmax(axis=1), gap, gap < least_gap)


def fit_shares(log_likelihood: np.ndarray, *, tolerance: float = 1e-12, most_steps: int = 100_000) -> Shares:
    """Fit how large groups are, and who belongs where, with their rewards given. Shapes: [annotators, groups].

    Stops when no share moves by more than `tolerance`; the likelihood is concave, so the end does not depend on the start.
    Raises: EstimateError if it does not stop.
    """
    prior = np.full(log_likelihood.shape[1], 1 / log_likelihood.shape[1])
    trace: list[float] = []
    for _ in range(most_steps):
        responsibility, total = _believe(log_likelihood, prior)
        trace.append(total)
        after = responsibility.mean(axis=0)
        moved, prior = float(np.abs(after - prior).max()), after
        if moved <= tolerance:
            return Shares(prior, responsibility, np.array(trace))
    raise EstimateError(f"shares of groups did not converge in {most_steps} steps")


def fit_groups(
    features: np.ndarray,
    annotator: np.ndarray,
    groups: int,
    *,
    rule: Literal["soft", "hard"] = "soft",
    ridge: float = 1.0,
    restarts: int = 5,
    seed: int = 0,
    least_gap: float = 1.0,
    tolerance: float = 1e-6,
    most_steps: int = 500,
) -> Groups:
    """Fit rewards of groups and who belongs where, by EM from several random balanced starts; the likeliest end is kept.

    Shapes: `features` [pairs, dims], features of the winner less those of the loser; `annotator` [pairs], integers from
    0 without gaps. `ridge` / 2 times the sum of squared heads is the penalty. A start stops when a step raises its trace
    by at most `tolerance` times the trace's size.
    Raises: EstimateError if no start stops in `most_steps`, or there are fewer annotators than groups.
    Source: MaxMin-RLHF (2024), arXiv 2402.08925, with a linear head for its reward models; soft EM derived.
    """
    features, annotator = np.asarray(features, np.float64), np.asarray(annotator, np.int64)
    people = _check(features, annotator, groups)
    rng = np.random.default_rng(seed)
    ends = []
    for _ in range(1 if groups == 1 else restarts):
        start = np.eye(groups)[rng.permutation(people) % groups]
        end = _climb(features, annotator, start, rule, ridge, tolerance, most_steps)
        ends += [end] if end is not None else []
    if not ends:
        raise EstimateError(f"no start of the {groups} groups converged in {most_steps} steps")
    best = max(ends, key=lambda one: float(one.trace[-1]))
    margins = features @ best.heads.T
    assignment = assign(annotator_log_likelihood(margins, annotator), least_gap)
    own = assignment.group[annotator]
    right = margins[np.arange(len(own)), own] > 0
    count = np.bincount(own, minlength=groups)
    accuracy = np.where(count > 0, np.bincount(own, right, groups) / np.maximum(count, 1), np.nan)
    return best._replace(assignment=assignment, accuracy=accuracy)


def group_evidence(found: Groups, features: np.ndarray, annotator: np.ndarray) -> float:
    """Return ln P(further labels of the same annotators), nats, each group weighed by who belongs to it."""
    told = annotator_log_likelihood(features @ found.heads.T, annotator)
    belongs = found.responsibility[: len(told)]
    with np.errstate(divide="ignore"):
        return float(np.logaddexp.reduce(told + np.log(belongs), axis=1).sum())


def heterogeneity(
    features: np.ndarray,
    annotator: np.ndarray,
    held_out: np.ndarray,
    *,
    groups: int = 2,
    permutations: int = 19,
    ridge: float = 1.0,
    restarts: int = 3,
    seed: int = 0,
) -> Heterogeneity:
    """Test whether groups predict held-out labels of the same annotators better than one reward does.

    Shapes: as `fit_groups`; `held_out` [pairs], bool; every annotator needs a pair that is not held out. The same is done
    with the annotators of the pairs exchanged at random, which leaves everything but who gave which label.
    """
    rng = np.random.default_rng(seed)
    kept, count = ~held_out, max(int(held_out.sum()), 1)
    one = fit_groups(features[kept], np.zeros(int(kept.sum()), np.int64), 1, ridge=ridge)
    alone = group_evidence(one, features[held_out], np.zeros(count, np.int64))

    def gain(names: np.ndarray) -> float:
        found = fit_groups(features[kept], names[kept], groups, ridge=ridge, restarts=restarts, seed=seed)
        return (group_evidence(found, features[held_out], names[held_out]) - alone) / count

    real = gain(annotator)
    chance = np.array([gain(_exchanged(annotator, held_out, rng)) for _ in range(permutations)])
    return Heterogeneity(real, chance, float((1 + (chance >= real).sum()) / (1 + permutations)))


def _exchanged(annotator: np.ndarray, held_out: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    # Within either part, so that every annotator keeps as many pairs in each as it has.
    names = annotator.copy()
    for part in (held_out, ~held_out):
        names[part] = rng.permutation(annotator[part])
    return names


def _climb(
    features: np.ndarray,
    annotator: np.ndarray,
    start: np.ndarray,
    rule: str,
    ridge: float,
    tolerance: float,
    most_steps: int,
) -> Groups | None:
    belongs, prior = start, start.mean(axis=0)
    heads = np.zeros((start.shape[1], features.shape[1]))
    trace: list[float] = []
    for _ in range(most_steps):
        heads = np.stack(
            [
                logistic_step(features, weight, head, ridge)
                for weight, head in zip(belongs[annotator].T, heads, strict=True)
            ]
        )
        told = annotator_log_likelihood(features @ heads.T, annotator)
        if rule == "soft":
            belongs, total = _believe(told, prior)
        else:
            belongs, total = np.eye(len(heads))[told.argmax(axis=1)], float(told.max(axis=1).sum())
        prior = belongs.mean(axis=0)
        trace.append(total - ridge / 2 * float((heads**2).sum()))
        if len(trace) > 1 and trace[-1] - trace[-2] <= tolerance * max(1.0, abs(trace[-1])):
            nothing = assign(told)
            return Groups(heads, prior, belongs, nothing, prior, total, np.array(trace))
    return None


def _believe(log_likelihood: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, float]:
    with np.errstate(divide="ignore"):
        joint = log_likelihood + np.log(prior)
    return np.exp(log_softmax(joint)), float(np.logaddexp.reduce(joint, axis=1).sum())


def _check(features: np.ndarray, annotator: np.ndarray, groups: int) -> int:
    """Return how many annotators there are."""
    if not len(features) or features.ndim != 2 or not np.isfinite(features).all():
        raise EstimateError("features must be finite, pairs by dimensions, and not empty")
    if len(annotator) != len(features) or annotator.min() < 0 or not (count := np.bincount(annotator)).all():
        raise EstimateError("some annotator has no pair", hint="number them from 0 without gaps")
    if not 1 <= groups <= len(count):
        raise EstimateError(f"{len(count)} annotators cannot be in {groups} groups")
    return len(count)
