"""Travel: what goes to a worker on another machine and what comes back, as JSON text.

Rows do not travel: they are in the store, which every machine sees. An error comes back as the kind of error that it
is, since what happens next depends on it: a damaged object is made anew, a spent budget ends the run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from prefkit import __version__
from prefkit.engines import Model, Spend
from prefkit.engines.placement import Placement
from prefkit.engines.spend import Budget, BudgetError, Price
from prefkit.errors import (
    ContractError,
    DataError,
    EngineError,
    EstimateError,
    PrefkitError,
    StoreError,
    TrainError,
)
from prefkit.executors.work import Work
from prefkit.manifest import Part, Shard
from prefkit.parts import STAGES, Task
from prefkit.store import DamagedError, Stamp, Store

__all__ = [
    "Order",
    "read_order",
    "read_outcome",
    "read_task",
    "write_error",
    "write_order",
    "write_part",
    "write_task",
]

_KINDS: Mapping[str, type[PrefkitError]] = {
    kind.__name__: kind
    for kind in (
        PrefkitError,
        BudgetError,
        ContractError,
        DataError,
        EngineError,
        EstimateError,
        StoreError,
        TrainError,
    )
}


class Order(NamedTuple):
    """What a worker is told about a step."""

    work: Work
    folder: str
    """The working folder of who gave the order: what relative paths of models are relative to."""
    sign: str
    """A folder in the store that is there while the step is made; "" where the store is no folder."""


def write_order(order: Order) -> str:
    """Return an order as JSON text. Holds no keys of servers."""
    work = order.work
    spend = work.spend or Spend()
    told = {
        "prefkit": __version__,
        "store": work.store.address,
        "stage": work.stage.name,
        "config": work.stage.model_dump_json(),
        "seed": work.seed,
        "shard_rows": work.shard_rows,
        "models": {name: model.model_dump(mode="json") for name, model in work.models.items()},
        "placement": {**asdict(work.placement), "engines": dict(work.placement.engines)},
        "refresh": work.refresh,
        "prices": {
            name: [str(price.tokens_in), str(price.tokens_out)] for name, price in spend.prices.items()
        },
        "budgets": [[str(budget.amount), budget.is_money, budget.model] for budget in spend.budgets],
        "folder": order.folder,
        "sign": order.sign,
    }
    return json.dumps(told, allow_nan=False)


def read_order(text: str) -> Order:
    """Return what `write_order` wrote. Raises PrefkitError if another version of prefkit wrote it."""
    told: dict[str, Any] = json.loads(text)
    if told["prefkit"] != __version__:
        what = f"a worker has prefkit {__version__}, and the build is of prefkit {told['prefkit']}"
        raise PrefkitError(what, hint=f"on every node: pip install 'prefkit[ray]=={told['prefkit']}'")
    spend = Spend(
        prices={name: Price(Decimal(read), Decimal(wrote)) for name, (read, wrote) in told["prices"].items()},
        budgets=tuple(Budget(Decimal(amount), money, model) for amount, money, model in told["budgets"]),
    )
    work = Work(
        STAGES.get(told["stage"]).model_validate_json(told["config"]),
        Store(told["store"]),
        told["seed"],
        told["shard_rows"],
        {name: Model.model_validate(model) for name, model in told["models"].items()},
        Placement(**told["placement"]),
        told["refresh"],
        spend,
    )
    return Order(work, told["folder"], told["sign"])


def write_task(task: Task, store: Store) -> str:
    """Return a task as JSON text, with which of its files the store found sound, so that it is not looked at again."""
    inputs = [shard.model_dump(mode="json") for shard in task.inputs]
    told = {"key": task.key, "inputs": inputs, "folder": str(task.folder.absolute())}
    return json.dumps({**told, "checked": store.checked(task.inputs)})


def read_task(text: str, store: Store) -> Task:
    """Return what `write_task` wrote."""
    told = json.loads(text)
    store.trust(_stamps(told["checked"]))
    inputs = tuple(Shard.model_validate(shard) for shard in told["inputs"])
    return Task(told["key"], inputs, Path(told["folder"]))


def write_part(part: Part, store: Store) -> str:
    """Return a made part as JSON text, with which of its files the store wrote or found sound."""
    made = [*part.outputs, *(shard for shard in (part.dropped, part.failed) if shard is not None)]
    told = {"part": part.model_dump(mode="json"), "checked": store.checked(made)}
    return json.dumps(told, allow_nan=False)


def write_error(error: PrefkitError) -> str:
    """Return why a part was not made, as JSON text."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    told: dict[str, Any] = {"kinds": kinds, "what": error.what, "where": error.where, "hint": error.hint}
    if isinstance(error, DamagedError):
        told["shard"] = error.shard.model_dump(mode="json")
    return json.dumps({"error": told})


def read_outcome(text: str, store: Store) -> Part | PrefkitError:
    """Return what `write_part` or `write_error` wrote; an error of a kind not known here as the next one that is."""
    outcome = json.loads(text)
    if "part" in outcome:
        store.trust(_stamps(outcome["checked"]))
        return Part.model_validate(outcome["part"])
    told = outcome["error"]
    if "shard" in told:
        shard = Shard.model_validate(told["shard"])
        return DamagedError(told["what"], shard, where=told["where"], hint=told["hint"])
    kind = next(_KINDS[name] for name in told["kinds"] if name in _KINDS)
    return kind(told["what"], where=told["where"], hint=told["hint"])


def _stamps(told: Mapping[str, Sequence[int]]) -> dict[str, Stamp]:
    return {digest: (inode, size, changed) for digest, (inode, size, changed) in told.items()}
