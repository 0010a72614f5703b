"""Answers: whether the memo opens, is whole, and how many answers it holds. It is what a damaged step costs again.

SQLite knows whether its pages fit together; what lies in them is held against the checksum behind each answer. Those of
an older prefkit have none.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from prefkit.engines.checked import answer_of, has_checksum
from prefkit.errors import StoreError
from prefkit.sharing import FOLDER, named
from prefkit.store import Store
from prefkit.verify.contents import here, read
from prefkit.verify.fault import Fault, Kind

__all__ = ["Memory", "look"]

_NAME = "memo.sqlite"
_PATIENCE_SECONDS = 60.0
_KNOWN = 1
"""The newest format of the memo that this version reads."""
_FEW = 3
"""Complaints of SQLite that are quoted."""


class Memory(NamedTuple):
    """What the memo holds."""

    is_there: bool
    answers: int
    """Those that can be taken from it."""
    fault: Fault | None
    rotten: int = 0
    """Answers that are not as they were written: as good as none."""
    unchecked: int = 0
    """Answers without a checksum, of an older prefkit."""

    @property
    def remembers(self) -> bool:
        """Whether answers can be taken from it."""
        return self.is_there and self.fault is None


def look(store: Store) -> Memory:
    """Check the memo of a store, without writing: its pages, its table and its format.

    In object storage the answers are files named by their content, which are checked by that.
    """
    if store.remote is not None:
        return _look_there(store)
    path = store.root / _NAME
    if not path.exists():
        return Memory(is_there=False, answers=0, fault=None)
    try:
        with closing(_open(path)) as db:
            return _look(db, path)
    except (sqlite3.Error, OSError) as error:
        kind: Kind = "damaged" if isinstance(error, sqlite3.DatabaseError) else "unreadable"
        return Memory(is_there=True, answers=0, fault=_fault(kind, f"cannot be read: {error}", path))


def _look_there(store: Store) -> Memory:
    tally, names = _Tally(), list(store.place.listed(FOLDER))
    for name in names:
        try:
            with here(store, name) as path:
                if named(path) != name:
                    mend = "remove it: the answers in it are asked, and paid for, again"
                    fault = Fault(
                        "damaged", "a file of engine answers is not what its name says", name, mend=mend
                    )
                    return tally.memory(fault)
                for table in read(path):
                    tally.add(zip(table["key"].to_pylist(), table["answer"].to_pylist(), strict=True))
        except (OSError, KeyError, ValueError, pa.ArrowException, StoreError) as error:
            told = str(error).splitlines()[0]
            fault = Fault("unreadable", f"a file of engine answers cannot be read: {told}", name)
            return tally.memory(fault)
    return tally.memory(None) if names else Memory(is_there=False, answers=0, fault=None)


def _look(db: sqlite3.Connection, path: Path) -> Memory:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > _KNOWN:
        return Memory(is_there=True, answers=0, fault=_fault("disagrees", f"has format {version}", path))
    complaints = [str(row[0]) for row in db.execute(f"PRAGMA quick_check({_FEW})").fetchall()]
    if complaints != ["ok"]:
        said = "; ".join(complaint.splitlines()[-1] for complaint in complaints)
        return Memory(is_there=True, answers=0, fault=_fault("damaged", f"is damaged: {said[:200]}", path))
    if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
        return Memory(is_there=True, answers=0, fault=None)  # made, and killed before the first answer
    tally = _Tally()
    tally.add(db.execute("SELECT key, answer FROM answers"))
    return tally.memory(None)


class _Tally:
    """Counts answers as they are read."""

    def __init__(self) -> None:
        self._sound, self._rotten, self._unchecked = 0, 0, 0

    def add(self, answers: Iterable[tuple[bytes, bytes]]) -> None:
        """Count answers: one by one, 2 microseconds each."""
        for key, kept in answers:
            if not isinstance(key, bytes) or answer_of(key, kept) is None:
                self._rotten += 1
            else:
                self._sound += 1
                self._unchecked += not has_checksum(kept)

    def memory(self, fault: Fault | None) -> Memory:
        """Return what was counted, and what stopped it."""
        return Memory(True, self._sound, fault, self._rotten, self._unchecked)


def _open(path: Path) -> sqlite3.Connection:
    """Open the memo to read. Nothing is written beside it, unless a build has it open or left its log behind.

    Without a log, the file is all there is, and may lie where nothing can be written. With one, SQLite wants its index
    of the log, and makes it where it can.
    """
    uri, log = path.absolute().as_uri(), path.with_name(path.name + "-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if not has_log:
        return sqlite3.connect(f"{uri}?immutable=1", uri=True)
    db = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_PATIENCE_SECONDS, check_same_thread=False)
    try:
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        db.close()
        return sqlite3.connect(f"{uri}?immutable=1", uri=True)
    return db


def _fault(kind: Kind, what: str, path: Path) -> Fault:
    mend = (
        "move memo.sqlite away, with memo.sqlite-wal and -shm beside it: finished steps need no memo; "
        "what a later build asks for is asked, and paid for, again"
    )
    return Fault(kind, f"the memo of engine answers {what}", path.name, mend=mend)
