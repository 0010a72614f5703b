"""Trackers: the metrics of each step sent on to somebody else's dashboard. `metrics.jsonl` stays the record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefkit.errors import TrainError

__all__ = ["Tracker", "track"]

Tracker = Callable[[Mapping[str, float]], None]
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "trackio": "trackio"}


@contextmanager
def track(kind: str | None, out: Path, settings: Mapping[str, Any]) -> Iterator[Tracker]:
    """Give what sends a step's metrics to a tracker; nothing if `kind` is None.

    Keys come from the tracker's own environment variables. Raises TrainError where its package is missing.
    """
    if kind is None:
        yield lambda _: None
        return
    try:
        if kind == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            writer = SummaryWriter(str(out / "tensorboard"))
            try:
                yield lambda metrics: _write(writer, metrics)
            finally:
                writer.close()
            return
        if kind == "wandb":
            import wandb as package
        else:
            import trackio as package
    except ImportError as error:
        raise TrainError(
            f"`--log-to {kind}` needs its package", hint=f"pip install {_PACKAGES[kind]}"
        ) from error
    run = package.init(project="prefkit", name=out.name, config=dict(settings))
    try:
        yield lambda metrics: run.log(dict(metrics))
    finally:
        run.finish()


def _write(writer: Any, metrics: Mapping[str, float]) -> None:
    for name, value in metrics.items():
        writer.add_scalar(name, value, int(metrics["step"]))
