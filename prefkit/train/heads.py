"""Heads: the trained matrices beside a model: classifiers that extras ask for, and one output head per dimension."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prefkit.objectives import Objective
from prefkit.train.forward import HEADS
from prefkit.train.logps import head_of

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["make_heads", "merged_heads"]


def make_heads(objective: Objective, model: PreTrainedModel, seed: int) -> dict[str, Tensor]:
    """Return the matrices that an objective trains beside the model, as they are before the first step."""
    import torch

    head = head_of(model).detach()
    found = {
        name: torch.zeros(rows, head.shape[1], device=head.device, requires_grad=True)
        for extra in objective.extras
        for name, rows in extra.heads().items()
    }
    if objective.heads is not None:
        draws = torch.Generator().manual_seed(seed)
        shape = (len(objective.heads.dimensions), *head.shape)
        noise = torch.randn(shape, generator=draws).to(head.device) * objective.heads.noise
        found[HEADS] = (head.float() + noise).requires_grad_()
    return found


@contextmanager
def merged_heads(objective: Objective, model: PreTrainedModel, heads: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the model, for as long as it is saved, the one output head that decodes as the ensemble of all does."""
    import torch

    if objective.heads is None:
        yield
        return
    shares = torch.tensor(objective.heads.mixture(), device=heads[HEADS].device)
    merged = torch.einsum("d,dvh->vh", shares, heads[HEADS].detach())
    output, tied = model.get_output_embeddings(), model.config.tie_word_embeddings
    before = output.weight
    model.config.tie_word_embeddings = False
    output.weight = torch.nn.Parameter(merged.to(before.dtype))
    try:
        yield
    finally:
        output.weight, model.config.tie_word_embeddings = before, tied
