"""What is true of each pair, and how far each judge is to be believed, from all votes at once."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, model_validator

from prefkit.columns import COLUMNS, Columns, types
from prefkit.errors import ContractError
from prefkit.estimators.dawid_skene import Opinions, fit_dawid_skene, fit_one_coin
from prefkit.estimators.judge_order import Judges, NextVotes, fit_judges, next_votes
from prefkit.labels.op import Op, World
from prefkit.tables import nullable, put
from prefkit.votes import Said, said

__all__ = ["FromJudges"]

_CHOSEN, _TIE, _REJECTED = range(3)
_NEXT = ("next_judge", "next_order", "next_gain")
_ORDERS = np.array(["chosen-first", "rejected-first"], object)
_SHOWN = 12
"""Judges of whom a note tells; those with the most votes."""


class _Told(NamedTuple):
    """The columns of the next vote, each with None where nobody voted: objects [rows]."""

    judge: np.ndarray
    order: np.ndarray
    gain: np.ndarray


@final
class FromJudges(Op):
    """Write `p_chosen` and `flip_prob` from the votes of judges who are not all as good; null where nobody voted.

    A tie counts a half in `p_chosen`; `flip_prob` is the probability that rejected is the better one. What speaks
    against the fit, such as judges who share mistakes, is a note of the stage.
    """

    name: ClassVar[str] = "from-judges"
    later: ClassVar[frozenset[str]] = frozenset({"next_vote"})

    model: Literal["orders", "dawid-skene", "one-coin"] = "orders"
    """`orders`: what each judge confuses in each order of presentation. `dawid-skene`: whatever the order, both sides
    treated alike. `one-coin`: one chance of being right a judge, for judges with few votes; it may learn that one side is better more
    often, so which side is stored as chosen matters."""
    ties: Literal["true", "said"] = "true"
    """With `orders`: whether a pair can be a tie, or one side is better always and a tie is only said."""
    smoothing: NonNegativeFloat = 0.01
    """Votes made up for each thing that a judge may say."""
    few: Annotated[int, Field(ge=1)] = 5
    """Judges with fewer votes are believed alike."""
    next_vote: bool = False
    """With `orders`: also write which judge to ask next, in which order, and what that is expected to tell."""

    @model_validator(mode="after")
    def _knows_orders(self) -> Self:
        if self.next_vote and self.model != "orders":
            raise ValueError(
                "next_vote needs model: orders, which knows what each judge confuses in each order"
            )
        return self

    def reads(self) -> Columns:
        return types("votes")

    def writes(self) -> Columns:
        return types("p_chosen", "flip_prob", *(_NEXT if self.next_vote else ()))

    def is_global(self) -> bool:
        return True

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        votes, told = said(table["votes"]), _Told(*(np.full(table.num_rows, None, object) for _ in _NEXT))
        p, flip = (np.full(table.num_rows, np.nan) for _ in range(2))
        if len(votes.pair):
            rows, pair = np.unique(votes.pair, return_inverse=True)
            found = self._fit(votes, pair)
            p[rows] = found.posterior[:, _CHOSEN] + found.posterior[:, _TIE] / 2
            flip[rows] = found.posterior[:, _REJECTED]
            world.notes["label/judges"] += len(votes.judges)
            if found.doubt.warning is not None:
                world.notes[f"label/doubt: {found.doubt.warning}"] += 1
            if isinstance(found, Judges):
                _note_judges(found, votes, world)
                if self.next_vote:
                    told = _spread(next_votes(found), rows, votes, table.num_rows)
        table = put(put(table, "p_chosen", nullable(p)), "flip_prob", nullable(flip))
        for name, values in zip(_NEXT if self.next_vote else (), told, strict=False):
            table = put(table, name, pa.array(values, COLUMNS[name].type))
        return table

    def _fit(self, votes: Said, pair: np.ndarray) -> Opinions | Judges:
        if len(votes.judges) == 1:
            what = "all votes are of one judge, and how far one judge is right cannot be told without another"
            raise ContractError(what, where="column 'votes'", hint="use `from-votes`, or ask a second judge")
        if self.model == "orders":
            seen = (votes.judge, votes.order, votes.verdict)
            return fit_judges(pair, *seen, ties=self.ties, smoothing=self.smoothing, few=self.few)
        if self.model == "one-coin":
            return fit_one_coin(pair, votes.judge, votes.verdict, 3, smoothing=self.smoothing, few=self.few)
        mirror = np.array([_REJECTED, _TIE, _CHOSEN])
        return fit_dawid_skene(
            pair, votes.judge, votes.verdict, 3, mirror=mirror, smoothing=self.smoothing, few=self.few
        )


def _note_judges(found: Judges, votes: Said, world: World) -> None:
    """Leave a note of how often each judge is right where the better answer stands first, and where second."""
    counts = np.bincount(votes.judge, minlength=len(votes.judges))
    names = votes.judges.to_pylist()
    for at in np.argsort(-counts, kind="stable")[:_SHOWN].tolist():
        first, second, unknown = found.reliability[at].tolist()
        where = f"{first:.3f} first, {second:.3f} second" if np.isfinite(first) else f"{unknown:.3f}"
        world.notes[f"label/judge '{names[at]}' is right where the better stands: {where}"] += int(counts[at])


def _spread(best: NextVotes, rows: np.ndarray, votes: Said, size: int) -> _Told:
    names = np.array(votes.judges.to_pylist(), object)
    told = _Told(*(np.full(size, None, object) for _ in _NEXT))
    told.judge[rows], told.order[rows], told.gain[rows] = names[best.judge], _ORDERS[best.order], best.gain
    return told
