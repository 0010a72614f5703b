"""Training curves: from the lines a run logged, or from its report, where only the loss by step is kept.

A curve of many steps is drawn through the means of stretches of steps, so that it shows where a run goes and not how
its batches differ.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from prefkit.charts.bins import drawable
from prefkit.charts.drawn import dots, lines
from prefkit.charts.figure import Figure, short
from prefkit.charts.theme import COLOURS, HUES
from prefkit.train.report import Report

__all__ = ["of_report", "of_training"]

_POINTS = 120
"""Points of a curve."""
_TRAINED, _HELD_OUT = "in training", "held out"


class _Curve(NamedTuple):
    title: str
    y: str
    fields: Mapping[str, str]
    """Columns of the log by the name of their line."""
    level: float | None = None


_CURVES: Mapping[str, _Curve] = {
    "loss": _Curve("Loss", "loss", {_TRAINED: "loss"}),
    "accuracy": _Curve(
        "How many pairs the policy gets right", "reward accuracy", {_TRAINED: "accuracy"}, 0.5
    ),
    "reward-margin": _Curve(
        "How far apart the policy finds the sides", "reward margin", {_TRAINED: "reward_margin"}, 0.0
    ),
    "log-probs": _Curve(
        "How likely both sides are to the policy",
        "summed log-prob, nats",
        {"chosen": "chosen_logp", "rejected": "rejected_logp"},
    ),
    "kl": _Curve(
        "How far the policy has moved from the reference",
        "log-ratio, nats",
        {_TRAINED: "kl"},
        0.0,
    ),
    "entropy": _Curve("How open the policy's choices are", "entropy, nats a token", {_TRAINED: "entropy"}),
    "grad-norm": _Curve("Size of the gradient", "gradient norm", {_TRAINED: "grad_norm"}),
    "learning-rate": _Curve("Learning rate", "learning rate", {_TRAINED: "learning_rate"}),
    "score": _Curve("Score of fresh samples", "mean score", {}),
}
_EVALUATED = {"loss": "loss", "accuracy": "accuracy", "reward-margin": "reward_margin", "score": "score"}


def of_training(
    steps: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]] = ()
) -> Mapping[str, Figure]:
    """Draw a run from the lines of its `metrics.jsonl` and `evaluations.jsonl`. What was not logged is not drawn."""
    found = {}
    for name, curve in _CURVES.items():
        series = {line: _points(steps, field) for line, field in curve.fields.items()}
        if name in _EVALUATED:
            series[_HELD_OUT] = _points(evaluations, _EVALUATED[name])
        series = {line: points for line, points in series.items() if points.height}
        if series:
            found[name] = _figure(curve, series)
    return found


def of_report(report: Report) -> Mapping[str, Figure]:
    """Draw a run from its report alone: the loss by step, and what changed on pairs that were held out."""
    curve = [{"step": step, "loss": loss} for step, loss in report.curve]
    found = dict(of_training(curve))
    changes = dict(_changes(report))
    if changes:
        found["held-out"] = _held_out(changes)
    return found


def _changes(report: Report) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield what was measured before and after training, as difference and the ends of its interval."""
    if report.held_out is None:
        return
    found = report.held_out.accuracy.difference
    ends = (found.mean if end is None else end for end in (found.low, found.high))
    yield "reward accuracy", (found.mean, *ends)  # type: ignore[misc]
    if report.samples is not None and report.samples.score is not None:
        score = report.samples.score.difference
        ends = (score.mean if end is None else end for end in (score.low, score.high))
        yield "score of fresh samples", (score.mean, *ends)  # type: ignore[misc]


def _held_out(changes: Mapping[str, tuple[float, float, float]]) -> Figure:
    frame = pl.DataFrame(
        [
            {"name": name, "rows": 0, "value": value, "low": low, "high": high}
            for name, (value, low, high) in changes.items()
        ]
    )
    said = [
        f"{name} {value:+.3f} (95 %: {low:+.3f} to {high:+.3f})"
        for name, (value, low, high) in changes.items()
    ]
    chart = dots(frame, x="after training less before", level=0.0)
    return Figure("What training changed on held-out prompts", "training", chart, "; ".join(said))


def _points(rows: Sequence[Mapping[str, Any]], field: str) -> pl.DataFrame:
    """Return a logged value by step, thinned by means. Columns: step, value."""
    pairs = [
        (row["step"], row[field])
        for row in rows
        if row.get(field) is not None and row.get("step") is not None
    ]
    steps = np.array([step for step, _ in pairs], np.float64)
    values = np.array([value for _, value in pairs], np.float64)
    known = drawable(values)
    steps, values = steps[known], values[known]
    if len(steps) > _POINTS:
        part = np.arange(len(steps)) * _POINTS // len(steps)
        size = np.bincount(part)
        steps, values = np.bincount(part, steps) / size, np.bincount(part, values) / size
    return pl.DataFrame({"step": steps, "value": values})


def _ends(values: np.ndarray) -> str:
    """Say where a curve begins and ends: single steps say little, since each has other pairs."""
    part = len(values) // 10
    if part < 2:
        return (
            f"{short(float(values[0]))} first, {short(float(values[-1]))} last"
            if len(values) > 1
            else short(float(values[0]))
        )
    first, last = (short(float(each.mean())) for each in (values[:part], values[-part:]))
    return f"{first} in the first tenth, {last} in the last (means)"


def _figure(curve: _Curve, series: Mapping[str, pl.DataFrame]) -> Figure:
    frame = pl.concat(points.with_columns(series=pl.lit(name)) for name, points in series.items())
    said = [f"{name} {_ends(points['value'].to_numpy())}" for name, points in series.items()]
    last = short(float(frame["step"].max() or 0))  # type: ignore[arg-type]
    finding = f"{curve.y}, up to step {last}: {', '.join(said)}"
    if set(series) & {_TRAINED, "chosen"}:
        finding += "; of the batch of each step, so other pairs at each step"
    colours = {
        _TRAINED: COLOURS["all"],
        _HELD_OUT: HUES[1],
        "chosen": COLOURS["chosen"],
        "rejected": COLOURS["rejected"],
    }
    chart = lines(frame, {name: colours[name] for name in series}, y=curve.y, level=curve.level)
    return Figure(curve.title, "training", chart, finding)
