"""A layout: how one public way of writing preference data is recognised, and what its columns mean."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa

from prefkit.columns import Level
from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.source import Coding

__all__ = ["Head", "Layout", "Unfold", "always", "listed", "optional_list", "required"]

Unfold = Callable[[Row], Iterable[Row]]
"""From one row of a file to rows whose keys are targets, named scores and extras. Raises BadRowError."""


class Head(NamedTuple):
    """What the first rows of a source show."""

    names: tuple[str, ...]
    rows: Sequence[Row]
    schema: pa.Schema | None = None
    """Types, where the file has them."""

    def values(self, name: str) -> Iterator[Cell]:
        """Yield a column's values that are not null."""
        return (value for row in self.rows if (value := row.get(name)) is not None)

    def has(self, name: str, test: Callable[[Cell], bool]) -> bool:
        """Say whether a column has values and the first few pass a test."""
        first = [value for _, value in zip(range(5), self.values(name), strict=False)]
        return bool(first) and all(test(value) for value in first)


def always(head: Head) -> bool:  # noqa: ARG001 - the columns were enough
    """Match whatever has the columns."""
    return True


@dataclass(frozen=True)
class Layout:
    """One way of writing rows down.

    A flat layout maps targets to columns and is read column by column. A nested one has `unfold`, which turns each row
    into rows under target names.
    """

    name: str
    level: Level
    needs: tuple[tuple[str, ...], ...]
    """Columns it must have, each with its alternatives."""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Target to column; of alternatives the first that is there counts, and a target without any is left out."""
    votes: tuple[str, ...] = ()
    """Columns with a verdict each."""
    matches: Callable[[Head], bool] = always
    """Whether the first rows look like it, once the columns are there."""
    unfold: Unfold | None = None
    gives: tuple[str, ...] = ()
    """Targets that `unfold` gives."""
    scores: tuple[str, ...] = ()
    """Named scores; at pair level `unfold` gives each as `first_<name>` and `second_<name>`."""
    extras: Mapping[str, pa.DataType] = field(default_factory=dict)
    """Further columns that `unfold` gives."""
    coding: Coding = "one-two"
    hubs: tuple[str, ...] = ()
    """Hub datasets known to be written so, whose columns are therefore known without the network."""

    def has_columns(self, names: Iterable[str]) -> bool:
        """Say whether the columns that it needs are there."""
        there = set(names)
        return all(there.intersection(alternatives) for alternatives in self.needs)

    def targets(self, names: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return target to columns for a source with these columns."""
        there = set(names)
        found = {
            target: tuple(name for name in alternatives if name in there)[:1]
            for target, alternatives in self.columns.items()
        }
        voting = {"votes": tuple(name for name in self.votes if name in there)}
        return {target: columns for target, columns in {**found, **voting}.items() if columns}

    def typical(self) -> tuple[str, ...]:
        """Return the columns of a source that has just what the layout needs."""
        return tuple(alternatives[0] for alternatives in self.needs)


def required(row: Row, name: str) -> Cell:
    """Return a field. Raises BadRowError if it is missing or null."""
    value = row.get(name)
    if value is None:
        raise BadRowError(f"no '{name}'")
    return value


def listed(row: Row, name: str) -> list[Row]:
    """Return a field that holds a list of objects. Raises BadRowError if it does not, or is empty."""
    required(row, name)
    found = optional_list(row, name)
    if not found:
        raise BadRowError(f"'{name}' is empty")
    return found


def optional_list(row: Row, name: str) -> list[Row]:
    """Return a field that holds a list of objects; empty if it is missing. Raises BadRowError for anything else."""
    value = row.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadRowError(f"'{name}' is not a list of objects")
    return value
