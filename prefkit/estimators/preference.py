"""Preference probabilities: from score differences and votes, with noise added and taken away, and with length out.

Every function is elementwise on float64 arrays unless it says otherwise. NaN is missing and stays NaN.
"""

import numpy as np

__all__ = ["denoise", "length_slope", "logistic", "smooth", "spread", "vote_share"]


def logistic(margin: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-margin)) without overflow at any margin."""
    small = np.exp(-np.abs(margin))
    probability: np.ndarray = np.where(margin >= 0, 1.0, small) / (1.0 + small)
    return probability


def vote_share(wins: np.ndarray, ties: np.ndarray, losses: np.ndarray, pseudo: float = 0.0) -> np.ndarray:
    """Return the share of votes for chosen, ties counting half: (w + t/2 + s) / (n + 2s); NaN without votes.

    `pseudo` is s, votes made up for either side, so that few votes do not make a certainty.
    """
    total = wins + ties + losses
    with np.errstate(invalid="ignore"):
        share = (wins + ties / 2 + pseudo) / (total + 2 * pseudo)
    result: np.ndarray = np.where(total > 0, share, np.nan)
    return result


def smooth(p: np.ndarray, rate: float | np.ndarray) -> np.ndarray:
    """Return what p is observed as when a share `rate` of labels is flipped at random: (1 - 2 rate) p + rate."""
    return (1 - 2 * rate) * p + rate


def denoise(p: np.ndarray, rate: float) -> np.ndarray:
    """Undo `smooth`, clipped to [0, 1]. `rate` is below one half."""
    clipped: np.ndarray = np.clip((p - rate) / (1 - 2 * rate), 0.0, 1.0)
    return clipped


def length_slope(margin: np.ndarray, length_gap: np.ndarray) -> float:
    """Return the least-squares slope, without intercept, of margins on length differences; 0 if those are all 0.

    No intercept, since a pair and its mirror image must give the same slope. Rows with NaN are left out.
    """
    there = np.isfinite(margin) & np.isfinite(length_gap)
    squares = float(np.square(length_gap[there]).sum())
    return float((margin[there] * length_gap[there]).sum()) / squares if squares else 0.0


def spread(margin: np.ndarray) -> float:
    """Return the standard deviation of margins over the pairs and their mirror images; 1 if every margin is 0.

    That is the root mean square: with both directions of every pair the mean is 0, so that the spread does not
    depend on which side happens to be stored as chosen. Rows with NaN are left out.
    """
    there = margin[np.isfinite(margin)]
    if not there.any():
        return 1.0
    with np.errstate(over="ignore", under="ignore"):
        told = float(np.sqrt(np.square(there).mean()))
    if 0 < told < np.inf:
        return told
    largest = float(np.abs(there).max())  # squares of tiny or huge numbers are 0 or infinite
    return largest * float(np.sqrt(np.square(there / largest).mean()))
