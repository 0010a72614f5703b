"""Several scorers: how strong a preference is on the mean, how far they are apart, and what they keep of each other."""

from typing import Annotated, ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.members import strengths
from prefkit.estimators.peers import noise_seen, peer_review
from prefkit.estimators.preference import spread
from prefkit.gaps import reads_scores, score_gaps
from prefkit.labels.op import Op, World, may_fit
from prefkit.scorers.spread import flip_belief, sampling_shares
from prefkit.tables import floats, nullable, put

__all__ = ["FromEnsemble", "PeerReview", "Uncertainty"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


@final
class FromEnsemble(Op):
    """Write `p_chosen`, `margin` (mean strength), `strength_std` and `strength_agree` from several scores of both sides.

    Null where one of them is missing. Scorers must not have been trained on the rows they are asked about: they would
    have learned wrong labels by heart. Source: Secrets of RLHF in Large Language Models II (2024).
    """

    name: ClassVar[str] = "from-ensemble"

    of: Annotated[tuple[Name, ...], Field(min_length=2)]
    """The scores: reads `chosen_<name>` and `rejected_<name>` of each."""
    standardise: bool = True
    """Whether each scorer's differences are first divided by their spread over the dataset without its test split, so
    that the scorer with the widest scale does not decide alone."""
    temperature: PositiveFloat = 1.0
    """How large a difference is a clear one: in spreads, or in units of the scores."""
    p: Literal["mean-sigmoid", "sigmoid-mean"] = "mean-sigmoid"
    """Whether `p_chosen` is the mean of the members' probabilities, in which doubt counts, or that at their mean."""

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        if len(set(self.of)) < len(self.of):
            raise ValueError("a score is in the ensemble twice, which tells nothing new")
        return self

    def reads(self) -> Columns:
        return {name: kind for score in self.of for name, kind in reads_scores(score).items()}

    def writes(self) -> Columns:
        return types("p_chosen", "margin", "strength_std", "strength_agree")

    def is_global(self) -> bool:
        return self.standardise

    def touches(self) -> tuple[str, ...]:
        return ("split",) if self.standardise else ()

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        gaps = np.stack([score_gaps(table, score) for score in self.of], axis=1)
        if self.standardise:
            fits = may_fit(table)
            gaps = gaps / np.array([spread(gap[fits]) for gap in gaps.T])
        told = strengths(gaps, self.temperature, self.p)
        columns = {
            "p_chosen": told.p,
            "margin": told.mean,
            "strength_std": told.std,
            "strength_agree": told.agree,
        }
        for name, values in columns.items():
            table = put(table, name, nullable(values))
        return table


@final
class Uncertainty(Op):
    """Write `flip_prob` from what an ensemble or dropout says of pairs: reads `<by>_bald`, or `<by>_p`.

    Source: Uncertainty-enhanced Preference Optimization (UPO, 2024).
    """

    name: ClassVar[str] = "uncertainty"

    by: Name = "score"
    """Which score: `as` of the `score` stage that asked about pairs."""
    how: Literal["bald", "mean-p", "literal"] = "bald"
    """`bald`: half of what another member would tell, in bits, so at most one half; a close call on which all members agree
    has none. `mean-p`: one less the mean probability of chosen. `literal`: 1 / (1 + share) with the share in which UPO
    draws a pair, to reproduce it: over many pairs that is nearly 1, so training would believe the flipped labels."""
    sharpness: PositiveFloat = 1.0
    """With `literal`: mu of the shares."""

    def reads(self) -> Columns:
        return {f"{self.by}_p" if self.how == "mean-p" else f"{self.by}_bald": pa.float64()}

    def writes(self) -> Columns:
        return types("flip_prob")

    def is_global(self) -> bool:
        return self.how == "literal"

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        told = floats(table[next(iter(self.reads()))])
        return put(table, "flip_prob", nullable(self._belief(told)))

    def _belief(self, told: np.ndarray) -> np.ndarray:
        if self.how == "mean-p":
            return 1 - told
        if self.how == "bald":
            return flip_belief(told)
        there = np.isfinite(told)
        belief = np.full(len(told), np.nan)
        if there.any():
            belief[there] = 1 / (1 + sampling_shares(told[there], self.sharpness))
        return belief


@final
class PeerReview(Op):
    """Write `kept_by`: which of two scorers finds the pair clear (its name, or `both`); null where neither does.

    What one scorer keeps is what the other may be trained on; `filter: {keep: {column: kept_by, any_of: both}}` keeps what
    both do. Their margins are the differences of the two scores. Source: Collaborative Reward Modeling (2025).
    """

    name: ClassVar[str] = "peer-review"

    of: tuple[Name, Name]
    """Two scores from scorers that were not trained on the rows: reads `chosen_<name>` and `rejected_<name>` of each."""
    noise: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of pairs believed mislabelled: so many of the lowest margins are not kept. Left out, the mean share of
    negative margins, which is more than the noise by what scorers err themselves."""

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Self:
        if self.of[0] == self.of[1] or "both" in self.of:
            raise ValueError("peer-review takes two different scores, none of them called 'both'")
        return self

    def reads(self) -> Columns:
        return {name: kind for score in self.of for name, kind in reads_scores(score).items()}

    def writes(self) -> Columns:
        return types("kept_by")

    def is_global(self) -> bool:
        return True

    def apply(self, table: pa.Table, world: World) -> pa.Table:
        first, second = (score_gaps(table, score) for score in self.of)
        noise = noise_seen(first, second) if self.noise is None else self.noise
        kept = peer_review(first, second, 1 - noise, table["id"].to_numpy().astype(str))
        code = kept.by_first + 2 * kept.by_second
        world.notes["label/kept by both"] += int((code == 3).sum())
        world.notes["label/kept by neither"] += int((code == 0).sum())
        names = pa.array([None, *self.of, "both"], pa.string())
        return put(table, "kept_by", names.take(pa.array(code)))
