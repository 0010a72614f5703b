"""The Ray executor: parts are made on a Ray cluster, by Ray's own tasks and actor pools.

Stages that ask no model are plain tasks: Ray places them, those whose worker or node is gone are begun again, and only
so many are handed over at once. One that sees all rows at once stays in this process while the rows are few: it would be
done before a worker has begun. Stages that ask models run on an actor pool of `ray.data`, which grows and shrinks within
bounds: each actor opens its engines once, on GPUs of its own. Keys, digests and settings travel, rows do not: the store
must be at the same address on every node.

Beside this process runs the hub, one actor that keeps answers and counts (`prefkit.executors.hub`), from the first stage
that asks models.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final
from uuid import uuid4

from prefkit.engines import Engines, Spend
from prefkit.engines.placement import billed
from prefkit.engines.spend import BudgetError
from prefkit.errors import PrefkitError, StoreError
from prefkit.executors.hub import Counts, Hub, added, told
from prefkit.executors.ray_cluster import failure, join, quiet, story
from prefkit.executors.ray_sizes import Bounds, gpus_of, is_small, memory_of, pool_of
from prefkit.executors.ray_tasks import check_times, outcomes
from prefkit.executors.travel import Order, read_outcome, write_order, write_task
from prefkit.executors.work import Work, asks_models, memo_path
from prefkit.executors.worker import Maker, get_ready, make_remotely
from prefkit.manifest import Part
from prefkit.parts import Task, make_part
from prefkit.store import DamagedError, Store
from prefkit.threads import every

__all__ = ["OnRay"]

_POLL_SECONDS = 0.5
_LOOK_SECONDS = 2.0
"""How long the size of the cluster is taken to stay: asking takes milliseconds, tasks not much more."""
_FEW_ROWS = 200_000
_AHEAD = 2
"""Tasks handed over for each CPU of the cluster, and to each actor: the next one waits where it is made."""
_MOST_WORKERS = 10_000
_NAMES = ("PREFKIT_", "OPENAI_API_KEY")
"""What engines may need of the environment."""


@final
class OnRay:
    """An executor on a Ray cluster. Connects when the first part is to be made; use it in a `with`."""

    def __init__(
        self,
        address: str = "",
        workers: Bounds | None = None,
        jobs: int = 1,
        say: Callable[[str], None] = print,
        few_rows: int = _FEW_ROWS,
    ) -> None:
        """Take the cluster's address; "" takes what Ray itself finds, else a cluster that is started on this machine.

        Stages that see all rows at once are made in this process where those are no more than `few_rows`.
        """
        if find_spec("ray") is None:
            raise PrefkitError(
                "Ray is not installed", where="--executor ray", hint="pip install 'prefkit[ray]'"
            )
        self.jobs = jobs
        self.workers = workers or Bounds()
        self._address, self._say, self._few_rows = address, say, few_rows
        self._hub: Any = None
        self._joined: bool | None = None
        """Whether this process was connected by us; None before anybody looked."""
        self._seen: tuple[float, int] | None = None
        """When the cluster was looked at, and how many CPUs it had."""
        self._counts: Counts = {}
        self._repeats = self._lost = 0
        self._ready: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._joined:
            import ray

            ray.shutdown()
        elif self._hub is not None:
            import ray

            ray.kill(self._hub)
        self._joined = self._hub = None

    def begin(self) -> None:
        """Connect, and have workers start while the source is read: that takes seconds for each."""
        self._connect()
        import ray

        ready = ray.remote(get_ready).options(num_cpus=1, name="prefkit")
        self._ready = [ready.remote() for _ in range(self._window() // _AHEAD)]

    def make(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Yield the part of every task as it is made."""
        if tasks and not asks_models(work.stage) and is_small(work, tasks[0], self._few_rows):
            yield from _made_here(work, tasks[0], self.jobs)
        elif tasks:
            yield from self._made_there(work, list({task.key: task for task in tasks}.values()))

    def _made_there(self, work: Work, tasks: Sequence[Task]) -> Iterator[Part]:
        """Make parts on the cluster."""
        self._connect()
        if work.spend is not None and not self._counts:
            self._counts = {"before": told(work.spend.snapshot())}
        with _sign(work) as sign:
            order = write_order(Order(work, str(Path.cwd()), sign))
            if asks_models(work.stage):
                hub = self._hub_of(work.store)
                if work.spend is not None:
                    work.spend.serve(billed(work.models, work.placement))
                with self._followed(work.spend):
                    yield from self._with_models(work, order, tasks, hub)
            else:
                yield from self._without_models(work, order, tasks)
        self._say_repeats()

    def _without_models(self, work: Work, order: str, tasks: Sequence[Task]) -> Iterator[Part]:
        """Make parts by plain tasks."""
        import ray

        is_whole = work.stage.scope() == "global"
        largest = max(node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"])
        make = ray.remote(make_remotely).options(
            num_cpus=1,
            max_retries=0,
            memory=memory_of(work, tasks[0], largest) if is_whole else None,
            name=f"prefkit {work.stage.name}",
        )
        told, texts = ray.put(order), (write_task(task, work.store) for task in tasks)

        def lost(begun: int) -> None:
            check_times(begun, work.stage.name)
            self._lost += 1

        with closing(outcomes(lambda text: make.remote(told, text), texts, self._window, lost)) as found:
            for outcome in found:
                yield _part(work, outcome)

    def _with_models(self, work: Work, order: str, tasks: Sequence[Task], hub: Any) -> Iterator[Part]:
        """Make parts on an actor pool. Once a budget is spent, the others end what they have under way."""
        import ray
        from ray.data import ActorPoolStrategy, DataContext, from_items

        cluster = ray.cluster_resources()
        pool = pool_of(work, len(tasks), self.workers, cluster)
        gpus = gpus_of(work, cluster)
        over: BudgetError | None = None
        with DataContext.current(quiet()):
            rows = from_items(
                [{"task": write_task(task, work.store)} for task in tasks], override_num_blocks=len(tasks)
            )
            made = rows.map(
                Maker,
                fn_constructor_args=(order, hub, uuid4().hex, pool.most),
                compute=ActorPoolStrategy(
                    min_size=pool.least,
                    max_size=pool.most,
                    initial_size=pool.most if self.workers.most is None else pool.least,
                    max_tasks_in_flight_per_actor=_AHEAD,
                ),
                num_cpus=1,
                num_gpus=gpus,
            )
            with closing(_outcomes(made)) as outcomes:
                for outcome in outcomes:
                    try:
                        yield _part(work, outcome)
                    except BudgetError as error:
                        over = error
        if over is not None:
            raise over

    def _connect(self) -> None:
        if self._joined is None:
            self._joined = join(self._address)
            self._say(f"ray: {story()}")

    def _hub_of(self, store: Store) -> Any:
        """Return the hub, which is started when it is first asked for."""
        if self._hub is not None:
            return self._hub
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        environment = {name: value for name, value in os.environ.items() if name.startswith(_NAMES)}
        actor = ray.remote(Hub).options(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=_MOST_WORKERS,
            scheduling_strategy=here,
        )
        self._hub = actor.remote(str(memo_path(store)), environment)
        return self._hub

    @contextmanager
    def _followed(self, spend: Spend | None) -> Iterator[None]:
        """Keep this process's counts up to date with those of all workers, for whoever looks at them."""
        if spend is None:
            yield
            return
        self._exchange(spend)
        try:
            with every(_POLL_SECONDS, lambda: self._exchange(spend), "prefkit-spend"):
                yield
        finally:
            self._exchange(spend)

    def _exchange(self, spend: Spend) -> None:
        import ray

        self._counts = ray.get(self._hub.exchange.remote(self._counts))
        spend.follow(added(self._counts))

    def _window(self) -> int:
        """Return how many tasks may be handed over at once; a cluster may have grown since the last time."""
        import ray

        now = time.monotonic()
        if self._seen is None or now - self._seen[0] > _LOOK_SECONDS:
            self._seen = now, max(1, int(ray.cluster_resources().get("CPU", 1)))
        room = _AHEAD * self._seen[1]
        return room if self.workers.most is None else min(room, self.workers.most)

    def _say_repeats(self) -> None:
        import ray

        repeats = self._lost + (ray.get(self._hub.repeats.remote()) if self._hub is not None else 0)
        again, self._repeats = repeats - self._repeats, repeats
        if again > 0:
            parts = (
                "1 part was begun again, its worker"
                if again == 1
                else f"{again} parts were begun again, their workers"
            )
            self._say(f"ray: {parts} being gone")


@contextmanager
def _sign(work: Work) -> Iterator[str]:
    """Put a folder into the store that workers must see, and take it away. Object storage needs none."""
    if "://" in work.store.address:
        yield ""
        return
    with work.store.workspace() as folder:
        yield str(folder.absolute())


def _made_here(work: Work, task: Task, threads: int) -> Iterator[Part]:
    """Make the part of a stage that sees all rows in this process."""
    here = work.here._replace(threads=threads)
    yield make_part(work.stage, task, work.store, Engines(), work.seed, work.shard_rows, here)


def _outcomes(dataset: Any) -> Generator[str, None, None]:
    """Yield what actors returned, and end them when nobody wants more."""
    import ray

    batches = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0))
    try:
        for batch in batches:
            yield from batch["outcome"].to_pylist()
    except ray.exceptions.RayError as error:
        raise failure(error) from error
    finally:
        batches.close()


def _part(work: Work, outcome: str) -> Part:
    """Return the part, or raise the error. What a worker calls damaged must be so from here too."""
    found = read_outcome(outcome, work.store)
    if isinstance(found, DamagedError):
        work.store.get(found.shard)  # raises, if it is damaged
        what = f"a worker cannot read an object that is sound here: {found.what}"
        hint = "the store must be the same folder on every node, and new files seen there within moments"
        raise StoreError(what, where=found.where, hint=hint) from found
    if isinstance(found, PrefkitError):
        raise found
    return found
