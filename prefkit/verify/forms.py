"""Forms: whether a file that training or a comparison left can be read, and is of the form that its name promises.

Nothing is loaded: of weights the header is read and held against the size of the file, of JSON the schema, of tables
every buffer. A value that was changed for another of its kind is not seen here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from prefkit.errors import StoreError
from prefkit.objects import short
from prefkit.store import Store
from prefkit.train.weight_files import fault_of
from prefkit.verify.contents import Wrong, here, read

__all__ = ["check_form", "is_read"]


def is_read(name: str) -> bool:
    """Say whether files of such a name are read: pages, templates and logs of trackers are not."""
    return PurePosixPath(name).suffix in _READERS


def check_form(store: Store, name: str) -> Wrong | None:
    """Return what is the matter with a file of the store, None if it is what its name says."""
    try:
        with here(store, name) as path:
            return _READERS[PurePosixPath(name).suffix](path, name)
    except FileNotFoundError:
        return None  # removed meanwhile; whether it must be there is asked of the folder
    except OSError as error:
        return Wrong("unreadable", f"cannot be read: {error.strerror or error}")
    except StoreError as error:
        return Wrong("unreadable", error.what)


def _weights(path: Path, _: str) -> Wrong | None:
    fault = fault_of(path)
    return Wrong("damaged", fault) if fault else None


def _table(path: Path, _: str) -> Wrong | None:
    try:
        for _slice in read(path):
            pass
    except (pa.ArrowException, ValueError, OverflowError) as error:
        return _unless_of_disk(error, "is no table")
    return None


def _numbers(path: Path, _: str) -> Wrong | None:
    import numpy as np

    try:
        np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        return Wrong("damaged", f"is no array: {short(error)}")
    return None


def _lines(path: Path, _: str) -> Wrong | None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                if line.endswith(
                    b"\n"
                ):  # else a run was killed while it wrote this line: it goes on before it
                    return Wrong("damaged", f"cannot be read from line {number} on")
    return None


def _json(path: Path, name: str) -> Wrong | None:
    data, schema = path.read_bytes(), _schema(name)
    try:
        if schema is None:
            json.loads(data)
        else:
            schema().model_validate_json(data)
    except ValidationError as error:
        # A number that is none is written as null, and read by nobody.
        told = [each for each in error.errors() if each["input"] is not None]
        return _told(told[0]["loc"], told[0]["msg"]) if told else None
    except (ValueError, RecursionError) as error:
        return Wrong("damaged", f"is no JSON: {short(error)}")
    return None


def _told(where: tuple[int | str, ...], what: str) -> Wrong:
    at = ".".join(map(str, where))
    return Wrong("damaged", f"is not what belongs there: {f'{at}: ' if at else ''}{what.lower()}"[:240])


def _schema(name: str) -> Callable[[], type[BaseModel]] | None:
    """Return what gives the schema of a JSON file of this name; None where any JSON will do."""
    parts = PurePosixPath(name).parts
    if parts[0] == "ablated":
        return _ablation
    if parts[-1] == "report.json":
        return _comparison if parts[0] == "compared" and len(parts) == 3 else _training
    return _plan if parts[0] == "compared" and parts[-1] == "plan.json" else None


def _training() -> type[BaseModel]:
    from prefkit.train.report import Report

    return Report


def _comparison() -> type[BaseModel]:
    from prefkit.experiment.report import Comparison

    return Comparison


def _plan() -> type[BaseModel]:
    from prefkit.experiment.report import Plan

    return Plan


def _ablation() -> type[BaseModel]:
    from prefkit.experiment.ablate import Ablation

    return Ablation


def _unless_of_disk(error: Exception, what: str) -> Wrong:
    if isinstance(error, OSError) and error.errno is not None:
        return Wrong("unreadable", f"cannot be read: {error.strerror or error}")
    return Wrong("damaged", f"{what}: {short(error)}")


_READERS: Mapping[str, Callable[[Path, str], Wrong | None]] = {
    ".safetensors": _weights,
    ".arrow": _table,
    ".npy": _numbers,
    ".jsonl": _lines,
    ".json": _json,
}
