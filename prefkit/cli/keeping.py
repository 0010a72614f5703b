"""Verbs that keep things: new, card, report, export, gc."""

from enum import StrEnum
from typing import Annotated

import typer

from prefkit.cli.options import Json, StoreFolder

__all__ = ["card", "export", "gc", "new", "report"]


class Format(StrEnum):
    """What `export` writes."""

    trl = "trl"
    parquet = "parquet"
    hub_folder = "hub-folder"


RecipeName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A shipped recipe; without one, list them.", show_default=False),
]
Into = Annotated[str, typer.Argument(metavar="FOLDER", help="Where to put it.")]
StepName = Annotated[str, typer.Argument(metavar="STEP", help="A run, or a step of it.", show_default=False)]
CardFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="Where to write it; .html adds drawings and rows to read.", show_default=False
    ),
]
PageFile = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="Where to write it; a folder gets a report.html.", show_default="RUN-report.html"
    ),
]
Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="A folder to make.", show_default=False)]
To = Annotated[Format, typer.Option("--to", help="What to write.")]
AtOnce = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Files written at once.")]
Yes = Annotated[bool, typer.Option("--yes", help="Delete them.")]


def new(name: RecipeName = "", into: Into = ".", as_json: Json = False) -> None:
    """Copy a shipped recipe here, to change it.

    prefkit new
    prefkit new quickstart my-project
    """
    from pathlib import Path

    from prefkit.cli.out import print_json, say, show, table
    from prefkit.shipped import copy, listed

    if name:
        made = copy(name, Path(into))
        for path in made:
            print(path)
        say("", f"next: prefkit plan {made[0]}")
        return
    shown = table("recipe", "what it is for", wraps=("what it is for",))
    for shipped in listed():
        if as_json:
            print_json(shipped._asdict())
        shown.add_row(*shipped)
    if not as_json:
        show(shown)


def card(step: StepName, file: CardFile = "", store: StoreFolder = "runs") -> None:
    """Write the data card of a build from its manifests.

    prefkit card quickstart README.md
    prefkit card quickstart/pair report.html
    """
    from pathlib import Path

    from prefkit.store import Store

    if file.endswith(".html"):
        from prefkit.page import write_report

        print(write_report(Store(store), step, Path(file)))
        return
    from prefkit.card import write_card
    from prefkit.show import visible

    text = write_card(Store(store), step, Path(file) if file else None)
    print(file or visible(text))


def report(step: StepName, out: PageFile = "", store: StoreFolder = "runs") -> None:
    """Write the page of a build: one HTML file with charts, checks, and every row to search and read.

    prefkit report quickstart
    prefkit report quickstart/pair pairs.html
    """
    from pathlib import Path

    from prefkit.cli.out import say
    from prefkit.page import write_report
    from prefkit.store import Store

    path = write_report(Store(store), step, Path(out or f"{step.replace('/', '-')}-report.html"))
    print(path)
    say(f"{path.stat().st_size / 1e6:.1f} MB; open it in a browser, it asks for nothing")


def export(
    step: StepName,
    folder: Folder,
    to: To = Format.hub_folder,
    store: StoreFolder = "runs",
    jobs: AtOnce = 2,
) -> None:
    """Write a step as files that other tools open, with its card.

    prefkit export quickstart my-dataset
    prefkit export quickstart pairs --to trl
    """
    from pathlib import Path

    from prefkit.cli.out import say
    from prefkit.export import export as export_step
    from prefkit.show import thousands
    from prefkit.store import Store

    done = export_step(Store(store), step, Path(folder), to.value, jobs)
    for warning in done.warnings:
        say(f"warning: {warning}")
    print(done.path)
    say(f"{thousands(done.rows)} rows; datasets.load_dataset('{done.path}') opens them")


def gc(yes: Yes = False, store: StoreFolder = "runs", as_json: Json = False) -> None:
    """List files that no run reaches; with --yes, delete them.

    prefkit gc
    prefkit gc --yes --store runs
    """
    from prefkit.cli.out import print_json, say
    from prefkit.gc import collect, find
    from prefkit.store import Store

    opened = Store(store)
    found = collect(opened) if yes else find(opened)
    for path in found.files:
        if as_json:
            print_json({"file": str(path), "deleted": yes})
        else:
            print(path)
    size = f"{len(found.files)} files, {found.bytes / 1e6:.1f} MB"
    say(f"deleted {size}" if yes else f"{size} could go" + (": prefkit gc --yes" if found.files else ""))
