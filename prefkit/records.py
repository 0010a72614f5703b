"""Records: what a store says of its objects. Manifests by step key, parts by part key, refs by name.

Records are small sealed files in a place, a folder or object storage. Those with the same key may be written again, by
`--refresh` or after a failure, so none is ever taken from a copy: the place is asked each time.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prefkit.catalog import suggest
from prefkit.disk import Place, sealed, unsealed
from prefkit.errors import StoreError
from prefkit.manifest import FORMAT, Manifest, Part, Ref

__all__ = ["REBUILD", "Records", "mark", "refuse_newer"]

REBUILD = "run `prefkit build` again: what is damaged is made anew"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STEP = re.compile(r"[0-9][0-9]-.*\.json", re.DOTALL)
_RECIPE = "recipe.json"
_MARKER = "store.json"
R = TypeVar("R", bound=BaseModel)


class Records:
    """Manifests, parts and refs in a place."""

    def __init__(self, place: Place, shown: str) -> None:
        """Read and write at a place, which messages call `shown`."""
        self.place = place
        self.shown = shown
        self._said: dict[str, dict[str, bytes]] | None = None
        """What stands in the refs of a run, as long as a build holds the lock and knows."""

    # manifests and parts

    def step(self, key: str) -> Manifest | None:
        """Return the manifest of a finished step, or None. A damaged one counts as absent."""
        found = _parsed(self.place.read(f"steps/{key}.json"), Manifest)
        return found if found is None or found.key == key else None

    def save_step(self, manifest: Manifest) -> None:
        """File the manifest of a finished step: the step is done when this returns."""
        self._write(f"steps/{manifest.key}.json", manifest.model_dump(mode="json"))

    def part(self, key: str) -> Part | None:
        """Return what a step made of one shard, or None."""
        return self.parts([key]).get(key)

    def parts(self, keys: Sequence[str]) -> dict[str, Part]:
        """Return those of the parts that stand, by key."""
        found = self.place.read_many([f"parts/{key}.json" for key in keys], sparse=True)
        parsed = {key: _parsed(found.get(f"parts/{key}.json"), Part) for key in keys}
        return {key: part for key, part in parsed.items() if part is not None and part.key == key}

    def save_part(self, part: Part) -> None:
        """File what a step made of one shard."""
        self._write(f"parts/{part.key}.json", part.model_dump(mode="json"))

    def forget(self, key: str) -> None:
        """Remove the manifest and the part of this key, so that they are made anew."""
        self.place.remove([f"steps/{key}.json"])
        self.place.remove([f"parts/{key}.json"])

    # refs

    def runs(self) -> list[str]:
        """Return the names of the runs in the store, sorted."""
        found = (name.split("/") for name in self.place.listed("refs"))
        return sorted({parts[1] for parts in found if len(parts) > 2})

    def refs(self, run: str) -> list[Ref]:
        """Return the refs of a run, in the order of its steps. Raises StoreError if it is unknown or one is damaged."""
        names = list(self.place.listed(_folder(run)))
        if not names:
            runs = self.runs()
            hint = suggest(run, runs) or f"runs here: {', '.join(runs) or 'none; prefkit build first'}"
            raise StoreError(f"no run is called '{run}'", where=self.shown, hint=hint)
        steps = [name for name in names if _STEP.fullmatch(name.rpartition("/")[2])]
        found = self.place.read_many(steps)
        return [self._ref(run, name, found[name]) for name in steps if name in found]

    def _ref(self, run: str, name: str, data: bytes) -> Ref:
        ref, step = _parsed(data, Ref), name.rpartition("/")[2].removesuffix(".json")
        if ref is None or (ref.run, ref.step) != (run, step) or not _NAME.fullmatch(ref.key):
            raise StoreError(f"the ref '{run}/{step}' is damaged", where=self.place.where(name), hint=REBUILD)
        return ref

    def save_refs(
        self, run: str, keys: Mapping[str, str], recipe: Mapping[str, Any], *, first: bool = False
    ) -> None:
        """Point a run's step names at their keys, and keep the recipe as it was run.

        Refs to further steps are removed, unless these are only the `first` steps and none of them has changed: a build
        that stops early loses nothing that still fits.
        """
        folder = _folder(run)
        before = self._before(run, first=first)
        refs = {f"{_checked_name(step)}.json": Ref(run=run, step=step, key=key) for step, key in keys.items()}
        fits = first and all(_key(before.get(name)) == ref.key for name, ref in refs.items())
        now = {name: sealed(ref.model_dump(mode="json")) for name, ref in refs.items()}
        # In this order, a build that is killed in between leaves fewer refs, and never those of two builds.
        for name in [name for name in before if _STEP.fullmatch(name) and name not in now and not fits]:
            self.place.remove([f"{folder}/{name}"])
            del before[name]
        self._replace(folder, _RECIPE, sealed(recipe), before)
        for name, data in now.items():
            self._replace(folder, name, data, before)

    def _before(self, run: str, *, first: bool) -> dict[str, bytes]:
        """Return the refs of a run and its recipe as they stand: asked for once by a build, and again at its end."""
        if self._said is not None and first and run in self._said:
            return self._said[run]
        folder = _folder(run)
        names = [name for name in self.place.listed(folder) if _is_ref(name.rpartition("/")[2])]
        found = {name.rpartition("/")[2]: data for name, data in self.place.read_many(names).items()}
        if self._said is not None:
            self._said[run] = found
        return found

    def _replace(self, folder: str, name: str, data: bytes, before: dict[str, bytes]) -> None:
        if before.get(name) != data:
            self._make()
            self.place.write(f"{folder}/{name}", data)
            before[name] = data

    def recipe(self, run: str) -> dict[str, Any]:
        """Return what `save_refs` kept of a run's recipe."""
        name = f"{_folder(run)}/{_RECIPE}"
        data = self.place.read(name)
        value = None if data is None else unsealed(data)
        if value is None:
            what = f"the recipe of run '{run}' is gone or damaged"
            raise StoreError(what, where=self.place.where(name), hint=REBUILD)
        return value

    def resolve(self, name: str) -> Manifest:
        """Return the manifest that `run`, `run/05-pair` or `run/pair` names. Raises StoreError with what there is."""
        run, _, step = name.partition("/")
        refs = self.refs(run)
        matching = [ref for ref in refs if step in ("", ref.step, ref.step.partition("-")[2])]
        if not matching:
            steps = ", ".join(ref.step for ref in refs) or "none; prefkit build first"
            what = f"run '{run}' has no step '{step}'" if step else f"run '{run}' has no steps"
            raise StoreError(what, where=self.shown, hint=f"steps: {steps}")
        return self.manifest(matching[-1])

    def manifest(self, ref: Ref) -> Manifest:
        """Return the manifest that a ref points to. Raises StoreError if it is gone or damaged."""
        manifest = self.step(ref.key)
        if manifest is None:
            what = f"the manifest of '{ref.run}/{ref.step}' is gone or damaged"
            raise StoreError(what, where=self.place.where(f"steps/{ref.key}.json"), hint=REBUILD)
        return manifest

    # beside the refs

    def note(self, run: str, name: str) -> bytes | None:
        """Return what is kept beside the refs of a run under a name, None if there is nothing."""
        return self.place.read(self._note(run, name))

    def save_note(self, run: str, name: str, data: bytes) -> str:
        """Keep a file beside the refs of a run, and return where it is."""
        self._make()
        self.place.write(self._note(run, name), data)
        return self.place.where(self._note(run, name))

    def _note(self, run: str, name: str) -> str:
        assert not _is_ref(name)
        return f"{_folder(run)}/{_checked_name(name)}"

    # what a store adds

    def _make(self) -> None:
        """Make the place a store, if it is none yet."""

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        self._make()
        self.place.write(name, sealed(value))


def mark(place: Place) -> None:
    """Say that this is a store, and of which format."""
    if place.read(_MARKER) is None:
        place.write(_MARKER, sealed({"format": FORMAT}))


def refuse_newer(place: Place, shown: str) -> bool:
    """Say whether there is a store. Raises StoreError if there is one of another format, or something else."""
    where = place.where(_MARKER)
    try:
        data = place.read(_MARKER)
    except StoreError as error:
        if not isinstance(error.__cause__, NotADirectoryError):
            raise
        raise StoreError(
            f"the store '{shown}' is not a folder", where=shown, hint="give another --store"
        ) from error
    if data is None:
        return False
    try:
        found = json.loads(data)["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"this store's marker cannot be read: {str(error).splitlines()[0][:200]}"
        raise StoreError(what, where=where, hint="give another --store, or restore the file") from error
    if not isinstance(found, int) or found > FORMAT:
        what = f"this store has format {found!r}, and this prefkit reads up to {FORMAT}"
        raise StoreError(what, where=shown, hint="upgrade prefkit, or give another --store")
    return True


def _folder(run: str) -> str:
    return f"refs/{_checked_name(run)}"


def _is_ref(name: str) -> bool:
    return name == _RECIPE or _STEP.fullmatch(name) is not None


def _key(data: bytes | None) -> str | None:
    ref = _parsed(data, Ref)
    return None if ref is None else ref.key


def _parsed(data: bytes | None, kind: type[R]) -> R | None:
    value = None if data is None else unsealed(data)
    try:
        return None if value is None else kind.model_validate(value)
    except ValidationError:
        return None


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        what = f"'{name[:80]}' is not a usable name"
        raise StoreError(what, hint="use letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return name
