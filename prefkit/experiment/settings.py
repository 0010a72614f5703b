"""Settings of a comparison: what is measured, on how much, and what counts as a difference. Importable without torch.

They are identity, as `train:` is: another setting is another protocol, and figures of two protocols are not compared.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from prefkit.sources import Source
from prefkit.stages.judge import Judge
from prefkit.stages.score import Score

__all__ = ["CompareSettings", "Primary"]

Primary = Literal["auto", "win_rate", "length_controlled", "judge", "accuracy"]


class CompareSettings(BaseModel):
    """How datasets are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seeds: PositiveInt = 4
    """Training runs of each arm; seed s is the same order of draws in every arm. Below 4 the interval is too narrow."""
    subsample: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training prompts that a seed sees, drawn for each seed and the same in every arm. Below 1, seeds differ even where
    rows come in an order of their own, and the intervals cover which prompts a dataset happened to have."""
    prompts: PositiveInt = 500
    """Held-out prompts at most, the first in the order of the tables."""
    data: tuple[Source, ...] = ()
    """Where those prompts come from; left out, from the `test` splits of the arms."""
    pairs: PositiveInt = 1000
    """Held-out pairs of each arm at most."""
    samples: PositiveInt = 2
    """Answers of each trained model to a prompt."""
    temperature: NonNegativeFloat = 0.7
    """0 is greedy decoding, which shows the least of what training moved."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of the probability that is sampled from."""
    max_tokens: PositiveInt = 256
    """Longest answer."""
    score: Score | None = None
    """Settings of a `score` stage that rates answers; left out, that of `train: evaluate`."""
    second: Score | None = None
    """Another scorer: where both see a difference the other way round, nothing is decided."""
    judge: Judge | None = None
    """Settings of a `judge` stage, kind pairwise, that is shown the answers of two arms."""
    primary: Primary = "auto"
    """What decides, named before anything is run. `auto`: the judge, else the win rate by score, else accuracy on
    held-out pairs."""
    tie_band: NonNegativeFloat = 0.0
    """Scores no further apart are a tie."""
    budget: Literal["steps", "tokens", "epochs"] = "steps"
    """What all arms get as much of. `steps` and `tokens`: as the first arm takes; larger datasets are then not trained longer."""
    controls: tuple[Literal["copy", "flip"], ...] = ("copy", "flip")
    """`copy`: the first arm with other seeds, which must not differ; `flip`: with flipped labels, which must lose."""
    flip_rate: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of the labels that `flip` turns round."""
    smallest: PositiveFloat = 0.05
    """Least difference worth having, in the unit of what decides."""
    margin: PositiveFloat | None = None
    """Largest loss at which an arm still passes as `not worse`: for filters, which keep less data."""
    looks: PositiveInt = 1
    """At how many counts of seeds the result is looked at, and the run stopped if it is settled; `seeds` is divided evenly."""
    points: PositiveInt = 1
    """At how many steps of a run, evenly spaced to its end, everything is measured: for divergence against win rate."""

    @field_validator("score", "second")
    @classmethod
    def _rates_responses(cls, score: Score | None) -> Score | None:
        if score is not None and (score.at != "response" or score.ratings is not None):
            raise ValueError("answers have no ratings: rate them by a model or a rule, at: response")
        return score

    @field_validator("judge")
    @classmethod
    def _judges_pairs(cls, judge: Judge | None) -> Judge | None:
        if judge is not None and (judge.task != "pairwise" or judge.topology is not None):
            raise ValueError("the judge of a comparison is shown two answers: kind: pairwise, no topology")
        return judge

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.seeds % self.looks:
            raise ValueError(f"{self.looks} looks do not divide {self.seeds} seeds evenly")
        if self.looks > 1 and self.seeds // self.looks < 2:
            raise ValueError("a look needs two seeds at least: one says nothing of others")
        if self.primary == "judge" and self.judge is None:
            raise ValueError("`primary: judge` needs a `judge`")
        return self
