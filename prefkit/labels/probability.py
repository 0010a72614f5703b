"""How probable it is that chosen is better: from scores, from votes, and with label noise added or taken away."""

from typing import Annotated, ClassVar, Literal, final

import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveFloat

from prefkit.columns import Columns, types
from prefkit.estimators.preference import denoise, logistic, smooth, vote_share
from prefkit.gaps import reads_scores, score_gaps
from prefkit.labels.op import Op, World
from prefkit.tables import floats, nullable, put
from prefkit.votes import tally

__all__ = ["Denoise", "FromScores", "FromVotes", "Smooth"]

Rate = Annotated[float, Field(ge=0, lt=0.5)]


@final
class FromScores(Op):
    """Write `p_chosen` = logistic((chosen score - rejected score) / temperature): Bradley and Terry's model."""

    name: ClassVar[str] = "from-scores"

    by: str = "score"
    """Which score: reads `chosen_<by>` and `rejected_<by>`."""
    temperature: PositiveFloat = 1.0
    """In units of the score: how large a difference is a clear one."""

    def reads(self) -> Columns:
        return reads_scores(self.by)

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        gap = score_gaps(table, self.by)
        return put(table, "p_chosen", nullable(logistic(gap / self.temperature)))


@final
class FromVotes(Op):
    """Write `p_chosen` from the votes; null where nobody voted."""

    name: ClassVar[str] = "from-votes"

    use: Literal["winner", "p"] = "winner"
    """`winner`: the share of verdicts for chosen, ties counting half. `p`: the mean of the votes' own probabilities."""
    pseudo: NonNegativeFloat = 0.0
    """With `winner`: votes made up for either side, so that one vote does not make a certainty. Try 0.5."""

    def reads(self) -> Columns:
        return types("votes")

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        votes = tally(table["votes"])
        if self.use == "p":
            return put(table, "p_chosen", nullable(votes.mean_p))
        return put(table, "p_chosen", nullable(vote_share(votes.wins, votes.ties, votes.losses, self.pseudo)))


@final
class Smooth(Op):
    """Move `p_chosen` towards one half, as if a share of labels were flipped: p becomes (1 - 2 rate) p + rate."""

    name: ClassVar[str] = "smooth"

    rate: Rate
    """Share of labels believed to be wrong."""

    def reads(self) -> Columns:
        return types("p_chosen")

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        return put(table, "p_chosen", nullable(smooth(floats(table["p_chosen"]), self.rate)))


@final
class Denoise(Op):
    """Move `p_chosen` away from one half, as if a known share of labels had been flipped: undoes `smooth`."""

    name: ClassVar[str] = "denoise"

    rate: Rate
    """Share of labels known to be wrong."""

    def reads(self) -> Columns:
        return types("p_chosen")

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        return put(table, "p_chosen", nullable(denoise(floats(table["p_chosen"]), self.rate)))
