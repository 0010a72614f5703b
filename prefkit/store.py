"""The store: objects by content, manifests by step key, refs by name.

    objects/3f/3f9c….arrow       one table, named by the digest of its values; never changes
    steps/81d2….json             manifest of one finished step
    parts/0c4e….json             what a step made of one shard, so that a killed build goes on from there
    refs/my-run/05-pair.json     the key of the last good run of a step, for people and for `gc`
    refs/my-run/recipe.json      the recipe as it was run, `--set` applied
    memo.sqlite                  engine answers by request

Every file is written to a temporary name, flushed to disk and renamed, so it is there whole or not at all, and two
builds that make the same thing write the same bytes to the same name. An object is checked against its digest when it
is first read; one that was cut short or edited is reported as absent, and the step that made it runs again.
Builds hold a shared lock and `gc` an exclusive one, so nothing is collected under a running build.
"""

import contextlib
import fcntl
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa
from pyarrow import ipc
from pydantic import BaseModel, ValidationError

from prefkit.catalog import suggest
from prefkit.disk import READ_ONLY, read_sealed, remove, unwritable, write_file, write_sealed
from prefkit.errors import ContractError, StoreError
from prefkit.identity import digest
from prefkit.manifest import FORMAT, Manifest, Part, Ref, Shard

__all__ = ["DEFAULT", "DamagedError", "Store"]

DEFAULT = Path("runs")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_STEPS = "[0-9][0-9]-*.json"
R = TypeVar("R", bound=BaseModel)


class DamagedError(StoreError):
    """An object is gone, cut short or edited. The runner makes it anew."""

    def __init__(self, what: str, shard: Shard, *, where: str) -> None:
        super().__init__(what, where=where, hint=_REBUILD)
        self.shard = shard


class Store:
    """A folder of results. Opening one writes nothing; it is made on the first write."""

    def __init__(self, root: Path | str = DEFAULT) -> None:
        self.root = Path(root)
        self._checked: dict[
            str, tuple[int, int, int]
        ] = {}  # digest -> (inode, size, mtime) when it was verified
        _refuse_newer(self.root)

    # objects

    def put(self, table: pa.Table) -> Shard:
        """File a table by the digest of its values and return its shard. Writing it twice is harmless."""
        table = table.replace_schema_metadata(None)
        name = digest(table)
        path = self._object(name)
        if not self._intact(name, table.num_rows):
            self._make()
            write_file(path, lambda file: _write_ipc(table, file))
            self._checked[name] = _stamp(path)
        return Shard(digest=name, rows=table.num_rows, bytes=path.stat().st_size)

    def get(self, shard: Shard) -> pa.Table:
        """Return a shard as a memory-mapped table. Raises DamagedError if it is gone or not what its name says."""
        path = self._object(shard.digest)
        try:
            stamp = _stamp(path)
            with pa.memory_map(str(path)) as file:
                table = ipc.open_file(file).read_all()
            sound = self._checked.get(shard.digest) == stamp or digest(table) == shard.digest
        except (OSError, pa.ArrowException, ValueError, ContractError) as error:
            what = f"object {shard.digest} cannot be read: {_short(error)}"
            raise DamagedError(what, shard, where=str(path)) from error
        if not sound:
            raise DamagedError(f"object {shard.digest} is not what its name says", shard, where=str(path))
        self._checked[shard.digest] = stamp
        return table

    def table(self, manifest: Manifest) -> pa.Table:
        """Return all rows of a step as one memory-mapped table."""
        return pa.concat_tables([self.get(shard) for shard in manifest.shards])

    def read_ref(self, name: str) -> Iterator[pa.Table]:
        """Yield the shards that `run/05-pair` names, for a source."""
        for shard in self.resolve(name).shards:
            yield self.get(shard)

    def columns(self, name: str) -> pa.Schema:
        """Return the columns of the step that `run/05-pair` names."""
        return self.get(self.resolve(name).shards[0]).schema

    def has(self, shard: Shard) -> bool:
        """Say whether a shard is there and, by its size, whole. `get` looks at its content."""
        try:
            return self._object(shard.digest).stat().st_size == shard.bytes
        except OSError:
            return False

    def path(self, shard: Shard) -> Path:
        """Return the file of a shard."""
        return self._object(shard.digest)

    def discard(self, shard: Shard) -> None:
        """Remove an object that was found damaged, so that it is written anew."""
        self._checked.pop(shard.digest, None)
        remove(self._object(shard.digest))

    def _intact(self, name: str, rows: int) -> bool:
        path = self._object(name)
        if not path.exists():
            return False
        try:
            self.get(Shard(digest=name, rows=rows, bytes=0))
        except DamagedError:
            return False
        return True

    def _object(self, name: str) -> Path:
        if not _DIGEST.fullmatch(name):
            raise StoreError(f"'{name[:80]}' is not a digest", where=str(self.root))
        return self.root / "objects" / name[:2] / f"{name}.arrow"

    # manifests

    def step(self, key: str) -> Manifest | None:
        """Return the manifest of a finished step, or None. A damaged one counts as absent."""
        found = self._read(self.root / "steps" / f"{key}.json", Manifest)
        return found if found is None or found.key == key else None

    def save_step(self, manifest: Manifest) -> None:
        """File the manifest of a finished step: the step is done when this returns."""
        self._write_json(self.root / "steps" / f"{manifest.key}.json", manifest.model_dump(mode="json"))

    def part(self, key: str) -> Part | None:
        """Return what a step made of one shard, or None."""
        found = self._read(self.root / "parts" / f"{key}.json", Part)
        return found if found is None or found.key == key else None

    def save_part(self, part: Part) -> None:
        """File what a step made of one shard."""
        self._write_json(self.root / "parts" / f"{part.key}.json", part.model_dump(mode="json"))

    def forget(self, key: str) -> None:
        """Remove the manifest and the part of this key, so that they are made anew."""
        for folder in ("steps", "parts"):
            remove(self.root / folder / f"{key}.json")

    # refs

    def runs(self) -> list[str]:
        """Return the names of the runs in the store, sorted."""
        folder = self.root / "refs"
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []

    def refs(self, run: str) -> list[Ref]:
        """Return the refs of a run, in the order of its steps. Raises StoreError if it is unknown or one is damaged."""
        folder = self.root / "refs" / _checked_name(run)
        if not folder.is_dir():
            hint = (
                suggest(run, self.runs())
                or f"runs here: {', '.join(self.runs()) or 'none; prefkit build first'}"
            )
            raise StoreError(f"no run is called '{run}'", where=str(self.root), hint=hint)
        return [self._ref(run, path) for path in sorted(folder.glob(_STEPS)) if path.exists()]

    def _ref(self, run: str, path: Path) -> Ref:
        ref = self._read(path, Ref)
        if ref is None or (ref.run, ref.step) != (run, path.stem) or not _NAME.fullmatch(ref.key):
            raise StoreError(f"the ref '{run}/{path.stem}' is damaged", where=str(path), hint=_REBUILD)
        return ref

    def save_refs(
        self, run: str, keys: Mapping[str, str], recipe: Mapping[str, Any], *, first: bool = False
    ) -> None:
        """Point a run's step names at their keys, and keep the recipe as it was run.

        Refs to further steps are removed, unless these are only the `first` steps and none of them has changed: a build
        that stops early loses nothing that still fits.
        """
        folder = self.root / "refs" / _checked_name(run)
        fits = first and all(self._points(run, step, key) for step, key in keys.items())
        for step, key in keys.items():
            ref = Ref(run=run, step=_checked_name(step), key=key)
            self._write_json(folder / f"{step}.json", ref.model_dump(mode="json"))
        for path in folder.glob(_STEPS):
            if path.stem not in keys and not fits:
                remove(path)
        self._write_json(folder / "recipe.json", recipe)

    def _points(self, run: str, step: str, key: str) -> bool:
        ref = self._read(self.root / "refs" / run / f"{step}.json", Ref)
        return ref is not None and ref.key == key

    def recipe(self, run: str) -> dict[str, Any]:
        """Return what `save_refs` kept of a run's recipe."""
        path = self.root / "refs" / _checked_name(run) / "recipe.json"
        value = read_sealed(path)
        if value is None:
            raise StoreError(f"the recipe of run '{run}' is gone or damaged", where=str(path), hint=_REBUILD)
        return value

    def resolve(self, name: str) -> Manifest:
        """Return the manifest that `run`, `run/05-pair` or `run/pair` names. Raises StoreError with what there is."""
        run, _, step = name.partition("/")
        refs = self.refs(run)
        matching = [ref for ref in refs if step in ("", ref.step, ref.step.partition("-")[2])]
        if not matching:
            steps = ", ".join(ref.step for ref in refs) or "none; prefkit build first"
            what = f"run '{run}' has no step '{step}'" if step else f"run '{run}' has no steps"
            raise StoreError(what, where=str(self.root), hint=f"steps: {steps}")
        return self.manifest(matching[-1])

    def manifest(self, ref: Ref) -> Manifest:
        """Return the manifest that a ref points to. Raises StoreError if it is gone or damaged."""
        manifest = self.step(ref.key)
        if manifest is None:
            what = f"the manifest of '{ref.run}/{ref.step}' is gone or damaged"
            raise StoreError(what, where=str(self.root / "steps" / f"{ref.key}.json"), hint=_REBUILD)
        return manifest

    # files

    @contextlib.contextmanager
    def locked(self, *, exclusive: bool = False) -> Iterator[None]:
        """Hold the store's lock: shared for builds, exclusive for `gc`, which refuses rather than waits.

        A store that cannot be written is read without a lock: nothing can be collected there.
        """
        self._make()
        try:
            file = (self.root / "lock").open("a")
        except OSError as error:
            if exclusive or error.errno not in READ_ONLY:
                raise unwritable(error, self.root) from error
            yield
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
            except BlockingIOError as error:
                hint = "run it again when the build has finished"
                raise StoreError(
                    "a build is running on this store", where=str(self.root), hint=hint
                ) from error
            yield

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Make a folder for temporary files on the store's own disk, and remove it."""
        self._make()
        try:
            folder = tempfile.TemporaryDirectory(dir=self.root, prefix=".tmp-", ignore_cleanup_errors=True)
        except OSError as error:
            raise unwritable(error, self.root) from error
        with folder as name:
            yield Path(name)

    def _make(self) -> None:
        marker = self.root / "store.json"
        if marker.exists():
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(error, self.root) from error
        write_sealed(marker, {"format": FORMAT})

    def _write_json(self, path: Path, value: Mapping[str, Any]) -> None:
        self._make()
        write_sealed(path, value)

    def _read(self, path: Path, kind: type[R]) -> R | None:
        value = read_sealed(path)
        try:
            return None if value is None else kind.model_validate(value)
        except ValidationError:
            return None


_MOST_CHUNKS = 8
_REBUILD = "run `prefkit build` again: what is damaged is made anew"


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        what = f"'{name[:80]}' is not a usable name"
        raise StoreError(what, hint="use letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return name


def _refuse_newer(root: Path) -> None:
    marker = root / "store.json"
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))["format"]
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        what = f"the store '{root}' is not a folder"
        raise StoreError(what, where=str(root), hint="give another --store") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"this store's marker cannot be read: {_short(error)}"
        raise StoreError(what, where=str(marker), hint="give another --store, or restore the file") from error
    if not isinstance(found, int) or found > FORMAT:
        what = f"this store has format {found!r}, and this prefkit reads up to {FORMAT}"
        raise StoreError(what, where=str(root), hint="upgrade prefkit, or give another --store")


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _stamp(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _write_ipc(table: pa.Table, file: BinaryIO) -> None:
    with ipc.new_file(file, table.schema) as writer:
        # Slices of mapped shards are written as they are; only many small chunks are worth a copy.
        writer.write_table(table if _chunks(table) <= _MOST_CHUNKS else table.combine_chunks())


def _chunks(table: pa.Table) -> int:
    return max((column.num_chunks for column in table.columns), default=0)
