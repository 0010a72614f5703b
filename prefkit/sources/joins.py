"""Joins: the judgements of a second file, collected into the row they are about.

The second file is read whole and kept sorted by key; each chunk then takes its rows' lists in one step. A
judgement of a row that is not there is counted, not lost in silence.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import RATINGS, Level
from prefkit.errors import DataError
from prefkit.sources.cells import as_list, first_problem, numbers, problem_where, texts
from prefkit.sources.chunks import BadRow, Chunk, bad_rows
from prefkit.sources.shape import JOINED_COLUMN
from prefkit.sources.source import Join

__all__ = ["Joined", "left_by_where"]

_VOTE = pa.struct(
    [("judge", pa.string()), ("verdict", pa.string()), ("swapped", pa.bool_()), ("rationale", pa.string())]
)
_SEPARATOR = "\x1f"


class Joined:
    """Judgements by the key of their row."""

    def __init__(self, join: Join, level: Level, chunks: Iterable[Chunk], file: str) -> None:
        self.bad: list[BadRow] = []
        self.file = file
        self.notes: Counter[str] = Counter()
        self._join = join
        self._kind = RATINGS.value_type if level == "response" else _VOTE
        self._check(level)
        keys, entries = list[pa.Array](), list[pa.Array]()
        for chunk in chunks:
            self.bad += chunk.bad
            self._add(chunk, keys, entries)
        self._order(keys, entries)

    def _check(self, level: Level) -> None:
        if level == "prompt":
            raise DataError(
                "'join' needs rows with responses or pairs",
                hint="map the response: columns: { response: ... }",
            )
        wrong = ("verdict", "swapped", "tied") if level == "response" else ("score",)
        for name in wrong:
            if name in self._join.changed:
                what = f"'join.{name}' is not for {level} rows"
                raise DataError(
                    what, hint="`score` is of a response, `verdict`, `swapped` and `tied` are of a pair"
                )

    def _add(self, chunk: Chunk, keys: list[pa.Array], entries: list[pa.Array]) -> None:
        chunk = left_by_where(chunk, self._join.where, self.notes, "join: left out by where")
        if not chunk.rows:
            return
        names = [*self._join.on.values(), *self._join.annotator]
        named = (
            self._join.score,
            self._join.verdict,
            self._join.swapped,
            self._join.comment,
            *self._join.tied,
        )
        _check_names(chunk, [*names, *filter(None, named)], self.file)
        fields, problems = self._fields(chunk)
        key = _keys(chunk, list(self._join.on.values()))
        problems.append(problem_where(key.is_null(), "join: no key"))
        problem = first_problem(problems)
        good = problem.is_null()
        self.bad += bad_rows(chunk, problem)
        struct = pa.StructArray.from_arrays(fields, fields=list(self._kind))
        keys.append(key.filter(good))
        entries.append(struct.filter(good))

    def _fields(self, chunk: Chunk) -> tuple[list[pa.Array], list[pa.Array]]:
        judge = _keys(chunk, self._join.annotator, "/")
        comment = texts(chunk.column(self._join.comment), "comment", self.notes).values
        if self._kind != _VOTE:
            score = numbers(chunk.column(self._join.score), "join: score", self.notes)
            return [judge, score.values, comment], [score.problems]
        verdict = self._verdicts(chunk)
        swapped = numbers(chunk.column(self._join.swapped), "join: swapped", self.notes)
        return [judge, verdict, pc.not_equal(swapped.values, 0.0), comment], [swapped.problems]

    def _verdicts(self, chunk: Chunk) -> pa.Array:
        verdict = texts(chunk.column(self._join.verdict), "verdict", Counter()).values
        if not self._join.tied:
            return verdict
        first, second = (numbers(chunk.column(name), name, self.notes).values for name in self._join.tied)
        return pc.if_else(pc.fill_null(pc.equal(first, second), False), "tie", verdict)

    def _order(self, keys: list[pa.Array], entries: list[pa.Array]) -> None:
        key = pa.concat_arrays(keys) if keys else pa.array([], pa.string())
        entry = pa.concat_arrays(entries) if entries else pa.array([], self._kind)
        codes = key.dictionary_encode()
        index = codes.indices.to_numpy(zero_copy_only=False)
        order = np.argsort(index, kind="stable")
        counts = np.bincount(index, minlength=len(codes.dictionary))
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        self._keys = codes.dictionary
        self._lists = pa.ListArray.from_arrays(pa.array(ends), entry.take(pa.array(order)))
        self._counts = counts
        self._used = np.zeros(len(counts), dtype=bool)

    def attach(self, chunk: Chunk) -> Chunk:
        """Return the chunk with the judgements of its rows as an extra column."""
        if not chunk.rows:
            return chunk
        found = pc.index_in(_keys(chunk, list(self._join.on)), value_set=self._keys)
        self._used[found.drop_null().to_numpy(zero_copy_only=False)] = True
        kind = RATINGS if self._kind != _VOTE else pa.list_(_VOTE)
        return chunk._replace(extra={**chunk.extra, JOINED_COLUMN: self._lists.take(found).cast(kind)})

    def unused(self) -> int:
        """Return how many judgements no row has asked for so far."""
        return int(self._counts[~self._used].sum())


def _keys(chunk: Chunk, names: Sequence[str], separator: str = _SEPARATOR) -> pa.Array:
    """Return several columns as one text; null where one of them is."""
    if not names:
        return pa.nulls(chunk.rows, pa.string())
    columns = [texts(chunk.column(name), name, Counter()).values for name in names]
    return pc.binary_join_element_wise(*columns, pa.scalar(separator, pa.string()))


def _check_names(chunk: Chunk, names: Sequence[str], file: str) -> None:
    there = (
        chunk.data.column_names
        if isinstance(chunk.data, pa.Table)
        else {n for row in chunk.data for n in row}
    )
    missing = [name for name in names if name not in there]
    if missing:
        what = f"'join' names the column '{missing[0]}', which is not there"
        raise DataError(what, where=file, hint=f"columns here: {', '.join(sorted(there))}")


def left_by_where(
    chunk: Chunk, where: dict[str, str | int | float | bool], notes: Counter[str], note: str
) -> Chunk:
    """Return the rows whose columns have these values, counting the others."""
    stays = np.ones(chunk.rows, dtype=bool)
    for name, wanted in where.items():
        stays &= np.array([_same(value, wanted) for value in as_list(chunk.column(name))], dtype=np.bool_)
    if not stays.all():
        notes[note] += int((~stays).sum())
    return chunk.filter(stays)


def _same(value: object, wanted: str | float | bool) -> bool:
    """Say whether a cell has a value; cells of CSV are text, and truth is not the number 1."""
    if isinstance(value, str) and not isinstance(wanted, str):
        return value.lower() == str(wanted).lower()
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)
