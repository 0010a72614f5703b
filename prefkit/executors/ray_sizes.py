"""How large things are on a Ray cluster: pools of actors, their GPUs, and the memory of what takes all rows at once."""

from collections.abc import Mapping
from typing import NamedTuple

from prefkit.engines.placement import Placement
from prefkit.engines.vllm_options import read_options
from prefkit.errors import EngineError, PrefkitError
from prefkit.executors.work import Work
from prefkit.holding import need, widths
from prefkit.keys import models_in
from prefkit.parts import Task

__all__ = ["Bounds", "gpus_of", "is_small", "memory_of", "pool_of", "read_bounds"]

_LITTLE = 1e9
"""Bytes."""


class Bounds(NamedTuple):
    """How many workers a step may have at once."""

    least: int = 1
    most: int | None = None
    """None is as many as the cluster has room for, and one where models are on servers."""


def read_bounds(text: str) -> Bounds:
    """Read `MAX` or `MIN:MAX`. Raises PrefkitError."""
    least, sign, most = text.rpartition(":")
    numbers = [least, most] if sign else [most]
    if not all(number.isdecimal() and number.isascii() for number in numbers):
        raise _no_bounds(text)
    found = Bounds(int(least) if sign else 1, int(most))
    if found.most is None or not 1 <= found.least <= found.most:
        raise _no_bounds(text)
    return found


def pool_of(work: Work, tasks: int, bounds: Bounds, cluster: Mapping[str, float]) -> Bounds:
    """Return how many actors a stage with models has: bounds of a pool, never more than there are tasks."""
    gpus = gpus_of(work, cluster)
    if bounds.most is not None:
        most = bounds.most
    elif all(_is_elsewhere(kind) for kind in _kinds(work)):
        most = 1  # one worker keeps a server as busy as `--concurrency` allows
    else:
        most = int(cluster.get("GPU", 0) // gpus) if gpus else int(cluster.get("CPU", 1))
    most = max(1, min(most, tasks))
    return Bounds(min(bounds.least, most), most)


def gpus_of(work: Work, cluster: Mapping[str, float]) -> int:
    """Return how many GPUs an actor of this stage needs. Raises EngineError for a device by number.

    Models that share an actor share its GPUs, as they do in one process.
    """
    device = work.placement.device
    if device.startswith("cuda:"):
        what = f"device '{device}' names a GPU of one machine, and Ray chooses among those of all"
        raise EngineError(what, where="--device", hint="--device cuda")
    kinds = [kind for kind in _kinds(work) if not _is_elsewhere(kind) and kind != "fake"]
    wanted = device == "cuda" or (device == "auto" and cluster.get("GPU", 0) > 0)
    return max((_devices(kind) for kind in kinds), default=0) if wanted else 0


def memory_of(work: Work, task: Task, largest_node: float) -> int:
    """Return the bytes to ask of Ray for a task that reads all rows: no more than some node has, or it waits forever."""
    return int(min(_held(work, task), largest_node))


def is_small(work: Work, task: Task, few_rows: int) -> bool:
    """Say whether a task reads all rows, and they are so few that this process can do it without noticing."""
    if work.stage.scope() != "global" or sum(shard.rows for shard in task.inputs) > few_rows:
        return False
    return _held(work, task) <= _LITTLE


def _held(work: Work, task: Task) -> int:
    store, shards = work.store, task.inputs
    rows, schema = sum(shard.rows for shard in shards), store.get(shards[0]).schema
    return need(work.stage, rows, schema, widths(store, shards)).bytes


def _kinds(work: Work) -> list[str]:
    """Return the engines that a stage's models are placed on."""
    placed: Placement = work.placement
    names = {model.served_as: name for name, model in work.models.items()}
    asked = [model.served_as for model in models_in(work.stage)]
    return [
        placed.engines.get(names.get(model, model)) or placed.engines.get(model) or "auto" for model in asked
    ]


def _devices(kind: str) -> int:
    name, _, text = kind.partition("?")
    if name != "vllm":
        return 1
    options = read_options(text)
    return options.devices * options.data_parallel


def _is_elsewhere(kind: str) -> bool:
    return kind.startswith(("http://", "https://"))


def _no_bounds(text: str) -> PrefkitError:
    return PrefkitError(f"'{text}' is not MAX or MIN:MAX", where="--ray-workers", hint="--ray-workers 1:8")
