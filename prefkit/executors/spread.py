"""Spread: what a global stage does shard by shard, as tasks of its cluster.

A global stage is one task, on a node with memory for it. What it has others do (`prefkit.threads.Apart`: sketches of
texts, rows made whole and filed) are tasks that it hands over itself; while it waits for them, Ray lends its processor
to them. They find files by their path, so this is for a store that is a folder.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prefkit.executors.ray_cluster import got
from prefkit.executors.workers import keep_memory

__all__ = ["spread"]

_AHEAD = 2
"""Tasks handed over for each processor of the cluster."""


def spread(function: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield what the function returns for each task, in order. Ray makes those anew whose worker or node is gone."""
    import ray

    call = ray.remote(_called).options(num_cpus=1, max_retries=-1, name=f"prefkit {function.__name__}")
    most = _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    ahead = deque[Any]()
    try:
        for task in tasks:
            ahead.append(call.remote(function, task))
            if len(ahead) > most:
                yield got(ahead.popleft())
        while ahead:
            yield got(ahead.popleft())
    finally:
        for reference in ahead:
            ray.cancel(reference)
        ray.wait(list(ahead), num_returns=len(ahead)) if ahead else None


def _called(function: Callable[..., Any], task: tuple[Any, ...]) -> Any:
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read when polars first works
    keep_memory()
    return function(*task)
