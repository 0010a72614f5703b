"""The verb that checks what is kept: verify."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from prefkit.cli.options import Json, StoreFolder

if TYPE_CHECKING:
    from prefkit.verify import Fault, Report

__all__ = ["verify"]

_MOST = 200
"""Faults that are printed: a store with more is to be restored, not mended. JSON has them all."""

What = Annotated[
    str,
    typer.Argument(
        metavar="WHAT",
        help="A run, a step of it, or the folder of an export or a store.",
        show_default="the whole store",
    ),
]
AtOnce = Annotated[int, typer.Option("--jobs", "-j", min=1, metavar="N", help="Files read at once.")]


def verify(what: What = "", store: StoreFolder = "runs", jobs: AtOnce = 2, as_json: Json = False) -> None:
    """Check that a store or an export is whole, and say what can be rebuilt.

    prefkit verify quickstart
    prefkit verify my-dataset --json
    """
    from prefkit.cli.out import print_json, say
    from prefkit.verify import verify as check

    report = check(what, store, jobs)
    if as_json:
        print_json(_as_data(report))
    else:
        for line in _lines(report):
            print(line)
        say(*(f"note: {note}" for note in report.notes), _told(report))
    sys.stdout.flush()
    if not report.is_sound:
        raise typer.Exit(2)


def _lines(report: "Report") -> list[str]:
    from prefkit.show import visible

    lines: list[str] = []
    for fault in report.faults[:_MOST]:
        lines += [visible(line).replace("\n", "\\n") for line in _of(fault)]
    if len(report.faults) > _MOST:
        lines.append(f"and {len(report.faults) - _MOST:,} more: --json has them all")
    return lines


def _of(fault: "Fault") -> list[str]:
    lines = [fault.what, f"  where: {fault.where}"]
    if fault.used_by:
        more = f" and {len(fault.used_by) - 3} more" if len(fault.used_by) > 3 else ""
        lines.append(f"  of:    {', '.join(fault.used_by[:3])}{more}")
    if fault.mend:
        lines.append(f"  mend:  {fault.mend}")
    return lines


def _told(report: "Report") -> str:
    """Return the last line: what was looked at, how fast, and whether it is sound."""
    from prefkit.show import thousands

    counts = report.counts
    looked = [
        (counts.runs, "run"),
        (counts.steps, "step"),
        (counts.parts, "part"),
        (counts.files, "file"),
        (counts.rows, "row"),
        (counts.answers or 0, "remembered answer"),
    ]
    said = ", ".join(f"{thousands(n)} {name}{'s' * (n != 1)}" for n, name in looked if n)
    speed = f"{counts.bytes / 1e6:.1f} MB in {report.seconds:.1f} s"
    faults = len(report.faults)
    outcome = "sound" if report.is_sound else f"{thousands(faults)} fault{'s' * (faults != 1)}"
    return f"{report.subject}: {said}; {speed}: {outcome}"


def _as_data(report: "Report") -> dict[str, object]:
    return {
        "subject": report.subject,
        "sound": report.is_sound,
        "faults": [fault._asdict() for fault in report.faults],
        "notes": list(report.notes),
        **report.counts._asdict(),
        "seconds": round(report.seconds, 3),
    }
