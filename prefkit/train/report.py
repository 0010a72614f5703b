"""The report: what training did to the policy, as numbers with their intervals, and as a page to read.

A pure function of what was measured: `report.json` holds the numbers, `report.md` is rendered from them and from
nothing else. Intervals are over prompts, since answers to one prompt are not independent: the normal 95% interval of
the per-prompt means. They cover which prompts were held out and how answers were drawn, not the seed of training.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

__all__ = [
    "Change",
    "HeldOut",
    "Interval",
    "Measured",
    "Report",
    "Samples",
    "change",
    "doubts",
    "interval",
    "render",
    "thin",
]

_Z = 1.959963984540054  # the 97.5% point of the normal distribution


class _Record(BaseModel):
    # What a policy that ran away says of samples may be infinite, and must be read back as it was.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Interval(_Record):
    """A mean over prompts with its 95% interval; the ends are null below two prompts."""

    mean: float
    low: float | None
    high: float | None
    prompts: int


class Change(_Record):
    """The same thing before and after training; `difference` is paired by prompt."""

    before: Interval
    after: Interval
    difference: Interval


class HeldOut(_Record):
    """Pairs that were not trained on."""

    pairs: int
    accuracy: Change
    """Share of pairs whose chosen response has the higher implicit reward; equal rewards count a half."""
    loss: Change
    reward_margin: Change
    chosen_logp: Change
    """Summed, in nats. It often falls although the pair is told apart: the likelihood moves elsewhere."""
    rejected_logp: Change


class Samples(_Record):
    """Fresh samples on held-out prompts."""

    prompts: int
    samples: int
    temperature: float
    score: Change | None
    """Mean score of the samples, if the settings name a scorer."""
    chars: Change
    """Length of the samples, characters."""
    kl: Interval
    """Mean log-ratio of policy to reference on the policy's own samples, nats a response (k1: may be negative)."""
    kl_k3: Interval
    """The same divergence by the k3 estimator, summed over tokens: never negative, lower variance."""
    failed: Mapping[str, int]
    """Samples that could not be drawn or scored, by side."""


class Report(_Record):
    """Everything a run measured."""

    key: str
    """Identity of the run: settings, pairs and model."""
    model: str
    objective: str
    settings: Mapping[str, Any]
    placement: Mapping[str, Any]
    pairs: int
    """Pairs trained on."""
    notes: Mapping[str, int]
    """Pairs dropped or cut, by reason."""
    steps: int
    seconds: float
    """Of the steps alone."""
    tokens: int
    """Computed, each prompt and each response of a micro-batch once."""
    first_loss: float
    last_loss: float
    """Mean over the last tenth of the steps."""
    curve: Sequence[tuple[int, float]]
    """Loss by step, thinned to at most 100 points, each the mean of its stretch."""
    held_out: HeldOut | None
    samples: Samples | None
    warnings: Sequence[str] = ()
    """What looks wrong about the run, in words."""


class Measured(NamedTuple):
    """A number for each row, and the prompt that the row belongs to."""

    values: np.ndarray
    prompts: Sequence[str]


def interval(rows: Measured) -> Interval:
    """Return the mean over prompts of the per-prompt means, with its interval."""
    return _interval(_by_prompt(rows).values)


def change(before: Measured, after: Measured) -> Change:
    """Compare two measurements, on the prompts that both have."""
    one, other = _by_prompt(before), _by_prompt(after)
    _, mine, theirs = np.intersect1d(np.asarray(one.prompts), np.asarray(other.prompts), return_indices=True)
    was, became = one.values[mine], other.values[theirs]
    with np.errstate(invalid="ignore"):  # of two infinite numbers
        return Change(before=_interval(was), after=_interval(became), difference=_interval(became - was))


def _by_prompt(rows: Measured) -> Measured:
    names, index = np.unique(np.asarray(rows.prompts, dtype=str), return_inverse=True)
    return Measured(np.bincount(index, rows.values) / np.bincount(index), names.tolist())


def _interval(means: np.ndarray) -> Interval:
    mean = float(means.mean()) if len(means) else float("nan")
    if len(means) < 2:
        return Interval(mean=mean, low=None, high=None, prompts=len(means))
    with np.errstate(invalid="ignore"):
        half = _Z * float(means.std(ddof=1)) / len(means) ** 0.5
    return Interval(mean=mean, low=mean - half, high=mean + half, prompts=len(means))


def doubts(history: Sequence[Mapping[str, float]]) -> list[str]:
    """Return what looks wrong: a policy that tells chosen from rejected no better than a coin.

    That is a reward accuracy of the second half of the steps within the 95% binomial interval around one half, where
    the run was long enough for a true 0.6 to leave it.
    """
    half = history[len(history) // 2 :]
    seen = sum(step["pairs"] for step in half)
    right = sum(step["accuracy"] * step["pairs"] for step in half)
    width = _Z * (0.25 / max(seen, 1)) ** 0.5
    if width > 0.05 or abs(right / seen - 0.5) > width:
        return []
    what = f"reward accuracy stays at {right / seen:.3f} over the last {int(seen):,} pairs, which a coin reaches too"
    return [f"{what}: look whether chosen and rejected answer the same prompt, or raise `learning_rate`"]


def thin(losses: Sequence[float], points: int = 100) -> list[tuple[int, float]]:
    """Return (first step, mean loss) of at most `points` stretches of equal length."""
    parts = np.array_split(np.asarray(losses, dtype=np.float64), min(points, len(losses)))
    starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
    return [(int(start), float(part.mean())) for start, part in zip(starts, parts, strict=True)]


def render(report: Report) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# Training report: {report.model}",
        "",
        f"Objective: {report.objective}. {report.pairs:,} pairs, {report.steps:,} steps, {report.seconds:.0f} s.",
        "",
        f"Loss: {report.first_loss:.4f} at the first step, {report.last_loss:.4f} over the last tenth of the steps.",
        "",
    ]
    lines += [f"**Warning:** {doubt}.\n" for doubt in report.warnings]
    if report.notes:
        lines += ["| pairs not trained on as they are | count |", "| --- | ---: |"]
        lines += [f"| {name} | {count:,} |" for name, count in sorted(report.notes.items())]
        lines.append("")
    lines += _held_out(report.held_out) + _samples(report.samples)
    lines.append(
        "Intervals are 95%, over prompts; they do not cover the seed of training. Log-probs are in nats."
    )
    return "\n".join(lines) + "\n"


def _held_out(found: HeldOut | None) -> list[str]:
    if found is None:
        return ["No pairs were held out: add a `split` stage to know whether this generalises.", ""]
    rows = {
        "reward accuracy": found.accuracy,
        "loss": found.loss,
        "reward margin": found.reward_margin,
        "log-prob of chosen": found.chosen_logp,
        "log-prob of rejected": found.rejected_logp,
    }
    return [f"## Held-out pairs ({found.pairs:,})", "", *_table(rows), ""]


def _samples(found: Samples | None) -> list[str]:
    if found is None:
        return []
    rows = (
        {"characters": found.chars}
        if found.score is None
        else {"score": found.score, "characters": found.chars}
    )
    head = f"## Fresh samples ({found.prompts:,} held-out prompts, {found.samples} each, temperature {found.temperature})"
    distance = (
        f"Distance to the reference: {_shown(found.kl)} nats a response (k1), {_shown(found.kl_k3)} (k3)."
    )
    return [head, "", *_table(rows), "", distance, ""]


def _table(rows: Mapping[str, Change]) -> list[str]:
    body = [
        f"| {name} | {_shown(row.before)} | {_shown(row.after)} | {_shown(row.difference)} |"
        for name, row in rows.items()
    ]
    return ["| | before | after | difference |", "| --- | --- | --- | --- |", *body]


def _shown(found: Interval) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"
