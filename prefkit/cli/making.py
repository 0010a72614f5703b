"""Verbs that make something: plan, build, train."""

from prefkit.cli.options import (
    Budgets,
    CheckpointEvery,
    Compile,
    Concurrency,
    Device,
    Dtype,
    Engine,
    Jobs,
    Json,
    LogTo,
    MicroTokens,
    Price,
    PriceFile,
    RecipePath,
    Recompute,
    Refresh,
    Set,
    StoreFolder,
    Timeout,
    Until,
)

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
    until: Until = "",
    refresh: Refresh = None,
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    as_json: Json = False,
) -> None:
    """Build the dataset.

    prefkit build recipes/quickstart.yaml
    prefkit build recipes/quickstart.yaml --until pair -j 2
    """
    from prefkit.cli.out import print_json, say
    from prefkit.cli.purse import Purse
    from prefkit.cli.work import build_recipe, paths, placement

    purse = Purse(price or (), price_file, budget or ())
    place = placement(engine, device, concurrency, timeout)
    done = build_recipe(recipe, sets, store, place, jobs, purse, until, refresh)
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
    dtype: Dtype = "auto",
    micro_tokens: MicroTokens = None,
    recompute: Recompute = False,
    compile_layers: Compile = False,
    checkpoint_every: CheckpointEvery = 200,
    log_to: LogTo = None,
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    as_json: Json = False,
) -> None:
    """Build what is missing, then train with the recipe's objective.

    prefkit train recipes/quickstart.yaml
    prefkit train recipes/quickstart.yaml --set train.steps=10 --device cpu
    """
    from prefkit.cli.out import print_json, say
    from prefkit.cli.purse import Purse
    from prefkit.cli.trained import story
    from prefkit.cli.work import paths, placement, train_placement, train_recipe

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
    done = train_recipe(recipe, sets, store, answering, jobs, place, purse)
    if not done.first:
        return
    if as_json:
        print_json(done.result.report.model_dump(mode="json"))
        return
    say("", *story(done.result.report), "")
    for path in paths(done.build):
        print(f"shard   {path}")
    print(f"card    {done.card}")
    print(f"report  {done.report}")
    print(f"model   {done.result.model.id}", flush=True)
    name = done.build.recipe.name
    say("", "next:", f"  prefkit show {name}", f"  prefkit export {name} my-dataset", "  prefkit new")
