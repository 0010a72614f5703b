"""Garbage collection: find what no ref reaches, and delete it when told to.

Reachable are the manifests that refs point to, the objects those name, and the parts whose objects are all reachable.
Engine answers are never collected: they are what a run paid for. Neither are trained models and reports of experiments.
"""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from prefkit.disk import TEMPORARY, Entry
from prefkit.errors import StoreError
from prefkit.manifest import Manifest, Part
from prefkit.removed import NOTES
from prefkit.store import Store

__all__ = ["Garbage", "collect", "find"]

_AT_ONCE = 1000
"""Files deleted, or parts read, before the next look at whether this still may be done."""


class Garbage(NamedTuple):
    """Files no ref reaches, and what they weigh."""

    files: tuple[str, ...]
    """Paths, or addresses in object storage."""
    bytes: int


def find(store: Store) -> Garbage:
    """List what no ref reaches. Deletes nothing.

    Raises StoreError if a ref or its manifest is damaged: what it reaches is not known then.
    """
    return _told(store, _unreached(store))


def collect(store: Store) -> Garbage:
    """Delete what no ref reaches, and return it. Raises StoreError while a build is running."""
    with store.locked(exclusive=True):
        loose = _unreached(store)
        garbage, names = _told(store, loose), list(loose)
        for start in range(0, len(names), _AT_ONCE):
            store.check_lease()
            store.place.remove(names[start : start + _AT_ONCE])
        if store.remote is not None:
            _check_gone(store, names)
        try:
            for path in (*_temporary(store), *(store.root / name for name in names)):
                path.unlink(missing_ok=True)
            for folder in store.root.glob(f"{TEMPORARY}*"):
                shutil.rmtree(folder)  # of a build that was killed: no build is running now
        except OSError as error:
            what = f"cannot delete: {error.strerror or error}"
            raise StoreError(what, where=str(store.root), hint=_RIGHTS) from error
    return garbage


_RIGHTS = "check the permissions of the store"


def _told(store: Store, loose: dict[str, int]) -> Garbage:
    files = {store.place.where(name): size for name, size in loose.items()}
    if store.remote is None:
        files |= {str(path): _size(path) for path in _temporary(store)}
    return Garbage(tuple(sorted(files)), sum(files.values()))


def _unreached(store: Store) -> dict[str, int]:
    """Return the size of each file that no ref reaches, by name: what names others before what it names."""
    keys = sorted({ref.key: ref for run in store.runs() for ref in store.refs(run)}.items())
    steps, objects = {key for key, _ in keys}, set[str]()
    for _, ref in keys:
        objects.update(_objects(store.manifest(ref)))
    loose = _loose(store.place.listed("steps"), ".json", steps)
    loose |= _loose(store.place.listed(NOTES), ".json", steps)
    loose |= _dead_parts(store, objects)
    return loose | _loose(store.place.listed("objects"), ".arrow", objects)


def _loose(there: Mapping[str, Entry], suffix: str, reached: set[str]) -> dict[str, int]:
    return {
        name: entry.bytes
        for name, entry in there.items()
        if name.endswith(suffix) and _stem(name) not in reached and not _is_temporary(name)
    }


def _dead_parts(store: Store, objects: set[str]) -> dict[str, int]:
    there = store.place.listed("parts")
    names = [name for name in there if name.endswith(".json") and not _is_temporary(name)]
    dead = dict[str, int]()
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        parts = store.parts([_stem(name) for name in some])
        dead |= {name: there[name].bytes for name in some if not _lives(parts.get(_stem(name)), objects)}
    return dead


def _lives(part: Part | None, objects: set[str]) -> bool:
    if part is None:
        return False
    aside = [shard for shard in (part.dropped, part.failed) if shard is not None]
    return all(shard.digest in objects for shard in [*part.outputs, *aside])


def _objects(manifest: Manifest) -> Iterator[str]:
    for shard in (*manifest.shards, *manifest.dropped, *manifest.failed):
        yield shard.digest


def _check_gone(store: Store, names: Sequence[str]) -> None:
    """Raise StoreError if files are still there: some storage refuses to delete, and does not say so."""
    folders = sorted({name.partition("/")[0] for name in names})
    left = set(names) & {name for folder in folders for name in store.place.listed(folder)}
    if left:
        what = f"the storage did not delete {len(left)} of {len(names)} files"
        raise StoreError(what, where=store.place.where(min(left)), hint=_RIGHTS)


def _temporary(store: Store) -> Iterator[Path]:
    """Yield what writers have under way or left behind. A running build may remove any of it meanwhile."""
    for folder, _, names in os.walk(store.root):
        inside = any(part.startswith(TEMPORARY) for part in Path(folder).relative_to(store.root).parts)
        yield from (Path(folder) / name for name in names if inside or name.startswith(TEMPORARY))


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _is_temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(TEMPORARY)


def _stem(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[0]
