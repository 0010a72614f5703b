"""Contents: read objects and say whether their values are what their names say.

An object is read through the file system and not mapped: a disk that fails gives an error to report then, where a
mapping would end the process. One record batch is held at a time, and its buffers are checked before a value is
touched. Hashing lets other threads run, so threads are enough to use several cores.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pyarrow as pa
from pyarrow import ipc

from prefkit.errors import ContractError, StoreError
from prefkit.identity import Digester
from prefkit.manifest import Manifest, Shard
from prefkit.mirror import object_name
from prefkit.objects import short
from prefkit.store import Store
from prefkit.verify.fault import Kind

__all__ = ["Checked", "Wrong", "check_all", "check_object", "digest_of", "here", "read"]

_DIGEST = re.compile(r"[0-9a-f]{32}")
_SLICE_ROWS = 10_000
Feed = Callable[[pa.Table], object]


class Wrong(NamedTuple):
    """What is the matter with an object, or with what a manifest says of its objects."""

    kind: Kind
    what: str
    whole: bool = False
    """Whether the file has the size it was filed with, so that a build takes it for sound until it reads it."""


class Checked(NamedTuple):
    """What was found, by digest of an object and by key of a manifest."""

    objects: dict[str, Wrong | None]
    manifests: dict[str, Wrong]


def check_all(store: Store, manifests: Sequence[Manifest], others: Sequence[Shard], jobs: int) -> Checked:
    """Check the objects of manifests, each manifest's digest over its shards, and other objects."""
    objects: dict[str, Wrong | None] = {}
    stated: dict[str, Wrong] = {}
    with ThreadPoolExecutor(jobs) as pool:
        for manifest, (found, wrong) in zip(
            manifests, pool.map(lambda each: _check_manifest(store, each), manifests), strict=True
        ):
            objects |= found
            if wrong is not None:
                stated[manifest.key] = wrong
        rest = list({shard.digest: shard for shard in others if shard.digest not in objects}.values())
        objects |= dict(
            zip(
                (shard.digest for shard in rest),
                pool.map(lambda shard: check_object(store, shard), rest),
                strict=True,
            )
        )
    return Checked(objects, stated)


def check_object(store: Store, shard: Shard, feed: Feed | None = None) -> Wrong | None:
    """Check one object: there, of its size, its values hashing to its name. `feed` is given its rows, in slices."""
    if not _DIGEST.fullmatch(shard.digest):
        return Wrong("damaged", "has a name that is no digest")
    try:
        with here(store, object_name(shard.digest)) as path:
            size = path.stat().st_size
            if not path.is_file():
                return Wrong("damaged", "is no file")
            if size < shard.bytes:
                return Wrong("cut-short", f"is cut short: {size:,} of {shard.bytes:,} bytes")
            return _check_values(path, size, shard, feed)
    except FileNotFoundError:
        return Wrong("missing", "is not there")
    except OSError as error:
        return Wrong("unreadable", f"cannot be read: {error.strerror or error}")
    except StoreError as error:
        return Wrong("unreadable", error.what)


@contextmanager
def here(store: Store, name: str) -> Iterator[Path]:
    """Give a file of the store as one on this machine: one in object storage is copied, and the copy removed.

    Raises FileNotFoundError; StoreError if the storage does not answer.
    """
    if store.remote is None:
        yield store.root / name
        return
    with TemporaryDirectory(prefix="prefkit-verify-") as folder:
        path = Path(folder) / "copy"
        if not store.remote.download(name, path):
            raise FileNotFoundError(name)
        yield path


def _check_values(path: Path, size: int, shard: Shard, feed: Feed | None) -> Wrong | None:
    whole = size == shard.bytes
    try:
        found, rows = digest_of(read(path), feed)
    except (OSError, pa.ArrowException, ContractError, ValueError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            return Wrong("unreadable", f"cannot be read: {error.strerror or error}", whole)
        return Wrong("damaged", f"is no table: {short(error)}", whole)
    if found != shard.digest:
        return Wrong("damaged", "has other values than its name says", whole)
    if shard.bytes and (rows, size) != (shard.rows, shard.bytes):
        told = f"has {rows:,} rows in {size:,} bytes, and was filed as {shard.rows:,} in {shard.bytes:,}"
        return Wrong("disagrees", told)
    return None


def read(path: Path) -> Iterator[pa.Table]:
    """Yield the rows of an object in slices, the first one empty, every buffer checked."""
    with pa.OSFile(str(path)) as file, ipc.open_file(file) as reader:
        yield reader.schema.empty_table()
        for at in range(reader.num_record_batches):
            batch = reader.get_batch(at)
            batch.validate(full=True)
            for start in range(0, batch.num_rows, _SLICE_ROWS):
                yield pa.Table.from_batches([batch.slice(start, _SLICE_ROWS)])


def digest_of(
    tables: Iterator[pa.Table], feed: Feed | None = None, types: Sequence[str] = ()
) -> tuple[str, int]:
    """Return the digest of tables as if they were one, and their rows. `types` are those of a `Digester`."""
    digester: Digester | None = None
    rows = 0
    for table in tables:
        if digester is None:
            digester = Digester(table.schema, types)
        digester.update(table)
        rows += table.num_rows
        if feed is not None:
            feed(table)
    assert digester is not None
    return digester.hexdigest(), rows


def _check_manifest(store: Store, manifest: Manifest) -> tuple[dict[str, Wrong | None], Wrong | None]:
    """Check the objects of a manifest, and what it says of them: its digest and its columns."""
    whole: list[Digester] = []
    columns: list[tuple[str, str]] = []
    several = len(manifest.shards) > 1

    def feed(table: pa.Table) -> None:
        if not columns:
            columns.extend((column.name, str(column.type)) for column in table.schema)
            whole.append(Digester(table.schema))
        if several:  # the digest of one shard is that of the manifest
            whole[0].update(table)

    found = {shard.digest: check_object(store, shard, feed) for shard in manifest.shards}
    found |= {
        shard.digest: check_object(store, shard)
        for shard in (*manifest.dropped, *manifest.failed)
        if shard.digest not in found
    }
    if any(found[shard.digest] for shard in manifest.shards):
        return found, None
    made = whole[0].hexdigest() if several else manifest.shards[0].digest if manifest.shards else ""
    return found, _agrees(manifest, made, columns)


def _agrees(manifest: Manifest, made: str, columns: list[tuple[str, str]]) -> Wrong | None:
    if not manifest.shards:
        return Wrong("disagrees", "names no object")
    if made != manifest.digest:
        return Wrong("disagrees", f"says its rows have the digest {manifest.digest}, and they have {made}")
    if tuple(columns) != manifest.columns:
        return Wrong("disagrees", "says other columns than its rows have")
    return None
