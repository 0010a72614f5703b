"""What a reader should doubt: checks that every preference dataset should pass, and what this one cannot tell.

Limits are worked out from what the manifests have and lack, so that nobody has to remember to write them down.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prefkit.card.facts import Facts
from prefkit.card.markdown import code, count, table
from prefkit.card.provenance import is_pinned
from prefkit.gates.measures import Figure
from prefkit.gates.rules import Then, Wanted, spelled
from prefkit.gates.said import limits_of_run
from prefkit.gates.verdict import Result, gated

__all__ = ["Check", "banner", "check", "checks", "limits"]


class Check(NamedTuple):
    """One thing that is asked of a dataset, and whether it holds."""

    name: str
    """What was measured, as Markdown."""
    wanted: str
    found: str
    passed: bool
    gate: str
    """The rule: `length-auc`."""
    then: Then
    """What happens where it does not hold."""
    is_said: bool
    """Whether the limit is the recipe's own, and not the default."""
    is_close: bool = False
    """It fails, but the 95 % interval holds the limit, so that chance could have put it there."""


def check(facts: Facts) -> list[Check]:
    """Return what every gate finds, those that are switched off included."""
    steps = facts.recipe.get("build")
    is_whole = isinstance(steps, list) and len(facts.steps) > len(steps)
    manifests = {step.name: step.manifest for step in facts.steps}
    return [_check(each) for each in gated(manifests, limits_of_run(facts.recipe), is_whole=is_whole)]


def _check(result: Result) -> Check:
    rule, figure = result.rule, result.figure
    name = code(rule.name) if figure is None else figure.title.format(code(figure.subject))
    wanted = spelled(result.wanted, rule.unit)
    is_close = (
        not result.passed and rule.judged != "exact" and figure is not None and _holds(figure, result.wanted)
    )
    return Check(name, wanted, result.found, result.passed, rule.name, result.then, result.is_said, is_close)


def _holds(figure: Figure, wanted: Wanted) -> bool:
    return any(end is not None and figure.low < end < figure.high for end in wanted)


_FAILED: Mapping[Then, str] = {
    "stop": "**failed: the build stops**",
    "mark": "**failed: marked**",
    "off": "failed, switched off",
}


def checks(facts: Facts) -> str:
    """Show the gates."""
    cells = [
        (
            code(each.gate),
            each.name,
            each.wanted,
            "recipe" if each.is_said else "default",
            each.found,
            "yes" if each.passed else _FAILED[each.then],
        )
        for each in check(facts)
    ]
    return table(("gate", "check", "wanted", "limit from", "found", "passed"), cells)


def banner(facts: Facts) -> str:
    """Say at the top of a card which gates failed; empty where none did."""
    failed = [each for each in check(facts) if not each.passed and each.then != "off"]
    if not failed:
        return ""
    lines = [
        f"> - {code(each.gate)}: {each.name}: {each.found}, wanted {each.wanted} ({each.then})"
        for each in failed
    ]
    return "\n".join(["> **Gates failed.** What the dataset should pass, and does not:", ">", *lines])


def limits(facts: Facts) -> str:
    """List what the dataset cannot tell, or should not be believed about."""
    found = [
        *_of_build(facts),
        *_of_validation(facts),
        *_of_labels(facts),
        *_of_sources(facts),
        *_of_rows(facts),
    ]
    return "\n".join(f"- {line}" for line in found)


def _of_build(facts: Facts) -> Iterator[str]:
    steps = facts.recipe.get("build")
    left = len(steps) + 1 - len(facts.steps) if isinstance(steps, list) else 0
    if left > 0:
        yield f"These are not the rows that the recipe ends with: {count(left)} of its steps are still to come."


def _of_validation(facts: Facts) -> Iterator[str]:
    if facts.report is None:
        yield "No training run on this dataset is recorded: what it is worth to a model is not shown."
    elif facts.report.held_out is None:
        yield "The recorded training run held out no pairs: whether it generalises is not shown."
    if facts.summary.pairs is not None and len(facts.summary.splits) < 2:
        yield "No part is held out: there is no split by prompt."
    for each in check(facts):
        if not each.passed:
            yield f"A check failed: {each.name} is {each.found}, wanted {each.wanted}."


def _of_labels(facts: Facts) -> Iterator[str]:
    pairs = facts.summary.pairs
    if pairs is None:
        return
    if not pairs.scores:
        yield "Neither side has a score: quality and gap are not known."
    if pairs.votes is None or pairs.votes.agreement is None:
        yield "No pair has two votes: how far judges agree is not known."
    if pairs.labels.tie is None and pairs.labels.p_chosen is None:
        yield "Every label is taken as certain: there is no tie, no graded label and no estimate of mislabelling."
    if pairs.reference is None:
        yield "How likely a reference model finds either side is not known."


def _of_sources(facts: Facts) -> Iterator[str]:
    if "license" not in facts.recipe:
        yield "The licence is not recorded: it follows from the sources and from the models that wrote responses."
    if "language" not in facts.recipe:
        yield "The languages are not recorded."
    loose = sorted(name for name, model in facts.models().items() if not is_pinned(model))
    if loose:
        yield f"Models not pinned to a commit: {', '.join(code(name) for name in loose)}. A later build may differ."
    engines = {model: how for step in facts.steps for model, how in step.manifest.made.engines.items()}
    fakes = sorted(model for model, how in engines.items() if how.startswith("fake"))
    if fakes:
        yield f"The fake engine answered for {', '.join(code(name) for name in fakes)}: nothing a model would say."
    drifting = [source for source in facts.sources() if source.get("hub") and not source.get("revision")]
    if drifting:
        yield f"Hub sources not pinned to a commit: {', '.join(code(source['hub']) for source in drifting)}."


def _of_rows(facts: Facts) -> Iterator[str]:
    if "dedup" not in facts.stages:
        yield "Duplicates were not looked for."
    else:
        yield "Only what the `dedup` step looks for is deduplicated; other near-duplicates may remain."
    unseen = [] if "decontaminate" in facts.stages else ["overlap with public benchmarks"]
    unseen += [] if "redact" in facts.stages else ["personal data"]
    yield f"Not looked at: {', '.join([*unseen, 'toxicity', 'the language of a response'])}, and whether responses are true."
