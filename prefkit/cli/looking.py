"""Verbs that look at something: show, why, diff, stages."""

from typing import Annotated

import typer

from prefkit.cli.options import Json, Price, PriceFile, StoreFolder

__all__ = ["diff", "show", "stages", "why"]

StepName = Annotated[str, typer.Argument(metavar="STEP", help="A run, or a step of it.", show_default=False)]
Count = Annotated[int, typer.Option("--rows", "-n", min=0, metavar="N", help="How many rows.")]
Dropped = Annotated[bool, typer.Option("--dropped", help="The rows that were dropped, each with its reason.")]
Failed = Annotated[bool, typer.Option("--failed", help="The rows whose model calls failed.")]
OnlyColumns = Annotated[bool, typer.Option("--columns", help="The columns and what they mean, no rows.")]
RowId = Annotated[str, typer.Option("--id", metavar="ID", help="The row with this id, or its first digits.")]
RunName = Annotated[
    str, typer.Argument(metavar="RUN", help="A run, or a step of it to end with.", show_default=False)
]
Row = Annotated[
    str,
    typer.Argument(metavar="ROW", help="An id, its first digits, or FILE:LINE.", show_default=False),
]
First = Annotated[str, typer.Argument(metavar="A", help="A run, or a step of it.", show_default=False)]
Second = Annotated[str, typer.Argument(metavar="B", help="Another.", show_default=False)]
StageName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A stage, `data`, `train` or `fail_if`; without one, list them.",
        show_default=False,
    ),
]
OnlySchema = Annotated[bool, typer.Option("--schema", help="Print the JSON schema of recipes, for editors.")]


def show(
    step: StepName = "",
    count: Count = 3,
    dropped: Dropped = False,
    failed: Failed = False,
    only_columns: OnlyColumns = False,
    row_id: RowId = "",
    store: StoreFolder = "runs",
    as_json: Json = False,
) -> None:
    """Print rows, columns and notes of a step.

    prefkit show quickstart/pair --rows 5
    prefkit show quickstart/00-data --dropped --json
    """
    from prefkit.cli import views
    from prefkit.store import Store

    opened = Store(store)
    if not step:
        views.runs(opened, as_json=as_json)
    elif only_columns:
        views.columns(opened.resolve(step), as_json=as_json)
    else:
        part = views.part_of(dropped=dropped, failed=failed)
        views.rows(opened, step, part, count, row_id, as_json=as_json)


def why(
    run: RunName,
    row: Row,
    price: Price = None,
    prices: PriceFile = "",
    store: StoreFolder = "runs",
    as_json: Json = False,
) -> None:
    """Tell the life of a row, from prompt to label, with every model call.

    prefkit why quickstart 1a80cf7f
    prefkit why quickstart 1a80cf7f --price judge=0.15/0.60 --json
    """
    from prefkit.cli import views
    from prefkit.store import Store

    views.why(Store(store), run, row, price or (), prices, as_json=as_json)


def diff(
    before: First, after: Second, count: Count = 3, store: StoreFolder = "runs", as_json: Json = False
) -> None:
    """Say what changed between two steps or runs: config, rows, labels.

    prefkit diff quickstart/pair other-run/pair
    prefkit diff quickstart other-run --json
    """
    from prefkit.cli import changes
    from prefkit.store import Store

    changes.diff(Store(store), before, after, count, as_json=as_json)


def stages(name: StageName = "", schema: OnlySchema = False, as_json: Json = False) -> None:
    """List the stages, or explain one: its settings and columns.

    prefkit stages pair
    prefkit stages --schema > recipe.schema.json
    """
    from prefkit.cli import explain

    if schema:
        explain.schema()
    elif name:
        explain.one(name, as_json=as_json)
    else:
        explain.all_stages(as_json=as_json)
