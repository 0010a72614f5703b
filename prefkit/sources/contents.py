"""Contents: what stands behind a source, as a digest: a changed file is read again, an unchanged one is not.

Files count by their bytes, and not by name, place or date. Hashing a large file takes seconds, so digests are
kept beside the size, dates and inode that the file had; one of the dates is the system's own, which nobody can set
back. That cache is a convenience: it may be deleted at any time.
"""

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

from prefkit.disk import replace_text
from prefkit.errors import DataError
from prefkit.identity import hash_json
from prefkit.sources.files import DataFile, beside, find, inspect, reading
from prefkit.sources.hub import hub_files, hub_folder
from prefkit.sources.source import Source
from prefkit.threads import cores, in_threads

__all__ = ["RefDigest", "identity"]

RefDigest = Callable[[str], str]
_BLOCK = 1 << 20
_Known = dict[str, list[int | str]]


def identity(
    source: Source, folder: Path, cache: Path | None = None, ref_digest: RefDigest | None = None
) -> str:
    """Return the digest of what a source reads. `cache` is a file that remembers digests of files.

    A named hub dataset counts by name, configuration and revision: pin a commit, or a changed dataset goes unnoticed.
    Raises DataError if a file is missing or cannot be read.
    """
    if source.ref is not None:
        if ref_digest is None:
            raise DataError(f"the ref '{source.ref}' needs a store", hint="give `ref_digest`")
        return hash_json({"ref": ref_digest(source.ref)})
    files = _files(source, folder)
    if source.join is not None:
        files.append(inspect(beside(source.file, folder) / source.join.file, source.join.file))
    known = _load(cache)
    digests = list(in_threads(lambda file: _file_digest(file, known), files, cores()))
    _save(cache, known)
    if source.hub is not None and hub_folder(source, folder) is None:
        named = {
            "hub": source.hub,
            "config": source.config,
            "data_dir": source.data_dir,
            "at": source.revision,
        }
        return hash_json({**named, "files": digests})
    return hash_json({"files": digests, "split": source.split})


def _files(source: Source, folder: Path) -> list[DataFile]:
    if source.file is not None:
        return find(source.file, folder)
    path = hub_folder(source, folder)
    return [] if path is None else hub_files(source, path)


def _file_digest(file: DataFile, known: _Known) -> str:
    with reading(file):
        found = file.path.stat()
        stamp: list[int | str] = [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]
        name = str(file.path.resolve())
        before = known.get(name)
        if before is not None and before[:-1] == stamp:
            return str(before[-1])
        state = blake2b(digest_size=16)
        with file.path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                state.update(block)
    known[name] = [*stamp, state.hexdigest()]
    return state.hexdigest()


def _load(cache: Path | None) -> _Known:
    """Return what the cache knows; a cache that cannot be read knows nothing."""
    if cache is None:
        return {}
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: entry for name, entry in found.items() if isinstance(entry, list) and len(entry) == 5}


def _save(cache: Path | None, known: _Known) -> None:
    """Keep the cache, replacing it whole; where it cannot be written, files are hashed again next time."""
    if cache is None or known == _load(cache):
        return
    try:
        replace_text(cache, json.dumps(known))
    except OSError:
        return
