"""Strengths: how good each response is, or each model that writes them, by all comparisons that it took part in.

A pair's label then rests on the comparisons of both sides with all others, and not on its own few votes alone.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import NonNegativeFloat

from prefkit.columns import Columns, types
from prefkit.errors import ContractError
from prefkit.estimators.bradley_terry import PER_CORPUS, PER_PROMPT, Strengths, fit_bradley_terry
from prefkit.estimators.counting import copeland, win_rates
from prefkit.estimators.elo import fit_elo
from prefkit.estimators.graph import Matches, count_matches
from prefkit.estimators.preference import logistic
from prefkit.estimators.ties import TieStrengths, davidson, fit_davidson, fit_rao_kupper, rao_kupper
from prefkit.labels.op import Op, World, may_fit
from prefkit.tables import nullable, put
from prefkit.votes import Said, said

__all__ = ["FromStrengths"]

_NATS = np.log(10) / 400
_COUNTS = ("win-rate", "copeland")


class _Met(NamedTuple):
    """What compares with what. Items are numbered from 0 without gaps."""

    one: np.ndarray
    """Item, int64 [votes]."""
    other: np.ndarray
    verdict: np.ndarray
    """0 one, 1 tie, 2 other."""
    matches: Matches
    chosen: np.ndarray
    """Item, or -1 where no vote is about it, int64 [rows]."""
    rejected: np.ndarray


@final
class FromStrengths(Op):
    """Write `margin`, the difference of both sides' strengths by all votes, and `p_chosen`, which counts a tie half.

    Votes of the test split are left out, and what has no other vote has no strength: null. A note has the tie parameter,
    and how many parts there are that nothing compares; a pair whose sides are in two of them is null.
    """

    name: ClassVar[str] = "from-strengths"

    model: Literal["bradley-terry", "davidson", "rao-kupper", "elo", "win-rate", "copeland"] = "bradley-terry"
    """`bradley-terry`: a tie is half a win of either. `davidson` and `rao-kupper` know ties. `elo`: the mean over 100 orders,
    in nats. `win-rate` and `copeland` count, and have a margin only."""
    of: Literal["responses", "models"] = "responses"
    """What is compared: reads `chosen_id` or `chosen_model`, and rejected's."""
    ridge: NonNegativeFloat | None = None
    """A prior of mean 0 and variance 1 / ridge; left out, 0.1 for responses and 0.01 for models. At 0 all must be connected
    by wins both ways, or the stage fails and names what is not."""

    def reads(self) -> Columns:
        return types("votes", *self._names())

    def writes(self) -> Columns:
        return types("margin") if self.model in _COUNTS else types("p_chosen", "margin")

    def is_global(self) -> bool:
        return True

    def touches(self) -> tuple[str, ...]:
        return ("split",)

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        p, margin = (np.full(table.num_rows, np.nan) for _ in range(2))
        votes = said(table["votes"])
        used = may_fit(table)[votes.pair]
        if used.any():
            chosen, rejected = (table[name] for name in self._names())
            met = _met(chosen, rejected, votes, used)
            told = np.flatnonzero((met.chosen >= 0) & (met.rejected >= 0))
            sides = met.chosen[told], met.rejected[told]
            if self.model in _COUNTS:
                score = (win_rates if self.model == "win-rate" else copeland)(met.matches)
                margin[told] = score[sides[0]] - score[sides[1]]
            else:
                margin[told], p[told] = self._fit(met, sides, world)
        if self.model not in _COUNTS:
            table = put(table, "p_chosen", nullable(p))
        return put(table, "margin", nullable(margin))

    def _names(self) -> tuple[str, str]:
        return ("chosen_id", "rejected_id") if self.of == "responses" else ("chosen_model", "rejected_model")

    def _fit(self, met: _Met, sides: tuple[np.ndarray, np.ndarray], world: World) -> Sequence[np.ndarray]:
        """Return the margin and the probability of these pairs of items, NaN where nothing connects the two."""
        if self.model == "elo":
            rating = fit_elo(met.one, met.other, 1 - met.verdict / 2, seed=0, items=met.matches.items).rating
            gap = rating[sides[0]] * _NATS - rating[sides[1]] * _NATS
            return gap, logistic(gap)
        ridge = (PER_PROMPT if self.of == "responses" else PER_CORPUS) if self.ridge is None else self.ridge
        found: Strengths | TieStrengths
        if self.model == "bradley-terry":
            found = fit_bradley_terry(met.matches, ridge)
        elif self.model == "davidson":
            found = fit_davidson(met.matches, "auto", ridge)
        else:
            found = fit_rao_kupper(met.matches, "auto", ridge)
        world.notes["label/parts that nothing compares"] += int(found.part.max()) + 1
        same = found.part[sides[0]] == found.part[sides[1]]
        gap = np.where(same, found.strength[sides[0]] - found.strength[sides[1]], np.nan)
        if isinstance(found, Strengths):
            return gap, logistic(gap)
        world.notes[f"label/{found.convention}: {found.tie:.6g}"] += 1
        ends = (davidson if self.model == "davidson" else rao_kupper)(gap, found.tie)
        return gap, ends.win + ends.tie / 2


def _met(chosen: pa.ChunkedArray, rejected: pa.ChunkedArray, votes: Said, used: np.ndarray) -> _Met:
    names = pc.unique(pa.chunked_array(chosen.chunks + rejected.chunks, pa.string())).drop_null()
    names = names.take(pc.array_sort_indices(names))
    sides = [
        pc.fill_null(pc.index_in(side, names), -1).to_numpy().astype(np.int64) for side in (chosen, rejected)
    ]
    one, other = (side[votes.pair] for side in sides)
    counts = used & (one >= 0) & (other >= 0) & (one != other)  # nothing is better than itself
    one, other, verdict = one[counts], other[counts], votes.verdict[counts]
    if not len(one):
        raise ContractError("no vote compares two named sides", where="column 'votes'")
    # Items of no vote are left out, so that a ridge of 0 does not ask for them.
    known = np.unique(np.concatenate([one, other]))
    place = np.full(len(names) + 1, -1)
    place[known] = np.arange(len(known))
    one, other = place[one], place[other]
    lost, items = verdict == 2, len(known)
    winner, loser = np.where(lost, other, one), np.where(lost, one, other)
    matches = count_matches(winner, loser, tie=verdict == 1, items=items)
    return _Met(one, other, verdict, matches, place[sides[0]], place[sides[1]])
