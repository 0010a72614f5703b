"""Checkpoints: everything the next step depends on, and nothing that can run code.

The order of the pairs and the draws of dropout are pure functions of the seed and the step, so what has to be kept is
the trained weights, the optimizer's moments, what the objective has learned, and the number of steps done. They are
safetensors and JSON, written beside the last checkpoint and renamed over it: a run killed at any moment goes on from a
whole one, with the same losses to the bit on a CPU. Weights are kept whole, whatever number of ranks they came from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prefkit.errors import TrainError
from prefkit.train.forward import Task
from prefkit.train.ranks import copy_into, whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Progress", "forget", "restore", "save", "weights_of", "writing"]

_WEIGHTS, _MOMENTS, _STATE, _FACTS = (
    "weights.safetensors",
    "optimizer.safetensors",
    "state.safetensors",
    "checkpoint.json",
)


class Progress(NamedTuple):
    """How far a run has come."""

    steps: int = 0
    """Optimizer steps done."""
    reliability: np.ndarray = np.zeros(0)
    """[annotators] how far each is believed; empty unless the labels keep it."""
    columns: Mapping[str, np.ndarray] = {}
    """Columns that training itself has written: reference log-probs of the policy that the last phase left."""


def save(folder: Path, task: Task, optimizer: torch.optim.Optimizer, progress: Progress, key: str) -> None:
    """Write a checkpoint atomically. `key` is the identity of the run; only the same run may go on from it."""
    from safetensors.numpy import save_file as save_arrays
    from safetensors.torch import save_file

    weights, moments = weights_of(task), _moments(task, optimizer)
    if task.ranks.rank:
        return
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    shutil.rmtree(fresh, ignore_errors=True)
    with writing(folder):
        fresh.mkdir(parents=True)
        save_file(weights, fresh / _WEIGHTS)
        save_file(moments, fresh / _MOMENTS)
        save_arrays({"reliability": progress.reliability, **progress.columns}, fresh / _STATE)
        (fresh / _FACTS).write_text(json.dumps({"steps": progress.steps, "key": key}), encoding="utf-8")
    if folder.exists():  # else a run was killed below, and the old one is the last that is whole
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path, task: Task, optimizer: torch.optim.Optimizer, key: str) -> Progress:
    """Load the last whole checkpoint into the task's weights and the optimizer; no steps where there is none.

    Raises TrainError if it belongs to a run with other settings, pairs or model.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.numpy import load_file as load_arrays
    from safetensors.torch import load_file

    kept = next(
        (one for one in (folder, folder.with_name(folder.name + ".old")) if (one / _FACTS).is_file()), None
    )
    if kept is None:
        return Progress()
    try:
        facts = json.loads((kept / _FACTS).read_bytes())
        weights, moments = load_file(kept / _WEIGHTS), load_file(kept / _MOMENTS)
        state = load_arrays(kept / _STATE)
        done, owner = int(facts["steps"]), facts["key"]
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        what = f"the checkpoint cannot be read: {str(error) or type(error).__name__}"
        raise TrainError(what, where=str(kept), hint="delete this folder to begin from the start") from error
    if owner != key:
        what = "the checkpoint in the output folder belongs to another run: other settings, pairs or model"
        raise TrainError(what, where=str(kept), hint="choose another output folder, or delete this one")
    with torch.no_grad():
        for name, weight in _trained(task):
            copy_into(weight, weights[name])
            for part in ("step", "exp_avg", "exp_avg_sq"):
                if f"{part}/{name}" in moments:  # a weight that got no gradient has none
                    held = (
                        torch.zeros((), device=weight.device) if part == "step" else torch.empty_like(weight)
                    )
                    copy_into(held, moments[f"{part}/{name}"])
                    optimizer.state[weight][part] = held
    return Progress(done, state.pop("reliability"), state)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say clearly what could not be written. safetensors has an error of its own for a full disk."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "free space; the last whole checkpoint is kept, so the same command goes on from there"
        raise TrainError(f"cannot write: {reason}", where=str(path), hint=hint) from error


def weights_of(task: Task) -> dict[str, Tensor]:
    """Return every trained weight, whole, by name. Every rank must ask; all but the first get nothing."""
    return _first(task, ((name, weight.detach()) for name, weight in _trained(task)))


def _first(task: Task, named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    alone = task.ranks.size == 1
    found = {}
    for name, value in named:
        gathered = whole(value).contiguous()
        if task.ranks.rank == 0:
            found[name] = gathered if alone else gathered.cpu()
    return found


def _trained(task: Task) -> list[tuple[str, Tensor]]:
    named = [(name, weight) for name, weight in task.model.named_parameters() if weight.requires_grad]
    return [*named, *((f"head/{name}", weight) for name, weight in task.heads.items())]


def _moments(task: Task, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    named = (
        (f"{part}/{name}", value)
        for name, weight in _trained(task)
        for part, value in optimizer.state[weight].items()
    )
    return _first(task, named)


def forget(folder: Path) -> None:
    """Remove a checkpoint and whatever a killed run left beside it."""
    for name in ("", ".old", ".new"):
        shutil.rmtree(folder.with_name(folder.name + name), ignore_errors=True)
