"""Keys of steps and parts: one function each, shared by the planner and the runner, so that they cannot disagree."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from prefkit import sources
from prefkit.engines import Model
from prefkit.engines.placement import model_fingerprint
from prefkit.identity import hash_json, step_key
from prefkit.sources import Source
from prefkit.stage import Stage
from prefkit.store import Store

__all__ = ["faked", "models_in", "source_key", "stage_key"]


def source_key(data: Sequence[Source], folder: Path, store: Store) -> str:
    """Return where the source step is filed: what is read, by content, and how."""
    cache = store.root / "stat"

    def digest(ref: str) -> str:
        return store.resolve(ref).digest

    read = [[sources.portable(source), sources.identity(source, folder, cache, digest)] for source in data]
    return hash_json({"stage": "data", "version": sources.VERSION, "read": read})


def stage_key(
    stage: Stage, seed: int, inputs: Sequence[str], faked: Collection[str] = (), folder: Path = Path()
) -> str:
    """Return where a step (inputs: one digest) or a part (inputs: its shards' digests) is filed.

    `faked` are ids of models that the fake engine stands in for: the one placement that is part of the identity, since
    its answers are not the model's. Paths in settings are relative to `folder`.
    """
    local = {_weights(model, faked) for model in models_in(stage)}
    models = sorted(weights for weights in local if weights is not None)
    return step_key(stage, seed, inputs, models, stage.files(folder))


def faked(models: Mapping[str, Model], engines: Mapping[str, str]) -> frozenset[str]:
    """Return the ids of the models that `--engine NAME=fake` places on the fake engine."""
    named = ((name, model.served_as) for name, model in models.items())
    return frozenset(id_ for name, id_ in named if "fake" in (engines.get(name), engines.get(id_)))


def _weights(model: Model, fakes: Collection[str]) -> str | None:
    return f"fake:{model.served_as}" if model.served_as in fakes else model_fingerprint(model)


def models_in(config: BaseModel) -> Iterator[Model]:
    """Yield every model a config names, however deep."""
    for name in type(config).model_fields:
        yield from _models(getattr(config, name))


def _models(value: Any) -> Iterator[Model]:
    if isinstance(value, Model):
        yield value
    elif isinstance(value, BaseModel):
        yield from models_in(value)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _models(item)
    elif isinstance(value, dict):
        yield from _models(list(value.values()))
