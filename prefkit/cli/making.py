"""Verbs that make something: plan, build, train."""

from typing import TYPE_CHECKING

from prefkit.cli.options import (
    Budgets,
    CheckpointEvery,
    Compile,
    Concurrency,
    Device,
    Dtype,
    Engine,
    Executor,
    Jobs,
    Json,
    Keep,
    Log,
    LogTo,
    Memory,
    MicroTokens,
    Price,
    PriceFile,
    Profile,
    RayAddress,
    RayWorkers,
    RecipePath,
    Recompute,
    Refresh,
    Set,
    StoreFolder,
    Timeout,
    Until,
)

if TYPE_CHECKING:
    from prefkit.cli.work import Trained

__all__ = ["build", "plan", "train"]


def plan(
    recipe: RecipePath,
    sets: Set = None,
    store: StoreFolder = "runs",
    price: Price = None,
    price_file: PriceFile = "",
    as_json: Json = False,
) -> None:
    """Check a recipe and say what would run.

    prefkit plan recipes/quickstart.yaml
    prefkit plan recipes/quickstart.yaml --set build.sample.n=8 --json
    """
    from prefkit.cli.out import print_json
    from prefkit.cli.plan_table import as_data, draw
    from prefkit.cli.purse import Purse
    from prefkit.gates.verdict import applying
    from prefkit.plan import plan as plan_recipe
    from prefkit.recipe import Recipe
    from prefkit.store import Store

    loaded = Recipe.load(recipe, sets or ())
    found = plan_recipe(loaded, Store(store), Purse(price or (), price_file).priced(loaded.models))
    stages, has_pairs = [step.stage for step in found.steps], found.steps[-1].level == "pair"
    gates = applying(loaded.fail_if, stages, has_pairs=has_pairs)
    if as_json:
        print_json(as_data(found, gates))
    else:
        draw(found, gates)


def build(
    recipe: RecipePath,
    sets: Set = None,
    store: StoreFolder = "runs",
    engine: Engine = None,
    device: Device = "auto",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    jobs: Jobs = 1,
    memory: Memory = "",
    executor: Executor = "local",
    ray_address: RayAddress = "",
    ray_workers: RayWorkers = "",
    until: Until = "",
    refresh: Refresh = None,
    keep: Keep = "",
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    log: Log = "",
    profile: Profile = False,
    as_json: Json = False,
) -> None:
    """Build the dataset.

    prefkit build recipes/quickstart.yaml
    prefkit build recipes/quickstart.yaml --until pair -j 2
    """
    from prefkit.cli.executing import executing
    from prefkit.cli.observing import observed
    from prefkit.cli.out import print_json, say
    from prefkit.cli.profile import profiled
    from prefkit.cli.purse import Purse
    from prefkit.cli.work import build_recipe, paths, placement

    with observed("build", log):
        purse = Purse(price or (), price_file, budget or ())
        place = placement(engine, device, concurrency, timeout)
        with profiled(wanted=profile), executing(executor, ray_address, ray_workers, jobs) as making:
            done = build_recipe(recipe, sets, store, place, making, purse, until, refresh, keep, memory)
        last = list(done.steps)[-1]
        if as_json:
            print_json({name: manifest.model_dump(mode="json") for name, manifest in done.steps.items()})
            return
        for path in paths(done):
            print(path, flush=True)
        name = done.recipe.name
        say("", "next:", f"  prefkit show {name}/{last}", f"  prefkit card {name} README.md")


def train(
    recipe: RecipePath,
    sets: Set = None,
    store: StoreFolder = "runs",
    engine: Engine = None,
    device: Device = "auto",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    jobs: Jobs = 1,
    memory: Memory = "",
    executor: Executor = "local",
    ray_address: RayAddress = "",
    ray_workers: RayWorkers = "",
    dtype: Dtype = "auto",
    micro_tokens: MicroTokens = None,
    recompute: Recompute = False,
    compile_layers: Compile = False,
    checkpoint_every: CheckpointEvery = 200,
    log_to: LogTo = None,
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    log: Log = "",
    as_json: Json = False,
) -> None:
    """Build what is missing, then train with the recipe's objective.

    prefkit train recipes/quickstart.yaml
    prefkit train recipes/quickstart.yaml --set train.steps=10 --device cpu
    """
    from prefkit.cli.executing import executing
    from prefkit.cli.observing import observed
    from prefkit.cli.out import print_json
    from prefkit.cli.purse import Purse
    from prefkit.cli.work import placement, train_placement, train_recipe

    with observed("train", log):
        place = train_placement(
            device=device,
            dtype=dtype,
            micro_tokens=micro_tokens,
            recompute=recompute,
            compile=compile_layers,
            checkpoint_every=checkpoint_every,
            log_to=log_to,
        )
        answering, purse = (
            placement(engine, device, concurrency, timeout),
            Purse(price or (), price_file, budget or ()),
        )
        with executing(executor, ray_address, ray_workers, jobs) as making:
            done = train_recipe(recipe, sets, store, answering, making, place, purse, memory)
        if not done.first:
            return
        if as_json:
            print_json(done.result.report.model_dump(mode="json"))
        else:
            _tell(done)


def _tell(done: "Trained") -> None:
    """Say how training went, and what lies where."""
    from prefkit.cli.out import say
    from prefkit.cli.trained import story
    from prefkit.cli.work import paths

    say("", *story(done.result.report), "")
    for path in paths(done.build):
        print(f"shard   {path}")
    print(f"card    {done.card}")
    print(f"report  {done.report}")
    print(f"model   {done.result.model.id}", flush=True)
    name = done.build.recipe.name
    say("", "next:", f"  prefkit show {name}", f"  prefkit export {name} my-dataset", "  prefkit new")
