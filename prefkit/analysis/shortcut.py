"""Shortcut score: how well the label is told by what needs no reading: length, formatting, refusal, tone.

A small logistic model sees the style of both sides (`prefkit.quality.style`) and nothing else, and is asked about prompts that
it did not see. Its AUC is the chance that it gives a pair as stored a higher score than one turned round: 0.5 if style tells
nothing. What style tells, a reward model can learn instead of what was meant; but longer may also be better, so a high
score is a question and no verdict.
"""

from typing import NamedTuple

import numpy as np

from prefkit.analysis.factors import fitted
from prefkit.statistics.figures import Estimate, Share, length_auc, share

__all__ = ["FOLDS", "Shortcut", "held_out_scores", "shortcut"]

FOLDS = 5
_WORST = 8.0
"""How many standard deviations of a feature count: one odd pair must not decide."""


class Shortcut(NamedTuple):
    """What style alone knows of the label."""

    auc: Estimate
    right: Share
    """Pairs whose stored direction it finds likelier."""
    scores: np.ndarray
    """Its log-odds that chosen is the better side, from a model that did not see the prompt: float64 [pairs]."""


def shortcut(difference: np.ndarray, fold: np.ndarray, groups: np.ndarray, ridge: float = 1.0) -> Shortcut:
    """Measure what style tells. Shapes: `difference` [pairs, features], chosen less rejected; `fold`, `groups` int64 [pairs].

    Pairs of one prompt must be in one fold.
    """
    scores = held_out_scores(difference, fold, ridge)
    return Shortcut(length_auc(scores, groups), share(scores > 0, groups), scores)


def held_out_scores(difference: np.ndarray, fold: np.ndarray, ridge: float = 1.0) -> np.ndarray:
    """Return for each pair the log-odds from a model that was fitted to the other folds: float64 [pairs].

    With one fold alone there is nothing to learn from, and all scores are 0.
    """
    scores: np.ndarray = np.zeros(len(difference))
    for each in np.unique(fold):
        here = fold == each
        train = difference[~here]
        if not len(train):
            continue
        scale = np.sqrt(np.square(train).mean(axis=0))
        scale = np.where(scale > 0, scale, np.inf)  # a feature that was never seen to differ tells nothing
        head = fitted(np.clip(train / scale, -_WORST, _WORST), np.ones(len(train)), ridge)
        scores[here] = np.clip(difference[here] / scale, -_WORST, _WORST) @ head
    return scores
