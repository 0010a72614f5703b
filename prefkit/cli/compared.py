"""What `compare` says: before it runs, what it takes and can find; after, the answer, then the figures it rests on."""

from typing import TYPE_CHECKING

from rich.console import RenderableType

from prefkit.card.markdown import count
from prefkit.cli.out import say, show, table
from prefkit.experiment.contrary import against
from prefkit.experiment.report import METRICS, Comparison, Versus
from prefkit.experiment.told import deciding, has_wins, interval, title_of, wins
from prefkit.show import visible

if TYPE_CHECKING:
    from prefkit.experiment.ready import Ready

__all__ = ["announce", "show_comparison", "time_of"]

_SHOWN = (
    "length_controlled",
    "judge_length_controlled",
    "second_win_rate",
    "win_rate_base",
    "score",
    "accuracy",
    "accuracy_balanced",
    "ranking",
    "chars",
    "kl",
    "matched",
)


def announce(ready: "Ready") -> None:
    """Say what a comparison takes and what it can find."""
    plan, settings = ready.planned, ready.told.settings
    arms = ", ".join(f"{arm.name} ({count(arm.train.num_rows)} pairs)" for arm in ready.arms)
    say(f"datasets  {arms}")
    steps = sorted(set(ready.steps.values()))
    each = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
    time = "" if plan.seconds is None else f", about {time_of(plan.seconds)} of training by earlier runs"
    say(
        f"runs      {plan.runs} of {each} steps, {settings.seeds} seeds a dataset: {count(plan.pairs)} pairs seen{time}"
    )
    judged = f", {count(plan.verdicts)} shown to the judge" if plan.verdicts else ""
    say(f"answers   {count(plan.answers)} to {count(ready.test.prompts.num_rows)} held-out prompts{judged}")
    for reason, rows in ready.test.removed.items():
        say(f"left out  {count(rows)} prompts: {reason}")
    primary = METRICS[ready.told.primary]
    say(f"decides   {primary.title} ({primary.unit})")
    found = plan.detectable
    source = (
        "what such differences vary by as a rule" if plan.variance_from == "typical" else plan.variance_from
    )
    say(f"detects   a true difference of {found.effect:.3f} or more (power 80 %), by {source}")
    if found.effect > settings.smallest:
        say(
            f"          that is more than the smallest worth having, {settings.smallest:g}: more seeds or prompts would help"
        )


def show_comparison(report: Comparison) -> None:
    """Print the answer, then the differences."""
    for each in report.versus:
        control = next(arm.control for arm in report.arms if arm.name == each.arm)
        share = f"wins {wins(each.primary)}, even is 50 %. " if has_wins(report.primary) else ""
        show("", visible(f"{'CONTROL  ' if control else ''}{each.verdict.upper()}  {share}{each.words}"))
    for said in against(report):
        say(visible(f"but       {said}"))
    for each in report.versus:
        show("", _differences(report, each))
    for note in report.notes:
        say(visible(f"note      {note}"))


def _differences(report: Comparison, each: Versus) -> RenderableType:
    shown = table(
        visible(f"{each.arm} less {each.base}"),
        "difference (95 %)",
        "wins, even is 50 %",
        "after Holm",
        wraps=("difference (95 %)",),
    )
    share = wins(each.primary) if has_wins(report.primary) else ""
    shown.add_row(deciding(report, each.primary), interval(each.primary, "+"), share, "decides")
    for name in _SHOWN:
        if name in each.figures and name != report.primary:
            figure = each.figures[name]
            adjusted = "" if figure.adjusted is None else f"{figure.adjusted:.3f}"
            share = wins(figure) if has_wins(name) else ""
            shown.add_row(title_of(name), interval(figure, "+"), share, adjusted)
    return shown


def time_of(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
