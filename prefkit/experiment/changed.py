"""Update sparsity: what share of a model's weights training left as they were, and whether two runs changed the same ones.

Counted over every weight, embeddings included, in the number format they are stored in and as bfloat16, since that format alone
hides small steps: figures in different formats are not the same figure. Which weights changed is kept for a sample spread evenly
over each matrix, enough to see whether two runs agree more than chance.

Source: Mukherjee et al. (2025), Reinforcement Learning Finetunes Small Subnetworks, arXiv 2505.11711.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["TOLERANCE", "Changed", "changed", "overlap"]

TOLERANCE = 1e-5
"""Absolute, as in the paper."""
_SAMPLED = 1 << 22
"""Weights whose change is remembered."""


class Changed(NamedTuple):
    """How much of a model is as it was."""

    same: float
    """Share of weights that are exactly as they were, float32."""
    within: float
    """Share that moved by at most the tolerance, float32."""
    half: float
    """Share that is the same once both are rounded to bfloat16."""
    sample: np.ndarray
    """Which of the sampled weights differ as bfloat16: bool [sampled]. The same weights for every run of a model."""


def changed(after: "PreTrainedModel", before: "PreTrainedModel") -> Changed:
    """Compare a trained model with the one it started from, matrix by matrix."""
    import torch

    were, total = dict(before.named_parameters()), 0
    counts = np.zeros(3)
    step = max(1, sum(weight.numel() for weight in were.values()) // _SAMPLED)
    kept = []
    with torch.no_grad():
        for name, now in after.named_parameters():
            then = were[name].to(now.device)
            halves = now.bfloat16() == then.bfloat16()
            gap = (now - then).abs()
            counts += [float((gap == 0).sum()), float((gap <= TOLERANCE).sum()), float(halves.sum())]
            total += now.numel()
            kept.append(~halves.flatten()[::step].cpu().numpy())
    same, within, half = (counts / total).tolist()
    return Changed(same, within, half, np.concatenate(kept))


def overlap(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return the share of the weights that `one` changed which `other` changed too, and what chance would give.

    Both bool [sampled]. NaN where nothing changed.
    """
    if not one.any():
        return float("nan"), float("nan")
    return float((one & other).sum() / one.sum()), float(other.mean())
