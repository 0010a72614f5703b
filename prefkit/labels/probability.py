"""How probable it is that chosen is better: from scores, votes or a search, and with label noise added or taken away."""

from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.counting import majority
from prefkit.estimators.members import visit_label
from prefkit.estimators.preference import denoise, logistic, smooth, vote_share
from prefkit.gaps import reads_scores, score_gaps
from prefkit.labels.op import Op, World, may_fit
from prefkit.tables import floats, nullable, put
from prefkit.votes import tally

__all__ = ["Consistency", "Denoise", "FromScores", "FromVotes", "Smooth", "Visits"]

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

    use: Literal["winner", "p", "majority"] = "winner"
    """`winner`: the share of verdicts for chosen, ties counting half. `p`: the mean of the votes' own probabilities.
    `majority`: 1, 0, or one half where neither side has more."""
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
        if self.use == "majority":
            leads = majority(votes.wins, votes.losses, votes.ties)
            return put(table, "p_chosen", nullable((1 + leads) / 2))
        return put(table, "p_chosen", nullable(vote_share(votes.wins, votes.ties, votes.losses, self.pseudo)))


@final
class Visits(Op):
    """Write `p_chosen` from how often a tree search went either way: never below one half. Source: MCTS-DPO (2024)."""

    name: ClassVar[str] = "visits"

    by: str = "visits"
    """Which count: reads `chosen_<by>` and `rejected_<by>`, whole numbers (int64)."""

    def reads(self) -> Columns:
        return {f"chosen_{self.by}": pa.int64(), f"rejected_{self.by}": pa.int64()}

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        chosen, rejected = (floats(table[name]) for name in self.reads())
        return put(table, "p_chosen", nullable(visit_label(chosen, rejected)))


@final
class Consistency(Op):
    """Write `p_chosen` from how far two scorers agree on the prompt's responses; below one half turn it round (`orient`).

    Source: CREAM (2025), whose main variant takes the mean over the dataset.
    """

    name: ClassVar[str] = "consistency"

    use: Literal["mean", "prompt"] = "mean"
    """The mean over all prompts but those of the test split, also for prompts that have none; or each prompt's own."""

    def reads(self) -> Columns:
        return types("consistency") if self.use == "prompt" else types("consistency", "prompt_id")

    def writes(self) -> Columns:
        return types("p_chosen")

    def is_global(self) -> bool:
        return self.use == "mean"

    def touches(self) -> tuple[str, ...]:
        return ("split",) if self.use == "mean" else ()

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        told = floats(table["consistency"])
        if self.use == "mean":
            told = np.full(len(told), _mean_of_prompts(table, told))
        return put(table, "p_chosen", nullable(told))


def _mean_of_prompts(table: pa.Table, told: np.ndarray) -> float:
    """Each prompt counts once, however many pairs it has."""
    rows = np.flatnonzero(np.isfinite(told) & may_fit(table))
    prompts = table["prompt_id"].to_numpy()[rows]
    _, first = np.unique(prompts.astype(str), return_index=True)
    return float(np.sort(told[rows][first]).mean()) if len(first) else np.nan


@final
class Smooth(Op):
    """Move `p_chosen` towards one half, as if a share of labels were flipped: p becomes (1 - 2 rate) p + rate."""

    name: ClassVar[str] = "smooth"
    later: ClassVar[frozenset[str]] = frozenset({"rate", "by"})

    rate: Rate | None = None
    """Share of labels believed to be wrong."""
    by: Literal["flip_prob"] | None = None
    """Instead of a rate: each row's own belief that its label is wrong. Before rows are turned round."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.rate is None) == (self.by is None):
            raise ValueError("smooth takes either rate or by")
        return self

    def reads(self) -> Columns:
        return types("p_chosen") if self.by is None else types("p_chosen", self.by)

    def writes(self) -> Columns:
        return types("p_chosen")

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        rate = floats(table[self.by]) if self.by is not None else self.rate
        assert rate is not None
        return put(table, "p_chosen", nullable(smooth(floats(table["p_chosen"]), rate)))


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
