"""What `ablate` says: before it trains, what it takes; after, what each stage earned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prefkit.cli.compared import time_of
from prefkit.cli.out import say, show, table
from prefkit.experiment.ablate import Ablation, in_order
from prefkit.experiment.markdown import interval
from prefkit.experiment.report import METRICS
from prefkit.show import thousands, visible

if TYPE_CHECKING:
    from prefkit.experiment.ablate import Variant
    from prefkit.experiment.protocol import Planned

__all__ = ["announce", "show_ablation"]


def announce(found: "Sequence[Variant]", planned: "Planned | None") -> None:
    """Say which stages are left out, what has to be built for it, and what training takes at most.

    That is not known before the recipe is built.
    """
    for each in found:
        if each.recipe is None or each.plan is None:
            say(f"{each.step:<18} stays: {each.why}")
            continue
        missing = [step for step in each.plan.steps if step.state != "cached"]
        calls = [step.calls for step in missing]
        known = (
            "" if None in calls else f", {thousands(sum(call or 0 for call in calls))} model calls at most"
        )
        say(
            f"{each.step:<18} without it: {len(each.plan.steps) - len(missing)} steps stand, {len(missing)} to run{known}"
        )
    if planned is None:
        say(f"{'training':<18} known once the recipe is built: prefkit build")
        return
    seconds = (
        "" if planned.seconds is None else f", about {time_of(planned.seconds)} of training by earlier runs"
    )
    say(
        f"{'training':<18} {planned.runs} runs at most, {thousands(planned.steps)} steps, {thousands(planned.pairs)} pairs seen{seconds}"
    )
    say(f"{'answers':<18} {thousands(planned.answers)} at most")
    say(
        f"{'finds':<18} a true difference of {planned.detectable.effect:.3f} with a power of 80 % (variance: {planned.variance_from})"
    )


def show_ablation(found: Ablation) -> None:
    """Print what each stage earned, most first."""
    shown = table("left out", "", "earned (95 %)", "after Holm", "pairs without it", "calls", wraps=("",))
    for each in in_order(found):
        earned = "" if each.earned is None else interval(each.earned, "+")
        adjusted = "" if each.adjusted is None else f"{each.adjusted:.3f}"
        pairs = "" if each.pairs is None else thousands(each.pairs)
        verdict = each.verdict if each.earned is not None else f"{each.verdict}: {each.words}"
        shown.add_row(each.step, visible(verdict), earned, adjusted, pairs, thousands(each.calls))
    show(
        f"What each stage of {visible(found.recipe)} earned: whole recipe less the recipe without it",
        "",
        shown,
    )
    if found.primary:
        show("", f"measured by: {METRICS[found.primary].title} ({METRICS[found.primary].unit})")
    for each in found.stages:
        if each.gates:
            say(visible(f"{each.step}: without it, {each.gates}"))
    for note in found.notes:
        say(visible(f"note      {note}"))
