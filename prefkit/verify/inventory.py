"""Inventory: what a store says it holds: its refs, manifests and parts, each with the seal it was written under.

It is read through the store's place, so that a folder and object storage are looked at alike.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from prefkit.disk import TEMPORARY, unsealed
from prefkit.errors import StoreError
from prefkit.manifest import Manifest, Part, Ref, Shard
from prefkit.removed import NOTES
from prefkit.store import Store
from prefkit.verify.fault import Kind

__all__ = ["Inventory", "Stated", "shards_of", "take", "take_run", "temporary"]

R = TypeVar("R", bound=BaseModel)
_STEP = re.compile(r"[0-9]{2,}-.+")


class Stated(NamedTuple):
    """A file of the store that is not what it should be, before it is known what that costs."""

    kind: Kind
    what: str
    where: str
    folder: str
    """`steps`, `parts`, `refs` or `removed`."""
    key: str
    """Of a manifest or a part; the run of a ref."""


class Inventory(NamedTuple):
    """What the store says it holds."""

    steps: dict[str, Manifest]
    """By key, without their statistics."""
    parts: dict[str, Part]
    refs: dict[str, list[Ref]]
    """By run, in the order of the steps."""
    removed: set[str]
    """Keys of steps whose rows were removed on purpose."""
    wrong: list[Stated]

    def names(self, key: str) -> tuple[str, ...]:
        """Return the steps of runs that a key is filed under: `small/05-pair`."""
        return tuple(f"{ref.run}/{ref.step}" for refs in self.refs.values() for ref in refs if ref.key == key)

    def state(self, kind: Kind, what: str, name: str, key: str = "") -> None:
        """Note something that is not what it should be. A ref is keyed by its run, all else by its own name."""
        parts = name.split("/")
        own = parts[1] if parts[0] == "refs" else parts[-1].removesuffix(".json")
        self.wrong.append(Stated(kind, what, name, parts[0], key or own))


def take(store: Store) -> Inventory:
    """Read every ref, manifest and part of a store. What cannot be believed is listed, and left out."""
    found = Inventory({}, {}, {}, set(), [])
    for run in store.runs():
        _take_refs(store, run, found, "")
    for name in _json(store, "steps"):
        _take_step(store, _stem(name), found)
    for name in _json(store, NOTES):
        _take_note(store, _stem(name), found)
    for name in _json(store, "parts"):
        part = _read(store, name, Part, found, f"part {_stem(name)}")
        if part is not None and part.key == _stem(name):
            found.parts[part.key] = part
        elif part is not None:
            found.state("damaged", f"part {_stem(name)} is that of another key", name)
    _take_named(store, found)
    return found


def take_run(store: Store, run: str, step: str = "") -> Inventory:
    """Read the refs of one run, or one of them, and the manifests they name. Raises StoreError if there is none."""
    found = Inventory({}, {}, {}, set(), [])
    if run not in store.runs():
        store.refs(run)  # says what there is
    _take_refs(store, run, found, step)
    if step and not found.refs[run] and not found.wrong:
        store.resolve(f"{run}/{step}")  # says what there is
    _take_named(store, found)
    return found


def shards_of(manifest: Manifest) -> Iterator[Shard]:
    """Yield every object that a manifest names: rows, and rows put aside."""
    yield from (*manifest.shards, *manifest.dropped, *manifest.failed)


def temporary(store: Store) -> int:
    """Return how many files writers have under way, or left behind when they were killed."""
    folders = ("steps", "parts", "refs", "objects", NOTES)
    names = [name for folder in folders for name in store.place.listed(folder)]
    beside = [] if store.remote is not None else list(store.root.glob(f"{TEMPORARY}*"))
    return sum(TEMPORARY in name for name in names) + len(beside)


def _take_refs(store: Store, run: str, found: Inventory, step: str) -> None:
    found.refs[run] = []
    for name in _json(store, f"refs/{run}"):
        label = _stem(name)
        if not _STEP.fullmatch(label) or step not in {"", label, label.partition("-")[2]}:
            continue
        ref = _read(store, name, Ref, found, f"the ref '{run}/{label}'")
        if ref is not None and (ref.run, ref.step) == (run, label):
            found.refs[run].append(ref)
        elif ref is not None:
            found.state("damaged", f"the ref '{run}/{label}' is that of another step", name)
    name, before = f"refs/{run}/recipe.json", len(found.wrong)
    recipe = _sealed(store, name, found, f"the recipe of run '{run}'")
    if (
        recipe is None and found.refs[run] and len(found.wrong) == before
    ):  # it is written before the first ref
        found.state("missing", f"the recipe of run '{run}' is not there", name)


def _take_named(store: Store, found: Inventory) -> None:
    """Read the manifests that refs name and that are not read yet; then check that the steps of each run fit."""
    for run, refs in found.refs.items():
        for ref in refs:
            if ref.key in found.steps or any(each.key == ref.key for each in found.wrong):
                continue
            before = len(found.wrong)
            _take_step(store, ref.key, found)
            _take_note(store, ref.key, found)
            if ref.key not in found.steps and len(found.wrong) == before:
                what = f"the manifest of '{run}/{ref.step}' is not there"
                found.state("missing", what, f"steps/{ref.key}.json")
        _check_chain(run, refs, found)


def _check_chain(run: str, refs: list[Ref], found: Inventory) -> None:
    """Check that each step is of the stage its ref names, and was made from the rows of the one before."""
    before: tuple[int, Ref] | None = None
    for ref in refs:
        digits, _, stage = ref.step.partition("-")
        name, manifest = f"refs/{run}/{ref.step}.json", found.steps.get(ref.key)
        last = None if before is None else found.steps.get(before[1].key)
        follows = before is not None and int(digits) == before[0] + 1
        if manifest is not None and manifest.stage != stage:
            what = f"the ref '{run}/{ref.step}' names a step of the stage '{manifest.stage}'"
            found.state("disagrees", what, name)
        elif before is not None and follows and manifest and last and manifest.input != last.digest:
            what = f"'{run}/{ref.step}' was made from other rows than those of '{run}/{before[1].step}'"
            found.state("disagrees", what, name)
        elif before is not None and not follows:
            _state_gap(run, before[0] + 1, found)
        before = int(digits), ref


def _state_gap(run: str, number: int, found: Inventory) -> None:
    """Say that a ref is not there, unless it is there and was found wrong."""
    if not any(wrong.where.startswith(f"refs/{run}/{number:02d}-") for wrong in found.wrong):
        found.state("missing", f"run '{run}' has no ref to its step {number:02d}", f"refs/{run}")


def _take_step(store: Store, key: str, found: Inventory) -> None:
    name = f"steps/{key}.json"
    manifest = _read(store, name, Manifest, found, f"manifest {key}")
    if manifest is None:
        return
    if manifest.key != key:
        found.state("damaged", f"manifest {key} is that of another key", name)
        return
    counted = sum(shard.rows for shard in manifest.shards)
    if counted != manifest.rows.kept:
        found.state("disagrees", f"manifest {key} says {manifest.rows.kept} rows and names {counted}", name)
    found.steps[key] = manifest.model_copy(update={"statistics": {}})


def _take_note(store: Store, key: str, found: Inventory) -> None:
    """Read the note that the rows of a step were removed, if there is one."""
    value = _sealed(store, f"{NOTES}/{key}.json", found, f"the note on the removed rows of step {key}")
    if value is not None and value.get("key") == key:
        found.removed.add(key)
    elif value is not None:
        found.state("damaged", f"the note {key} is that of another step", f"{NOTES}/{key}.json")


def _read(store: Store, name: str, kind: type[R], found: Inventory, what: str) -> R | None:
    value = _sealed(store, name, found, what)
    if value is None:
        return None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        found.state("damaged", f"{what} is none: {_first(error)}", name)
        return None


def _sealed(store: Store, name: str, found: Inventory, what: str) -> dict[str, Any] | None:
    """Return what a sealed file says; None if it is not there, or states why it cannot be believed."""
    try:
        data = store.place.read(name)
    except StoreError as error:
        found.state("unreadable", f"{what} cannot be read: {error.what}", name)
        return None
    value = None if data is None else unsealed(data)
    if data is not None and value is None:
        found.state("damaged", f"{what} is not as it was written", name)
    return value


def _first(error: ValidationError) -> str:
    wrong = error.errors()[0]
    return f"{'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg'].lower()}"[:200]


def _json(store: Store, folder: str) -> list[str]:
    depth = folder.count("/") + 1
    return [
        name
        for name in store.place.listed(folder)
        if name.endswith(".json") and name.count("/") == depth and TEMPORARY not in name
    ]


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".json")
