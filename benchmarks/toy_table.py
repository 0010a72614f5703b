"""What the runs of the toy-world experiments say: a table an experiment, differences with intervals.

Seeds are blocks: every arm of a seed learned from the same answers and was measured on the same prompts. So the noise of
a difference is what is left after taking out arms and seeds (a two-way layout), and has (arms - 1)(seeds - 1) degrees of
freedom. It presumes that arms scatter alike. The interval of a mean is by Student's t over the seeds of its own arm.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["BASELINES", "tables"]

BASELINES: Mapping[str, str] = {
    "flips": "clean",
    "annotators": "majority",
    "proxy": "length-biased proxy",
    "beliefs": "dawid-skene",
    "losses": "flipped 30%",
    "curriculum": "random order",
    "selection": "half of the prompts",
}
"""What the arms of an experiment are compared with."""
_HEAD = "| arm | pairs | labels right | gold (95 %) | against {} (95 %) | perfect | characters |"


class Layout(NamedTuple):
    """Gold rewards of one experiment."""

    gold: np.ndarray
    """float64 [arms, seeds]"""
    half_width: float
    """Of the 95 % interval of a difference between two arms' means; NaN with a single seed."""


def layout(gold: np.ndarray) -> Layout:
    """Return the values with the interval that a two-way layout gives their differences."""
    from scipy.stats import t  # type: ignore[import-untyped]

    arms, seeds = gold.shape
    free = (arms - 1) * (seeds - 1)
    if not free:
        return Layout(gold, float("nan"))
    rest = gold - gold.mean(axis=0) - gold.mean(axis=1, keepdims=True) + gold.mean()
    deviation = np.sqrt(np.square(rest).sum() / free)
    return Layout(gold, float(t.ppf(0.975, free) * deviation * np.sqrt(2 / seeds)))


def tables(rows: Sequence[Mapping[str, Any]], experiments: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield lines of Markdown, over the seeds for which every arm of an experiment is finished."""
    found = {(row["arm"], row["seed"]): row for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    for name, arms in experiments.items():
        whole = [seed for seed in seeds if all((arm, seed) in found for arm in ("untrained", *arms))]
        if not whole:
            continue
        yield from (f"### {name}: {len(whole)} seeds", "", _HEAD.format(BASELINES[name]))
        yield "| --- | ---: | ---: | --- | --- | ---: | ---: |"
        told = [[found[arm, seed] for seed in whole] for arm in arms]
        laid = layout(np.array([[row["gold"] for row in arm] for arm in told]))
        base = laid.gold[list(arms).index(BASELINES[name])].mean()
        yield _line("untrained", [found["untrained", seed] for seed in whole], "")
        for arm, its, values in zip(arms, told, laid.gold, strict=True):
            gap = values.mean() - base
            low, high = gap - laid.half_width, gap + laid.half_width
            against = "" if arm == BASELINES[name] else f"{gap:+.3f} ({low:+.3f} to {high:+.3f})"
            yield _line(arm, its, against)
        yield ""


def _line(arm: str, rows: Sequence[Mapping[str, Any]], against: str) -> str:
    from scipy.stats import t

    gold = np.array([row["gold"] for row in rows])
    mean = f"{gold.mean():.3f}"
    if len(gold) > 1:
        half = t.ppf(0.975, len(gold) - 1) * gold.std(ddof=1) / np.sqrt(len(gold))
        mean += f" ({gold.mean() - half:.3f} to {gold.mean() + half:.3f})"
    pairs = f"{_mean(rows, 'pairs'):.0f}" if "pairs" in rows[0] else ""
    right = f"{_mean(rows, 'accuracy'):.3f}" if "accuracy" in rows[0] else ""
    rest = f"{_mean(rows, 'perfect'):.0%} | {_mean(rows, 'characters'):.0f}"
    return f"| {arm} | {pairs} | {right} | {mean} | {against} | {rest} |"


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([row[name] for row in rows]))
