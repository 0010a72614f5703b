"""What speaks against the answer of a comparison: the figures that point the other way, or show nothing, in words.

A reader sees the figure that decides first. Everything here is computed from the same report by the rules below, so that
what does not fit the answer stands beside it and not only in a table.
"""

from collections.abc import Iterator

from prefkit.experiment.report import METRICS, ArmReport, Comparison, Figure, Versus
from prefkit.experiment.told import first_in, interval, title_of

__all__ = ["ONE_RUN", "against", "is_one_run", "is_same_model"]

ONE_RUN = "One training run each: this does not show what another run would give."
_MOVED = 2.0
"""Times as far from the reference as the other model: more is said."""
_SAME_QUESTION = (
    *("length_controlled", "length_controlled_bootstrap"),
    *("judge_length_controlled", "judge_length_controlled_bootstrap", "second_win_rate"),
)
"""Metrics that ask what the primary one asks, in another way."""


def against(report: Comparison) -> list[str]:
    """Return what speaks against the answer, a sentence each, as Markdown; nothing if nothing does."""
    arms = {arm.name: arm for arm in report.arms}
    found = [ONE_RUN] if is_one_run(report) else []
    for each in report.versus:
        if arms[each.arm].control:
            found += _of_control(report, each, arms[each.arm].control)
        else:
            found += _of_figures(report, each)
            found += _of_training(arms[each.arm], arms[each.base])
    return found


def is_one_run(report: Comparison) -> bool:
    """Say whether seeds changed nothing in training, and only drew other answers."""
    return all(len(arm.runs) > 1 and arm.trained_alike for arm in report.arms)


def is_same_model(arm: ArmReport, base: ArmReport) -> bool:
    """Say whether two datasets gave the same model, as far as their losses tell."""
    if not (arm.trained_alike and base.trained_alike):
        return False
    return list(arm.runs[0].curves["loss"]) == list(base.runs[0].curves["loss"])


def _of_figures(report: Comparison, each: Versus) -> Iterator[str]:
    """Yield the figures of the other sign, and those of the same question that show nothing."""
    sign = _side(each.primary)
    arm = first_in(each.arm)
    if sign:
        other = [
            (name, figure) for name, figure in each.figures.items() if _side(figure) * _better(name) == -sign
        ]
        for name, figure in other:
            word = "better" if sign < 0 else "worse"
            yield f"{arm} is {word} by {title_of(name, each.base)}: {interval(figure, '+')}."
    for name in _SAME_QUESTION:
        shown = each.figures.get(name)
        if sign and shown is not None and shown.low is not None and not _side(shown):
            yield f"{arm} is not shown to differ by {title_of(name, each.base)}: {interval(shown, '+')}."
    if not sign:
        for name, figure in each.figures.items():
            if name != report.primary and _better(name) and _side(figure):
                word = "better" if _side(figure) * _better(name) > 0 else "worse"
                yield f"Yet {arm} is {word} by {title_of(name, each.base)}: {interval(figure, '+')}."


def _of_training(arm: ArmReport, base: ArmReport) -> Iterator[str]:
    """Yield what is odd about how the two were trained."""
    moved, other = arm.metrics.get("kl"), base.metrics.get("kl")
    if moved is not None and other is not None and moved.estimate is not None and other.estimate is not None:
        low, high = sorted([abs(moved.estimate), abs(other.estimate)])
        if high > _MOVED * low:
            wide = [first_in(each.name) for each in (arm, base) if _is_wide(each.metrics["kl"])]
            known = (
                f" How far is not known well for {' and '.join(wide)}: an interval that holds 0 says little."
                if wide
                else ""
            )
            yield f"Training moved the two models by different amounts, in nats of KL an answer: {first_in(arm.name)} {interval(moved)}, {first_in(base.name)} {interval(other)}.{known}"
    if lost := [first_in(each.name) for each in (arm, base) if each.displaced]:
        yield f"On held-out pairs, training on {' and on '.join(lost)} made chosen less likely than it is to the reference."
    for each in (arm, base):
        for alarm in each.alarms:
            yield f"Training on {first_in(each.name)} raised an alarm: {alarm}."


def _of_control(report: Comparison, each: Versus, control: str) -> Iterator[str]:
    """Yield where a copy differs on other measures, and where flipped labels do not lose."""
    clear = [
        (name, figure) for name, figure in each.figures.items() if name != report.primary and _side(figure)
    ]
    if control == "copy":
        odd = [(name, figure) for name, figure in clear if _better(name)]
        kind = "The copy, which should not differ, does"
    else:
        odd = [(name, figure) for name, figure in clear if _side(figure) * _better(name) > 0]
        kind = "Flipped labels, which should lose, win"
    if not odd:
        return
    tested = sum(figure.low is not None and _better(name) != 0 for name, figure in each.figures.items())
    told = "; ".join(f"{title_of(name, each.base)}: {interval(figure, '+')}" for name, figure in odd)
    yield f"{kind} by {told}. That is {len(odd)} of {tested} measures; by chance it is one in 20."


def _better(name: str) -> int:
    """Return which way a metric is better: 1, -1 or 0."""
    stem = name.partition(":")[0].removesuffix("_bootstrap")
    return 1 if stem == "matched" else METRICS[stem].better


def _side(figure: Figure) -> int:
    """Return 1 or -1 where the interval leaves out 0, else 0."""
    if figure.low is None or figure.high is None:
        return 0
    return (figure.low > 0) - (figure.high < 0)


def _is_wide(figure: Figure) -> bool:
    return figure.low is not None and figure.low <= 0
