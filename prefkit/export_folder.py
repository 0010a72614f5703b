"""A folder that appears under its name when it is whole, and replaces nothing but an earlier one of its kind.

It carries the SHA-256 of its files, which is also what the hub files large ones by, so that it can be checked wherever
it is taken, with `prefkit verify` or `sha256sum`.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from prefkit.disk import SEAL
from prefkit.errors import PrefkitError
from prefkit.identity import hash_json

__all__ = ["MARKER", "fresh_folder", "sha256"]

MARKER = "prefkit-export.json"
"""Says what an export is of, and which files it wrote, with their digests: only those may a later export replace."""


@contextlib.contextmanager
def fresh_folder(out: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Give a folder to write to; when the block ends well, it takes the place of `out`.

    What `about` says by then is kept in it, beside the digests of the files.

    Raises: PrefkitError if `out` has files that no export wrote, or something cannot be written.
    """
    target = out.resolve()
    _refuse_strangers(target, out)
    work: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-export-"))
        yield work
        _sign(work, about)
        work.chmod(0o755)
        _swap(work, target)
    except (OSError, pa.ArrowException) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
        hint = "free space or give another folder; what was there before is untouched"
        raise PrefkitError(f"the export cannot be written: {reason}", where=str(out), hint=hint) from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sign(work: Path, about: Mapping[str, Any]) -> None:
    """Write what the folder is of, and the size and digest of every file in it."""
    files = sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file())
    whole = {
        **about,
        "files": [*files, MARKER],
        "bytes": {name: (work / name).stat().st_size for name in files},
        "sha256": {name: sha256(work / name) for name in files},
    }
    text = json.dumps({**whole, SEAL: hash_json(whole)}, indent=1, sort_keys=True)
    (work / MARKER).write_text(text + "\n", encoding="utf-8")


def _swap(work: Path, target: Path) -> None:
    """Put `work` in the place of `target`; if that fails, `target` is back where it was."""
    if not target.exists():
        work.rename(target)
        return
    aside = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tmp-export-"))
    try:
        target.rename(aside / "before")
        try:
            work.rename(target)
        except OSError:
            (aside / "before").rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_strangers(target: Path, shown: Path) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise PrefkitError(
            f"'{shown}' is a file", hint="give a folder that is new, empty or an earlier export"
        )
    strangers = sorted(_present(target) - _written(target))
    if strangers:
        listed = ", ".join(f"'{name}'" for name in strangers[:3])
        what = f"'{shown}' has files that no export wrote ({len(strangers)}): {listed}"
        raise PrefkitError(
            what, hint="give a folder that is new, empty or an earlier export, or move them away"
        )


def _present(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def _written(folder: Path) -> set[str]:
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {str(name) for name in files} if isinstance(files, list) else set()
