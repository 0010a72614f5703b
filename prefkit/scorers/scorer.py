"""What a scorer is."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from prefkit.columns import Columns
from prefkit.engines import Conversation, Engines, Failure
from prefkit.tables import message_tuples

__all__ = ["Asked", "Scored", "Scorer", "World", "ask"]

A = TypeVar("A")
F64 = pa.float64()


class World(NamedTuple):
    """What a scorer may know besides its rows."""

    engines: Engines
    notes: Counter[str]
    draws: Callable[[int], Sequence[int]]
    """So many seeds, the same for every row."""


class Scored(NamedTuple):
    """What came of some rows."""

    sides: Sequence[Mapping[str, pa.Array]]
    """For each side, its columns by name."""
    errors: Sequence[str | None]
    """Why a row failed, one a row."""
    together: Mapping[str, pa.Array] = {}
    """Columns that a pair has once."""


class Scorer(BaseModel, ABC):
    """A frozen config that scores responses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def reads(self) -> Columns:
        """Return the columns of a response row that it cannot do without, with their types."""

    @abstractmethod
    def columns(self, into: str) -> Columns:
        """Return the columns that each side gets."""

    @abstractmethod
    def score(self, sides: Sequence[pa.Table], into: str, world: World) -> Scored:
        """Score one table of responses, or the two sides of pairs, which are tables of equal length."""

    def together(self, into: str) -> Columns:  # noqa: ARG002 - for those who have such columns
        """Return the columns that a pair gets once."""
        return {}

    def alone(self, into: str) -> Columns:
        """Return the columns that a response gets which is not part of a pair."""
        return self.columns(into)

    def of_pairs_alone(self) -> bool:
        """Return whether it can score pairs only."""
        return False

    def groups(self) -> bool:
        """Return whether a response's score depends on the others of its prompt; of pairs it never does."""
        return False

    def falls(self) -> bool:
        """Return whether a lower number is the better one."""
        return False

    def draws(self) -> bool:
        """Return whether it draws random numbers."""
        return False

    def touches(self) -> Collection[str]:
        """Return further columns of a response row that it reads where they exist."""
        return ()

    def calls(self) -> float:
        """Return how many calls of a model a response takes."""
        return 0.0


class Asked(NamedTuple):
    """Answers of an engine, where they belong: an entry a side, and in each one a row, None where nothing was asked."""

    answers: Sequence[Sequence[object]]
    errors: Sequence[str | None]


def ask(
    sides: Sequence[pa.Table], question: Callable[[Sequence[Conversation]], Iterable[A | Failure]]
) -> Asked:
    """Ask an engine about all responses at once. One that is null, or empty of turns, has no score and costs no call."""
    errors: list[str | None] = [None] * sides[0].num_rows
    found: list[list[A | None]] = [[None] * side.num_rows for side in sides]
    talks = [(at, row, talk) for at, side in enumerate(sides) for row, talk in _conversations(side)]
    answers = question([talk for _, _, talk in talks]) if talks else []
    # A Python loop: engines give Python values.
    for (at, row, _), answer in zip(talks, answers, strict=True):
        if isinstance(answer, Failure):
            errors[row] = errors[row] or answer.error
        else:
            found[at][row] = answer
    return Asked(found, errors)


def _conversations(rows: pa.Table) -> Iterable[tuple[int, Conversation]]:
    tools = rows["tools"].to_pylist() if "tools" in rows.column_names else [None] * rows.num_rows
    talks = zip(message_tuples(rows["prompt"]), message_tuples(rows["response"]), tools, strict=True)
    return ((at, Conversation(*talk)) for at, talk in enumerate(talks) if talk[1])
