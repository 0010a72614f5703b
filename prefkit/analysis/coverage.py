"""Coverage: how far responses are the policy's own, and how much of what it would say they cover.

Where the best responses are unlikely under the reference, methods that sample from the policy win; where reward and likelihood
peak together, plain offline data is enough. No one number explains that gap, so there are several.

Ratios of whole sequences explode with length: read the figures per token beside them. They mean nothing for log-probs of two
tokenizers, and are of the distribution that was really sampled from, temperature and top-p included.

Sources: Tajwar et al. (2024), ICML; Song et al. (2024), NeurIPS (HyPO); k1 and k3: Schulman (2020), Approximating KL divergence.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Coverage", "Policy", "best_rank", "coverage", "on_policy"]


class Policy(NamedTuple):
    """How far one response is the policy's own."""

    mean: float
    """Mean log-prob a token under the policy, nats."""
    perplexity: float
    log_ratio: float
    """Summed log-prob under the policy less that under the sampler."""
    k1: float
    """Mean of ln sampler - ln policy a token: an estimate of their divergence, of either sign."""
    k3: float
    """Mean of e^d - 1 - d with d = ln policy - ln sampler a token: never below 0."""


class Coverage(NamedTuple):
    """How well samples of one distribution stand for another, from the log-ratio of each response."""

    effective: float
    """Effective sample size (sum w)^2 / sum w^2, w being the ratio: from 1 to the number of responses."""
    share: float
    """That over the number of responses."""
    largest: float
    """ln of the largest ratio."""
    within: float
    """Share of ratios of at most `bound`."""
    chi_square: float
    """mean w^2 / (mean w)^2: 1 where all ratios are equal."""


def on_policy(policy: np.ndarray, sampler: np.ndarray) -> Policy:
    """Compare the log-probs of one response's tokens, nats [tokens], under a policy and under what sampled it."""
    gap = policy - sampler
    mean = float(policy.mean())
    return Policy(
        mean, float(np.exp(-mean)), float(gap.sum()), float(-gap.mean()), float((np.expm1(gap) - gap).mean())
    )


def coverage(log_ratio: np.ndarray, bound: float = 2.0) -> Coverage | None:
    """Return how well responses cover, from ln policy - ln sampler of each: float64 [responses]; None without any.

    Worked out from the logs, less the largest, so nothing overflows. NaN is left out.
    """
    known = log_ratio[np.isfinite(log_ratio)]
    if not len(known):
        return None
    weight = np.exp(known - known.max())
    square = float((weight**2).mean()) / float(weight.mean()) ** 2
    return Coverage(
        len(known) / square,
        1 / square,
        float(known.max()),
        float((known <= np.log(bound) + 1e-12).mean()),
        square,
    )


def best_rank(score: np.ndarray, logp: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return the place under the reference of each prompt's best response, 0 for the likeliest: int64 [prompts].

    Shapes: all [responses]; `prompt` int64 from 0. Rows without a score or a log-prob are left out; a prompt without any has -1.
    Of equals the first counts as best, and as likelier.
    """
    rows = np.flatnonzero(np.isfinite(score) & np.isfinite(logp))
    found: np.ndarray = np.full(int(prompt.max(initial=-1)) + 1, -1, np.int64)
    by_logp = rows[np.lexsort((-logp[rows], prompt[rows]))]
    sizes = np.bincount(prompt[rows], minlength=len(found))
    place = np.arange(len(by_logp)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.empty(len(score), np.int64)
    places[by_logp] = place
    by_score = rows[np.lexsort((-score[rows], prompt[rows]))]
    first = by_score[np.append(True, prompt[by_score][1:] != prompt[by_score][:-1])[: len(by_score)]]
    found[prompt[first]] = places[first]
    return found
