"""The optimizer: AdamW, and how its learning rate rises and falls."""

from __future__ import annotations

from math import cos, pi
from typing import TYPE_CHECKING

from prefkit.train.forward import Task
from prefkit.train.settings import TrainSettings

if TYPE_CHECKING:
    import torch

__all__ = ["learning_rate", "make_optimizer"]


def make_optimizer(task: Task, settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only."""
    import torch

    trained = [weight for weight in task.model.parameters() if weight.requires_grad]
    trained += list(task.heads.values())
    groups = [
        {"params": [weight for weight in trained if weight.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [weight for weight in trained if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Return the rate of a step: up over the warm-up, then constant or down towards zero."""
    rising = round(settings.warmup * total)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    factor = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + cos(pi * done)) / 2}[settings.schedule]
    return settings.learning_rate * factor
