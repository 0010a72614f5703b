"""Ranks: one training run on several devices, each served by a process that `torchrun` starts.

FSDP2 keeps a share of each weight, its gradient and its moments on every rank; the micro-batches of a step are dealt to
the ranks, and what they say of their rows is put together again. So a step is the same step, whoever computes it, but
for the order of sums. Only rank 0 writes. Everything outside the steps (preparing, evaluating, saving) is done on a
network that is whole.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prefkit.errors import TrainError
from prefkit.objectives import Objective

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

__all__ = ["Ranks", "copy_into", "joined", "shard", "whole"]

T = TypeVar("T")
_PATIENCE = timedelta(hours=12)
"""How long ranks wait for rank 0, which may build a dataset or sample held-out prompts meanwhile."""


def _plainly(call: Callable[[], T]) -> T:
    return call()


class Ranks(NamedTuple):
    """Which of the processes this one is."""

    rank: int = 0
    size: int = 1
    local: int = 0
    """Which device of its machine it has."""
    enter: Callable[[Callable[[], T]], T] = _plainly
    """Calls what reads the network's weights, with those of the root gathered."""

    def gather(self, mine: T) -> list[T]:
        """Return what every rank has, in their order. Small things only: they go through the CPU."""
        if self.size == 1:
            return [mine]
        import torch.distributed as dist

        found: list[T | None] = [None] * self.size
        dist.all_gather_object(found, mine)
        return found  # type: ignore[return-value]

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.gather(None)


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the other processes of a `torchrun`, for as long as the context lasts; alone without one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    import torch
    import torch.distributed as dist

    ranks = Ranks(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    if dist.is_initialized():
        yield ranks
        return
    gpu = torch.cuda.is_available() and device != "cpu"
    if gpu:
        torch.cuda.set_device(ranks.local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", timeout=_PATIENCE)
    try:
        yield ranks
    finally:
        gc.collect()  # a network in a cycle keeps the group, whose threads must end before the interpreter does
        dist.destroy_process_group()
        gc.collect()


def shard(network: PreTrainedModel, objective: Objective, ranks: Ranks) -> Ranks:
    """Spread a network's weights over the ranks, in place. Raises TrainError for what cannot be trained so."""
    if ranks.size == 1:
        return ranks
    if (
        objective.penalty.active
        or objective.heads is not None
        or any(one.heads() for one in objective.extras)
    ):
        what = "the objective has a penalty on gradients or trains heads of its own, which one device must do alone"
        raise TrainError(what, where="train: objective", hint="train without torchrun")
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    class Root(torch.nn.Module):
        """What holds the network, so that anything may be computed from its weights while they are gathered."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, call: Callable[[], T]) -> T:
            return call()

    mesh, root = init_device_mesh(network.device.type, (ranks.size,)), Root()
    layers = set(network._no_split_modules or ())  # noqa: SLF001 - where transformers says what a layer is
    for module in list(network.modules()):
        if type(module).__name__ in layers:
            fully_shard(module, mesh=mesh)
    fully_shard(root, mesh=mesh)
    return ranks._replace(enter=root)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor that may be spread over the ranks. Every rank must ask."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def copy_into(tensor: Tensor, value: Tensor) -> None:
    """Give a tensor that may be spread over the ranks a value that every rank has whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if isinstance(tensor, DTensor):
        value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
    tensor.copy_(value)
