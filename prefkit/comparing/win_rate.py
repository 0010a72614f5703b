"""Win rate: how often one arm's answer to a prompt is better than another's, every sample of one against every of the other.

A prompt's value is a share in [0, 1], ties counting one half; its mean is the win rate, and twice the share less one is a
difference in [-1, 1], which intervals and sequential tests take.
"""

import numpy as np

__all__ = ["head_to_head", "signed"]


def head_to_head(ours: np.ndarray, theirs: np.ndarray, band: float = 0.0) -> np.ndarray:
    """Return the share of sample pairs in which ours scores higher; scores no further apart than `band` are a tie.

    Shapes: [..., prompts, samples], the samples of both may differ in number; NaN is left out, and a prompt without a score on
    either side is NaN. Returns float64 [..., prompts].
    """
    gap = ours[..., :, None] - theirs[..., None, :]
    with np.errstate(invalid="ignore"):
        won = np.where(np.abs(gap) <= band, 0.5, (gap > 0).astype(np.float64))
        known = ~np.isnan(gap)
        told: np.ndarray = (won * known).sum(axis=(-2, -1)) / known.sum(axis=(-2, -1))
    return told


def signed(share: np.ndarray) -> np.ndarray:
    """Return 2 share - 1: above 0 we win more than we lose."""
    told: np.ndarray = 2 * share - 1
    return told
