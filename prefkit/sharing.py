"""Answers of engines, shared between machines that use one store in object storage.

SQLite cannot live there: a machine keeps its answers in a file of its own, and what it was newly answered goes to the
storage as `memo/….arrow`, files that never change, named by their content. Whoever opens the store folds in those it has
not seen, in the order in which the storage received them; where two machines were answered differently, the last counts.

A trigger in the file notes each answer that is not sent yet, in the same transaction, so none is forgotten by a process
that is killed: the next one on this machine sends it.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from secrets import token_hex

import pyarrow as pa
from pyarrow import ipc

from prefkit.engines.answers import NOTES, Memo
from prefkit.engines.checked import answer_of
from prefkit.errors import StoreError
from prefkit.remote import Remote

__all__ = ["FOLDER", "fold_in", "named", "share"]

FOLDER = "memo"
_PATIENCE_SECONDS = 60.0
_FILE_BYTES = 32 * 2**20
"""Of answers in one file."""
_SCHEMA = pa.schema([pa.field("key", pa.binary()), pa.field("answer", pa.binary())])


def fold_in(memo: Path, remote: Remote) -> None:
    """Add the answers of other machines to this one's file, making it where there is none.

    A file that is not what its name says is left alone: what it held is asked again. Raises StoreError.
    """
    Memo(memo)  # makes it, and refuses one of a newer prefkit
    with _opened(memo) as db:
        known = {name for (name,) in db.execute("SELECT name FROM folded")}
        found = remote.listed(FOLDER)
        unseen = sorted((entry.at, name) for name, entry in found.items() if name not in known)
        for _, name in unseen:
            _fold(db, name, remote, memo.parent)


def share(memo: Path, remote: Remote) -> None:
    """Send the answers that other machines cannot have yet. Raises StoreError; what is not sent stays noted."""
    if not memo.is_file():
        return
    with _opened(memo) as db:
        while (last := _share_some(db, memo.parent, remote)) is not None:
            db.execute("DELETE FROM unsent WHERE n <= ?", (last,))


def _share_some(db: sqlite3.Connection, folder: Path, remote: Remote) -> int | None:
    """Send answers, as many as fit in a file; return the number of the last, None if there are none."""
    rows, size, last = dict[bytes, bytes](), 0, None
    statement = "SELECT n, key, answer FROM unsent JOIN answers USING (key) ORDER BY n"
    for number, key, answer in db.execute(statement):
        if size > _FILE_BYTES:
            break
        rows[key], last, size = answer, number, size + len(answer)
    if last is None:
        return None
    table = pa.table({"key": list(rows), "answer": list(rows.values())}, schema=_SCHEMA)
    path = folder / f".tmp-{token_hex(8)}"
    try:
        with ipc.new_file(str(path), _SCHEMA) as file:
            file.write_table(table)
        name = named(path)
        remote.upload(path, name)
        db.execute("INSERT OR IGNORE INTO folded VALUES (?)", (name,))
    except OSError as error:
        raise StoreError(f"answers cannot be kept: {error.strerror or error}", where=str(path)) from error
    finally:
        path.unlink(missing_ok=True)
    return int(last)


def _fold(db: sqlite3.Connection, name: str, remote: Remote, folder: Path) -> None:
    path = folder / f".tmp-{token_hex(8)}"
    try:
        if not remote.download(name, path):
            return
        db.execute("BEGIN IMMEDIATE")
        try:
            if named(path) == name:
                _add(db, path)
            db.execute("INSERT OR IGNORE INTO folded VALUES (?)", (name,))
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    finally:
        path.unlink(missing_ok=True)


def _add(db: sqlite3.Connection, path: Path) -> None:
    """Add the answers of a file, but not over one that this machine has not sent yet: that will be the later one."""
    (last,) = db.execute("SELECT coalesce(max(n), 0) FROM unsent").fetchone()
    known = "SELECT 1 FROM unsent WHERE key = ?1 AND n <= ?3"
    statement = f"INSERT OR REPLACE INTO answers SELECT ?1, ?2 WHERE NOT EXISTS ({known})"
    with suppress(pa.ArrowException, ValueError, KeyError):
        for keys, answers in _batches(path):
            # A loop over answers: SQLite takes them one by one.
            rows = zip(keys, answers, strict=True)
            sound = ((key, kept, last) for key, kept in rows if answer_of(key, kept) is not None)
            db.executemany(statement, sound)
    db.execute("DELETE FROM unsent WHERE n > ?", (last,))


def _batches(path: Path) -> Iterator[tuple[list[bytes], list[bytes]]]:
    with pa.memory_map(str(path)) as file:
        table = ipc.open_file(file).read_all()
        if table.schema != _SCHEMA:
            return
        for batch in table.to_batches(max_chunksize=4096):
            yield batch["key"].to_pylist(), batch["answer"].to_pylist()


def named(path: Path) -> str:
    """Return the name of a file of answers: it is named by its content."""
    hasher = blake2b(digest_size=16)
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            hasher.update(data)
    return f"{FOLDER}/{hasher.hexdigest()}.arrow"


@contextmanager
def _opened(memo: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(memo, timeout=_PATIENCE_SECONDS, isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'unsent'").fetchone():
                for _, _, statement in NOTES:
                    db.execute(statement)
                db.execute("INSERT INTO unsent (key) SELECT key FROM answers")
            db.execute("COMMIT")
            yield db
    except sqlite3.Error as error:
        what = f"the memo of engine answers cannot be shared: {error}"
        hint = "make room on the disk, or move the file away: the answers that were sent are not lost"
        raise StoreError(what, where=str(memo), hint=hint) from error
