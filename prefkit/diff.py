"""Differences between two steps: settings, columns, rows, labels that flipped; and between two runs, step by step.

Rows are matched by id. A pair is the same pair whichever way round it is stored, so pairs are matched by the two
responses they are made of, and one stored the other way round has flipped. Equal digests mean equal rows, and then
nothing is read.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa

from prefkit.identity import digest
from prefkit.manifest import Manifest
from prefkit.store import Store

__all__ = [
    "Change",
    "Difference",
    "Example",
    "Flip",
    "RunsDifference",
    "StepDifference",
    "compare",
    "compare_runs",
]

EXAMPLES = 3
"""Rows of a kind that are named where nobody says how many."""


class Change(NamedTuple):
    """One setting or column with another value; None where it is not there."""

    name: str
    before: Any
    after: Any


class Flip(NamedTuple):
    """A pair that is stored the other way round."""

    id: str
    """Of the row in the first step; that in the second may have another."""
    prompt: str
    """What its last turn says."""
    was_chosen: str
    """The last turn of what is rejected now."""
    now_chosen: str


class Example(NamedTuple):
    """A row whose value of a column differs."""

    id: str
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
    flips: tuple[Flip, ...] = ()
    """Of the pairs that flipped, the first."""
    gone: tuple[str, ...] = ()
    """Ids of rows only in the first step, the first."""
    new: tuple[str, ...] = ()
    """Ids of rows only in the second step, the first."""
    examples: Mapping[str, tuple[Example, ...]] = {}
    """Of the rows whose value differs the first, by column."""

    @property
    def empty(self) -> bool:
        """Return whether nothing changed."""
        moved = self.rows[0] or self.rows[2] or self.flipped or self.reordered
        return not (self.settings or self.columns or moved or any(self.values.values()))


class StepDifference(NamedTuple):
    """One step of two runs; None for the run that does not have it."""

    before: str | None
    """`05-pair`."""
    after: str | None
    state: Literal["same", "changed", "added", "removed"]
    """`changed`: its settings, its version or its rows."""
    settings: tuple[Change, ...] = ()
    rows: tuple[int | None, int | None] = (None, None)
    """Rows kept in each."""
    dropped: tuple[int | None, int | None] = (None, None)
    same_rows: bool = False


class RunsDifference(NamedTuple):
    """What two runs were made by."""

    recipe: tuple[Change, ...]
    """Models, seed, training and whatever else is no step."""
    steps: tuple[StepDifference, ...]


def compare(
    store: Store, before: Manifest, after: Manifest, *, examples: int | None = EXAMPLES
) -> Difference:
    """Say what changed from one step to another, with so many examples of each kind; None for all."""
    settings = tuple(_settings(before, after))
    columns = tuple(_changes(dict(before.columns), dict(after.columns)))
    if before.digest == after.digest:
        return Difference(settings, columns, (0, after.rows.kept, 0))
    one, other = store.table(before), store.table(after)
    keys = _keys(one), _keys(other)
    ours, theirs = _match(*keys)
    inside = (len(keys[0]) - len(ours), len(ours), len(keys[1]) - len(theirs))
    gone, new = _left_out(one, ours, examples), _left_out(other, theirs, examples)
    shared = [name for name, kind in before.columns if dict(after.columns).get(name) == kind]
    one, other = one.take(pa.array(ours)), other.take(pa.array(theirs))
    turned = _turned(one, other)
    flips = tuple(_flips(one.filter(pa.array(turned)).slice(0, examples)))
    # A pair that flipped differs in all that belongs to a side; what else changed is seen in the others.
    same_way = pa.array(~turned)
    one, other = one.filter(same_way), other.filter(same_way)
    places = {name: found for name in shared if len(found := _different(one[name], other[name]))}
    return Difference(
        settings,
        columns,
        inside,
        int(turned.sum()),
        {name: len(found) for name, found in places.items()},
        bool(np.any(np.diff(theirs) < 0)),
        flips,
        gone,
        new,
        {name: _examples(one, other, name, found[:examples]) for name, found in places.items()},
    )


def compare_runs(store: Store, before: str, after: str) -> RunsDifference:
    """Say how two runs were made differently. Steps are matched by stage, in their order."""
    ours, theirs = ([(ref.step, store.manifest(ref)) for ref in store.refs(run)] for run in (before, after))
    names = [[manifest.stage for _, manifest in steps] for steps in (ours, theirs)]
    found: list[StepDifference] = []
    for what, a, b, c, d in SequenceMatcher(None, names[0], names[1], autojunk=False).get_opcodes():
        if what == "equal":
            found += [_both(*one, *other) for one, other in zip(ours[a:b], theirs[c:d], strict=True)]
        else:
            found += [
                StepDifference(name, None, "removed", (), (made.rows.kept, None), (made.rows.dropped, None))
                for name, made in ours[a:b]
            ]
            found += [
                StepDifference(None, name, "added", (), (None, made.rows.kept), (None, made.rows.dropped))
                for name, made in theirs[c:d]
            ]
    recipes = [dict(_flat(_apart_from_steps(store.recipe(run)), "")) for run in (before, after)]
    return RunsDifference(tuple(_changes(*recipes)), tuple(found))


def _both(one: str, before: Manifest, other: str, after: Manifest) -> StepDifference:
    settings = tuple(_settings(before, after))
    same = before.digest == after.digest
    rows = (before.rows.kept, after.rows.kept), (before.rows.dropped, after.rows.dropped)
    return StepDifference(one, other, "same" if same and not settings else "changed", settings, *rows, same)


def _apart_from_steps(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in recipe.items() if key not in ("name", "build", "data", "sets")}


def _left_out(table: pa.Table, kept: np.ndarray, examples: int | None) -> tuple[str, ...]:
    """Return the ids of the rows that are not kept."""
    stays = np.zeros(table.num_rows, dtype=bool)
    stays[kept] = True
    return tuple(table["id"].take(pa.array(np.flatnonzero(~stays)[:examples])).to_pylist())


def _flips(pairs: pa.Table) -> Iterator[Flip]:
    for row in pairs.to_pylist():
        said = [
            row[name][-1]["content"] if row.get(name) else "" for name in ("prompt", "chosen", "rejected")
        ]
        yield Flip(row["id"], *said)


def _examples(one: pa.Table, other: pa.Table, name: str, places: np.ndarray) -> tuple[Example, ...]:
    rows = pa.array(places)
    columns = (
        table[column].take(rows).to_pylist() for table, column in ((one, "id"), (one, name), (other, name))
    )
    return tuple(map(Example, *columns))


def _settings(before: Manifest, after: Manifest) -> Iterator[Change]:
    def flat(manifest: Manifest) -> dict[str, Any]:
        head = {"stage": manifest.stage, "version": manifest.version, "seed": manifest.seed}
        return head | dict(_flat(manifest.config, ""))

    yield from _changes(flat(before), flat(after))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for at, item in enumerate(value):
            yield from _flat(item, f"{path}.{at}")
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


def _different(one: pa.ChunkedArray, other: pa.ChunkedArray) -> np.ndarray:
    """Return the rows in which two columns of one type differ: int64. Null equals null, and NaN equals NaN."""
    if digest(pa.table({"": one})) == digest(pa.table({"": other})):
        return np.zeros(0, np.int64)
    if pa.types.is_nested(one.type):
        # A Python loop, in `diff` only: neither Arrow nor polars compares lists of structs row by row.
        unequal = [a != b for a, b in zip(_values(one), _values(other), strict=True)]
        return np.flatnonzero(np.array(unequal, dtype=bool))
    return np.flatnonzero(pl.Series(one).ne_missing(pl.Series(other)).to_numpy())


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    values: Sequence[Any] = column.to_pylist()
    return values
