"""Training reports beside a run's refs, each with the digest of the rows it was trained on.

A run can be built again on other rows after it was trained; its report then says nothing of the new rows, and a card
must not show it.
"""

import json

from pydantic import BaseModel, ConfigDict, ValidationError

from prefkit.errors import StoreError
from prefkit.store import Store
from prefkit.train.report import Report

__all__ = ["load_report", "save_report"]


_NAME = "train-report.json"


class _Filed(BaseModel):
    model_config = ConfigDict(frozen=True)

    digest: str
    """Of the rows that were trained on."""
    report: Report


def save_report(store: Store, run: str, digest: str, report: Report) -> str:
    """Keep the report of a training run on the rows with this digest, for the run's card; return where it is.

    Raises: StoreError if there is no such run, or the file cannot be written.
    """
    store.refs(run)  # an unknown run is an error here, not a stray folder
    text = json.dumps(_Filed(digest=digest, report=report).model_dump(mode="json"), indent=1, sort_keys=True)
    return store.save_note(run, _NAME, f"{text}\n".encode())


def load_report(store: Store, run: str, digest: str) -> Report | None:
    """Return the report of a training run on the rows with this digest, or None. Raises StoreError if it is torn."""
    data = store.note(run, _NAME)
    if data is None:
        return None
    try:
        filed = _Filed.model_validate_json(data)
    except ValidationError as error:
        hint = "train again, or remove the file"
        raise StoreError(
            f"the training report of '{run}' cannot be read",
            where=store.place.where(f"refs/{run}/{_NAME}"),
            hint=hint,
        ) from error
    return filed.report if filed.digest == digest else None
