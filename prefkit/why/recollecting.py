"""Recollecting: the calls that a step made for some rows, and how sure it is that these were they.

A step that takes each row on its own is run again row by row, and one that takes a prompt's rows together on all of
them. What comes of it is compared with what is stored, and calls are told only where both agree, or where all that
is missing is an answer. A step over all rows cannot be run on a few: of those, the calls that are remembered are told,
and that its result is not theirs alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.engines import Completion, Failure
from prefkit.engines.memo import Memo
from prefkit.engines.spend import Price
from prefkit.errors import PrefkitError
from prefkit.identity import digest
from prefkit.keys import models_in
from prefkit.stage import Stage
from prefkit.why.calls import Row, last_text, shown_in, told, with_verdicts
from prefkit.why.life import Call
from prefkit.why.replay import Asked, Replayed, Rerun, asks_models, rerun, stage_of
from prefkit.why.rows import Passed

__all__ = ["Books", "Recalled", "made_of", "recall"]

_MOST_TOGETHER = 2000
"""Rows of one prompt that a step is run again on."""
_UNREADABLE = "the judge's answer cannot be read"


class Books(NamedTuple):
    """Where calls are looked up, and what they cost."""

    memo: Memo
    folder: Path
    prices: Mapping[str, Price]


class Recalled(NamedTuple):
    """The calls of a step for some rows."""

    calls: tuple[Call, ...] = ()
    others: int = 0
    """Calls found for other rows of the prompt."""
    note: str = ""


def recall(
    before: Passed | None, step: Passed, ids: Sequence[str], kin: frozenset[str], books: Books
) -> Recalled:
    """Return the calls of a step for the rows of these ids that it read; `kin` are the rows whose calls are told."""
    if before is None or not before.kept.num_rows:
        return Recalled()
    try:
        stage = stage_of(step.manifest)
    except PrefkitError as error:
        asked = sum(used.calls + used.remembered for used in step.manifest.made.models.values())
        return Recalled(note=f"its calls cannot be found: {error.what}" if asked else "")
    if not asks_models(stage):
        return Recalled()
    known = Rerun(stage, step.manifest, books.memo, books.folder, _fingerprints(stage, before, step))
    if stage.scope() == "map":
        parts = [_of_row(known, before, step, id_, books) for id_ in ids]
    else:
        parts = [_together(known, before, step, books)]
    return _only(parts, kin)


def made_of(before: Passed, step: Passed, ids: Sequence[str], books: Books) -> dict[str, str]:
    """Return the row of which each new row was made, by running a step that takes rows one by one on each of these."""
    try:
        stage = stage_of(step.manifest)
    except PrefkitError:
        return {}
    if stage.scope() != "map":
        return {}
    known = Rerun(stage, step.manifest, books.memo, books.folder, _fingerprints(stage, before, step))
    found: dict[str, str] = {}
    for id_ in ids:
        out = rerun(known, _row(before, id_))
        for table in (out.kept, out.dropped):
            if "id" in table.column_names:
                found |= {made: id_ for made in table["id"].to_pylist() if made != id_}
    return found


def _of_row(known: Rerun, before: Passed, step: Passed, id_: str, books: Books) -> Recalled:
    """Return the calls for one row, each for the row that has its answer as text, or else for the row itself."""
    out = rerun(known, _row(before, id_))
    note = _doubt(out, step)
    if note and not _missing(out):
        return Recalled(note=note)
    wrote: dict[str, list[str]] = {}
    for row in [*out.kept.to_pylist(), *out.dropped.to_pylist()]:
        if row["id"] != id_ and (text := last_text(row, "response")) is not None:
            wrote.setdefault(text.strip(), []).append(row["id"])
    calls = [
        told(asked, step.manifest, books.prices, [_next(wrote.get(_said(asked)), id_)])
        for asked in _asked_then(out, step)
    ]
    inputs, outputs = _row(before, id_).to_pylist(), _with_id(step, id_)
    return Recalled(tuple(with_verdicts(calls, _judgements(inputs, outputs), _texts(inputs))), note=note)


def _together(known: Rerun, before: Passed, step: Passed, books: Books) -> Recalled:
    """Return the calls for all rows of a prompt, each for the rows whose text it shows."""
    if before.kept.num_rows > _MOST_TOGETHER:
        return Recalled(note=f"its calls are not looked up: the prompt has {before.kept.num_rows} rows")
    out, inputs = rerun(known, before.kept), before.kept.to_pylist()
    asked = _asked_then(out, step)
    if known.stage.scope() == "global":
        asked = [one for one in asked if not isinstance(one.answer, Failure)]
        note = "a step over all rows: its calls for this prompt are here, its result depends on others too"
        note = note if asked else "a step over all rows: none of its calls can be told to be for this prompt"
    else:
        note = _doubt(out, step)
        if note and not _missing(out):
            return Recalled(note=note)
    calls = [told(one, step.manifest, books.prices, shown_in(one, inputs)) for one in asked]
    outputs = [*step.kept.to_pylist(), *step.failed.to_pylist()]
    return Recalled(tuple(with_verdicts(calls, _judgements(inputs, outputs), _texts(inputs))), note=note)


def _only(parts: Sequence[Recalled], kin: frozenset[str]) -> Recalled:
    calls = [call for part in parts for call in part.calls]
    ours = tuple(call for call in calls if not call.about or kin.intersection(call.about))
    notes = dict.fromkeys(part.note for part in parts if part.note)
    return Recalled(ours, len(calls) - len(ours), "; ".join(notes))


def _doubt(out: Replayed, step: Passed) -> str:
    """Return why the calls of a replay may not be those of the step; "" where they give what is stored."""
    if out.error:
        return f"its calls cannot all be found: {out.error}"
    agree = all(
        _is_stored(made, stored) for made, stored in ((out.kept, step.kept), (out.dropped, step.dropped))
    )
    # what failed may have been dropped for it: a text that is too long for the model
    if agree and _ids(out.failed) <= _ids(step.failed) | _ids(step.dropped):
        return ""
    if missing := _missing(out):
        return f"the memo does not hold {missing} of the answers"
    return "run again on these rows, the step gives something else than is stored, so its calls are not told"


def _is_stored(made: pa.Table, stored: pa.Table) -> bool:
    if not made.num_rows:
        return True
    if "id" not in stored.column_names or set(made.column_names) != set(stored.column_names):
        return False
    same = stored.filter(pc.is_in(stored["id"], made["id"])).select(made.column_names)
    return digest(made.sort_by("id")) == digest(same.cast(made.schema).sort_by("id"))


def _missing(out: Replayed) -> int:
    return sum(isinstance(asked.answer, Failure) for asked in out.asked)


def _asked_then(out: Replayed, step: Passed) -> Sequence[Asked]:
    """Return the requests that were made then.

    A row that failed because its judge could not be understood would be asked for once more now.
    """
    errors = step.failed["error"].to_pylist() if "error" in step.failed.column_names else []
    if errors and _ids(out.failed) and all(str(error).startswith(_UNREADABLE) for error in errors):
        return [asked for asked in out.asked if not isinstance(asked.answer, Failure)]
    return out.asked


def _next(ids: list[str] | None, default: str) -> str:
    """Return the first of the rows with a text that is not yet told of: equal answers come in the order of their rows."""
    if not ids:
        return default
    return ids.pop(0) if len(ids) > 1 else ids[0]


def _said(asked: Asked) -> str:
    return asked.answer.text.strip() if isinstance(asked.answer, Completion) else ""


def _row(before: Passed, id_: str) -> pa.Table:
    return before.kept.filter(pc.equal(before.kept["id"], id_))


def _with_id(step: Passed, id_: str) -> list[Row]:
    tables = [table for table in (step.kept, step.dropped, step.failed) if "id" in table.column_names]
    return [row for table in tables for row in table.filter(pc.equal(table["id"], id_)).to_pylist()]


def _ids(table: pa.Table) -> set[str]:
    return set(table["id"].to_pylist()) if "id" in table.column_names else set()


def _judgements(inputs: Sequence[Row], outputs: Sequence[Row]) -> list[Row]:
    """Return the judgements that a step added."""
    had = {row["id"]: len(row.get("judgements") or ()) for row in inputs}
    return [entry for row in outputs for entry in (row.get("judgements") or ())[had.get(row["id"], 0) :]]


def _texts(rows: Sequence[Row]) -> dict[str, str]:
    """Return the text of every response of these rows by its id."""
    found: dict[str, str] = {}
    for row in rows:
        for side, id_ in (("response", "id"), ("chosen", "chosen_id"), ("rejected", "rejected_id")):
            text = last_text(row, side)
            if text is not None and row.get(id_) is not None:
                found[row[id_]] = text
    return found


def _fingerprints(stage: Stage, before: Passed, step: Passed) -> dict[str, str]:
    """Return what the log-probs of each model of a stage are filed under, from what the step wrote beside them."""
    models = list(dict.fromkeys(model.served_as for model in models_in(stage)))
    if "ref_history" in step.kept.column_names and len(models) == 1 and stage.name == "reference":
        latest = pc.list_element(step.kept["ref_history"].slice(0, 1), 0).to_pylist()
        return {model: entry["model"] for model, entry in zip(models, latest, strict=False)}
    fresh = [name for name in step.kept.column_names if name not in before.kept.column_names]
    for name in fresh:
        if name.endswith("fingerprint"):
            for said in pc.unique(step.kept[name].drop_null()).to_pylist():
                parts = str(said).split("/")
                if len(parts) == len(models):
                    return dict(zip(models, parts, strict=True))
    return {}
