"""Training reports beside a run's refs, each with the digest of the rows it was trained on.

A run can be built again on other rows after it was trained; its report then says nothing of the new rows, and a card
must not show it.
"""

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from prefkit.disk import replace_text
from prefkit.errors import StoreError
from prefkit.store import Store
from prefkit.train.report import Report

__all__ = ["load_report", "save_report"]


class _Filed(BaseModel):
    model_config = ConfigDict(frozen=True)

    digest: str
    """Of the rows that were trained on."""
    report: Report


def save_report(store: Store, run: str, digest: str, report: Report) -> Path:
    """Keep the report of a training run on the rows with this digest, for the run's card.

    Raises: StoreError if there is no such run, or the file cannot be written.
    """
    store.refs(run)  # an unknown run is an error here, not a stray folder
    path = _path(store, run)
    text = json.dumps(_Filed(digest=digest, report=report).model_dump(mode="json"), indent=1, sort_keys=True)
    try:
        replace_text(path, text + "\n")
    except OSError as error:
        what = f"the training report of '{run}' cannot be kept: {error.strerror or error}"
        raise StoreError(what, where=str(path), hint="free space, or build the run first") from error
    return path


def load_report(store: Store, run: str, digest: str) -> Report | None:
    """Return the report of a training run on the rows with this digest, or None. Raises StoreError if it is torn."""
    path = _path(store, run)
    try:
        filed = _Filed.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        hint = "train again, or remove the file"
        raise StoreError(
            f"the training report of '{run}' cannot be read", where=str(path), hint=hint
        ) from error
    return filed.report if filed.digest == digest else None


def _path(store: Store, run: str) -> Path:
    return store.root / "refs" / run / "train-report.json"
