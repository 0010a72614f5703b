"""Exports: check the folder of an exported dataset against what was written with it, wherever it was taken.

The folder says of each file its size and SHA-256, and of each split its rows and the digest of their values, in the
order of its files. Where all rows and columns of the dataset are in one split, that digest is the one of the step the
export was made from; in a `hub-folder`, the manifest of that step lies beside it and must say the same.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from prefkit.disk import SEAL
from prefkit.errors import ContractError, DataError
from prefkit.export_folder import MARKER, sha256
from prefkit.identity import hash_json
from prefkit.verify.contents import digest_of
from prefkit.verify.fault import Counts, Fault, Kind, Report

__all__ = ["verify_export"]

_CARD = "README.md"
_ROWS_AT_ONCE = 10_000
_LIST = re.compile(r"list<[^:<>]*: ")


class _Signed(BaseModel):
    """What the folder says of itself. Every field that older exports lack has a default."""

    model_config = ConfigDict(frozen=True)

    files: tuple[str, ...]
    to: str = ""
    ref: str = ""
    digest: str = ""
    rows: int = 0
    columns: tuple[tuple[str, str], ...] = ()
    bytes: dict[str, int] = {}
    sha256: dict[str, str] = {}
    splits: dict[str, "_Rows"] = {}


class _Rows(BaseModel):
    model_config = ConfigDict(frozen=True)

    files: tuple[str, ...]
    rows: int
    digest: str


class _Found(NamedTuple):
    """What is the matter with a file."""

    kind: Kind
    what: str


def verify_export(folder: Path, jobs: int = 1) -> Report:
    """Check an export: its files, their rows, and the values in them. Raises DataError if the folder is no export."""
    started = time.perf_counter()
    signed = _signed(folder)
    faults, notes = [], []
    with ThreadPoolExecutor(jobs) as pool:
        names = sorted(signed.sha256)
        found = dict(zip(names, pool.map(lambda name: _check_file(folder, name, signed), names), strict=True))
        bad = {name for name, wrong in found.items() if wrong is not None}
        whole = [
            (name, split) for name, split in sorted(signed.splits.items()) if bad.isdisjoint(split.files)
        ]
        values = pool.map(lambda each: _check_split(folder, each[0], each[1], signed.columns), whole)
        faults += [fault for fault in values if fault is not None]
    for name, wrong in found.items():
        if wrong is not None and name == _CARD and wrong.kind in {"damaged", "cut-short"}:
            notes.append(f"{_CARD} was changed since it was exported; the rows are another matter")
        elif wrong is not None:
            faults.append(Fault(wrong.kind, f"{name} {wrong.what}", name, mend=_mend(signed)))
    faults += [*_agreement(folder, signed), *_strangers(folder, signed)]
    notes += _notes(signed)
    rows = sum(split.rows for split in signed.splits.values())
    size = sum(_size(folder / name) for name in names if name not in bad)
    counts = Counts(files=len(names), rows=rows, bytes=size)
    subject = f"the export '{folder}'"
    return Report(subject, tuple(faults), tuple(notes), counts, time.perf_counter() - started)


def _signed(folder: Path) -> _Signed:
    path = folder / MARKER
    hint = "export it again: prefkit export RUN FOLDER"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise DataError(f"'{MARKER}' is not what an export writes", where=str(path), hint=hint)
        seal = value.pop(SEAL, None)
        signed = _Signed.model_validate(value)
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        told = str(error).splitlines()[0][:200]
        raise DataError(f"'{MARKER}' cannot be read: {told}", where=str(path), hint=hint) from error
    if seal is not None and seal != hash_json(value):
        raise DataError(f"'{MARKER}' is not as it was written", where=str(path), hint=hint)
    names = [*signed.sha256, *(name for split in signed.splits.values() for name in split.files)]
    if outside := [name for name in names if not _is_inside(name)]:
        what = f"'{MARKER}' names a file outside the folder: '{outside[0][:80]}'"
        raise DataError(what, where=str(path), hint="do not trust this folder")
    return signed


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _check_file(folder: Path, name: str, signed: _Signed) -> _Found | None:
    path = folder / name
    try:
        size = path.stat().st_size
        if not path.is_file():
            return _Found("damaged", "is no file")
        wanted = signed.bytes.get(name, size)
        if size < wanted:
            return _Found("cut-short", f"is cut short: {size:,} of {wanted:,} bytes")
        found = sha256(path)
    except FileNotFoundError:
        return _Found("missing", "is not there")
    except OSError as error:
        return _Found("unreadable", f"cannot be read: {error.strerror or error}")
    return None if found == signed.sha256[name] else _Found("damaged", "was changed since it was exported")


def _check_split(folder: Path, name: str, split: _Rows, columns: Sequence[tuple[str, str]]) -> Fault | None:
    where = ", ".join(split.files[:3])
    paths = [folder / file for file in split.files]
    try:
        if _columns(paths[0]) != [(column, _LIST.sub("list<: ", kind)) for column, kind in columns]:
            return Fault("disagrees", f"split '{name}' has other columns than it was written with", where)
        found, rows = digest_of(_read(paths), types=[kind for _, kind in columns])
    except (OSError, pa.ArrowException, ContractError, ValueError, OverflowError) as error:
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        return Fault("damaged", f"the rows of split '{name}' cannot be read: {told}", where)
    if rows != split.rows:
        return Fault(
            "disagrees", f"split '{name}' has {rows:,} rows, and was written with {split.rows:,}", where
        )
    if found != split.digest:
        return Fault("disagrees", f"split '{name}' has other values than it was written with", where)
    return None


def _columns(path: Path) -> list[tuple[str, str]]:
    """Return the columns of a Parquet file, without the names of what is in lists: the format has its own."""
    from pyarrow import parquet

    return [(field.name, _LIST.sub("list<: ", str(field.type))) for field in parquet.read_schema(path)]


def _read(paths: list[Path]) -> Iterator[pa.Table]:
    """Yield the rows of Parquet files in slices, the first one empty, every buffer checked."""
    from pyarrow import parquet

    for at, path in enumerate(paths):
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20) as file:
            if at == 0:
                yield file.schema_arrow.empty_table()
            for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, use_threads=False):
                batch.validate(full=True)
                yield pa.Table.from_batches([batch])


def _agreement(folder: Path, signed: _Signed) -> Iterator[Fault]:
    """Yield where the folder contradicts itself: its splits, the dataset's digest, and the manifests beside them."""
    splits = list(signed.splits.values())
    if not splits:
        return
    rows = sum(split.rows for split in splits)
    if signed.to != "trl" and rows != signed.rows:
        yield Fault("disagrees", f"the splits have {rows:,} rows, and the dataset {signed.rows:,}", MARKER)
    if len(splits) == 1 and signed.to != "trl" and splits[0].digest != signed.digest:
        yield Fault("disagrees", "the rows are not those that the dataset's digest names", MARKER)
    if signed.to != "hub-folder":
        return
    manifests = sorted(name for name in signed.sha256 if name.startswith("manifests/"))
    last = _manifest(folder / manifests[-1]) if manifests else {}
    if last and (last.get("digest"), last.get("rows", {}).get("kept")) != (signed.digest, signed.rows):
        what = f"{manifests[-1]} is of other rows than those that are here"
        yield Fault("disagrees", what, manifests[-1])


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}  # that it is not there, or not as it was, is said already
    return value if isinstance(value, dict) and isinstance(value.get("rows"), dict) else {}


def _strangers(folder: Path, signed: _Signed) -> Iterator[Fault]:
    """Yield files beside the rows that nobody wrote, and that would be read with them."""
    for path in sorted((folder / "data").glob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in signed.files and not path.name.startswith("."):
            told = (
                f"{name} is no part of the export, and `datasets.load_dataset` would read it with the others"
            )
            yield Fault("stranger", told, name, mend="move it away")


def _notes(signed: _Signed) -> list[str]:
    if not signed.sha256:
        return [
            "this export says nothing of its files but their names: an older prefkit made it; export it again"
        ]
    if len(signed.splits) > 1:
        return [
            f"the rows lie in {len(signed.splits)} splits: each has its digest; that of the dataset needs their order"
        ]
    return []


def _mend(signed: _Signed) -> str:
    again = f"`prefkit export {signed.ref} FOLDER --to {signed.to}`" if signed.ref and signed.to else ""
    return f"{again} writes it again, where the store is; or take the file from another copy" if again else ""


def _size(path: Path) -> int:
    return path.stat().st_size
