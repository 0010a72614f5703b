"""Reasons: the values that decided what became of a row, as far as the store tells.

A stage says which columns it reads; of a row that did not go on, those values are what it was judged by, and where a
stage looks at a prompt's rows together, so are those of the others. Of a duplicate it is the row that stayed.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from prefkit.manifest import Manifest
from prefkit.stage import Stage
from prefkit.store import Store
from prefkit.texts import characters, digests
from prefkit.why.kin import Row

__all__ = ["decided", "twin"]

_LENGTHS = ("too-short", "too-long", "length-ratio")
_TEXTS = ("prompt", "response", "chosen", "rejected")
_MOST = 16
"""Values of other rows that are told."""
_PLAIN = (int, float, str, bool)


def decided(stage: Stage, row: Row, beside: Mapping[str, Row], reason: str) -> dict[str, Any]:
    """Return the values of a row that the stage goes by. `beside` are all rows of the prompt that it read."""
    columns = [name for name in stage.reads() if name not in ("id", "prompt_id")]
    found = {name: row[name] for name in columns if isinstance(row.get(name), _PLAIN)}
    if reason in _LENGTHS:
        found |= _lengths(row)
    if stage.scope() == "group" and len(beside) > 1:
        for name in [name for name in found if isinstance(found[name], float)]:
            values = [other.get(name) for id_, other in beside.items() if id_ != row["id"]]
            found[f"{name} of the prompt's other rows"] = values[:_MOST]
    return found


def twin(store: Store, manifest: Manifest, row: pa.Table) -> str | None:
    """Return the id of the row that a step kept instead of this one, which it dropped as an exact duplicate.

    `row` is a table of that one row. None if the step tells duplicates by likeness: which one it was is not stored.
    """
    config = manifest.config
    if config.get("kind", "exact") != "exact":
        return None
    by = config.get("by", "prompt")
    columns = ("chosen", "rejected") if by == "pair" else (by,)
    within = config.get("within") == "prompt" and by != "prompt"
    own = _codes(row, columns)
    for shard in manifest.shards:
        kept = store.get(shard)
        same = (_codes(kept, columns) == own).all(axis=1)
        if within:
            same &= np.asarray(kept["prompt_id"].to_numpy() == row["prompt_id"][0].as_py())
        if same.any():
            return str(kept["id"][int(same.argmax())].as_py())
    return None


def _codes(table: pa.Table, columns: tuple[str, ...]) -> np.ndarray:
    found = [digests(table[name], fold_case=True, with_roles=True) for name in columns]
    return np.concatenate(found, axis=1)


def _lengths(row: Row) -> dict[str, Any]:
    there = [name for name in _TEXTS if row.get(name) is not None]
    texts = [name for name in there if name != "prompt"] or there
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    return {
        f"{name}, characters": int(characters(pa.chunked_array([[row[name]]], turns))[0]) for name in texts
    }
