"""Garbage collection: find what no ref reaches, and delete it when told to.

Reachable are the manifests that refs point to, the objects those name, and the parts whose objects are all reachable.
Engine answers are never collected: they are what a run paid for.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prefkit.errors import StoreError
from prefkit.manifest import Manifest
from prefkit.store import Store

__all__ = ["Garbage", "collect", "find"]

_TEMPORARY = ".tmp-"


class Garbage(NamedTuple):
    """Files no ref reaches, and what they weigh."""

    files: tuple[Path, ...]
    bytes: int


def find(store: Store) -> Garbage:
    """List what no ref reaches. Deletes nothing.

    Raises StoreError if a ref or its manifest is damaged: what it reaches is not known then.
    """
    refs = [ref for run in store.runs() for ref in store.refs(run)]
    steps = {ref.key for ref in refs}
    manifests = [store.manifest(ref) for ref in refs]
    objects = {digest for manifest in manifests for digest in _objects(manifest)}
    files = [
        *(path for path in _files(store, "steps/*.json") if path.stem not in steps),
        *(path for path in _files(store, "parts/*.json") if not _part_lives(store, path, objects)),
        *(path for path in _files(store, "objects/*/*.arrow") if path.stem not in objects),
        *_temporary(store),
    ]
    return Garbage(tuple(sorted(files)), sum(_size(path) for path in files))


def collect(store: Store) -> Garbage:
    """Delete what no ref reaches, and return it. Raises StoreError while a build is running."""
    with store.locked(exclusive=True):
        garbage = find(store)
        try:
            for path in garbage.files:
                path.unlink(missing_ok=True)
            for folder in store.root.glob(".tmp-*"):
                shutil.rmtree(folder)  # of a build that was killed: no build is running now
        except OSError as error:
            what = f"cannot delete: {error.strerror or error}"
            raise StoreError(
                what, where=str(store.root), hint="check the permissions of the store"
            ) from error
    return garbage


def _objects(manifest: Manifest) -> Iterator[str]:
    for shard in (*manifest.shards, *manifest.dropped, *manifest.failed):
        yield shard.digest


def _part_lives(store: Store, path: Path, objects: set[str]) -> bool:
    part = store.part(path.stem)
    if part is None:
        return False
    aside = [shard for shard in (part.dropped, part.failed) if shard is not None]
    return all(shard.digest in objects for shard in [*part.outputs, *aside])


def _temporary(store: Store) -> Iterator[Path]:
    """Yield what writers have under way or left behind. A running build may remove any of it meanwhile."""
    for folder, _, names in os.walk(store.root):
        inside = any(part.startswith(_TEMPORARY) for part in Path(folder).relative_to(store.root).parts)
        yield from (Path(folder) / name for name in names if inside or name.startswith(_TEMPORARY))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _files(store: Store, pattern: str) -> list[Path]:
    return [path for path in store.root.glob(pattern) if path.is_file()]
