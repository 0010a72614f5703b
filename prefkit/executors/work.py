"""Work: what all tasks of a step share, and what an executor does with it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from prefkit.engines import Engines, Model, Spend
from prefkit.engines.placement import Placement, open_engines
from prefkit.manifest import Part
from prefkit.parts import Task
from prefkit.stage import Stage
from prefkit.store import Store
from prefkit.streaming import Here

__all__ = ["Executor", "Work", "asks_models", "engines_of", "memo_path"]


class Work(NamedTuple):
    """What all tasks of a step share."""

    stage: Stage
    store: Store
    seed: int
    shard_rows: int
    models: Mapping[str, Model]
    """By the recipe's names for them."""
    placement: Placement
    refresh: bool
    """Whether answers that are remembered are asked for again."""
    spend: Spend | None
    """What counts for the whole run; None counts this step apart."""
    here: Here = Here()
    """What parts that are made in this process may use, and whom they tell. An executor need not."""


class Executor(Protocol):
    """Makes the parts of a step."""

    @property
    def jobs(self) -> int:
        """How many processes of this machine may be used for what is not spread further, as reading sources."""
        ...

    def begin(self) -> None:
        """Get ready, while this process reads the source: parts will be asked for soon."""
        ...

    def make(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Yield the part of every task, in any order: parts are known by their keys."""
        ...


def asks_models(stage: Stage) -> bool:
    """Say whether a stage needs engines."""
    return stage.cost().calls > 0


def engines_of(work: Work) -> Engines:
    """Return the engines of a step, remembered in the store's memo; none for a stage that asks no model."""
    if not asks_models(work.stage):
        return Engines()
    memo = memo_path(work.store)
    return open_engines(work.models, work.placement, memo, refresh=work.refresh, spend=work.spend)


def memo_path(store: Store) -> Path:
    """Return where the answers of engines are kept."""
    return store.answers()
