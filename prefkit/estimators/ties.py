"""Models of comparisons that may end in a tie: from a strength difference to three probabilities.

Two conventions of the tie parameter go round. Here Davidson's is the one in which win, loss and tie are as exp(d / 2),
exp(-d / 2) and nu, and Rao and Kupper's is kappa with P(win) = logistic(d - ln kappa). Work on DPO with ties (2024)
writes nu for half of our nu, and nu for kappa: its nu_D = 1 is our nu = 2, its nu_RK = 3 our kappa = 3. Both make a tie
of equals as probable as not.
"""

from typing import NamedTuple

import numpy as np

from prefkit.estimators.preference import logistic

__all__ = ["Outcomes", "davidson", "rao_kupper"]


class Outcomes(NamedTuple):
    """Probabilities of the three ends of a comparison, each of the shape of the strength difference."""

    win: np.ndarray
    lose: np.ndarray
    tie: np.ndarray


def davidson(gap: np.ndarray, nu: float) -> Outcomes:
    """Return the outcomes at a strength difference in nats. `nu` is at least 0; at 0 there are no ties.

    Source: Davidson (1970), JASA 65, in the symmetric form exp(d / 2) : exp(-d / 2) : nu.
    """
    half = gap / 2
    top = np.abs(half)
    win, lose, tie = np.exp(half - top), np.exp(-half - top), nu * np.exp(-top)
    total = win + lose + tie
    return Outcomes(win / total, lose / total, tie / total)


def rao_kupper(gap: np.ndarray, kappa: float) -> Outcomes:
    """Return the outcomes at a strength difference in nats. `kappa` is at least 1; at 1 there are no ties.

    Source: Rao and Kupper (1967), JASA 62.
    """
    win, lose = logistic(gap - np.log(kappa)), logistic(-gap - np.log(kappa))
    return Outcomes(win, lose, (kappa**2 - 1) * win * lose)
