"""Difficulty: how hard each pair is to learn, as a number that `order` goes by. Higher is harder.

    log-gap           how much likelier the reference finds rejected than chosen, in nats
    agreement-needed  the share of people who must prefer chosen, for training at `beta` to rank the pair right
    perplexity        of chosen under the reference, per token of the answer's own sampler
    margin            how little better chosen is
    score-spread      how far raters or models are apart on both scores

Sources: closed forms of the first two, Chen et al. (2024), arXiv 2405.19534; the gap under the reference as a
curriculum, Curry-DPO (2024), arXiv 2403.07230.
"""

from typing import ClassVar, Literal, Self, final

import numpy as np
import pyarrow as pa
from pydantic import ConfigDict, Field, PositiveFloat, model_validator

from prefkit.columns import Columns, types
from prefkit.estimators.difficulty import agreement_needed, log_gap, spread_of_scores
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import floats, nullable, put

__all__ = ["Difficulty"]

_BETA = 0.1


@final
class Difficulty(Stage):
    """Write `difficulty`; null where what it is made of is missing. Order it with `easy: low`."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "difficulty"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS

    strategy: Literal["log-gap", "agreement-needed", "perplexity", "margin", "score-spread"] = Field(
        "log-gap", alias="kind"
    )
    """What makes a pair hard."""
    beta: PositiveFloat | None = None
    """For `agreement-needed`: the beta of the training to come; 0.1 unless said otherwise."""
    by: str = "score"
    """For `score-spread`: which score; reads `chosen_<by>_std` and `rejected_<by>_std`."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        if self.beta is not None and self.strategy != "agreement-needed":
            raise ValueError(f"kind '{self.strategy}' has no beta")
        return self

    def reads(self) -> Columns:
        if self.strategy == "margin":
            return types("margin")
        if self.strategy == "score-spread":
            return dict.fromkeys((f"chosen_{self.by}_std", f"rejected_{self.by}_std"), pa.float64())
        if self.strategy == "perplexity":
            return {**types("ref_chosen_logp"), "chosen_n_tokens": pa.int32()}
        return types("ref_chosen_logp", "ref_rejected_logp")

    def writes(self) -> Columns:
        return types("difficulty")

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        given = [floats(table[name]) for name in self.reads()]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            return put(table, "difficulty", nullable(self._of(given)))

    def _of(self, given: list[np.ndarray]) -> np.ndarray:
        if self.strategy == "margin":
            return -given[0]
        if self.strategy == "score-spread":
            return spread_of_scores(given[0], given[1])
        if self.strategy == "perplexity":
            perplexity: np.ndarray = np.exp(-given[0] / given[1])
            return perplexity
        gap = log_gap(given[0], given[1])
        return gap if self.strategy == "log-gap" else agreement_needed(gap, self.beta or _BETA)
