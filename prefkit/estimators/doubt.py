"""Doubt: what in the votes speaks against a label model that converged.

A label model believes in its own answer, whichever side it is on: turning all labels and all annotators round explains
the votes as well. Three things can be measured. How many annotators look worse than chance. How far votes are from
independent given the answer: where annotators share mistakes, the votes on an item swing together, by more than the
model allows (where all copy *one* annotator they do not: its votes then are what the model takes for the truth). And,
if some labels are known for certain, whether the votes alone would have found them as often as the model claims.
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.crowd import Crowd

__all__ = ["Doubt", "doubt"]

_SWING = 3.0
_SIGMAS = 3.0


class Doubt(NamedTuple):
    """Reasons to doubt a solution; `warning` is None where none is strong."""

    below_chance: float
    """Share of annotators whose mean accuracy over the classes is below one in the number of classes."""
    swing: float
    """Variance of the evidence on an item over what independent votes would give: about 1 if they are."""
    known_right: float
    """Share of the known labels that the votes alone find; NaN without any."""
    known_claimed: float
    """What the model says that share should be; NaN without any."""
    warning: str | None


def doubt(
    crowd: Crowd, confusion: np.ndarray, prior: np.ndarray, posterior: np.ndarray, known: np.ndarray
) -> Doubt:
    """Measure what speaks against a solution.

    Shapes: `confusion` [matrices, classes, classes]; `prior` [classes]; `posterior` [items, classes], of the votes
    alone; `known` [items], a class or -1. The swing warns above 3: planted independent crowds have 0.5 to 1.4, people
    who judge the same pairs 0.95 to 1.01 (three votes a pair tell little), 65 variants of six judge models 10 to 12.
    """
    accuracy = confusion.diagonal(axis1=1, axis2=2).mean(axis=1)[crowd.group]
    speaks = crowd.total.reshape(-1, crowd.classes).sum(axis=1)[crowd.group] > 0
    below = float((accuracy[speaks] < 1 / crowd.classes - 1e-9).mean())
    swing = _swing(crowd, confusion, prior, posterior)
    there = np.flatnonzero(known >= 0)
    right = posterior[there].argmax(axis=1) == known[there]
    claimed = posterior[there].max(axis=1)
    found = Doubt(below, swing, _mean(right), _mean(claimed), None)
    return found._replace(warning=_warning(found, right, claimed))


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _warning(found: Doubt, right: np.ndarray, claimed: np.ndarray) -> str | None:
    if len(right):
        short = float(claimed.sum() - right.sum())
        # Add-one: even a model that is sure of every label may miss one.
        spread = float(np.sqrt((claimed * (1 - claimed)).sum() + 1.0))
        if short > _SIGMAS * spread:
            side = "it is on the wrong side" if found.known_right <= 0.5 else "posteriors are too sure"
            return (
                f"the votes find {found.known_right:.0%} of the {len(right)} known labels where the model claims"
                f" {found.known_claimed:.0%}: annotators share mistakes, and {side}"
            )
    if found.below_chance > 0.5:
        return f"{found.below_chance:.0%} of annotators look worse than chance: the solution may be flipped"
    if found.swing > _SWING and not len(right):
        return (
            f"votes on an item swing together, {found.swing:.0f} times as much as independent ones: posteriors are"
            " too sure, and if most annotators share a mistake the solution is on the wrong side; known labels tell"
        )
    return None


def _swing(crowd: Crowd, confusion: np.ndarray, prior: np.ndarray, posterior: np.ndarray) -> float:
    """Return the mean over items and their classes of (evidence - expected)^2 / variance.

    The evidence for class k is the sum over votes of ln P(l | k) - ln P(l), whose mean and variance given k are known
    if votes are independent.
    """
    total = np.tensordot(prior, confusion, axes=(0, 1))
    squares = weight = 0.0
    for k in range(crowd.classes):
        p = confusion[:, k]
        value = np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(total, 1e-300))
        mean = (p * value).sum(axis=1, keepdims=True)
        variance = (p * value**2).sum(axis=1, keepdims=True) - mean**2
        gap = crowd.sums((value - mean).ravel())
        # A vote that counts w times has w^2 times the variance; `sums` multiplies by w once.
        room = _squared(crowd).sums(np.broadcast_to(variance, value.shape).ravel())
        there = room > 1e-9
        squares += float((posterior[there, k] * gap[there] ** 2 / room[there]).sum())
        weight += float(posterior[there, k].sum())
    return squares / weight if weight else 1.0


def _squared(crowd: Crowd) -> Crowd:
    return crowd if crowd.weight is None else crowd._replace(weight=crowd.weight**2)
