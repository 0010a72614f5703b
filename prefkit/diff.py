"""Differences between two steps: settings, columns, rows, labels that flipped.

Rows are matched by id. A pair is the same pair whichever way round it is stored, so pairs are matched by the two
responses they are made of, and one stored the other way round has flipped. Equal digests mean equal rows, and then
nothing is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.identity import digest
from prefkit.manifest import Manifest
from prefkit.store import Store

__all__ = ["Change", "Difference", "compare"]


class Change(NamedTuple):
    """One setting or column with another value; None where it is not there."""

    name: str
    before: Any
    after: Any


class Difference(NamedTuple):
    """What changed from one step to another. Empty where nothing did."""

    settings: tuple[Change, ...] = ()
    """Stage, version and settings by their path."""
    columns: tuple[Change, ...] = ()
    """Columns added, gone, or of another type."""
    rows: tuple[int, int, int] = (0, 0, 0)
    """Rows only in the first, in both, only in the second."""
    flipped: int = 0
    """Pairs stored the other way round."""
    values: Mapping[str, int] = {}
    """Rows in both, and not flipped, whose value differs, by column."""
    reordered: bool = False
    """Whether the rows in both come in another order."""

    @property
    def empty(self) -> bool:
        """Return whether nothing changed."""
        moved = self.rows[0] or self.rows[2] or self.flipped or self.reordered
        return not (self.settings or self.columns or moved or any(self.values.values()))


def compare(store: Store, before: Manifest, after: Manifest) -> Difference:
    """Say what changed from one step to another."""
    settings = tuple(_settings(before, after))
    columns = tuple(_changes(dict(before.columns), dict(after.columns)))
    if before.digest == after.digest:
        return Difference(settings, columns, (0, after.rows.kept, 0))
    one, other = store.table(before), store.table(after)
    keys = _keys(one), _keys(other)
    ours, theirs = _match(*keys)
    inside = (len(keys[0]) - len(ours), len(ours), len(keys[1]) - len(theirs))
    shared = [name for name, kind in before.columns if dict(after.columns).get(name) == kind]
    one, other = one.take(pa.array(ours)), other.take(pa.array(theirs))
    turned = _turned(one, other)
    # A pair that flipped differs in all that belongs to a side; what else changed is seen in the others.
    same_way = pa.array(~turned)
    one, other = one.filter(same_way), other.filter(same_way)
    values = {name: count for name in shared if (count := _different(one[name], other[name]))}
    return Difference(settings, columns, inside, int(turned.sum()), values, bool(np.any(np.diff(theirs) < 0)))


def _settings(before: Manifest, after: Manifest) -> Iterator[Change]:
    def flat(manifest: Manifest) -> dict[str, Any]:
        head = {"stage": manifest.stage, "version": manifest.version, "seed": manifest.seed}
        return head | dict(_flat(manifest.config, ""))

    yield from _changes(flat(before), flat(after))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after or before[name] != after[name]:
            yield Change(name, before.get(name), after.get(name))


def _keys(table: pa.Table) -> pl.Series:
    """Return what makes a row the same row: its id; for a pair, the ids of both responses in either order."""
    if not {"chosen_id", "rejected_id"} <= set(table.column_names):
        return pl.Series(table["id"])
    frame = pl.DataFrame({"one": pl.Series(table["chosen_id"]), "two": pl.Series(table["rejected_id"])})
    return frame.select(
        pl.concat_str(pl.min_horizontal("one", "two"), pl.max_horizontal("one", "two"))
    ).to_series()


class _Matched(NamedTuple):
    ours: np.ndarray
    theirs: np.ndarray


def _match(one: pl.Series, other: pl.Series) -> _Matched:
    """Return the positions of the rows in both, in the order of the first."""
    left = pl.DataFrame({"key": one}).with_row_index("ours")
    right = pl.DataFrame({"key": other}).with_row_index("theirs").unique("key", keep="first")
    joined = left.unique("key", keep="first").join(right, on="key").sort("ours")
    return _Matched(joined["ours"].to_numpy().astype(np.int64), joined["theirs"].to_numpy().astype(np.int64))


def _turned(one: pa.Table, other: pa.Table) -> np.ndarray:
    """Return which pairs are stored the other way round: bool [rows]."""
    if "chosen_id" not in one.column_names or "chosen_id" not in other.column_names:
        return np.zeros(one.num_rows, dtype=bool)
    turned: np.ndarray = pl.Series(one["chosen_id"]).ne_missing(pl.Series(other["chosen_id"])).to_numpy()
    return turned


def _different(one: pa.ChunkedArray, other: pa.ChunkedArray) -> int:
    """Return in how many rows two columns of one type differ. Null equals null, and NaN equals NaN."""
    if digest(pa.table({"": one})) == digest(pa.table({"": other})):
        return 0
    if pa.types.is_nested(one.type):
        # A Python loop, in `diff` only: neither Arrow nor polars compares lists of structs row by row.
        return sum(a != b for a, b in zip(_values(one), _values(other), strict=True))
    return int(pl.Series(one).ne_missing(pl.Series(other)).sum())


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    values: Sequence[Any] = column.to_pylist()
    return values
