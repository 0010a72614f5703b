"""The store: objects by content, manifests by step key, refs by name.

    objects/3f/3f9c….arrow       one table, named by the digest of its values; never changes
    steps/81d2….json             manifest of one finished step
    parts/0c4e….json             what a step made of one shard, so that a killed build goes on from there
    refs/my-run/05-pair.json     the key of the last good run of a step, for people and for `gc`
    refs/my-run/recipe.json      the recipe as it was run, `--set` applied
    memo.sqlite                  engine answers by request; in object storage, memo/5b21….arrow

A store is a folder, or a place in object storage: `s3://bucket/folder`. There the same files have the same names, this
machine keeps copies in a folder of its own (`prefkit.mirror`), and leases stand for locks (`prefkit.leases`).

Every file is there whole or not at all: written to a temporary name, flushed to disk and renamed, or uploaded at once.
Two builds that make the same thing write the same bytes to the same name. An object is checked against its digest when
it is first read; one that was cut short or edited is reported as absent, and the step that made it runs again.
Builds hold a shared lock and `gc` an exclusive one, so nothing is collected under a running build.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow import ipc

from prefkit import sharing
from prefkit.disk import TEMPORARY, Folder, Place, flocked, remove, unwritable, write_file
from prefkit.errors import ContractError, StoreError
from prefkit.identity import digest
from prefkit.leases import Lease, leased
from prefkit.manifest import Manifest, Part, Shard
from prefkit.mirror import Mirror, bring, mirror_of, object_name, synced
from prefkit.objects import Stamp, is_named, is_ours, short, stamp_of, write_ipc
from prefkit.records import REBUILD, Records, mark, refuse_newer
from prefkit.remote import Remote, is_remote, local_path
from prefkit.removed import HINT, is_removed

__all__ = ["DEFAULT", "DamagedError", "Stamp", "Store"]

DEFAULT = Path("runs")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_MEMO = "memo.sqlite"
_LIMITS = "more memory, `ulimit -n` or permissions; nothing was removed"


class DamagedError(StoreError):
    """An object is gone, cut short or edited. The runner makes it anew."""

    def __init__(self, what: str, shard: Shard, *, where: str, hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint or REBUILD)
        self.shard = shard

    def __reduce__(self) -> tuple[object, ...]:
        return (_damaged, (self.what, self.shard, self.where, self.hint))


def _damaged(what: str, shard: Shard, where: str, hint: str) -> DamagedError:
    return DamagedError(what, shard, where=where, hint=hint)


class Store(Records):
    """A folder of results, or one in object storage. Opening one writes nothing; it is made on the first write."""

    def __init__(self, root: Path | str = DEFAULT) -> None:
        """Open the store at a folder or an address, `s3://bucket/folder`. Raises StoreError if it cannot be one."""
        self.remote = Remote(str(root)) if isinstance(root, str) and is_remote(root) else None
        self.root = local_path(root) if self.remote is None else mirror_of(str(root))
        """The store's folder, or the folder with this machine's copies."""
        self.address = str(self.root.absolute() if self.remote is None else root)
        """From which another process opens the same store. It may hold secrets: `shown` is for people."""
        place: Place = Folder(self.root) if self.remote is None else self.remote
        super().__init__(place, str(self.root) if self.remote is None else self.remote.shown)
        self._mirror = None if self.remote is None else Mirror(self.remote)
        self._lease: Lease | None = None
        self._has_answers = False
        self._checked: dict[str, Stamp] = {}
        """How each object looked when it was verified, by digest."""
        self._is_marked = refuse_newer(self.place, self.shown)

    # objects

    def put(self, table: pa.Table) -> Shard:
        """File a table by the digest of its values and return its shard. Writing it twice is harmless."""
        table = table.replace_schema_metadata(None)
        name = digest(table)
        path = self._object(name)
        fresh = not self._intact(name, table.num_rows)
        self._make()
        if fresh:
            write_file(path, lambda file: write_ipc(table, file))
            self._checked[name] = stamp_of(path)
        shard = Shard(digest=name, rows=table.num_rows, bytes=path.stat().st_size)
        if self._mirror is not None:
            self._mirror.send(shard, path, fresh=fresh)
        return shard

    def get(self, shard: Shard) -> pa.Table:
        """Return a shard as a memory-mapped table. Raises DamagedError if it is gone or not what its name says."""
        if self._mirror is None:
            return self._mapped(shard)
        path = self._object(shard.digest)
        if path.exists():
            with contextlib.suppress(DamagedError):
                return self._mapped(shard)
            remove(path)  # the storage may hold it whole
        self._mirror.fetch(shard, path)
        return self._mapped(shard)

    def _mapped(self, shard: Shard) -> pa.Table:
        path, where = self._object(shard.digest), self.place.where(object_name(shard.digest))
        try:
            stamp = stamp_of(path)
            with pa.memory_map(str(path)) as file:
                table = ipc.open_file(file).read_all()
            sound = self._checked.get(shard.digest) == stamp or is_named(table, shard.digest)
        except MemoryError:  # Arrow's is one of its own errors too
            raise
        except (OSError, pa.ArrowException, ValueError, ContractError) as error:
            if isinstance(error, OSError) and is_ours(error):
                what = f"object {shard.digest} cannot be read now: {short(error)}"
                raise StoreError(what, where=where, hint=_LIMITS) from error
            if isinstance(error, FileNotFoundError) and is_removed(self.place, shard.digest):
                what = "the rows of this step were removed when the next one stood, to save disk"
                raise DamagedError(what, shard, where=self.shown, hint=HINT) from error
            what = f"object {shard.digest} cannot be read: {short(error)}"
            raise DamagedError(what, shard, where=where) from error
        if not sound:
            raise DamagedError(f"object {shard.digest} is not what its name says", shard, where=where)
        self._checked[shard.digest] = stamp
        return table

    def checked(self, shards: Iterable[Shard]) -> dict[str, Stamp]:
        """Return how the files of shards looked when their content was checked, for those where it was."""
        return {
            shard.digest: self._checked[shard.digest] for shard in shards if shard.digest in self._checked
        }

    def trust(self, checked: Mapping[str, Stamp]) -> None:
        """Take it from another process that these files were checked. One that looks different by now is read again."""
        self._checked.update(checked)

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
        path = self._object(shard.digest)
        if self._mirror is not None:
            return self._mirror.has(shard)
        try:
            return path.stat().st_size == shard.bytes
        except OSError:
            return False

    def path(self, shard: Shard) -> Path:
        """Return the file of a shard on this machine."""
        path = self._object(shard.digest)
        if self._mirror is not None and not path.exists():
            self._mirror.fetch(shard, path)
        return path

    def discard(self, shard: Shard) -> None:
        """Remove an object that was found damaged, so that it is written anew."""
        self._checked.pop(shard.digest, None)
        if self._mirror is not None:
            self._mirror.discard(shard)
        remove(self._object(shard.digest))

    def _intact(self, name: str, rows: int) -> bool:
        if not self._object(name).exists():
            return False
        try:
            self._mapped(Shard(digest=name, rows=rows, bytes=0))
        except DamagedError:
            return False
        return True

    def _object(self, name: str) -> Path:
        if not _DIGEST.fullmatch(name):
            raise StoreError(f"'{name[:80]}' is not a digest", where=self.shown)
        return self.root / object_name(name)

    # answers and other files

    def answers(self) -> Path:
        """Return the file of engine answers on this machine. With object storage, those of others are in it by now."""
        path = self.root / _MEMO
        if self.remote is not None and not self._has_answers:
            sharing.fold_in(path, self.remote)
            self._has_answers = True
        return path

    def files(self, pattern: str) -> list[Path]:
        """Return files of the store that match, such as `trained/*/report.json`, as files on this machine."""
        if self.remote is not None:
            bring(self.remote, self.root, pattern)
        return sorted(self.root.glob(pattern))

    @contextlib.contextmanager
    def synced(self, folder: Path, *, send: bool = True) -> Iterator[None]:
        """Work on a folder beneath `root`; with object storage it is copied here before and back after, if `send`."""
        if self.remote is None:
            yield
            return
        with synced(self.remote, self.root, folder, send=send):
            yield

    # locks

    @contextlib.contextmanager
    def locked(self, *, exclusive: bool = False) -> Iterator[None]:
        """Hold the store's lock: shared for builds, exclusive for `gc`, which refuses rather than waits.

        A store that cannot be written is read without a lock: nothing can be collected there.
        """
        self._make()
        with flocked(self.root, self.shown, exclusive=exclusive):
            if self.remote is None:
                with self._session():
                    yield
                return
            with leased(self.remote, exclusive=exclusive, beat=self._share) as lease:
                try:
                    with self._session(lease):
                        yield
                except BaseException:
                    with contextlib.suppress(StoreError):  # what went wrong before is what to say
                        self._share()
                    raise
                self._share()

    @contextlib.contextmanager
    def _session(self, lease: Lease | None = None) -> Iterator[None]:
        """Remember what is known of the store while nothing can be collected."""
        before, self._lease, self._has_answers = self._lease, lease, False
        self._said = {}
        if self._mirror is not None:
            self._mirror.relist(keep=True)
        try:
            yield
        finally:
            self._lease, self._said = before, None
            if self._mirror is not None:
                self._mirror.relist()

    def save_step(self, manifest: Manifest) -> None:
        """File the manifest of a finished step: the step is done when this returns."""
        self.check_lease()
        super().save_step(manifest)

    def save_part(self, part: Part) -> None:
        """File what a step made of one shard, and the answers it took, unless this store's lock sees to them."""
        if self._lease is None:
            self._share()
        super().save_part(part)

    def _replace(self, folder: str, name: str, data: bytes, before: dict[str, bytes]) -> None:
        if before.get(name) != data:
            self.check_lease()
        super()._replace(folder, name, data, before)

    def check_lease(self) -> None:
        """Raise StoreError if this process was taken for dead and others went on without it."""
        if self._lease is not None:
            self._lease.check()

    def _share(self) -> None:
        """Send the answers that other machines do not have yet."""
        if self.remote is not None:
            sharing.share(self.root / _MEMO, self.remote)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Make a folder for temporary files on the store's own disk, and remove it."""
        self._make()
        try:
            folder = tempfile.TemporaryDirectory(dir=self.root, prefix=TEMPORARY, ignore_cleanup_errors=True)
        except OSError as error:
            raise unwritable(error, self.root) from error
        with folder as name:
            yield Path(name)

    def _make(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(error, self.root) from error
        if self.remote is None or not self._is_marked:
            mark(self.place)
            self._is_marked = True
