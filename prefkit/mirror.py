"""The mirror: a folder on this machine with what it has of a store in object storage.

Objects are named by their content, so a copy is as good as what it was copied from, and is checked as that is. Models and
reports of experiments are folders of files: they are copied here before work on them begins, and back when it is done,
the file that was written last at the end. The mirror may be deleted whenever nothing runs.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from secrets import token_hex

from prefkit.disk import TEMPORARY, unwritable
from prefkit.errors import StoreError
from prefkit.manifest import Shard
from prefkit.remote import Remote

__all__ = ["Mirror", "bring", "mirror_of", "synced"]

_FEW = 16
"""Objects asked after one by one before all are listed."""
_LISTED_SECONDS = 60.0
"""How long a list of the objects is believed by somebody who does not hold the store's lock."""
_UNFINISHED = "checkpoint"


def mirror_of(address: str) -> Path:
    """Return the folder for copies of a store: in `PREFKIT_CACHE`, else in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = os.environ.get("PREFKIT_CACHE") or Path(caches) / "prefkit"
    return Path(base) / blake2b(address.rstrip("/").encode(), digest_size=8).hexdigest()


class Mirror:
    """The objects of a store, there and here."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.relist()

    def relist(self, *, keep: bool = False) -> None:
        """Forget what is known of the storage, and `keep` what is learnt from now on: nothing is collected meanwhile.

        As long as that holds, objects and parts are sent beside the work.
        """
        uploads = self._remote.uploads
        uploads.begin() if keep else uploads.end()
        self._sizes: dict[str, int] | None = None
        self._asked, self._keep, self._listed_at = 0, keep, 0.0

    def has(self, shard: Shard) -> bool:
        """Say whether an object is in the storage and, by its size, whole."""
        name = object_name(shard.digest)
        sizes = self._listed()
        if sizes is not None and sizes.get(name) == shard.bytes:
            return True
        self._asked += 1
        size = self._remote.size(name)
        if size is not None and sizes is not None:
            sizes[name] = size
        return size == shard.bytes

    def send(self, shard: Shard, path: Path, *, fresh: bool) -> None:
        """Write an object to the storage, unless it is there. One that is `fresh` here is rarely there, and not asked for."""
        name = object_name(shard.digest)
        known = self._sizes.get(name) if self._sizes is not None else None
        if known == shard.bytes or (not fresh and self.has(shard)):
            return
        self._remote.send(path, name)
        if self._sizes is not None:
            self._sizes[name] = shard.bytes

    def fetch(self, shard: Shard, path: Path) -> None:
        """Copy an object here, if the storage has it. Raises StoreError if there is no room for it."""
        fetch(self._remote, object_name(shard.digest), path)

    def discard(self, shard: Shard) -> None:
        """Remove an object from the storage."""
        name = object_name(shard.digest)
        self._remote.remove([name])
        if self._sizes is not None:
            self._sizes.pop(name, None)

    def _listed(self) -> dict[str, int] | None:
        """Return what the storage has, once so much is asked that a list is cheaper."""
        is_old = not self._keep and time.monotonic() - self._listed_at > _LISTED_SECONDS
        if self._asked >= _FEW and (self._sizes is None or is_old):
            found = self._remote.listed("objects")
            self._sizes = {name: entry.bytes for name, entry in found.items()}
            self._listed_at = time.monotonic()
        return self._sizes


def object_name(digest: str) -> str:
    """Return where an object is, in a folder and in object storage."""
    return f"objects/{digest[:2]}/{digest}.arrow"


def fetch(remote: Remote, name: str, path: Path) -> bool:
    """Copy a file here, whole or not at all; say whether it is there."""
    temporary = path.with_name(f"{TEMPORARY}{token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not remote.download(name, temporary):
            return False
        temporary.replace(path)
    except OSError as error:
        raise unwritable(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)
    return True


def bring(remote: Remote, root: Path, pattern: str) -> None:
    """Copy the files here whose names match, such as `trained/*/report.json`."""
    for name, entry in remote.listed(pattern.partition("/")[0]).items():
        if PurePosixPath(name).match(pattern) and fetch(remote, name, root / name) and entry.at > 0:
            os.utime(root / name, (entry.at, entry.at))


@contextmanager
def synced(remote: Remote, root: Path, folder: Path, *, send: bool) -> Iterator[None]:
    """Copy a folder of the store here; once it is worked on without an error, `send` back what has changed."""
    there = remote.listed(folder.relative_to(root).as_posix())
    for name, entry in there.items():
        if not _is_whole(root / name, entry.bytes) and not fetch(remote, name, root / name):
            raise StoreError("a file vanished while it was copied", where=remote.where(name))
    before = {name: _stamp(root / name) for name in there}
    yield
    if not send:
        return
    now = {path.relative_to(root).as_posix(): _stamp(path) for path in _finished(folder)}
    for name, stamp in sorted(
        now.items(), key=lambda item: item[1][1]
    ):  # the last file says that all are there
        if before.get(name) != stamp:
            remote.upload(root / name, name)
    remote.remove(name for name in there if name not in now)


def _finished(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(_is_unfinished(part) for part in parts):
            yield path


def _is_unfinished(name: str) -> bool:
    return name == _UNFINISHED or name.startswith(TEMPORARY) or name.endswith(".new")


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
