"""From what was measured to the report: a pure function of one table and of what was written down before and while it was run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from prefkit.comparing.bootstrap import Resampled, mean_of, pigeonhole
from prefkit.comparing.decision import Evidence, decide
from prefkit.comparing.differences import Difference, at_level, whole
from prefkit.comparing.several import holm
from prefkit.comparing.win_rate import signed
from prefkit.experiment import figures
from prefkit.experiment.arm import OF_ANSWERS, OF_PAIRS, Facts, arm_report, pooled, shares
from prefkit.experiment.figures import METHOD, Data, as_figure, data_of, gap_figure, per_answer, per_pair
from prefkit.experiment.report import ArmReport, Figure, Versus

__all__ = ["Rules", "analyse", "primary_gap"]

_SECONDARY = (
    "win_rate",
    "judge",
    "win_rate_base",
    "score",
    "second_win_rate",
    "accuracy",
    "accuracy_balanced",
    "ranking",
)
"""Tested together, those that are there and not primary."""
_CONTROL_LEVEL = 0.99
"""Of the intervals of controls, so that a sound protocol is not called powerless one time in twenty."""


class Rules(NamedTuple):
    """How the result is read; all of it written down beforehand."""

    primary: str
    smallest: float
    margin: float | None
    band: float
    beta: float | None
    """Of the implicit reward; None where rewards are no log-ratios, and imply no probability."""
    level: float = 0.95
    """Of the interval that decides: that of the look."""
    draws: int = 2_000
    """Of a bootstrap; a fifth where a draw takes long."""


def analyse(
    frame: pl.DataFrame, facts: Sequence[Facts], seeds: Sequence[int], rules: Rules
) -> tuple[list[ArmReport], list[Versus]]:
    """Return what each arm shows, and each other arm against the first."""
    data = data_of(frame, seeds, rules.band, rules.beta, rules.draws)
    arms = [arm_report(data, one, facts[0].name) for one in facts]
    gaps = {one.name: _gaps(data, one.name, facts[0].name) for one in facts[1:]}
    tests = {
        one.control: at_level(gaps[one.name][rules.primary], _CONTROL_LEVEL)
        for one in facts[1:]
        if one.control and rules.primary in gaps[one.name]
    }
    versus = [
        _versus(data, one, arms, gaps[one.name], tests, rules)
        for one in facts[1:]
        if rules.primary in gaps[one.name]
    ]
    return arms, versus


def primary_gap(
    frame: pl.DataFrame, arm: str, base: str, seeds: Sequence[int], rules: Rules
) -> Difference | None:
    """Return the difference that decides, alone: for a look at a run under way."""
    return _gaps(data_of(frame, seeds, rules.band, rules.beta, rules.draws), arm, base).get(rules.primary)


# one arm against the first


def _gaps(data: Data, arm: str, base: str) -> dict[str, Difference]:
    """Return the differences of all metrics that are there."""
    found = dict(_gaps_of_wins(data, arm, base))
    there = set(data.last.filter(arm=arm)["metric"].unique().to_list())
    for metric in OF_ANSWERS:
        if metric in there:
            found[metric] = gap_figure(per_answer(data, arm, metric), per_answer(data, base, metric))
    for metric in OF_PAIRS if data.sets else ():
        gap, clusters = pooled(data, arm, metric, base)
        found[metric] = gap_figure(gap, np.zeros_like(gap), clusters)
    for of in data.sets:
        mine, theirs = (per_pair(data, name, "accuracy", of) for name in (arm, base))
        found[f"accuracy:{of}"] = gap_figure(mine, theirs, figures.clusters_of(data, of))
    return {name: gap for name, gap in found.items() if gap is not None}


def _gaps_of_wins(data: Data, arm: str, base: str) -> Iterator[tuple[str, Difference | None]]:
    for name, share in shares(data, arm, base):
        won = signed(share)
        if name == "win_rate_base":
            theirs = signed(figures.wins(data, base, "", "score"))
            yield name, gap_figure(won, theirs)
            continue
        yield name, gap_figure(won, np.zeros_like(won))
        if name in _LENGTH and (told := figures.controlled(data, arm, base, share)) is not None:
            yield _LENGTH[name], gap_figure(2 * told - 1, np.zeros_like(won))


_LENGTH = {"win_rate": "length_controlled", "judge": "judge_length_controlled"}
"""What a win rate is called once answers are taken as equally long."""


def _versus(
    data: Data,
    facts: Facts,
    arms: Sequence[ArmReport],
    gaps: Mapping[str, Difference],
    tests: Mapping[str, Difference],
    rules: Rules,
) -> Versus:
    base = arms[0]
    mine = next(arm for arm in arms if arm.name == facts.name)
    primary = at_level(gaps[rules.primary], rules.level)
    matched = figures.matched_gap(data, mine.name, base.name)
    evidence = _evidence(mine, base, gaps, primary, matched, tests if not facts.control else {}, rules)
    told = decide(evidence, (facts.name, base.name), rules.smallest, rules.margin)
    shown = {name: as_figure(gap, METHOD) for name, gap in gaps.items()}
    shown |= _bootstraps(data, facts.name, base.name, matched)
    return Versus(
        arm=facts.name,
        base=base.name,
        verdict=told.verdict,
        words=told.words,
        reasons=told.reasons,
        primary=as_figure(primary, METHOD),
        by_seed=_by_seed(data, facts.name, base.name, rules.primary),
        bootstrap=_bootstrap(data, facts.name, base.name, rules.primary),
        figures=_adjusted(shown, rules.primary),
        effect=told.detectable.effect,
        needs_prompts=told.settle.prompts,
        needs_seeds=told.settle.seeds,
    )


def _evidence(
    mine: ArmReport,
    base: ArmReport,
    gaps: Mapping[str, Difference],
    primary: Difference,
    matched: Resampled | None,
    tests: Mapping[str, Difference],
    rules: Rules,
) -> Evidence:
    """Return what the decision rests on. A win is one of length, or of divergence, only where there is more of it."""
    controlled = gaps.get(_LENGTH.get(rules.primary, ""))
    longer = "chars" in gaps and gaps["chars"].low > 0
    further = "kl" in gaps and gaps["kl"].low > 0 and len({point.step for point in mine.points}) > 2
    return Evidence(
        primary=primary,
        length_controlled=controlled if longer else None,
        matched=matched if further else None,
        other_judge=gaps.get("second_win_rate"),
        copy=tests.get("copy"),
        flipped=tests.get("flip"),
        alarms=tuple(alarm for alarm in mine.alarms if alarm not in base.alarms),
        one_run=all(len(arm.runs) > 1 and arm.trained_alike for arm in (mine, base)),
    )


def _values(data: Data, arm: str, base: str, primary: str) -> np.ndarray | None:
    """Return the primary difference, [seeds, prompts]; None for a metric that is not a mean of such values."""
    if primary in ("win_rate", "judge"):
        return signed(figures.wins(data, arm, base, "score" if primary == "win_rate" else "judge"))
    if primary == "accuracy":
        return pooled(data, arm, primary, base)[0]
    return None


def _by_seed(data: Data, arm: str, base: str, primary: str) -> list[float]:
    values = _values(data, arm, base, primary)
    if values is None:
        values = _values(data, arm, base, "win_rate")
    if values is None:
        return []
    kept, _ = whole(values)
    return [float(each) for each in kept.mean(axis=1)] if kept.size else []


def _bootstrap(data: Data, arm: str, base: str, primary: str) -> Figure | None:
    values = _values(data, arm, base, primary)
    clusters = pooled(data, arm, primary)[1] if primary == "accuracy" else None
    if values is None or whole(values)[0].shape[1] < 2:
        return None
    seeds, prompts = values.shape
    draw = np.random.default_rng(0)
    found = pigeonhole(mean_of(values), (seeds, prompts), draw, data.draws, clusters=clusters)
    return figures.of_bootstrap(found, seeds=seeds, prompts=prompts)


def _bootstraps(data: Data, arm: str, base: str, matched: Resampled | None) -> dict[str, Figure]:
    size = {"seeds": len(data.seeds), "prompts": len(data.prompts)}
    found = {}
    for name, share in shares(data, arm, base):
        if name in _LENGTH and (told := figures.controlled_again(data, arm, base, share)) is not None:
            found[f"{_LENGTH[name]}_bootstrap"] = figures.of_bootstrap(told, 2.0, -1.0, **size)
    if matched is not None:
        found["matched"] = figures.of_bootstrap(matched, **size)
    return found


def _adjusted(shown: Mapping[str, Figure], primary: str) -> dict[str, Figure]:
    """Return the figures with Holm's p-values among the secondary ones."""
    names = [name for name in _SECONDARY if name in shown and name != primary]
    p = np.asarray(
        [shown[name].p if shown[name].p is not None else np.nan for name in names], dtype=np.float64
    )
    told = dict(zip(names, holm(p).tolist(), strict=True)) if names else {}
    return {
        name: figure.model_copy(update={"adjusted": told[name]})
        if name in told and np.isfinite(told[name])
        else figure
        for name, figure in shown.items()
    }
