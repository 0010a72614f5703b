"""Standing: which steps need not run, and whose rows may go once the next step stands.

A step stands when its manifest does, no row of it failed, and what it made is there: its rows, or a note that they were
removed on purpose (`prefkit.removed`), and the rows it dropped, which stay. Those are never more than one copy of the
data, since a row is dropped once, and they are what somebody looks for later.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from prefkit.errors import StoreError
from prefkit.manifest import Manifest, Shard
from prefkit.removed import is_noted, note_removed, unnote
from prefkit.store import Store
from prefkit.threads import cores, in_threads

__all__ = ["Standing", "mark_whole", "remove_rows", "standing", "take_back"]


class Standing(NamedTuple):
    """A step that need not run."""

    manifest: Manifest
    whole: bool
    """Whether its rows are there; if not, they were removed on purpose."""


def standing(store: Store, key: str) -> Standing | None:
    """Return a step that need not run, or None. Looks at sizes of files, not into them."""
    manifest = store.step(key)
    if manifest is None or not manifest.complete or not all(map(store.has, manifest.dropped)):
        return None
    whole = all(map(store.has, manifest.shards))
    return Standing(manifest, whole) if whole or is_noted(store.place, key) else None


def mark_whole(store: Store, manifest: Manifest) -> None:
    """Forget that a step's rows were ever removed: they are there."""
    unnote(store.place, manifest.key)


def remove_rows(store: Store, run: str, manifest: Manifest, after: Manifest) -> None:
    """Remove the rows of a step that the step after it was made of, but for what that one and other runs need.

    Raises StoreError.
    """
    others = list(_of_others(store, run))
    if any(other.key == manifest.key for other in others):
        return
    needed = _objects((after, *others))
    gone = [shard for shard in manifest.shards if shard.digest not in needed and store.has(shard)]
    if not gone:
        return
    note_removed(store.place, manifest.key, (shard.digest for shard in manifest.shards))
    for _ in in_threads(store.discard, gone, cores()):
        pass


def take_back(store: Store, shards: Iterable[Shard]) -> None:
    """Remove shards that were filed on the way to something else, but for those that a run has. Raises StoreError."""
    found = (store.step(ref.key) for run in store.runs() for ref in store.refs(run))
    needed = _objects(each for each in found if each is not None)
    for shard in shards:
        if shard.digest not in needed:
            store.discard(shard)


def _objects(manifests: Iterable[Manifest]) -> set[str]:
    return {shard.digest for each in manifests for shard in (*each.shards, *each.dropped, *each.failed)}


def _of_others(store: Store, run: str) -> Iterator[Manifest]:
    """Yield the steps of other runs, and those of this run that another one reads as its data."""
    for other in store.runs():
        if other == run:
            continue
        for ref in store.refs(other):
            found = store.step(ref.key)
            if found is not None:
                yield found
        yield from _read_by(store, other, run)


def _read_by(store: Store, other: str, run: str) -> Iterator[Manifest]:
    """Yield the steps of a run that another run's recipe names as its data."""
    try:
        sources = store.recipe(other).get("data", ())
    except StoreError:  # a run whose recipe is damaged is built anew, and says then what it misses
        return
    for source in sources if isinstance(sources, list) else ():
        name = str(source.get("ref") or "") if isinstance(source, dict) else ""
        if name.partition("/")[0] == run:
            yield store.resolve(name)
