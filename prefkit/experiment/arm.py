"""What one arm showed: its means with their intervals, its weights, alarms of its training, and where its models stand."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from prefkit.comparing.differences import whole
from prefkit.comparing.displacement import displacement
from prefkit.comparing.top_tokens import alarms
from prefkit.comparing.win_rate import signed
from prefkit.experiment import figures
from prefkit.experiment.changed import overlap
from prefkit.experiment.figures import Data, mean_figure, per_answer, per_pair
from prefkit.experiment.report import ArmReport, Figure, Point, RunReport

__all__ = ["OF_ANSWERS", "OF_PAIRS", "Facts", "Run", "arm_report", "pooled", "shares"]

OF_ANSWERS = ("score", "second", "chars", "kl", "kl_k3", "reference_ratio")
OF_PAIRS = (
    "accuracy",
    "accuracy_balanced",
    "ranking",
    "ranks_mended",
    "brier",
    "chosen_ratio",
    "rejected_ratio",
    "top_entropy",
    "top_mass",
)
_WEIGHTS = ("weights_same", "weights_within", "weights_same_bfloat16")


class Run(NamedTuple):
    """One training run, as the trainer reported it."""

    report: RunReport
    changed: np.ndarray
    """Which of the sampled weights it changed: bool [sampled]."""
    entropy: np.ndarray
    """Of each step, with the two beside it: float64 [stretches]."""
    mass: np.ndarray
    chosen: np.ndarray


class Facts(NamedTuple):
    """What is known of an arm beside what was measured."""

    name: str
    ref: str
    digest: str
    control: str
    other_seeds: bool
    pairs: int
    prompts: int
    runs: Sequence[Run]


def arm_report(data: Data, facts: Facts, first: str) -> ArmReport:
    """Return what an arm showed; wins are against `first`."""
    found = {name: figure for name, figure in _means(data, facts.name, first) if figure is not None}
    ratios = [_on_all_sets(data, facts.name, side) for side in ("chosen_ratio", "rejected_ratio")]
    told = displacement(ratios[0], ratios[1])
    return ArmReport(
        name=facts.name,
        ref=facts.ref,
        digest=facts.digest,
        control=facts.control,
        other_seeds=facts.other_seeds,
        pairs=facts.pairs,
        prompts=facts.prompts,
        metrics=found,
        weights=_weights(data, facts),
        diversity=_scalar(data, facts.name, "distinct"),
        displaced=bool(told.displaced),
        alarms=sorted(_alarms(facts)),
        points=[
            Point(seed=s, step=step, kl=kl, win_rate=won)
            for s, step, kl, won in figures.points(data, facts.name)
        ],
        runs=[run.report for run in facts.runs],
    )


def _on_all_sets(data: Data, arm: str, metric: str) -> np.ndarray:
    return np.concatenate([np.zeros(0), *(per_pair(data, arm, metric, of).ravel() for of in data.sets)])


def _means(data: Data, arm: str, first: str) -> Iterator[tuple[str, Figure | None]]:
    for metric in OF_ANSWERS:
        if data.last.filter(arm=arm, metric=metric).height:
            yield metric, mean_figure(per_answer(data, arm, metric))
    for name, share in shares(data, arm, first):
        yield name, mean_figure(signed(share))
    for metric in OF_PAIRS if data.sets else ():
        yield metric, mean_figure(*pooled(data, arm, metric))
    for of in data.sets:
        yield (
            f"accuracy:{of}",
            mean_figure(per_pair(data, arm, "accuracy", of), figures.clusters_of(data, of)),
        )


def pooled(data: Data, arm: str, metric: str, less: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Return a metric on all sets of held-out pairs, each set weighing the same: [seeds, pairs], and clusters [pairs].

    With `less`, the difference to that arm. Sets in which no pair has the metric weigh nothing.
    """
    parts = [per_pair(data, arm, metric, of) for of in data.sets]
    if less:
        parts = [part - per_pair(data, less, metric, of) for part, of in zip(parts, data.sets, strict=True)]
    known = np.array([whole(part)[1].sum() for part in parts])
    weights = known.sum() / (np.count_nonzero(known) * np.maximum(known, 1)) if known.any() else known
    names = np.concatenate([data.sets[of]["prompt_id"].to_numpy() for of in data.sets])
    even = [part * weight for part, weight in zip(parts, weights, strict=True)]
    return np.concatenate(even, axis=1), np.unique(names, return_inverse=True)[1]


def shares(data: Data, arm: str, first: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the shares of answers in which an arm wins, [seeds, prompts], by metric; none against itself."""
    there = set(data.last.filter(arm=arm)["metric"].unique().to_list())
    if "score" in there:
        yield "win_rate_base", figures.wins(data, arm, "", "score")
    if arm == first:
        return
    if "score" in there:
        yield "win_rate", figures.wins(data, arm, first, "score")
    if "second" in there:
        yield "second_win_rate", figures.wins(data, arm, first, "second")
    if "preferred" in there:
        yield "judge", figures.wins(data, arm, first, "judge")


def _scalar(data: Data, arm: str, metric: str) -> float | None:
    found = data.last.filter(arm=arm, metric=metric)["value"].mean()
    return float(found) if isinstance(found, float) and np.isfinite(found) else None


def _weights(data: Data, facts: Facts) -> dict[str, float | None]:
    told = {name: _scalar(data, facts.name, name) for name in _WEIGHTS}
    masks = [run.changed for run in facts.runs]
    shared = [overlap(one, other) for one in masks for other in masks if one is not other]
    for at, name in enumerate(("overlap_of_seeds", "overlap_by_chance")):
        values = [pair[at] for pair in shared if np.isfinite(pair[at])]
        told[name] = float(np.mean(values)) if values else None
    return told


def _alarms(facts: Facts) -> Iterator[str]:
    """Yield the alarms that half of the runs or more raised."""
    raised = {
        "entropy of the likeliest tokens falls while chosen becomes less likely": 0,
        "mass of the likeliest tokens falls": 0,
    }
    for run in facts.runs:
        if len(run.entropy) < 4:
            continue
        found = alarms(run.entropy, run.mass, run.chosen)
        for name, at in zip(raised, found, strict=True):
            raised[name] += at is not None
    return (name for name, count in raised.items() if count and 2 * count >= len(facts.runs))
