"""Verbs that say which dataset is better: compare, ablate."""

from typing import Annotated

import typer

from prefkit.cli.options import (
    Budgets,
    Concurrency,
    Device,
    Dtype,
    Engine,
    Json,
    Log,
    MicroTokens,
    Price,
    PriceFile,
    Recompute,
    Set,
    StoreFolder,
    Timeout,
)

__all__ = ["ablate", "compare"]

Arms = Annotated[
    list[str],
    typer.Argument(
        metavar="A B...",
        help="Runs, steps of runs, or recipes, which are built first. The first is what the others are compared with.",
        show_default=False,
    ),
]
OnlyPlan = Annotated[
    bool, typer.Option("--plan", help="Say what it would take and could find, and run nothing.")
]


def compare(
    arms: Arms,
    sets: Set = None,
    store: StoreFolder = "runs",
    only_plan: OnlyPlan = False,
    engine: Engine = None,
    device: Device = "auto",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    dtype: Dtype = "auto",
    micro_tokens: MicroTokens = None,
    recompute: Recompute = False,
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    log: Log = "",
    as_json: Json = False,
) -> None:
    """Train on each dataset and say which is better, by how much, and how sure that is.

    prefkit compare clean noisy
    prefkit compare recipes/quickstart.yaml other-run/pair --set compare.seeds=8 --plan
    """
    from prefkit.cli.compared import announce, show_comparison
    from prefkit.cli.comparing_work import compare_arms
    from prefkit.cli.observing import observed
    from prefkit.cli.out import print_json, say
    from prefkit.cli.purse import Purse
    from prefkit.cli.work import placement, train_placement

    with observed("compare", log):
        place = train_placement(device=device, dtype=dtype, micro_tokens=micro_tokens, recompute=recompute)
        answering = placement(engine, device, concurrency, timeout)
        purse = Purse(price or (), price_file, budget or ())
        done = compare_arms(arms, sets or (), store, answering, place, purse, announce, only_plan=only_plan)
        if done is None:
            return
        if as_json:
            print_json(done.report.model_dump(mode="json"))
            return
        show_comparison(done.report)
        for name in ("report.md", "report.html", "report.json", "measured.arrow", "answers.arrow"):
            if (done.out / name).is_file():
                say(f"{name:<15} {done.out / name}")


RecipeFile = Annotated[
    str, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file.", show_default=False)
]
Steps = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[STEP...]", help="Leave out only these; without any, each in turn.", show_default=False
    ),
]


def ablate(
    recipe: RecipeFile,
    steps: Steps = None,
    sets: Set = None,
    store: StoreFolder = "runs",
    only_plan: OnlyPlan = False,
    engine: Engine = None,
    device: Device = "auto",
    concurrency: Concurrency = 64,
    timeout: Timeout = 600.0,
    dtype: Dtype = "auto",
    micro_tokens: MicroTokens = None,
    recompute: Recompute = False,
    price: Price = None,
    price_file: PriceFile = "",
    budget: Budgets = None,
    log: Log = "",
    as_json: Json = False,
) -> None:
    """Leave each stage out in turn, train with and without it, and say what it earned.

    prefkit ablate recipes/quickstart.yaml --plan
    prefkit ablate recipes/quickstart.yaml label margin
    """
    from prefkit.cli.ablated import announce, show_ablation
    from prefkit.cli.comparing_work import ablate_recipe
    from prefkit.cli.observing import observed
    from prefkit.cli.out import print_json, say
    from prefkit.cli.purse import Purse
    from prefkit.cli.work import placement, train_placement

    with observed("ablate", log):
        place = train_placement(device=device, dtype=dtype, micro_tokens=micro_tokens, recompute=recompute)
        answering = placement(engine, device, concurrency, timeout)
        purse = Purse(price or (), price_file, budget or ())
        found = ablate_recipe(
            recipe, steps or (), sets or (), store, answering, place, purse, announce, only_plan=only_plan
        )
        if found is None:
            return
        if as_json:
            print_json(found[0].model_dump(mode="json"))
            return
        show_ablation(found[0])
        say("", f"report.json  {found[1]}", f"report.md    {found[1].with_suffix('.md')}")
