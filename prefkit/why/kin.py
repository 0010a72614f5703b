"""Kin: which rows a row was made of, and which were made of it.

A pair names its two responses, and a response made of another one names it. A stage that makes its rows of one row each
may name nothing; then the replay of that one row tells. Where neither says anything, nothing is claimed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from prefkit.why.rows import Passed

__all__ = ["Lines", "Row", "Tree", "family", "level_of_row", "lines_of"]

Row = Mapping[str, Any]
_SIDES = ("chosen_id", "rejected_id")


class Lines(NamedTuple):
    """What a step read of one prompt, and what it made of it. Rows by id; one may come twice among `failed`."""

    before: Mapping[str, Row]
    kept: Mapping[str, Row]
    dropped: Mapping[str, Row]
    failed: Sequence[Row]
    parents: Mapping[str, tuple[str, ...]]
    """Of each row that is new."""


class Tree(NamedTuple):
    """Whose kin is told."""

    ancestors: frozenset[str]
    descendants: frozenset[str]


def lines_of(before: Passed | None, step: Passed, made_of: Mapping[str, str]) -> Lines:
    """Return the rows around a step. `made_of` has the row of which each new one was made, as far as replays told."""
    inputs = {} if before is None else _by_id(before.kept.to_pylist())
    kept, dropped = (_by_id(table.to_pylist()) for table in (step.kept, step.dropped))
    failed = step.failed.to_pylist()
    outs = [*kept.values(), *dropped.values(), *failed]
    fresh = [row for row in outs if row["id"] not in inputs]
    return Lines(inputs, kept, dropped, failed, {row["id"]: _parents(row, inputs, made_of) for row in fresh})


def family(lines: Sequence[Lines], focus: str) -> Tree:
    """Return the kin of a row over all steps of a run, in their order."""
    up = {focus}
    for each in reversed(lines):
        up |= {parent for child in up for parent in each.parents.get(child, ())}
    down = {focus}
    for each in lines:
        down |= {child for child, parents in each.parents.items() if down.intersection(parents)}
    return Tree(frozenset(up - {focus}), frozenset(down - {focus}))


def level_of_row(row: Row) -> str:
    """Return what a row is: `prompt`, `response` or `pair`."""
    return "pair" if "chosen" in row else "response" if "response" in row else "prompt"


def _by_id(rows: Iterable[Row]) -> dict[str, Row]:
    return {row["id"]: row for row in rows if "id" in row}


def _parents(row: Row, inputs: Mapping[str, Row], made_of: Mapping[str, str]) -> tuple[str, ...]:
    named = [row.get(name) for name in (*_SIDES, "parent_id")]
    direct = [str(one) for one in named if one in inputs]
    if row["id"] in made_of and made_of[row["id"]] not in direct:
        direct.append(made_of[row["id"]])
    if not direct:
        sides = {row.get(name) for name in _SIDES} - {None}
        shared = [id_ for id_, other in inputs.items() if sides & {other.get(name) for name in _SIDES}]
        direct = shared[:1] if len(shared) == 1 else []
    if not direct and row.get("prompt_id") in inputs:
        direct = [row["prompt_id"]]
    return tuple(dict.fromkeys(direct))
