"""Several rewards, and a router that says from the prompt which of them holds: a mixture that needs no annotators' names.

The probability of a label is the mean of the rewards' probabilities, weighed by the router. No single reward stands
behind it, so a mixture gives probabilities and never margins. Rewards are known only up to their numbers. What a prompt
leaves open, a few labels of the person asking settle: each reward gains or loses by how it did on them.
"""

from typing import NamedTuple

import numpy as np

from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.estimators.regression import log_logistic, log_softmax, logistic_step, softmax_step

__all__ = ["Routed", "fit_routed", "hedge", "mixture_probability", "predict", "route"]


class Routed(NamedTuple):
    """Rewards and the router between them."""

    heads: np.ndarray
    """Linear reward of each head, float64 [heads, dims]."""
    router: np.ndarray
    """float64 [context dims, heads]; softmax(context @ router) is the weight of each head."""
    responsibility: np.ndarray
    """P(the label followed the head), float64 [pairs, heads]."""
    log_likelihood: float
    """Of the labels, nats, without penalties."""
    trace: np.ndarray
    """What each step found, nats: the log-likelihood less the penalties. It never falls."""


def route(router: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Return the weight of each head for each prompt. Shapes: [dims, heads], [prompts, dims]; [prompts, heads]."""
    weight: np.ndarray = np.exp(log_softmax(context @ router))
    return weight


def mixture_probability(weight: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return P(chosen is better), the heads' probabilities weighed by the router. Shapes: [..., heads] both; [...].

    Source: MiCRo (2025), arXiv 2505.24846.
    """
    mixed: np.ndarray = (weight * p).sum(axis=-1)
    return mixed


def hedge(weight: np.ndarray, p: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """Return the weights of heads after seeing labels: each times exp(-rate * log-loss), that is p^rate, normalised.

    Shapes: `weight` [heads]; `p` [labels, heads], each head's probability of the label that was given. At `rate` 1 this
    is Bayes' rule, at 0 nothing changes.
    Source: Hedge (Freund and Schapire 1997), as in MiCRo's second stage.
    """
    with np.errstate(divide="ignore"):
        told = np.log(weight) + rate * np.log(np.maximum(np.atleast_2d(p), 1e-300)).sum(axis=0)
    moved: np.ndarray = np.exp(log_softmax(told))
    return moved


def fit_routed(
    features: np.ndarray,
    context: np.ndarray,
    heads: int = 3,
    *,
    ridge: float = 1.0,
    evenness: float = 0.01,
    restarts: int = 5,
    seed: int = 0,
    tolerance: float = 1e-6,
    most_steps: int = 1000,
) -> Routed:
    """Fit heads and router by EM from several random starts; the likeliest end is kept.

    Shapes: `features` [pairs, dims], features of the winner less those of the loser; `context` [pairs, context dims], of
    the prompt (with a column of ones, if all should share something). `ridge` / 2 times the sum of squared heads and
    router is the first penalty; the second, which keeps a head from dying, is `evenness` times the cross-entropy of each
    row's weights with equal ones. A start stops when a step raises its trace by at most `tolerance` times its size.
    Raises: EstimateError if no start stops in `most_steps`, or if a feature is not finite.
    Source: MiCRo (2025), arXiv 2505.24846, with linear heads; EM derived.
    """
    features, context = np.asarray(features, np.float64), np.asarray(context, np.float64)
    if not len(features) or not (np.isfinite(features).all() and np.isfinite(context).all()):
        raise EstimateError("features and context must be finite and not empty")
    rng = np.random.default_rng(seed)
    ends = []
    for _ in range(1 if heads == 1 else restarts):
        start = rng.dirichlet(np.ones(heads), len(features))
        end = _climb(features, context, start, ridge, evenness, tolerance, most_steps)
        ends += [end] if end is not None else []
    if not ends:
        raise EstimateError(f"no start of the {heads} routed heads converged in {most_steps} steps")
    return max(ends, key=lambda one: float(one.trace[-1]))


def predict(found: Routed, features: np.ndarray, context: np.ndarray) -> np.ndarray:
    """Return P(chosen is better) of further pairs, float64 [pairs]. Shapes: as `fit_routed`."""
    return mixture_probability(route(found.router, context), logistic(features @ found.heads.T))


def _climb(
    features: np.ndarray,
    context: np.ndarray,
    belongs: np.ndarray,
    ridge: float,
    evenness: float,
    tolerance: float,
    most_steps: int,
) -> Routed | None:
    count = belongs.shape[1]
    heads, router = np.zeros((count, features.shape[1])), np.zeros((context.shape[1], count))
    trace: list[float] = []
    for _ in range(most_steps):
        heads = np.stack(
            [
                logistic_step(features, weight, head, ridge)
                for weight, head in zip(belongs.T, heads, strict=True)
            ]
        )
        router = softmax_step(context, belongs + evenness / count, router, ridge)
        gate = log_softmax(context @ router)
        joint = gate + log_logistic(features @ heads.T)
        told = np.logaddexp.reduce(joint, axis=1)
        belongs = np.exp(joint - told[:, None])
        squares = float((heads**2).sum() + (router**2).sum())
        even = evenness / count * float(gate.sum())
        trace.append(float(told.sum()) + even - ridge / 2 * squares)
        if len(trace) > 1 and trace[-1] - trace[-2] <= tolerance * max(1.0, abs(trace[-1])):
            return Routed(heads, router, belongs, float(told.sum()), np.array(trace))
    return None
