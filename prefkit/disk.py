"""Files of a store: there whole or not at all, and JSON that carries a digest of itself.

Manifests, parts and refs decide what is served without being made again. One that was cut short by a bad disk or
changed by hand must count as absent, never as true.

All of it holds on NFS too: a name that nobody else takes, data flushed to the server, then one rename there.
"""

import errno
import fcntl
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, NamedTuple, Protocol

from prefkit.errors import StoreError
from prefkit.identity import hash_json

__all__ = [
    "READ_ONLY",
    "SEAL",
    "TEMPORARY",
    "Entry",
    "Folder",
    "Place",
    "flocked",
    "read_sealed",
    "remove",
    "replace_file",
    "replace_text",
    "sealed",
    "unsealed",
    "unwritable",
    "write_file",
    "write_sealed",
]

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a place that cannot be written, full or not."""
SEAL = "seal"
"""The key that holds the digest of the others."""
_MOST_BYTES = 1 << 28
"""Of a manifest, ref or report: a step of a million shards has a manifest half as large."""
TEMPORARY = ".tmp-"
"""How names begin of what is not finished."""


class Entry(NamedTuple):
    """A file that is there."""

    bytes: int
    at: float
    """When it was written, by the clock of where it is: seconds since 1970; NaN if that does not say."""


class Place(Protocol):
    """Where small files of a store are: a folder, or object storage. Names have `/` between their parts."""

    def where(self, name: str) -> str:
        """Return where a file is, for people."""

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is not there."""

    def read_many(self, names: Sequence[str], *, sparse: bool = False) -> dict[str, bytes]:
        """Return the files that are there; `sparse` says that of many names in one folder, few may be."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file: whole or not at all."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. One that is not there is no error."""

    def listed(self, folder: str) -> Mapping[str, Entry]:
        """Return all files beneath a folder, sorted by name."""


class Folder:
    """A folder on disk as a place. Raises StoreError where it cannot be read or written."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def where(self, name: str) -> str:
        """Return the path of a file."""
        return str(self._root / name)

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is not there."""
        return _read(self._root / name)

    def read_many(self, names: Sequence[str], *, sparse: bool = False) -> dict[str, bytes]:  # noqa: ARG002
        """Return the files that are there."""
        return {name: data for name in names if (data := self.read(name)) is not None}

    def write(self, name: str, data: bytes) -> None:
        """Write a file. One that says so already is left alone."""
        if not _holds(self._root / name, data):
            write_file(self._root / name, lambda file: file.write(data))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files. One that is not there is no error."""
        for name in names:
            remove(self._root / name)

    def listed(self, folder: str) -> dict[str, Entry]:
        """Return all files beneath a folder, sorted by name. One that goes meanwhile was not there."""
        found = dict[str, Entry]()
        for path in sorted((self._root / folder).rglob("*")):
            with suppress(FileNotFoundError):
                about = path.stat()
                if S_ISREG(about.st_mode):
                    name = path.relative_to(self._root).as_posix()
                    found[name] = Entry(about.st_size, about.st_mtime)
        return found


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, flush it to disk, and give it its name.

    Raises OSError; whatever goes wrong, what was there before is untouched and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:  # for whom the umask says: others may share the store
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write a text that others may read. Raises OSError, as `replace_file` does."""
    replace_file(path, lambda file: file.write(text.encode()))
    path.chmod(0o644)


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file of the store. Raises StoreError."""
    try:
        replace_file(path, write)
    except OSError as error:
        raise unwritable(error, path) from error


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a mapping as JSON with its seal. A file that says so already is left alone."""
    Folder(path.parent).write(path.name, sealed(value))


def sealed(value: Mapping[str, Any]) -> bytes:
    """Return a mapping as JSON with its seal."""
    whole = {**value, SEAL: hash_json(value)}
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what was written sealed; None if it is gone or not as it was written. Raises StoreError."""
    data = _read(path)
    return None if data is None else unsealed(data)


def _read(path: Path) -> bytes | None:
    try:
        about = path.stat()
        if not S_ISREG(about.st_mode):
            raise StoreError("cannot read the store: not a regular file", where=str(path), hint="remove it")
        if about.st_size > _MOST_BYTES:
            what = f"cannot read the store: a file of {about.st_size:,} bytes where at most {_MOST_BYTES:,} are taken"
            raise StoreError(what, where=str(path), hint="remove it")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"cannot read the store: {error.strerror or error}"
        raise StoreError(what, where=str(path), hint="check its permissions and the disk") from error


def unsealed(data: bytes) -> dict[str, Any] | None:
    """Return what was sealed, None if it is not as it was written."""
    try:
        value = json.loads(data.decode("utf-8", "surrogatepass"))
        sound = isinstance(value, dict) and value.pop(SEAL, None) == hash_json(value)
    except (ValueError, RecursionError):
        return None
    return value if sound else None


def remove(path: Path) -> None:
    """Remove a file if it is there. Raises StoreError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(error, path) from error


@contextmanager
def flocked(root: Path, shown: str, *, exclusive: bool) -> Iterator[None]:
    """Hold the lock of a folder against other processes; against other machines too where NFS carries locks."""
    try:
        file = (root / "lock").open("a+")  # a shared lock over NFS needs a file that can be read
    except OSError as error:
        if exclusive or error.errno not in READ_ONLY:
            raise unwritable(error, root) from error
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
        except BlockingIOError as error:
            hint = "run it again when the build has finished"
            raise StoreError("a build is running on this store", where=shown, hint=hint) from error
        yield


def unwritable(error: OSError, path: Path) -> StoreError:
    """Return what to say where the store cannot be written."""
    what = f"cannot write to the store: {error.strerror or error}"
    hint = (
        "free space or give another --store; what is finished is kept, so the next build goes on from there"
    )
    return StoreError(what, where=str(path), hint=hint)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False
