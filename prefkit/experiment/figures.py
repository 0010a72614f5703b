"""Figures of one arm and of one arm against another, from the table of what was measured."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from prefkit.comparing.accuracy import balance, flipped, ranking_right, reward_right
from prefkit.comparing.bootstrap import Resampled, pigeonhole
from prefkit.comparing.differences import Difference, difference, whole
from prefkit.comparing.frontier import matched
from prefkit.comparing.length_control import (
    LEAST_ROWS,
    length_controlled_interval,
    length_controlled_values,
)
from prefkit.comparing.win_rate import head_to_head
from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.experiment.report import Figure
from prefkit.experiment.table import COLUMNS, Grid, grid, last_steps, pair_grid

__all__ = [
    "METHOD",
    "Data",
    "as_figure",
    "clusters_of",
    "controlled",
    "controlled_again",
    "data_of",
    "gap_figure",
    "matched_gap",
    "mean_figure",
    "of_bootstrap",
    "per_answer",
    "per_pair",
    "points",
    "wins",
]

METHOD = "two-way random effects over seeds and prompts, Student's t"


class Data(NamedTuple):
    """What was measured, with what every figure needs of it."""

    frame: pl.DataFrame
    """All rows."""
    last: pl.DataFrame
    """Those at the end of each run, and those of no arm."""
    seeds: Sequence[int]
    prompts: Sequence[str]
    sets: Mapping[str, pl.DataFrame]
    """By arm: its held-out pairs: `row`, `prompt_id`, reference log-probs, tokens, `length_gap`."""
    band: float
    beta: float | None
    draws: int


def data_of(frame: pl.DataFrame, seeds: Sequence[int], band: float, beta: float | None, draws: int) -> Data:
    """Prepare what was measured. Only these seeds are looked at. The order of the rows decides nothing, not even a last digit."""
    frame = frame.filter(pl.col("seed").is_in(list(seeds)) | (pl.col("arm") == "")).sort(*COLUMNS)
    answered = frame.filter(arm="", metric="chars")["prompt_id"].unique().sort().to_list()
    facts = frame.filter((pl.col("arm") == "") & (pl.col("of") != ""))
    sets = {
        str(name): facts.filter(of=name)
        .pivot("metric", index=["row", "prompt_id"], values="value")
        .sort("row", "prompt_id")
        for name in facts["of"].unique().sort().to_list()
    }
    return Data(frame, last_steps(frame), seeds, answered, sets, band, beta, draws)


def per_answer(data: Data, arm: str, metric: str) -> np.ndarray:
    """Return the mean over a prompt's answers, [seeds, prompts]."""
    return _mean(grid(data.last, arm, metric, data.seeds, data.prompts))


def wins(data: Data, arm: str, base: str, metric: str) -> np.ndarray:
    """Return in which share of answers an arm beats another, [seeds, prompts]. `metric`: a score, or `judge`."""
    if metric == "judge":
        return _mean(grid(data.last, arm, "preferred", data.seeds, data.prompts, base))
    ours, theirs = (grid(data.last, name, metric, data.seeds, data.prompts) for name in (arm, base))
    return head_to_head(ours, theirs, data.band)


def controlled(data: Data, arm: str, base: str, share: np.ndarray) -> np.ndarray | None:
    """Return values whose mean is the length-controlled win rate, [seeds, prompts]; None where there are too few.

    Minimal form, with the mean length of a prompt's answers.
    """
    told = _with_lengths(data, arm, base, share)
    try:
        return None if told is None else length_controlled_values(*told)
    except EstimateError:
        return None


def controlled_again(data: Data, arm: str, base: str, share: np.ndarray) -> Resampled | None:
    """Return the same rate with its bootstrap."""
    told = _with_lengths(data, arm, base, share)
    try:
        return (
            None if told is None else length_controlled_interval(*told, np.random.default_rng(0), data.draws)
        )
    except EstimateError:
        return None


def _with_lengths(data: Data, arm: str, base: str, share: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return shares and length gaps, [seeds, prompts] each; None where length cannot be told from quality."""
    gap = per_answer(data, base, "chars") - per_answer(data, arm, "chars")
    share = np.where(np.isnan(gap), np.nan, share)
    known = share[~np.isnan(share)]
    if known.size < LEAST_ROWS or not ((known > 0.5).any() and (known < 0.5).any()):
        return None
    return share, np.nan_to_num(gap)


def per_pair(data: Data, arm: str, metric: str, of: str) -> np.ndarray:
    """Return a metric on the held-out pairs of an arm, [seeds, pairs]."""
    facts = data.sets[of]
    names = facts["row"].to_list()
    chosen, rejected = (
        pair_grid(data.last, arm, side, data.seeds, names, of) for side in ("chosen_logp", "rejected_logp")
    )
    references = (facts[side].to_numpy() for side in ("chosen_logp", "rejected_logp"))
    ref_chosen, ref_rejected = (np.asarray(each, dtype=np.float64) for each in references)
    ratios = {"chosen_ratio": chosen - ref_chosen, "rejected_ratio": rejected - ref_rejected}
    if metric in ratios:
        return ratios[metric]
    if metric == "ranking":
        return ranking_right(chosen, rejected)
    if metric == "ranks_mended":
        return flipped(
            np.broadcast_to(ranking_right(ref_chosen, ref_rejected), chosen.shape),
            ranking_right(chosen, rejected),
        )
    if metric in ("top_entropy", "top_mass"):
        return pair_grid(data.last, arm, metric, data.seeds, names, of)
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    # Another kernel may have computed the reference: below 1e-4 nats a gap is rounding.
    right = reward_right(np.where(np.abs(margin) < 1e-4, 0.0, margin))
    if metric == "accuracy_balanced":
        told: np.ndarray = right * balance(np.asarray(facts["length_gap"].to_numpy(), dtype=np.float64))
        return told
    if metric == "brier" and data.beta is not None:
        squares: np.ndarray = np.square(1 - logistic(data.beta * margin))
        return squares
    return right if metric == "accuracy" else np.full(margin.shape, np.nan)


def matched_gap(data: Data, arm: str, base: str) -> Resampled | None:
    """Return how much more often an arm beats the untrained model than another arm does at the same divergence.

    The mean over the divergences both reach, every seed by itself, the untrained model being the first point of each curve; by the
    pigeonhole bootstrap, since it is no mean. None where the curves share no range.
    """
    curves = [_curve(data, name) for name in (arm, base)]
    if any(curve is None for curve in curves):
        return None
    ours, theirs = (curve for curve in curves if curve is not None)

    def statistic(seeds: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        return np.asarray([_gap_of(ours, theirs, s, p) for s, p in zip(seeds, prompts, strict=True)])

    shape = (len(data.seeds), len(data.prompts))
    try:
        return pigeonhole(statistic, shape, np.random.default_rng(0), data.draws // 5)
    except EstimateError:
        return None


class _Curve(NamedTuple):
    """Divergence and win rate of one arm; both [points, seeds, prompts], the untrained model first."""

    kl: np.ndarray
    won: np.ndarray


def _curve(data: Data, arm: str) -> _Curve | None:
    mine = data.frame.filter(arm=arm)
    steps = sorted(mine.filter(metric="kl")["step"].unique().to_list())
    base = grid(data.last, "", "score", data.seeds, data.prompts)
    if not steps or np.isnan(base).all():
        return None
    kl, won = [np.zeros(base.shape[:2])], [np.full(base.shape[:2], 0.5)]
    for step in steps:
        now = mine.filter(step=step)
        kl.append(_mean(grid(now, arm, "kl", data.seeds, data.prompts)))
        won.append(head_to_head(grid(now, arm, "score", data.seeds, data.prompts), base, data.band))
    return _Curve(np.stack(kl), np.stack(won))


def _gap_of(ours: _Curve, theirs: _Curve, seeds: np.ndarray, prompts: np.ndarray) -> float:
    """Return the mean gap of the curves, prompts and seeds counted so often."""
    found, weights = [], []
    for seed in np.flatnonzero(seeds):
        lines = [tuple(_weighted(each[:, seed], prompts) for each in curve) for curve in (ours, theirs)]
        try:
            found.append(matched((lines[0][0], lines[0][1]), (lines[1][0], lines[1][1])).mean)
        except EstimateError:
            continue
        weights.append(seeds[seed])
    return float(np.average(found, weights=weights)) if found else np.nan


def _weighted(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the weighted mean over the last axis, NaN left out."""
    known = np.isfinite(values)
    total = (known * weights).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        told: np.ndarray = (np.where(known, values, 0.0) * weights).sum(axis=-1) / total
    return told


def _mean(values: Grid) -> np.ndarray:
    """Return the mean over the last axis, NaN left out, NaN where nothing is there."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        told: np.ndarray = np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1)
    return told


def as_figure(found: Difference, method: str) -> Figure:
    """Return a difference as the report has it."""
    return Figure(
        estimate=found.estimate,
        error=found.error,
        low=found.low,
        high=found.high,
        level=found.level,
        p=found.p,
        df=found.df if np.isfinite(found.df) else None,
        method=method,
        seeds=found.seeds,
        prompts=found.prompts,
        left_out=found.left_out,
        variance={name: _known(value) for name, value in found.variance._asdict().items()},
        error_of_prompts=found.error_of_prompts,
    )


def of_bootstrap(
    found: Resampled, scale: float = 1.0, shift: float = 0.0, *, seeds: int, prompts: int
) -> Figure:
    """Return a resampled figure, times `scale` plus `shift`, as the report has it."""
    return Figure(
        estimate=found.estimate * scale + shift,
        error=found.error * scale,
        low=found.low * scale + shift,
        high=found.high * scale + shift,
        p=found.p,
        method=f"pigeonhole bootstrap, {found.draws:,} draws",
        seeds=seeds,
        prompts=prompts,
    )


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def mean_figure(values: np.ndarray, clusters: np.ndarray | None = None) -> Figure | None:
    """Return the mean of [seeds, prompts] with its interval over both; None where too little is there."""
    try:
        found = difference(values, np.zeros_like(values), clusters)
    except EstimateError:
        grid_, _ = whole(values)
        if not grid_.size:
            return None
        return Figure(estimate=float(grid_.mean()), method="mean", seeds=len(values), prompts=grid_.shape[1])
    return as_figure(found, METHOD).model_copy(update={"p": None})


def gap_figure(ours: np.ndarray, theirs: np.ndarray, clusters: np.ndarray | None = None) -> Difference | None:
    """Return the difference of two arms, [seeds, prompts] each; None where too little is there."""
    try:
        return difference(ours, theirs, clusters)
    except EstimateError:
        return None


def clusters_of(data: Data, of: str) -> np.ndarray:
    """Return the prompt of each held-out pair, for intervals that know pairs of one prompt to be alike."""
    return np.unique(data.sets[of]["prompt_id"].to_numpy(), return_inverse=True)[1]


def points(data: Data, arm: str) -> Iterator[tuple[int, int, float, float]]:
    """Yield seed, step, mean divergence and mean win rate against the untrained model."""
    curve = _curve(data, arm)
    if curve is None:
        return
    steps = [0, *sorted(data.frame.filter(arm=arm, metric="kl")["step"].unique().to_list())]
    for at, step in enumerate(steps):
        for number, seed in enumerate(data.seeds):
            kl, won = (float(_weighted(each[at, number], np.ones(len(data.prompts)))) for each in curve)
            if np.isfinite(kl) and np.isfinite(won):
                yield seed, int(step), kl, won
