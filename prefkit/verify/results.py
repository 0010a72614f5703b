"""Results: what training, comparing and ablating left in a store, checked without a model being loaded.

    trained/clean-5e0243e1/     a model, its report, the metrics of its steps; a checkpoint while it is not finished
    compared/a-vs-b-8ccb81e4/   tables and the report, and below `runs/` what each run left
    ablated/clean.json          what each stage earned

None of these files has a digest of its own. So each is read as far as its form says what belongs there (`forms`), and
what one file says of others is held against them (`agreeing`): a report names steps and arms, and a comparison has its
numbers twice, run by run and gathered.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from prefkit.card.reports import load_report
from prefkit.disk import TEMPORARY
from prefkit.errors import StoreError
from prefkit.store import Store
from prefkit.verify.agreeing import Folder, compared_wrongly, trained_wrongly
from prefkit.verify.contents import Wrong
from prefkit.verify.fault import Fault
from prefkit.verify.forms import check_form, is_read
from prefkit.verify.inventory import Inventory

__all__ = ["Results", "check_results"]

_FOLDERS = ("trained", "compared", "ablated")
_TRAINED = re.compile(r"(?:compared/[^/]+/runs/[^/]+/[^/]+/training|trained/[^/]+)(?=/)")
_COMPARED = re.compile(r"compared/[^/]+(?=/)")
_RUN = re.compile(r"(?P<run>compared/[^/]+/runs/[^/]+(?:/[^/]+)?)/(?P<file>[^/]+)")


class Results(NamedTuple):
    """What was found."""

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    files: int
    """Files that were read."""
    bytes: int


def check_results(store: Store, found: Inventory, *, whole: bool) -> Results:
    """Check trainings, comparisons and ablations: all of them, or of the runs that were found their trainings."""
    there = {name: entry for folder in _FOLDERS for name, entry in store.place.listed(folder).items()}
    names = [name for name in there if _is_finished(name) and (whole or _is_of(name, found))]
    checked = {name: check_form(store, name) for name in names if is_read(name)}
    wrong = {name: why for name, why in checked.items() if why is not None}
    trained, compared = _folders(store, names, wrong, _TRAINED), _folders(store, names, wrong, _COMPARED)
    for folder, look in [(each, trained_wrongly) for each in trained] + [
        (each, compared_wrongly) for each in compared
    ]:
        for name, why in look(folder):
            wrong.setdefault(f"{folder.name}/{name}", why)
    faults = [Fault(why.kind, f"{name} {why.what}", name, mend=_mend(name)) for name, why in wrong.items()]
    faults += _reports(store, found)
    return Results(
        tuple(sorted(faults, key=lambda fault: fault.where)),
        tuple(_unfinished(trained)),
        len(checked),
        sum(there[name].bytes for name in checked),
    )


def _is_finished(name: str) -> bool:
    """Say whether a file has its name for good: what is being written has another."""
    return not any(part.startswith(TEMPORARY) or part.endswith(".new") for part in name.split("/"))


def _is_of(name: str, found: Inventory) -> bool:
    """Say whether a file is of a training, or the ablation, of a run that was found."""
    folder, _, rest = name.partition("/")
    own = rest.partition("/")[0]
    run = own.rpartition("-")[0] if folder == "trained" else own.removesuffix(".json")
    return folder != "compared" and run in found.refs


def _folders(
    store: Store, names: Sequence[str], wrong: dict[str, Wrong], pattern: re.Pattern[str]
) -> list[Folder]:
    files: dict[str, set[str]] = {}
    for name in names:
        if match := pattern.match(name):
            files.setdefault(match.group(), set()).add(name[match.end() + 1 :])
    return [
        Folder(store, folder, own, {name for name in own if f"{folder}/{name}" in wrong})
        for folder, own in files.items()
    ]


def _reports(store: Store, found: Inventory) -> Iterator[Fault]:
    """Check the reports that cards show of trainings, which lie beside the refs."""
    for run, refs in found.refs.items():
        last = found.steps.get(refs[-1].key) if refs else None
        try:
            load_report(store, run, "" if last is None else last.digest)
        except StoreError as error:
            mend = (
                f"`prefkit train` with the recipe of '{run}' writes it again, and trains nothing that stands"
            )
            yield Fault("damaged", error.what, f"refs/{run}/train-report.json", (run,), mend)


def _unfinished(trained: Sequence[Folder]) -> Iterator[str]:
    for folder in trained:
        if "report.json" not in folder.files:
            told = (
                "goes on from its checkpoint"
                if "checkpoint/checkpoint.json" in folder.files
                else "has no checkpoint"
            )
            yield f"the training in {folder.name} is not finished and {told}"


def _mend(name: str) -> str:
    """Say what makes a file again."""
    if name.startswith("ablated/"):
        return f"`prefkit ablate` with the recipe of '{name[8:].removesuffix('.json')}' writes it again"
    if name.startswith("trained/"):
        return _mend_training(name)
    again = "`prefkit compare` of the same datasets"
    match = _RUN.match(name)
    if name.endswith("/plan.json"):
        return f"remove it, then {again} writes it anew, from what is known by now"
    if match is None:
        return f"{again} writes it again from what stands in `runs/`, and trains only what is missing there"
    run, file = match["run"], match["file"]
    if file in {"judged.arrow", "pairs.arrow"}:
        return f"remove it, then {again} measures it again, and trains nothing"
    if "/runs/reference/" in name:
        return f"remove {run}, then {again} draws the untrained model's answers again, and trains nothing"
    return f"remove {run}, then {again} trains and measures this run again, and no other"


def _mend_training(name: str) -> str:
    _, folder, rest = name.split("/", 2)
    again = f"`prefkit train` with the recipe of '{folder.rpartition('-')[0]}'"
    if rest.startswith("checkpoint"):
        return f"remove trained/{folder}/{rest.partition('/')[0]}, then {again} begins from the start"
    if rest in {"metrics.jsonl", "evaluations.jsonl"}:
        return (
            f"nothing but charts reads it once the model stands; to have it again, remove trained/{folder}, "
            f"then {again} trains from the start"
        )
    return f"remove trained/{folder}, then {again} trains from the start"
