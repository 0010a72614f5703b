"""Accuracy on held-out pairs, from log-probabilities: of the implicit reward, of the ranking, and with length balanced.

A policy can give chosen the higher reward, which is relative to the reference, and still find rejected likelier: most do.
Log-probabilities are sums over the answer's tokens, in nats; every argument is float64 [pairs] or [..., pairs], NaN missing
unless said otherwise, and what is returned is a value a pair, whose mean is the metric: so it goes into
`differences.difference` as it is, [seeds, pairs], with the pairs' prompts as clusters.

Sources: Chen et al. (2024), arXiv 2405.19534; Rafailov et al. (2023), arXiv 2305.18290; calibration in bins of equal
count, Nguyen and O'Connor (2015), arXiv 1508.05154.
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = [
    "Calibration",
    "balance",
    "calibration",
    "flipped",
    "ranking_right",
    "reward_margin",
    "reward_right",
]


class Calibration(NamedTuple):
    """How well the chance that the policy's reward gives is that of the label."""

    brier: float
    """Mean squared distance, 0 to 1."""
    error: float
    """Mean distance of what is said and what is, in bins of equal count."""


def reward_margin(
    chosen: np.ndarray, rejected: np.ndarray, ref_chosen: np.ndarray, ref_rejected: np.ndarray, beta: float
) -> np.ndarray:
    """Return the implicit reward of chosen less that of rejected, nats times beta."""
    told: np.ndarray = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return told


def reward_right(margin: np.ndarray) -> np.ndarray:
    """Return 1 where chosen has the higher reward, one half where both have the same, else 0."""
    told: np.ndarray = np.where(np.isnan(margin), np.nan, (1 + np.sign(margin)) / 2)
    return told


def ranking_right(
    chosen: np.ndarray,
    rejected: np.ndarray,
    chosen_tokens: np.ndarray | None = None,
    rejected_tokens: np.ndarray | None = None,
) -> np.ndarray:
    """Return 1 where the policy finds chosen at least as likely as rejected, else 0; with token counts, per token."""
    one = chosen if chosen_tokens is None else chosen / chosen_tokens
    other = rejected if rejected_tokens is None else rejected / rejected_tokens
    told: np.ndarray = np.where(np.isnan(one - other), np.nan, (one >= other).astype(np.float64))
    return told


def balance(length_gap: np.ndarray) -> np.ndarray:
    """Return weights whose mean is 1, with which pairs whose chosen side is longer count as much as those whose is shorter.

    `length_gap` [pairs] is chosen's length less rejected's; pairs of one length get 0. The mean of weight times rightness is
    the mean of both accuracies. NaN throughout where one kind is missing. The weights are the pairs', not the policy's: the same for
    every arm, so a balanced difference is a mean like any other.
    """
    longer, shorter = length_gap > 0, length_gap < 0
    n, a, b = len(length_gap), int(longer.sum()), int(shorter.sum())
    if not a or not b:
        return np.full(n, np.nan)
    return n / 2 * (longer / a + shorter / b)


def flipped(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return for pairs that were ranked wrong before whether they are right after, NaN for the others: its mean is the rate."""
    told: np.ndarray = np.where(before < 0.5, after, np.nan)
    return told


def calibration(margin: np.ndarray, label: np.ndarray | None = None, bins: int = 10) -> Calibration:
    """Compare logistic(margin) with the label: the share of votes for chosen, 1 unless given. Shapes: [pairs].

    Source of the Brier score: Brier (1950), Monthly Weather Review 78, 1.
    """
    truth = np.ones(len(margin)) if label is None else label
    known = ~np.isnan(margin + truth)
    said, truth = logistic(margin[known]), truth[known]
    if not len(said):
        return Calibration(np.nan, np.nan)
    # Which side is stored first is arbitrary, so every pair stands in its other direction too.
    said, truth = np.append(said, 1 - said), np.append(truth, 1 - truth)
    order = np.argsort(said, kind="stable")
    parts = np.array_split((said - truth)[order], min(bins, len(said)))
    error = sum(abs(float(part.sum())) for part in parts) / len(said)
    return Calibration(float(np.square(said - truth).mean()), error)
