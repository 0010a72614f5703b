"""Verify: check a store, or an exported dataset, against what it says of itself, and say what can be rebuilt.

It writes nothing, asks no model and no network, and takes nothing on trust: seals, sizes, values, digests, names. So
it runs on a copy, on another machine, and on a disk that cannot be written. For each fault it says where it is and
what making that again would take, since a shard that is put together from the step before costs seconds, and one whose
answers are gone costs what they cost.
"""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefkit.errors import StoreError
from prefkit.export_folder import MARKER
from prefkit.manifest import Part, Shard
from prefkit.mirror import object_name
from prefkit.remote import is_remote, local_path
from prefkit.removed import HINT, NOTES
from prefkit.store import Store
from prefkit.verify.answers import Memory, look
from prefkit.verify.contents import Checked, Wrong, check_all
from prefkit.verify.exported import verify_export
from prefkit.verify.fault import Counts, Fault, Report
from prefkit.verify.inventory import Inventory, shards_of, take, take_run, temporary
from prefkit.verify.mending import Mend, Mender
from prefkit.verify.results import Results, check_results

__all__ = ["Counts", "Fault", "Report", "verify", "verify_export", "verify_store"]


def verify(what: str, store: str, jobs: int = 1) -> Report:
    """Check the folder of an export or of a store, a run, a step of a run; or, where `what` is empty, `store`.

    A folder that is an export or a store counts before a run of that name. Raises StoreError where there is nothing to
    check: no store, no such run, or a store of a newer version.
    """
    if what and (is_remote(what) or (local_path(what) / "store.json").exists()):
        return verify_store(Store(what), jobs=jobs)
    if what and (Path(what) / MARKER).exists():
        return verify_export(Path(what), jobs)
    return verify_store(Store(store), what, jobs=jobs)


def verify_store(store: Store, name: str = "", *, jobs: int = 1) -> Report:
    """Check a store, or the steps that `run` or `run/05-pair` names, in the memory of a shard for each job."""
    started = time.perf_counter()
    _refuse_nothing(store, name)
    run, _, step = name.partition("/")
    with _kept(store):
        found = take_run(store, run, step) if name else take(store)
        others = [] if name else [*_of_parts(found), *_unnamed(store)]
        checked = check_all(store, list(found.steps.values()), others, jobs)
        memory = look(store)
        left = Results((), (), 0, 0) if step else check_results(store, found, whole=not name)
        faults = [*_faults(store, found, checked, memory), *left.faults]
    gone = {shard.digest for key in found.removed & found.steps.keys() for shard in found.steps[key].shards}
    there = [digest for digest, wrong in checked.objects.items() if wrong is None]
    sizes = {shard.digest: shard.bytes for manifest in found.steps.values() for shard in shards_of(manifest)}
    counts = Counts(
        runs=len(found.refs),
        steps=len(found.steps),
        parts=len(found.parts),
        files=len(checked.objects.keys() - (gone - set(there))) + left.files,
        rows=sum(manifest.rows.kept for manifest in found.steps.values()),
        bytes=sum(sizes.get(digest, 0) for digest in there) + left.bytes,
        answers=memory.answers if memory.remembers else None,
    )
    subject = f"{'step' if step else 'run'} '{name}'" if name else f"the store '{store.shown}'"
    notes = *_notes(store, found, checked, whole=not name), *left.notes, *_of_unchecked(memory)
    return Report(subject, tuple(faults), notes, counts, time.perf_counter() - started)


def _refuse_nothing(store: Store, name: str) -> None:
    folders = ("refs", "steps", "objects")
    if store.place.read("store.json") is not None or any(store.place.listed(folder) for folder in folders):
        return
    what = f"there is no store '{store.shown}'"
    if store.remote is None and store.root.exists():
        what = f"'{store.shown}' is no store"
    if name and Path(name).is_dir():
        what = f"'{name}' is neither an export nor a store, and {what}"
    raise StoreError(what, where=store.shown, hint="give --store, or the folder of a store or of an export")


@contextmanager
def _kept(store: Store) -> Iterator[None]:
    """Keep `gc` from the store meanwhile, where that takes no writing: the lock of a folder is only read."""
    try:
        file = (store.root / "lock").open("rb")
    except OSError:
        yield
        return
    with file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _of_parts(found: Inventory) -> Iterator[Shard]:
    for part in found.parts.values():
        yield from _shards(part)


def _shards(part: Part) -> Iterator[Shard]:
    yield from (shard for shard in (*part.outputs, part.dropped, part.failed) if shard is not None)


def _unnamed(store: Store) -> Iterator[Shard]:
    """Yield every object that is there. What has no size on record is checked by its values alone."""
    for name in store.place.listed("objects"):
        digest = name.rpartition("/")[2].removesuffix(".arrow")
        if name == object_name(digest):
            yield Shard(digest=digest, rows=0, bytes=0)


def _faults(store: Store, found: Inventory, checked: Checked, memory: Memory) -> Iterator[Fault]:
    damaged = {
        key
        for key, manifest in found.steps.items()
        if key in checked.manifests or any(checked.objects.get(s.digest) for s in manifest.shards)
    }
    mender = Mender(found, damaged, memory)
    removed = _removed(found)
    for wrong in found.wrong:
        mend = _stated(mender, wrong.folder, wrong.key)
        names = found.names(wrong.key) if wrong.folder == "steps" else ()
        yield Fault(wrong.kind, wrong.what, wrong.where, names, mend.how, mend.asked_again)
    for key, wrongly in checked.manifests.items():
        mend = mender.manifest(key)
        told = f"manifest {key} {wrongly.what}"
        yield Fault(wrongly.kind, told, f"steps/{key}.json", found.names(key), mend.how, mend.asked_again)
    for digest, state in checked.objects.items():
        if state is not None and not (state.kind == "missing" and digest in removed):
            yield _of_object(store, found, mender, digest, state)
    if memory.fault is not None:
        yield memory.fault
    if memory.rotten:
        yield _of_rotten(memory, "memo.sqlite" if store.remote is None else "memo")


def _of_unchecked(memory: Memory) -> Iterator[str]:
    if memory.unchecked:
        yield f"{memory.unchecked:,} remembered answers have no checksum, since an older prefkit wrote them"


def _of_rotten(memory: Memory, where: str) -> Fault:
    several = "answers are not as they were" if memory.rotten > 1 else "answer is not as it was"
    told = f"the memo of engine answers: {memory.rotten:,} {several} written"
    mend = "nothing to do: a build that needs them asks for them again, and pays for them"
    return Fault("damaged", told, where, mend=mend, asked_again=memory.rotten)


def _stated(mender: Mender, folder: str, key: str) -> Mend:
    if folder == "steps":
        return mender.manifest(key)
    if folder == NOTES:
        return Mend("`prefkit build` with its recipe makes the step again, and its rows with it")
    if folder == "parts":
        return Mend("remove it: a build that needs it makes it again, and what is finished does not")
    return mender.ref(key)


def _of_object(store: Store, found: Inventory, mender: Mender, digest: str, wrong: Wrong) -> Fault:
    where = object_name(digest)
    keys = [key for key, manifest in found.steps.items() if digest in {s.digest for s in shards_of(manifest)}]
    named = sorted(keys, key=lambda key: not found.names(key))
    if named:
        mend = mender.step(named[0], remove=store.place.where(where) if wrong.whole else "")
    elif any(digest == shard.digest for shard in _of_parts(found)):
        mend = Mend(
            "remove the file: only a part of an unfinished step names it, and the next build makes it again"
        )
    else:
        mend = Mend("remove the file: nothing names it")
    names = tuple(name for key in named for name in found.names(key))
    return Fault(wrong.kind, f"object {digest} {wrong.what}", where, names, mend.how, mend.asked_again)


def _removed(found: Inventory) -> set[str]:
    """Return the objects that were removed on purpose, and that nothing else needs."""
    kept = [manifest for key, manifest in found.steps.items() if key not in found.removed]
    gone = [manifest for key, manifest in found.steps.items() if key in found.removed]
    needed = {shard.digest for manifest in kept for shard in shards_of(manifest)}
    return {shard.digest for manifest in gone for shard in manifest.shards} - needed


def _notes(store: Store, found: Inventory, checked: Checked, *, whole: bool) -> Iterator[str]:
    removed = list[str]()
    for key, manifest in found.steps.items():
        names = ", ".join(found.names(key)) or f"step {key}"
        if manifest.rows.failed:
            failed = f"{manifest.rows.failed:,} rows of {names} failed when they were made"
            yield f"{failed}: the next build tries them again"
        if key in found.removed and any(checked.objects.get(shard.digest) for shard in manifest.shards):
            removed.append(names)
    if removed:
        these = removed[0] if len(removed) == 1 else f"{len(removed)} steps"
        yield f"the rows of {these} were removed to save disk; {HINT}"
    if whole and (left := temporary(store)):
        yield f"{left} temporary files, of a build that runs or was killed: `prefkit gc --yes` removes them"
