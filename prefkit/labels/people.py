"""People who differ: from several people's votes on a pair to what they prefer on the mean, not to what most of them do."""

from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.hetero import correct_margins, keep_unanimous, variance_of_cells
from prefkit.estimators.preference import vote_share
from prefkit.labels.op import Op, World, may_fit
from prefkit.tables import nullable, put
from prefkit.votes import said, tally

__all__ = ["FromPeople"]


@final
class FromPeople(Op):
    """Write `p_chosen` at the mean preference of people who differ: by their variance (and `margin`), or where all agree.

    Source: Direct Alignment with Heterogeneous Preferences (Shirali et al., 2025), arXiv 2502.16320.
    """

    name: ClassVar[str] = "from-people"

    how: Literal["variance", "unanimous"] = "variance"
    """`variance`: a first-order correction, which makes a preference stronger where people differ; where they differ too
    much for it, the pooled one stays and is counted. `unanimous`: 1, 0 or, of ties, one half where all votes agree; null elsewhere.
    The odds of these rows are those of the sum of all people's preferences: train with their number times the beta."""
    variance: Annotated[float, Field(ge=0, le=0.25)] | None = None
    """With `variance`: that between people's probabilities of chosen. Left out, it is found from people who judged a pair
    twice or more, such as in both orders, outside the test split."""
    pseudo: PositiveFloat = 0.5
    """With `variance`: votes made up for either side, since a correction needs shares within 0 and 1."""
    least: Annotated[int, Field(ge=1)] = 2
    """With `unanimous`: how many people a pair needs."""

    @model_validator(mode="after")
    def _fits_how(self) -> Self:
        fields = type(self).model_fields
        others = ("least",) if self.how == "variance" else ("variance", "pseudo")
        wrong = [name for name, value in self if name in others and value != fields[name].default]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not for how '{self.how}'")
        return self

    def reads(self) -> Columns:
        return types("votes")

    def writes(self) -> Columns:
        return types("p_chosen", "margin") if self.how == "variance" else types("p_chosen")

    def is_global(self) -> bool:
        return self.how == "variance" and self.variance is None

    def touches(self) -> tuple[str, ...]:
        return ("split",) if self.is_global() else ()

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        if self.how == "unanimous":
            return put(table, "p_chosen", nullable(self._agreed(table, world)))
        votes = tally(table["votes"])
        there = np.flatnonzero(votes.wins + votes.ties + votes.losses > 0)
        share = vote_share(votes.wins, votes.ties, votes.losses, self.pseudo)[there]
        p, margin = (np.full(table.num_rows, np.nan) for _ in range(2))
        if len(there):
            between = self._between(table, world)[there]
            found = correct_margins(share, np.minimum(between, share * (1 - share)))
            p[there], margin[there] = found.p, found.margin
            world.notes["label/differ too much"] += int((~found.is_corrected).sum())
        return put(put(table, "p_chosen", nullable(p)), "margin", nullable(margin))

    def _agreed(self, table: pa.Table, world: World) -> np.ndarray:
        votes = said(table["votes"])
        # Once each: a person who says both cannot agree with all, and one who says the same twice is one person.
        once = np.unique(np.stack([votes.pair, votes.judge, votes.verdict]), axis=1)
        label = keep_unanimous(once[0], once[2], self.least)
        label = np.append(label, np.full(table.num_rows - len(label), -1))
        world.notes["label/unanimous"] += int((label >= 0).sum())
        return np.where(label >= 0, 1 - label / 2, np.nan)

    def _between(self, table: pa.Table, world: World) -> np.ndarray:
        """Return the variance between people on each pair, float64 [rows]."""
        if self.variance is not None:
            return np.full(table.num_rows, self.variance)
        votes = said(table["votes"])
        rows = (votes.verdict != 1) & may_fit(table)[votes.pair]
        people = len(votes.judges)
        cell, entry = np.unique(votes.pair[rows] * people + votes.judge[rows], return_inverse=True)
        wins = np.bincount(entry, votes.verdict[rows] == 0, len(cell))
        pair = cell // people
        found = variance_of_cells(pair, wins, np.bincount(entry), table.num_rows)
        judged = np.unique(pair)
        mean = float(found[judged].mean())
        world.notes[f"label/variance found: {mean:.6g}"] += 1
        own: np.ndarray = np.full(table.num_rows, mean)
        own[judged] = found[judged]
        return own
