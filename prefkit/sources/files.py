"""Files: find them, tell what they hold from their first bytes, and say clearly what is wrong with them.

The name of a file is a hint at best: public `.json` files are often JSON Lines, and compressed files come
without `.gz`. So the first bytes decide, and the name only where bytes cannot.
"""

import gzip
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple, cast, final

import pyarrow as pa

from prefkit.catalog import suggest
from prefkit.errors import DataError

__all__ = ["DataFile", "Kind", "find", "inspect", "opened", "reading"]

Kind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow", "arrow-stream"]
_HEAD = 1 << 16
_UNFOLDS = 250
"""Bytes that one compressed byte may stand for: rows of text have 3 to 30, what is made to fill disks 1000."""
_FREELY = 1 << 26
"""Bytes that any file may unfold to."""


class DataFile(NamedTuple):
    """A file and what it holds."""

    path: Path
    kind: Kind
    gzipped: bool
    shown: str
    """The path as its user gave it: absolute paths of a machine stay out of stores and errors where they can."""


def find(pattern: str | tuple[str, ...], folder: Path) -> list[DataFile]:
    """Return the files that paths or glob patterns name, each pattern's sorted by name. Raises DataError."""
    patterns = (pattern,) if isinstance(pattern, str) else pattern
    return [inspect(path, shown) for one in patterns for path, shown in _paths(one, folder)]


def _paths(pattern: str, folder: Path) -> Iterator[tuple[Path, str]]:
    if "://" in pattern:
        raise DataError(
            f"'{pattern}' is not a path", hint="download the file, or name a hub dataset: hub: owner/name"
        )
    path = folder / pattern
    if not has_magic(pattern) or os.path.exists(path):  # noqa: PTH110 - no error for what cannot be looked up
        yield path, pattern
        return
    found = [Path(name) for name in sorted(glob(str(path), recursive=True))]  # noqa: PTH207 - absolute patterns too
    files = [name for name in found if name.is_file()]
    if not files:
        raise DataError(f"no file matches '{pattern}'", where=str(folder), hint="check the pattern")
    for name in files:
        yield name, name.name


def beside(pattern: str | tuple[str, ...] | None, folder: Path) -> Path:
    """Return the folder of the files that a pattern names: what a joined file is relative to."""
    first = pattern if isinstance(pattern, str) else (pattern or ("",))[0]
    return (folder / first).parent if first else folder


def inspect(path: Path, shown: str = "") -> DataFile:
    """Look at a file's first bytes. Raises DataError if it is missing, unreadable, empty or of no known kind."""
    shown = shown or path.name
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            hint = f"name its files: '{shown.rstrip('/')}/*.parquet'"
            raise DataError(f"'{shown}' is a folder", where=str(path), hint=hint)
        if not stat.S_ISREG(mode):
            raise DataError(
                f"'{shown}' is not a regular file", where=str(path), hint="write its data to a file first"
            )
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise DataError(f"file '{shown}' does not exist", where=str(path), hint=_near(path)) from error
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        hint = "check the path and the file's permissions"
        raise DataError(f"file '{shown}' cannot be opened: {said}", where=str(path), hint=hint) from error
    gzipped = head.startswith(b"\x1f\x8b")
    data = DataFile(path, "jsonl", gzipped, shown)
    if gzipped:
        with opened(data) as stream:
            head = stream.read(_HEAD)
    if not head.strip():
        raise DataError(f"file '{shown}' is empty", where=str(path), hint="remove it, or make it again")
    return data._replace(kind=_kind(head, data))


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder '{path.parent.name}' either; paths are relative to the recipe"
    return (
        suggest(path.name, names)
        or "paths are relative to the recipe; change it, or pass --set data.0.file=PATH"
    )


def _kind(head: bytes, file: DataFile) -> Kind:
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"ARROW1"):
        return "arrow"
    if head.startswith(b"\xff\xff\xff\xff"):
        return "arrow-stream"
    suffixes = {suffix.lower() for suffix in file.path.suffixes}
    if suffixes & {".csv", ".tsv"}:
        return "tsv" if ".tsv" in suffixes else "csv"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{") or suffixes & {".jsonl", ".ndjson"}:
        return _lines_or_document(text, file)
    hint = (
        "known are JSON Lines, JSON arrays, CSV, TSV, Parquet and Arrow, each of the first three also as .gz"
    )
    raise DataError(f"file '{file.shown}' is of no known kind", where=str(file.path), hint=hint)


def _lines_or_document(text: bytes, file: DataFile) -> Kind:
    """Return `jsonl` unless this is one JSON object spread over lines, which has no rows."""
    lines = text.split(b"\n")
    whole = lines if len(text) < _HEAD else lines[:-1]
    if len(lines) == 1 or any(_is_object(line) for line in whole) or lines[0].strip() not in {b"{", b""}:
        return "jsonl"
    hint = "write one object a line (JSON Lines), or a list of objects: [ {...}, {...} ]"
    raise DataError(f"file '{file.shown}' is one JSON object, not rows", where=str(file.path), hint=hint)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


@contextmanager
def opened(file: DataFile) -> Iterator[BinaryIO]:
    """Open a file for reading bytes, decompressed. Errors while it is open become DataError."""
    with reading(file), file.path.open("rb") as raw:
        if file.gzipped:
            with _Bounded(file, fileobj=raw) as stream:
                yield cast("BinaryIO", stream)
        else:
            yield raw


@final
class _Bounded(gzip.GzipFile):
    """A compressed file that may unfold so far and no further. Raises DataError."""

    def __init__(self, file: DataFile, *, fileobj: BinaryIO) -> None:
        super().__init__(fileobj=fileobj)
        self._source = file
        self._most = max(_FREELY, _UNFOLDS * os.fstat(fileobj.fileno()).st_size)

    def read(self, size: int | None = -1) -> bytes:
        """Return up to so many bytes."""
        return self._checked(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        """Return what one look gives."""
        return self._checked(super().read1(size))

    def readline(self, size: int | None = -1) -> bytes:
        """Return one line."""
        return self._checked(super().readline(size))

    def _checked(self, data: bytes) -> bytes:
        if self.tell() > self._most:
            what = f"file '{self._source.shown}' unfolds to more than {_UNFOLDS} times its size"
            hint = "if that is meant, decompress it yourself and name the file that comes out"
            raise DataError(what, where=str(self._source.path), hint=hint)
        return data


def misread(file: DataFile, said: str) -> DataError:
    """Return the error for a file that is not what its kind says."""
    what = f"file '{file.shown}' cannot be read as {file.kind}: {said}"
    return DataError(what, where=str(file.path), hint="download or copy it again, or make it anew")


@contextmanager
def reading(file: DataFile) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a DataError that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"file '{file.shown}' ends too early or is damaged: {error}"
        raise DataError(what, where=str(file.path), hint="download or copy it again, whole") from error
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise misread(file, _first_line(error)) from error
    except OSError as error:
        what = f"file '{file.shown}' cannot be read: {error.strerror or _first_line(error)}"
        raise DataError(
            what, where=str(file.path), hint="check that it is there, whole and readable"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__
