"""Rows: find a row by its id, and the rows of its prompt in every step.

An id, and a prompt's id, never change on the way through a recipe, and rows of one prompt are all that a stage which is
not global can let one row know of. So a life is told from the rows of one prompt, and nothing else is looked at but
the columns of ids.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.errors import StoreError
from prefkit.manifest import Manifest, Shard
from prefkit.store import Store

__all__ = ["Found", "Passed", "Refused", "Steps", "find", "of_prompt", "steps_of"]

Steps = Mapping[str, Manifest]
"""The steps of a run by name, `05-pair`, in order."""
_LINE = re.compile(r"(?:(?P<file>.*):)?(?P<line>\d{1,18})")
_NAMED = 3
"""Ids that a hint names."""


class Found(NamedTuple):
    """Whose life it is."""

    id: str
    prompt_id: str


class Refused(NamedTuple):
    """A row that the data could not be read from: it has a line, and no id."""

    row: Mapping[str, Any]


class Passed(NamedTuple):
    """What a step made of the rows of one prompt."""

    name: str
    manifest: Manifest
    kept: pa.Table
    dropped: pa.Table
    failed: pa.Table


def steps_of(store: Store, ref: str) -> dict[str, Manifest]:
    """Return the steps of a run; of `run/05-pair` or `run/pair`, those up to that one. Raises StoreError."""
    run, _, _ = ref.partition("/")
    last = store.resolve(ref).key
    found: dict[str, Manifest] = {}
    for each in store.refs(run):
        found[each.step] = store.manifest(each)
        if each.key == last and "/" in ref:
            break
    return found


def find(store: Store, steps: Steps, row: str) -> Found | Refused:
    """Return which row an id, its first digits, or a line of the data means. Raises StoreError with what is near it.

    Where no row has the id, a response that was never a row of its own is looked for among the sides of pairs.
    """
    tables = [table for manifest in steps.values() for table in _tables(store, manifest)]
    for columns in (("id",), ("prompt_id",), ("chosen_id", "rejected_id")):
        found = _with_prefix(tables, columns, row)
        exact = {one for one in found if one.id == row} or found
        if len(exact) == 1:
            return min(exact)
        if found:
            raise _several(row, sorted({one.id for one in found}))
    refused = _refused(store, steps, row)
    if refused is not None:
        return refused
    hint = f"`prefkit show {next(iter(steps), '')} --json` lists rows with their ids; the first digits are enough"
    raise StoreError(f"no row of the run has the id '{row[:80]}'", where=store.shown, hint=hint)


def of_prompt(store: Store, steps: Steps, prompt_id: str) -> Iterator[Passed]:
    """Yield what each step made of the rows of a prompt."""
    for name, manifest in steps.items():
        parts = (manifest.shards, manifest.dropped, manifest.failed)
        yield Passed(name, manifest, *(_of(store, shards, prompt_id) for shards in parts))


def _tables(store: Store, manifest: Manifest) -> Iterator[pa.Table]:
    for shard in (*manifest.shards, *manifest.dropped, *manifest.failed):
        yield store.get(shard)


def _of(store: Store, shards: Sequence[Shard], prompt_id: str) -> pa.Table:
    found = []
    for shard in shards:
        table = store.get(shard)
        if "prompt_id" in table.column_names:
            found.append(table.filter(pc.equal(table["prompt_id"], prompt_id)))
    return pa.concat_tables(found, promote_options="default") if found else pa.table({})


def _with_prefix(tables: Sequence[pa.Table], columns: Sequence[str], prefix: str) -> set[Found]:
    """Return whose `columns` begin so: rows by `id`, prompts by `prompt_id`, pairs by the id of a side."""
    found: set[Found] = set()
    for table in tables:
        for name in columns:
            if {name, "prompt_id"} <= set(table.column_names):
                rows = table.filter(pc.starts_with(table[name], prefix))
                ids = rows["prompt_id" if name == "prompt_id" else "id"]
                found |= set(map(Found, ids.to_pylist(), rows["prompt_id"].to_pylist()))
    return found


def _refused(store: Store, steps: Steps, row: str) -> Refused | None:
    """Return the row at a line of the data that could not be read: `prompts.jsonl:12`, `:12` or `12`."""
    said = _LINE.fullmatch(row)
    if said is None or not steps:
        return None
    found = []
    for shard in next(iter(steps.values())).dropped:
        table = store.get(shard)
        if "line" in table.column_names:
            found += table.filter(pc.equal(table["line"], int(said["line"]))).to_pylist()
    if said["file"]:
        found = [one for one in found if str(one.get("file") or "").endswith(said["file"])]
    if len(found) > 1:
        files = ", ".join(f"{one['file']}:{one['line']}" for one in found[:_NAMED])
        raise StoreError(f"line {said['line']} was refused in several files", hint=f"say which: {files}")
    return Refused(found[0]) if found else None


def _several(row: str, ids: Sequence[str]) -> StoreError:
    near = ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")
    return StoreError(
        f"{len(ids)} rows have an id that begins with '{row[:80]}'", hint=f"say more of it: {near}"
    )
