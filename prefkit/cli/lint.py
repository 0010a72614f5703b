"""The verb that looks at pairs as a trainer would: lint."""

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.options import Json, StoreFolder

if TYPE_CHECKING:
    from pathlib import Path

    from prefkit.lint import Report

__all__ = ["lint"]


class Truncate(StrEnum):
    """What happens to a pair that is too long."""

    drop = "drop"
    prompt = "prompt"
    response = "response"


Dataset = Annotated[
    str, typer.Argument(metavar="DATASET", help="A run, a step of it, or files of pairs.", show_default=False)
]
ModelName = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="Whose tokenizer and chat template.", show_default=False
    ),
]
Longest = Annotated[
    int | None,
    typer.Option(
        "--max-length", min=1, metavar="N", help="Most tokens, as `train` has it.", show_default=False
    ),
]
Cut = Annotated[Truncate, typer.Option("--truncate", help="What becomes of longer pairs.")]
Fix = Annotated[
    str,
    typer.Option(
        "--fix", metavar="FOLDER", help="Write a mended copy and what was done.", show_default=False
    ),
]


def lint(
    dataset: Dataset,
    model: ModelName,
    max_length: Longest = None,
    truncate: Cut = Truncate.drop,
    fix: Fix = "",
    store: StoreFolder = "runs",
    as_json: Json = False,
) -> None:
    """Say what a model's chat template would do to each pair.

    prefkit lint quickstart --model prefkit/toy-policy
    prefkit lint pairs.jsonl --model org/policy --max-length 2048 --fix mended
    """
    from dataclasses import asdict
    from functools import partial
    from pathlib import Path

    from prefkit.cli.out import print_json, say
    from prefkit.cli.progress import Progress
    from prefkit.engines import Model
    from prefkit.engines.weights import load_tokenizer
    from prefkit.lint import check, look, mend, read, write
    from prefkit.store import Store

    if fix:
        _refuse_in_place(Path(dataset), Path(fix))
    found = read(dataset, Store(store))
    tokenizer, context = load_tokenizer(Model(id=model))
    limit = min((bound for bound in (context, max_length) if bound), default=None)
    with Progress() as progress:
        subject = look(found.table, tokenizer, limit, truncate.value, partial(progress.track, "lint"))
        report = check(subject, found)
        mended = mend(subject, found) if fix else None
    if mended is not None:
        write(mended, Path(fix), {"lint": dataset, "model": model, "rows": mended.table.num_rows})
    if as_json:
        print_json({"model": model} | asdict(report))
    else:
        _draw(report, model)
    if mended is not None:
        changed, dropped = mended.counts
        say(f"{fix}: {changed} pairs changed, {dropped} dropped, each in {fix}/fixes.jsonl")
    sys.stdout.flush()
    if report.errors:
        raise typer.Exit(1)


def _refuse_in_place(dataset: "Path", fix: "Path") -> None:
    from prefkit.errors import PrefkitError

    here, there = dataset.resolve(), fix.resolve()
    if here == there or there in here.parents or here in there.parents:
        what = f"'{fix}' and what is linted lie in each other, and nothing is mended in place"
        raise PrefkitError(what, hint="give another folder: --fix mended")


def _draw(report: "Report", model: str) -> None:
    from prefkit.cli.out import show, table
    from prefkit.show import thousands, visible

    last = "what, what to do, and where"
    shown = table("", "rule", "pairs", "share", last, wraps=(last,))
    for finding in report.findings:
        examples = finding.examples[: 1 if finding.severity == "info" else None]
        lines = [f"{finding.meaning} → {finding.hint}"]
        lines += [f"  {_short(one['id'])}: {one['detail']}" for one in examples]
        cells = (finding.severity, finding.rule, thousands(finding.count), f"{finding.share:.1%}")
        shown.add_row(*cells, "\n".join(visible(line).replace("\n", "\\n") for line in lines))
    if report.findings:
        show(shown, "")
    sizes = (f"{part} {'/'.join(map(str, found.values()))}" for part, found in report.tokens.items())
    limit = f" at {report.limit} tokens" if report.limit else ""
    kept = (
        f"{thousands(report.rows)} pairs, {thousands(report.trained_on)} to train {visible(model)} on{limit}"
    )
    show(f"{kept}; tokens p50/p95/max: {', '.join(sizes)}")


def _short(place: str) -> str:
    return place if ":" in place else place[:12]
