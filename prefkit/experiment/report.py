"""The report of a comparison: every number it found, each with how it was found. All pages are written from it alone."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from prefkit.comparing.decision import Verdict

__all__ = [
    "METRICS",
    "ArmReport",
    "Comparison",
    "Figure",
    "Looks",
    "Metric",
    "Plan",
    "Point",
    "RunReport",
    "Versus",
]


class Metric(NamedTuple):
    """What a figure is, for people."""

    title: str
    unit: str
    better: Literal[-1, 0, 1] = 0
    """Which way is better; 0: neither, or it depends."""


METRICS: Mapping[str, Metric] = {
    "win_rate": Metric("wins against the first dataset, by score", "2 x share - 1", 1),
    "length_controlled": Metric(
        "wins against the first dataset, by score, answers equally long", "2 x share - 1", 1
    ),
    "judge": Metric("wins against the first dataset, by the judge", "2 x share - 1", 1),
    "judge_length_controlled": Metric(
        "wins against the first dataset, by the judge, answers equally long", "2 x share - 1", 1
    ),
    "second_win_rate": Metric("wins against the first dataset, by the second scorer", "2 x share - 1", 1),
    "win_rate_base": Metric("wins against the untrained model, by score", "2 x share - 1", 1),
    "score": Metric("score of answers", "score", 1),
    "second": Metric("second scorer's score of answers", "score", 1),
    "chars": Metric("length of answers", "characters"),
    "kl": Metric("KL to the reference (k1)", "nats an answer"),
    "kl_k3": Metric("KL to the reference (k3)", "nats an answer"),
    "accuracy": Metric("reward accuracy on held-out pairs", "share of pairs", 1),
    "accuracy_balanced": Metric(
        "reward accuracy, longer and shorter chosen weighing the same", "share of pairs", 1
    ),
    "ranking": Metric("ranking accuracy: chosen likelier than rejected", "share of pairs", 1),
    "ranks_mended": Metric("ranked right, of pairs that the reference ranks wrong", "share of pairs", 1),
    "brier": Metric("Brier score of the implied probability", "0 to 1", -1),
    "chosen_ratio": Metric("log-ratio of chosen to the reference", "nats an answer"),
    "rejected_ratio": Metric("log-ratio of rejected to the reference", "nats an answer"),
    "reference_ratio": Metric("log-ratio of the reference's own answers", "nats an answer"),
    "top_entropy": Metric("entropy of the ten likeliest tokens", "bits"),
    "top_mass": Metric("probability of the ten likeliest tokens", "share"),
}
"""Every metric that is a mean over prompts or pairs. Below 0, a win rate says that the first dataset wins."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Figure(_Record):
    """A number with its interval."""

    estimate: float | None
    error: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p: float | None = None
    """Two-sided, of no difference; null where nothing is tested."""
    adjusted: float | None = None
    """The same after Holm, among the secondary metrics of the arm."""
    df: float | None = None
    method: str
    seeds: int
    prompts: int
    """Or pairs, or clusters of pairs with one prompt."""
    left_out: int = 0
    variance: Mapping[str, float | None] | None = None
    """Of a single seed on a single prompt: `prompt`, `seed`, `rest`."""
    error_of_prompts: float | None = None
    """The standard error if seeds were not counted."""


class Point(_Record):
    """One model on its way: how far from the reference, and how often it beats the untrained model."""

    seed: int
    step: int
    kl: float
    win_rate: float


class RunReport(_Record):
    """One training run."""

    seed: int
    steps: int
    pairs: int
    tokens: int
    seconds: float
    first_loss: float
    last_loss: float
    curves: Mapping[str, Sequence[tuple[int, float]]]
    """By metric: (step, mean of a stretch), at most 60 points: loss, accuracy, reward_margin, chosen_logp, ..."""
    warnings: Sequence[str] = ()


class ArmReport(_Record):
    """One dataset, and what training on it gave."""

    name: str
    ref: str
    digest: str
    control: str
    other_seeds: bool
    pairs: int
    prompts: int
    metrics: Mapping[str, Figure]
    """Means of the arm by metric (`METRICS`), and `accuracy:<arm>` on each set of held-out pairs."""
    weights: Mapping[str, float | None]
    """Update sparsity: shares of weights that are the same, and overlap of what two seeds changed, and chance."""
    diversity: float | None
    """Distinct n-grams of answers over those of as many draws, mean of n = 1 to 5."""
    displaced: bool
    """The margin grew while chosen became less likely than under the reference."""
    alarms: Sequence[str]
    points: Sequence[Point]
    runs: Sequence[RunReport]

    @property
    def trained_alike(self) -> bool:
        """Whether its seeds changed nothing in training: all runs have one loss curve."""
        losses = [tuple(run.curves.get("loss", ())) for run in self.runs]
        return bool(losses) and all(losses) and len(set(losses)) == 1


class Plan(_Record):
    """What was said before the first run."""

    runs: int
    steps: int
    pairs: int
    answers: int
    verdicts: int
    seconds: float | None
    effect: float
    """Smallest true difference that would be detected with a power of 80 %."""
    floor: float
    variance: Mapping[str, float | None]
    variance_from: str


class Looks(_Record):
    """Planned looks at the result, and what they used of the error."""

    planned: int
    taken: int
    seeds: int
    """Seeds run."""
    spent: float
    stopped: bool
    """Settled before the last seed."""


class Versus(_Record):
    """One dataset against the first."""

    arm: str
    base: str
    verdict: Verdict
    words: str
    reasons: Sequence[str]
    primary: Figure
    by_seed: Sequence[float]
    """Difference of each seed, of the primary metric."""
    bootstrap: Figure | None
    """The primary difference by the pigeonhole bootstrap, beside its formula."""
    figures: Mapping[str, Figure]
    """Differences by metric, with `<metric>_bootstrap` where that is not a mean, and `matched`: at equal divergence."""
    effect: float
    """Smallest true difference that a run like this would detect with a power of 80 %, from what it showed."""
    needs_prompts: int | None
    needs_seeds: int | None
    """What would settle a difference of the smallest interest."""


class Comparison(_Record):
    """Which of several datasets to train on."""

    format: int = 1
    name: str
    id: str
    """Of protocol and arms."""
    protocol: str
    model: str
    model_identity: str
    objective: str
    batch: int
    train: Mapping[str, Any]
    settings: Mapping[str, Any]
    primary: str
    prompts: int
    removed: Mapping[str, int]
    """Held-out prompts that were taken out, by reason."""
    plan: Plan
    looks: Looks
    arms: Sequence[ArmReport]
    versus: Sequence[Versus]
    """Every other dataset, then the controls, against the first."""
    notes: Sequence[str]
    """What a reader should know before believing any of it."""
    software: Mapping[str, str]
