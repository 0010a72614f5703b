"""Object storage, through fsspec: files by name, each there whole or not at all.

S3, GCS and their like make an object visible only once all of it has arrived, so one upload is one atomic write. What
other file systems have (SFTP, SMB, HDFS) is written under a temporary name and renamed. Nothing is listed from a cache:
another machine may have written meanwhile.
"""

import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from prefkit.disk import TEMPORARY, Entry
from prefkit.errors import StoreError
from prefkit.remote_errors import is_absent, is_busy, masked, told
from prefkit.uploads import Uploads

__all__ = ["Remote", "is_remote", "local_path"]

T = TypeVar("T")
_ON_DISK = ("file", "local")
_COLLAPSED = re.compile(r"[a-z0-9]{2,}:/(?!/)")
_ONE_PUT = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory")
"""File systems where an upload appears whole or not at all."""
_ONE_GET = {"max_concurrency": 1}
"""Without it s3fs asks for the size first."""
_WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Before each further try, after the tries of the library itself."""
_DATES = ("LastModified", "mtime", "updated", "modified", "last_modified", "created")
_PARTS = "parts/"
"""Records that a build goes on without; it waits for all others."""
_RECORDS = ("steps/", "refs/")
_FEW = 16
"""Files asked for without a look at which are there."""
_AT_ONCE = 1000
"""Files deleted in one request, as many as S3 allows."""


def is_remote(address: str) -> bool:
    """Say whether an address leads elsewhere than to a folder: `s3://bucket/folder`, and not `runs` or `file:///runs`."""
    scheme, sign, _ = address.partition("://")
    return bool(sign) and scheme.isascii() and scheme.isalnum() and scheme not in _ON_DISK


def local_path(address: Path | str) -> Path:
    """Return the folder that an address which is not remote names. Raises StoreError for an address made a path."""
    if isinstance(address, Path) and _COLLAPSED.match(address.as_posix()):
        what = f"'{masked(address.as_posix())}' is an address that was made a path"
        raise StoreError(what, hint="give it as text: Store('s3://bucket/folder')")
    scheme, sign, path = str(address).partition("://")
    return Path(path) if sign and scheme in _ON_DISK else Path(address)


class Remote:
    """A folder in object storage. Every name is relative to it, with `/` between its parts."""

    def __init__(self, address: str) -> None:
        """Open it: loads the library, and asks nothing of the storage. Raises StoreError without the library."""
        self.shown = masked(address.rstrip("/"))
        self._address = address
        self._scheme = address.partition("://")[0]
        self._waits: Sequence[float] = _WAITS_SECONDS[:3]  # until an answer shows that the address is good
        self.uploads = Uploads()
        try:
            from fsspec.core import url_to_fs

            self._fs, self._base = url_to_fs(address, use_listings_cache=False)
        except Exception as error:
            raise told(error, "opened", self.shown, address) from error

    def where(self, name: str) -> str:
        """Return the address of a file, for people."""
        return f"{self.shown}/{name}"

    # files

    def read(self, name: str) -> bytes | None:
        """Return a file, None if it is not there."""
        path, more = self._path(name), _ONE_GET if self._scheme in ("s3", "s3a") else {}
        return self._absent_is_none(lambda: bytes(self._fs.cat_file(path, **more)), "read", name)

    def read_many(self, names: Sequence[str], *, sparse: bool = False) -> dict[str, bytes]:
        """Return the files that are there, several asked for at once.

        Of many that may not be there, all in one folder, only those are asked for that a list of it has.
        """
        from concurrent.futures import ThreadPoolExecutor

        if sparse and len(names) > _FEW:
            there = self.listed(names[0].rpartition("/")[0])
            names = [name for name in names if name in there]
        if len(names) < 2:
            found = [self.read(name) for name in names]
        else:
            with ThreadPoolExecutor(min(len(names), 32)) as pool:
                found = list(pool.map(self.read, names))
        return {name: data for name, data in zip(names, found, strict=True) if data is not None}

    def write(self, name: str, data: bytes) -> None:
        """Write a file, in place of any that is there.

        During a build, parts are written by and by, and manifests and refs once all that was sent is there. Raises
        StoreError, of this file or of one that was sent before.
        """
        if name.startswith(_PARTS):
            self.uploads.send_after(lambda: self._write(name, data))
            return
        if name.startswith(_RECORDS):
            self.uploads.wait()
        self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        self._put(name, lambda path: self._fs.pipe_file(path, data))

    def send(self, source: Path, name: str) -> None:
        """Upload a file that stays as it is; during a build, by and by. Raises StoreError, of this one or one before."""
        self.uploads.send(lambda: self.upload(source, name))

    def upload(self, source: Path, name: str) -> None:
        """Write a file from one on disk."""
        self._put(name, lambda path: self._fs.put_file(str(source), path))

    def download(self, name: str, target: Path) -> bool:
        """Copy a file to disk, to a name nobody reads yet; say whether it was there."""
        path = self._path(name)
        return bool(self._absent_is_none(lambda: self._fs.get_file(path, str(target)) or True, "read", name))

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, a thousand a request. One that is not there already is no error."""
        self.uploads.wait()  # none is to come back
        paths = [self._path(name) for name in names]
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            call = self._remove_one if len(some) == 1 else self._fs.rm
            self._absent_is_none(lambda call=call, some=some: call(some) or True, "changed", "")  # type: ignore[misc]

    # what is there

    def size(self, name: str) -> int | None:
        """Return the bytes of a file, None if it is not there."""
        path = self._path(name)
        return self._absent_is_none(lambda: int(self._fs.info(path)["size"]), "read", name)

    def listed(self, folder: str) -> dict[str, Entry]:
        """Return every file beneath a folder, by its name from the root. A thousand take one request."""
        path = self._path(folder)
        found = self._absent_is_none(lambda: self._fs.find(path, detail=True), "listed", folder) or {}
        start = len(self._base.rstrip("/")) + 1
        return {
            full[start:]: Entry(int(info["size"] or 0), _date(info))
            for full, info in sorted(found.items())
            if info["type"] == "file" and _is_inside(full[start:])
        }

    # how

    def _path(self, name: str) -> str:
        return f"{self._base.rstrip('/')}/{name}"

    def _put(self, name: str, put: Callable[[str], object]) -> None:
        path = self._path(name)
        if self._scheme in _ONE_PUT:
            self._patiently(lambda: put(path), "written", name)
            return
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(8)}-{last}"

        def write_and_rename() -> None:
            self._fs.makedirs(folder, exist_ok=True)
            put(temporary)
            self._fs.mv(temporary, path)

        self._patiently(write_and_rename, "written", name)

    def _remove_one(self, paths: Sequence[str]) -> None:
        self._fs.rm_file(paths[0])

    def _absent_is_none(self, call: Callable[[], T], verb: str, name: str) -> T | None:
        try:
            return self._patiently(call, verb, name)
        except _AbsentError:
            return None

    def _patiently(self, call: Callable[[], T], verb: str, name: str) -> T:
        """Do it, again after a while if the storage is busy or the line is broken. Raises StoreError."""
        waits = iter(self._waits)
        while True:
            try:
                result = call()
            except Exception as error:
                if is_absent(error) and verb != "written":
                    self._waits = _WAITS_SECONDS
                    raise _AbsentError from error
                wait = next(waits, None) if is_busy(error) else None
                if wait is None:
                    raise told(error, verb, self.where(name), self._address) from error
                time.sleep(wait)
            else:
                self._waits = _WAITS_SECONDS
                return result


class _AbsentError(Exception):
    """There is no such file."""


def _is_inside(name: str) -> bool:
    """Say whether a name stays in the folder it is copied to: anybody may have written it."""
    return not {"", ".", ".."} & set(name.split("/")) and "\\" not in name and "\0" not in name


def _date(info: dict[str, Any]) -> float:
    for name in _DATES:
        value = info.get(name)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            try:
                return datetime.fromisoformat(value).timestamp()
            except ValueError:
                continue
    return float("nan")
