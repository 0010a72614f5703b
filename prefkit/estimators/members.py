"""What several scorers, or one that searched, say of a pair: strength, agreement, and labels that stay cautious.

Source: Secrets of RLHF in Large Language Models II (2024) for strengths of preference by an ensemble; MCTS-DPO (2024)
for labels from visits.
"""

from typing import Literal, NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = ["Strengths", "strengths", "visit_label"]


class Strengths(NamedTuple):
    """What an ensemble says of each pair. Every array is float64 [pairs], NaN where a member gave no number."""

    mean: np.ndarray
    """By how much chosen is better, on the mean."""
    std: np.ndarray
    """How far the members are apart (n - 1)."""
    agree: np.ndarray
    """Share of members that find chosen better; one that finds both even counts half."""
    p: np.ndarray
    """Probability that chosen is better."""


def strengths(
    gaps: np.ndarray, temperature: float = 1.0, p: Literal["mean-sigmoid", "sigmoid-mean"] = "mean-sigmoid"
) -> Strengths:
    """Return mean, spread and agreement of the members' score differences, float64 [pairs, members].

    The mean of their probabilities lies nearer to one half than the probability at the mean difference: doubt
    counts in it.
    """
    whole = np.isfinite(gaps).all(axis=1)
    known = np.where(whole[:, None], gaps, 0.0)
    # members that all say the same are 0 apart, whatever their mean was rounded to
    alike = (known == known[:, :1]).all(axis=1)
    mean, apart = known.mean(axis=1), np.where(alike, 0.0, known.std(axis=1, ddof=1))
    agree = (known > 0).mean(axis=1) + (known == 0).mean(axis=1) / 2
    told = logistic(known / temperature).mean(axis=1) if p == "mean-sigmoid" else logistic(mean / temperature)
    return Strengths(*(np.where(whole, each, np.nan) for each in (mean, apart, agree, told)))


def visit_label(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return the probability that chosen is better, from how often a tree search went either way; at least one half.

    1 / (1 + rejected / max(1, chosen)): a search that went more often to the response it valued less leaves no opinion.
    NaN where a count is missing or negative.
    """
    with np.errstate(invalid="ignore"):
        sane = np.isfinite(chosen) & np.isfinite(rejected) & (chosen >= 0) & (rejected >= 0)
        confidence = 1 / (1 + np.where(sane, rejected, 0.0) / np.maximum(np.where(sane, chosen, 1.0), 1.0))
    told: np.ndarray = np.where(sane, np.maximum(confidence, 0.5), np.nan)
    return told
