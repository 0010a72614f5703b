"""What `train` says when it is done: what moved, each difference with its interval, and where everything is."""

from collections.abc import Iterator

from prefkit.show import thousands
from prefkit.train.report import Change, Interval, Report

__all__ = ["story"]


def story(report: Report) -> Iterator[str]:
    """Yield the run in a few lines."""
    loss = f"loss {report.first_loss:.4f} -> {report.last_loss:.4f}"
    yield f"trained   {thousands(report.pairs)} pairs, {report.steps} steps, {report.seconds:.0f} s: {loss}"
    for doubt in report.warnings:
        yield f"warning   {doubt}"
    if report.held_out is not None:
        yield f"held out  {thousands(report.held_out.pairs)} pairs: reward accuracy {_change(report.held_out.accuracy)}"
    if report.samples is not None and report.samples.score is not None:
        yield f"samples   {thousands(report.samples.prompts)} prompts: score {_change(report.samples.score)}"
    if report.samples is not None:
        yield f"distance  {_interval(report.samples.kl)} nats a response from the reference"


def _change(change: Change) -> str:
    moved = _interval(change.difference, sign="+")
    return f"{change.before.mean:.3f} -> {change.after.mean:.3f}, difference {moved}"


def _interval(found: Interval, sign: str = "") -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:{sign}.3f} (too few prompts for an interval)"
    return f"{found.mean:{sign}.3f} (95 %: {found.low:{sign}.3f} to {found.high:{sign}.3f})"
