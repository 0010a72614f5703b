"""Files of a store: there whole or not at all, and JSON that carries a digest of itself.

Manifests, parts and refs decide what is served without being made again. One that was cut short by a bad disk or
changed by hand must count as absent, never as true.
"""

import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from prefkit.errors import StoreError
from prefkit.identity import hash_json

__all__ = [
    "READ_ONLY",
    "SEAL",
    "read_sealed",
    "remove",
    "replace_file",
    "replace_text",
    "unwritable",
    "write_file",
    "write_sealed",
]

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of a place that cannot be written, full or not."""
SEAL = "seal"
"""The key that holds the digest of the others."""


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name, flush it to disk, and give it its name.

    Raises OSError; whatever goes wrong, what was there before is untouched and nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
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
    whole = {**value, SEAL: hash_json(value)}
    text = json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
    data = text.encode("utf-8", "surrogatepass")
    if not _holds(path, data):
        write_file(path, lambda file: file.write(data))


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what was written sealed; None if it is gone or not as it was written. Raises StoreError."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        what = f"cannot read the store: {error.strerror or error}"
        raise StoreError(what, where=str(path), hint="check its permissions and the disk") from error
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
