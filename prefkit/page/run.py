"""What a training run logged on its way, found by the report that a build carries of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from prefkit.store import Store
from prefkit.train.folder import lines
from prefkit.train.report import Report

__all__ = ["Logged", "logged"]


_LOGS = ("metrics.jsonl", "evaluations.jsonl")


class Logged(NamedTuple):
    """Lines of a run, one a step and one an evaluation; empty where they are not kept."""

    steps: Sequence[Mapping[str, Any]] = ()
    evaluations: Sequence[Mapping[str, Any]] = ()


def logged(store: Store, report: Report | None) -> Logged:
    """Return what the run behind a report logged. A run that was moved or removed has nothing to draw."""
    if report is None:
        return Logged()
    for path in store.files("trained/*/report.json"):
        if _is(path, report):
            found = {one.name: one for one in store.files(f"trained/{path.parent.name}/*.jsonl")}
            return Logged(*(lines(found.get(name, path.with_name(name))) for name in _LOGS))
    return Logged()


def _is(path: Path, report: Report) -> bool:
    try:
        return Report.model_validate_json(path.read_bytes()).key == report.key
    except (OSError, ValidationError):
        return False
