"""Canaries among scored responses: copies whose standing is known, scored apart from the rows that they are made of.

Something is done to a copy of a response (`prefkit.judging.canaries`), and the scorer scores both. An identical copy
scores the same, or the scorer is not repeatable; one that is cut off half way or says another fact scores less; one
padded with sentences that say nothing scores no more, or the scorer pays for length. A copy is never seen by another
step. It is asked about with a memory of its own, since an engine that may answer from memory agrees with itself always.

A preference model has no scores to compare, so it compares the copy with the response; an identical one is even by
what such a model is, and not planted.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from prefkit.engines.recall import afresh
from prefkit.judging.canaries import KINDS, Canary, Kind, plant
from prefkit.judging.tasks import Side
from prefkit.scorers.scorer import Scored, Scorer, World
from prefkit.tables import last_content

__all__ = ["same", "watch"]

_TOLERANCE = 1e-4
_ALONE: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "swapped")
_AGAINST: tuple[Kind, ...] = tuple(kind for kind in _ALONE if kind != "identical")


def watch(
    scorer: Scorer,
    sides: Sequence[pa.Table],
    scored: Scored,
    names: Sequence[str],
    draw: Callable[[int, int], np.ndarray],
    share: float,
    world: World,
) -> Counter[str]:
    """Plant copies of a share of the responses, score them, and count by `<column>/<kind>/<who scores more>`.

    `names` are the columns to look at; `draw(side, number)` gives a number in [0, 1) for each of its rows, and number 0
    decides which are copied. What the scorer notes of copies is not kept.
    """
    against = scorer.groups()
    kinds = _AGAINST if against else _ALONE
    planted = [
        _planted(side, [draw(at, number) for number in range(3)], share, kinds, _columns(scorer, side))
        for at, side in enumerate(sides)
    ]
    asked = np.concatenate([each.rows for each in planted])
    if not len(asked):
        return Counter()
    alone = world._replace(engines=afresh(world.engines, "canaries"), notes=Counter[str]())
    copies = pa.concat_tables([each.copies for each in planted], promote_options="default")
    made = [kind for each in planted for kind in each.kinds]
    if against:
        originals = pa.concat_tables([each.originals for each in planted], promote_options="default")
        met = scorer.score([originals, copies], names[0], alone)
        ahead = _numbers(met.together[f"{names[0]}_margin"])
        return _count(names[0], made, ahead, np.zeros(len(ahead)), met.errors)
    told = scorer.score([copies], names[0], alone)
    counts: Counter[str] = Counter()
    for name in names:
        own = np.concatenate(
            [_numbers(columns[name])[each.rows] for columns, each in zip(scored.sides, planted, strict=True)]
        )
        other = _numbers(told.sides[0][name])
        known = np.isfinite(own)  # what has no score of its own cannot be compared with
        sign = -1.0 if scorer.falls() else 1.0
        errors = [why for why, is_known in zip(told.errors, known, strict=True) if is_known]
        kept = [kind for kind, is_known in zip(made, known, strict=True) if is_known]
        counts += _count(name, kept, sign * own[known], sign * other[known], errors)
    return counts


def same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return which numbers are equal up to one part in ten thousand of the larger, or of 1 if both are smaller."""
    largest = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1.0)
    with np.errstate(invalid="ignore"):
        told: np.ndarray = np.abs(one - other) <= _TOLERANCE * largest
    return told


class _Planted(NamedTuple):
    kinds: list[Kind]
    rows: np.ndarray
    """Rows of the responses that were copied."""
    originals: pa.Table
    copies: pa.Table


def _planted(
    side: pa.Table, draws: Sequence[np.ndarray], share: float, kinds: Sequence[Kind], columns: Sequence[str]
) -> _Planted:
    texts = last_content(side["response"])
    said, found = texts.to_pylist(), dict[int, Canary]()
    # A Python loop: few rows, each a text of its own.
    for row in np.flatnonzero((draws[0] < share) & np.asarray(texts.is_valid())).tolist():
        canary = plant(Side("", said[row]), (float(draws[1][row]), float(draws[2][row])), kinds)
        if canary.kind in kinds:
            found[row] = canary
    originals = side.select(columns).take(pa.array(found, pa.int64()))
    turns = [
        [*turns[:-1], {**turns[-1], "content": canary.copy.text}]
        for turns, canary in zip(originals["response"].to_pylist(), found.values(), strict=True)
    ]
    at = originals.schema.get_field_index("response")
    field = originals.schema.field(at)
    copies = originals.set_column(at, field, pa.array(turns, field.type))
    return _Planted(
        [canary.kind for canary in found.values()], np.array([*found], np.int64), originals, copies
    )


def _columns(scorer: Scorer, side: pa.Table) -> list[str]:
    wanted = {*scorer.reads(), *scorer.touches(), "response"}
    return [name for name in side.column_names if name in wanted]


def _count(
    name: str, kinds: Sequence[Kind], own: np.ndarray, copies: np.ndarray, errors: Sequence[str | None]
) -> Counter[str]:
    """Count who scores more, higher being better."""
    alike = same(own, copies)
    counts: Counter[str] = Counter()
    for at, kind in enumerate(kinds):
        if errors[at] is not None:
            won = "failed"
        elif not np.isfinite(copies[at]) or not np.isfinite(own[at]):
            won = "unread"
        else:
            won = "tie" if alike[at] else "copy" if copies[at] > own[at] else "original"
        counts[f"{name}/{kind}/{won}"] += 1
    return counts


def _numbers(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    plain = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    told: np.ndarray = plain.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False)
    return told
