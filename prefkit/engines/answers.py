"""Answers on disk: what engines said, by the key of the request, in one SQLite file.

Two processes may use one file at once: where both ask the same thing, the first answer stands for both. The file should
be on a disk of this machine. On NFS and its like it is kept with a rollback journal, which is slower, and two machines
may write it at once as far as that file system's locks hold across machines; on a cluster one process owns it, and the
others ask that one.
"""

import errno
import os
import sqlite3
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from prefkit.engines.checked import answer_of, with_checksum
from prefkit.errors import StoreError
from prefkit.mounts import is_shared

__all__ = ["NOTES", "Claim", "Keeps", "Memo"]

_FORMAT = 1
_PATIENCE_SECONDS = 60.0
_CHECKPOINT_PAGES = 8000
"""Of 4 KiB; each checkpoint waits for the disk."""
_COLUMNS = "answers (key BLOB PRIMARY KEY, answer BLOB) WITHOUT ROWID"
_TABLE = f"CREATE TABLE IF NOT EXISTS {_COLUMNS}"
_SCHEMA = "SELECT type, name, sql FROM sqlite_master WHERE type <> 'index' LIMIT 9"
_PLAIN = ("table", "answers", f"CREATE TABLE {_COLUMNS}")
"""What a memo's schema says of itself."""
NOTES = (
    ("table", "unsent", "CREATE TABLE unsent (n INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB)"),
    ("index", "unsent_keys", "CREATE INDEX unsent_keys ON unsent (key)"),
    ("table", "folded", "CREATE TABLE folded (name TEXT PRIMARY KEY) WITHOUT ROWID"),
    (
        "trigger",
        "note",
        "CREATE TRIGGER note AFTER INSERT ON answers BEGIN INSERT INTO unsent (key) VALUES (new.key); END",
    ),
)
"""What it says besides where answers are shared with other machines (`prefkit.sharing`)."""
_OWN = {_PLAIN, *NOTES, ("table", "sqlite_sequence", "CREATE TABLE sqlite_sequence(name,seq)")}
_KEEP = "INSERT OR IGNORE INTO answers VALUES (?, ?)"
_REPLACE = "INSERT OR REPLACE INTO answers VALUES (?, ?)"
_WORKING_FILES, _WORKING_BYTES = 3, 1 << 16
_AT_ONCE = 500
"""Keys looked up in one statement; SQLite takes at most 999 by default in old versions."""


class Claim(NamedTuple):
    """What is known, and what the caller is to ask."""

    known: Mapping[bytes, bytes]
    """Remembered answers, as JSON."""
    mine: Sequence[bytes]
    """Keys that are the caller's to ask; what is in neither is being asked by somebody else: claim it again."""


class Keeps(Protocol):
    """Keeps answers by key: a Memo, or what leads to one in another process."""

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """Return the remembered answers of those keys that have one, as JSON."""
        ...

    def claim(self, keys: Sequence[bytes]) -> Claim:
        """Return the remembered answers, and which other keys nobody else asks. Waits where neither has any."""
        ...

    def release(self, keys: Sequence[bytes]) -> None:
        """Give back what was claimed: whatever has no answer by now, others may ask."""
        ...

    def remember(self, key: bytes, answer: bytes, *, instead: bool = False) -> bool:
        """Keep an answer; return False if another one is already kept and `instead` does not replace it."""
        ...


class Memo:
    """Answers by key, in one SQLite file, each with a checksum behind it (`prefkit.engines.checked`)."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open or make the file. Raises StoreError if it cannot be used.

        With `read_only`, nothing is written, and a file that is not there is an empty memo.
        """
        self._path = path
        try:
            self._db = _connect_to_read(path) if read_only else _connect(path)
            self._format = int(self._db.execute("PRAGMA user_version").fetchone()[0])
            strange = [row for row in self._db.execute(_SCHEMA) if row not in _OWN]
        except (sqlite3.Error, OSError) as error:
            raise self._error("opened", error) from error
        weakref.finalize(self, self._db.close)
        if self._format > _FORMAT:
            what = f"the memo of engine answers has format {self._format}, and this prefkit knows up to {_FORMAT}"
            raise StoreError(what, where=str(path), hint="upgrade prefkit, or give another --store")
        if strange:  # a view or a trigger is somebody's code, and would run on every look
            what = f"the memo of engine answers has a {strange[0][0]} that is not its own: '{strange[0][1]}'"
            raise StoreError(
                what, where=str(path), hint="move the file away: its answers are then asked for again"
            )

    def find(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the remembered answers of those keys that have one, as JSON.

        One that is not as it was written is as good as none: it is asked for again.
        """
        found: dict[bytes, bytes] = {}
        try:
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                marks = ",".join("?" * len(some))
                statement = f"SELECT key, answer FROM answers WHERE key IN ({marks})"  # noqa: S608 - only marks
                found.update(self._db.execute(statement, some).fetchall())
        except sqlite3.Error as error:
            raise self._error("read", error) from error
        answers = ((key, kept, answer_of(key, kept)) for key, kept in found.items())
        # NULL is no answer that rotted: whoever reads answers refuses it.
        return {key: answer for key, kept, answer in answers if answer is not None or kept is None}

    def claim(self, keys: Sequence[bytes]) -> Claim:
        """Return the remembered answers, and all other keys as the caller's to ask: no others are known here."""
        known = self.find(keys)
        return Claim(known, [key for key in keys if key not in known])

    def release(self, keys: Sequence[bytes]) -> None:
        """Do nothing: nobody waits for what was claimed here."""

    def remember(self, key: bytes, answer: bytes, *, instead: bool = False) -> bool:
        """Keep an answer; return False if another one is already kept and `instead` does not replace it."""
        row = key, with_checksum(key, answer)
        try:
            done = self._db.execute(_REPLACE if instead else _KEEP, row)
            if not done.rowcount and not self.find([key]):
                done = self._db.execute(_REPLACE, row)  # what was kept is not as it was written
        except sqlite3.Error as error:
            raise self._error("written", error) from error
        return done.rowcount > 0

    def _error(self, verb: str, error: Exception) -> StoreError:
        hint = "make room on the disk, or move the file away: its answers are then asked for again"
        full = f" ({os.strerror(errno.ENOSPC)})" if _is_full(self._path.parent) else ""  # SQLite does not say
        what = f"the memo of engine answers cannot be {verb}: {error}{full}"
        return StoreError(what, where=str(self._path), hint=hint)


def _is_full(folder: Path) -> bool:
    """Say whether a disk has no room for the files that SQLite works with: a log, and an index of it."""
    try:
        left = os.statvfs(folder)
    except OSError:
        return False
    return (
        left.f_bavail * left.f_frsize < _WORKING_BYTES or 0 <= left.f_favail < _WORKING_FILES <= left.f_files
    )


def _connect_to_read(path: Path) -> sqlite3.Connection:
    if path.is_file():
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS)
    db = sqlite3.connect(":memory:")
    db.execute(_TABLE)
    return db


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        raise OSError("it is not a regular file")
    db = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None, check_same_thread=False)
    deadline, shared = time.monotonic() + _PATIENCE_SECONDS, is_shared(path.parent)
    while True:
        try:
            # A write-ahead log is memory that all writers share, which no two machines do.
            db.execute(f"PRAGMA journal_mode = {'TRUNCATE' if shared else 'WAL'}")
            # A commit survives a killed process, which is what happens; a power cut may take the last few.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                db.execute(_TABLE)
                db.execute(f"PRAGMA user_version = {_FORMAT}")
        except sqlite3.OperationalError as error:
            # Switching to WAL does not wait for another process that does the same.
            if "locked" not in str(error) or time.monotonic() > deadline:
                db.close()
                raise
            time.sleep(0.05)
        else:
            return db
