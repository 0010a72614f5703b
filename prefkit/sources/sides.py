"""The two sides of a pair: which is the chosen one, and what each judge said of it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.columns import COLUMNS, VOTES
from prefkit.sources.cells import as_list, none
from prefkit.sources.chunks import BadRowError, Cell, Chunk
from prefkit.sources.shape import JOINED_COLUMN, Shape
from prefkit.sources.verdicts import NO_VERDICT, Verdict, as_votes, read_verdict, second_wins

__all__ = ["Judged", "Pairs", "oriented"]

_Vote = dict[str, Cell]


class Judged(NamedTuple):
    """What the verdicts of a chunk come to."""

    swap: np.ndarray
    """Bool [rows]: whether the second side is the chosen one."""
    votes: pa.Array | None
    problems: pa.Array


class Pairs:
    """Reads the verdicts on a chunk's pairs.

    A pair whose sides are called chosen and rejected keeps its direction. Else a preference decides, or without one the
    majority of votes; a tie or no verdict keeps the sides as listed, which is noted, and the votes say so.
    """

    def __init__(self, chunk: Chunk, shape: Shape, notes: Counter[str]) -> None:
        self._chunk = chunk
        self._shape = shape
        self._notes = notes

    def judged(self, *, explicit: bool) -> Judged:
        """Return the direction of each pair and the votes on it."""
        rows = self._chunk.rows
        swap = np.zeros(rows, dtype=bool)
        problems: list[str | None] = [None] * rows
        preferences = self._values("preference")
        votes = self._votes(preferences)
        if votes is None:
            return Judged(swap, None, none(rows))
        made: list[list[_Vote] | None] = []
        for row, given in enumerate(votes):
            try:
                verdicts = [read_verdict(vote.get("verdict"), self._shape.coding) for vote in given or ()]
                decisive = self._decisive(preferences[row] if preferences else None, verdicts)
            except BadRowError as error:
                made.append(None)
                problems[row] = str(error)
                continue
            swap[row] = not explicit and second_wins(decisive)
            made.append(None if given is None else as_votes(given, verdicts, swap=bool(swap[row])))
            if not explicit:
                self._note(decisive)
        return Judged(swap, pa.array(made, VOTES), pa.array(problems, pa.string()))

    def _decisive(self, preference: Cell, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        one = NO_VERDICT if preference is None else read_verdict(preference, self._shape.coding)
        return verdicts if one.winner is None else [one]

    def _note(self, verdicts: Sequence[Verdict]) -> None:
        winners = Counter(verdict.winner for verdict in verdicts)
        if winners["first"] == winners["second"]:
            decided = len(verdicts) > winners[None]
            self._notes["tied verdict, sides as listed" if decided else "no verdict, sides as listed"] += 1

    def _votes(self, preferences: list[Cell]) -> list[list[_Vote] | None] | None:
        """Return the votes on each pair as they were given; None if the source has none."""
        if JOINED_COLUMN in self._chunk.extra:
            return as_list(self._chunk.extra[JOINED_COLUMN])
        names = self._shape.targets.get("votes", ())
        if self._shape.layout_made is not None and names:
            return as_list(self._chunk.column(names[0]))
        if names:
            columns = [as_list(self._chunk.column(name)) for name in names]
            rows = zip(*columns, strict=True)
            return [[{"judge": n, "verdict": v} for n, v in zip(names, row, strict=True)] for row in rows]
        if preferences:
            judges = self._values("judge") or [None] * len(preferences)
            return [[{"judge": j, "verdict": v}] for j, v in zip(judges, preferences, strict=True)]
        return None

    def _values(self, target: str) -> list[Cell]:
        name = self._shape.column(target)
        return [] if name is None else as_list(self._chunk.column(name))

    def rationales(self, texts: pa.Array) -> pa.Array:
        """Return one rationale a row from a column of texts; null where there is none."""
        kind = COLUMNS["rationales"].type
        empty = {"model": None, "prompt_text": None, "chosen_first": None}
        made = [
            None if text is None else [{"kind": "source", "text": text, **empty}]
            for text in texts.to_pylist()
        ]
        return pa.array(made, kind)


def oriented(first: pa.Array, second: pa.Array, swap: np.ndarray, end: str) -> dict[str, pa.Array]:
    """Return `chosen<end>` and `rejected<end>` from what the two sides have."""
    if not swap.any():
        return {f"chosen{end}": first, f"rejected{end}": second}
    rows = np.arange(len(swap))
    both = pa.concat_arrays([first, second])
    chosen, rejected = rows + len(swap) * swap, rows + len(swap) * ~swap
    return {f"chosen{end}": both.take(pa.array(chosen)), f"rejected{end}": both.take(pa.array(rejected))}
