"""What goes to another machine and comes back is what it was."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from prefkit.engines import Model, Spend
from prefkit.engines.placement import Placement
from prefkit.engines.spend import Budget, BudgetError, Price
from prefkit.errors import DataError, EngineError, PrefkitError, Problem, RecipeError
from prefkit.executors.ray_sizes import Bounds, gpus_of, memory_of, pool_of, read_bounds
from prefkit.executors.travel import (
    Order,
    read_order,
    read_outcome,
    read_task,
    write_error,
    write_order,
    write_part,
    write_task,
)
from prefkit.executors.work import Work
from prefkit.manifest import Made, Part, Rows, Shard, Used
from prefkit.parts import Task
from prefkit.stages.order import Order as Order_
from prefkit.stages.sample import Sample
from prefkit.store import DamagedError, Store

SHARD = Shard(digest="0" * 32, rows=3, bytes=1000)


def work(store: Store, engine: str = "fake", device: str = "auto") -> Work:
    model = Model(id="org/model")
    spend = Spend(
        prices={"org/model": Price(Decimal("0.15"), Decimal("0.6"))},
        budgets=(
            Budget(Decimal(5), is_money=True),
            Budget(Decimal(300), is_money=False, model="org/model"),
        ),
    )
    placement = Placement({"policy": engine}, device=device)
    return Work(Sample(model=model, n=2), store, 7, 100, {"policy": model}, placement, True, spend)


def test_an_order_arrives_as_it_was_given(store):
    order = Order(work(store), "/somewhere", "/somewhere/sign")
    found = read_order(write_order(order))
    assert found.work.store.address == store.address
    assert found._replace(work=found.work._replace(store=store, spend=order.work.spend)) == order
    assert found.work.spend is not None
    assert (found.work.spend.prices, found.work.spend.budgets) == (
        order.work.spend.prices,
        order.work.spend.budgets,
    )


def test_an_order_of_another_version_is_refused_and_says_which(store):
    told = json.loads(write_order(Order(work(store), "", ""))) | {"prefkit": "9.9"}
    with pytest.raises(PrefkitError, match=r"is of prefkit 9\.9") as caught:
        read_order(json.dumps(told))
    assert caught.value.hint == "on every node: pip install 'prefkit[ray]==9.9'"


def test_tasks_and_parts_arrive_as_they_were(store):
    task = Task("key", (SHARD, SHARD), Path("/data"))
    assert read_task(write_task(task, store), store) == task
    used = Used(calls=2, tokens_in=5, dollars=Decimal("0.1"))
    made = Made(prefkit="1", python="3", models={"m": used}, calls=2)
    part = Part(key="key", outputs=(SHARD,), rows=Rows(read=3, kept=3), notes={"a/b": 1}, made=made)
    assert read_outcome(write_part(part, store), store) == part


@pytest.mark.parametrize("kind", [PrefkitError, DataError, EngineError, BudgetError])
def test_errors_arrive_as_the_kind_they_are(kind, store):
    error = kind("what", where="here", hint="do this")
    found = read_outcome(write_error(error), store)
    assert (type(found), str(found)) == (kind, str(error))


def test_a_damaged_object_arrives_with_its_name(store):
    found = read_outcome(write_error(DamagedError("it is damaged", SHARD, where="there")), store)
    assert isinstance(found, DamagedError)
    assert found.shard == SHARD


def test_an_error_of_an_unknown_kind_arrives_as_the_nearest_known_one(store):
    class MyError(DataError):
        pass

    assert type(read_outcome(write_error(MyError("x")), store)) is DataError
    assert type(read_outcome(write_error(RecipeError([Problem("x", line=1)])), store)) is PrefkitError


@pytest.mark.parametrize(
    ("text", "bounds"), [("4", Bounds(1, 4)), ("2:8", Bounds(2, 8)), ("3:3", Bounds(3, 3))]
)
def test_bounds_are_read(text, bounds):
    assert read_bounds(text) == bounds


@pytest.mark.parametrize("text", ["", "0", "x", "3:2", "0:4", ":4", "1:", "-1:4", "1:2:3", "²"])
def test_what_is_no_bounds_is_refused(text):
    with pytest.raises(PrefkitError, match="is not MAX or MIN:MAX"):
        read_bounds(text)


def test_a_pool_is_as_large_as_its_engines_can_use(store):
    cluster = {"CPU": 8.0, "GPU": 4.0}
    at_hand, server = work(store, "vllm?tensor_parallel_size=2"), work(store, "http://host:1/v1")
    assert pool_of(at_hand, 100, Bounds(), cluster) == Bounds(1, 2)
    assert pool_of(work(store), 100, Bounds(), cluster) == Bounds(1, 8)
    assert pool_of(work(store), 3, Bounds(2, 5), cluster) == Bounds(2, 3)
    assert pool_of(server, 100, Bounds(), cluster) == Bounds(1, 1)
    assert pool_of(server, 100, Bounds(2, 4), cluster) == Bounds(2, 4)


def test_gpus_are_for_engines_that_run_there_and_not_by_number(store):
    cluster = {"CPU": 8.0, "GPU": 4.0}
    assert gpus_of(work(store, "vllm?tensor_parallel_size=2&data_parallel=2"), cluster) == 4
    assert gpus_of(work(store, "transformers"), cluster) == 1
    assert gpus_of(work(store, "transformers", "cpu"), cluster) == 0
    assert gpus_of(work(store, "transformers"), {"CPU": 8.0}) == 0
    assert gpus_of(work(store, "transformers", "cuda"), {"CPU": 8.0}) == 1
    assert gpus_of(work(store, "fake"), cluster) == gpus_of(work(store, "http://host:1/v1"), cluster) == 0
    with pytest.raises(EngineError, match="names a GPU of one machine"):
        gpus_of(work(store, "transformers", "cuda:1"), cluster)


def test_a_stage_over_all_rows_asks_for_memory_that_some_node_has(store, pairs):
    whole = work(store)._replace(stage=Order_.model_validate({"kind": "sort", "by": "id"}))
    task = Task("key", (store.put(pairs),))
    assert memory_of(whole, task, 1e15) > 1000
    assert memory_of(whole, task, 500) == 500


def test_a_file_found_sound_on_one_side_is_not_looked_at_again_on_the_other(store, pairs):
    shard = store.put(pairs)
    other = Store(store.address)
    read_task(write_task(Task("key", (shard,)), store), other)
    assert other.checked([shard]) == store.checked([shard]) != {}
    part = Part(
        key="key", outputs=(shard,), rows=Rows(read=3, kept=3), notes={}, made=Made(prefkit="1", python="3")
    )
    here = Store(store.address)
    read_outcome(write_part(part, other), here)
    assert here.checked([shard]) == store.checked([shard])
