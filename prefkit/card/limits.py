"""What a reader should doubt: checks that every preference dataset should pass, and what this one cannot tell.

Limits are worked out from what the manifests have and lack, so that nobody has to remember to write them down.
"""

from collections.abc import Iterator
from typing import NamedTuple

from prefkit.card.facts import Facts
from prefkit.card.markdown import code, count, estimate, rate, table
from prefkit.card.provenance import is_pinned
from prefkit.statistics.figures import Share
from prefkit.statistics.records import PairSummary

__all__ = ["Check", "check", "checks", "limits"]

LONGER = (0.35, 0.65)
"""Between these shares of longer chosen sides, length is not told from noise by the checks."""
LENGTH_AUC = 0.7
MISSING = 0.01
"""Largest share of pairs that may lack a score that the dataset has."""


class Check(NamedTuple):
    """One thing that is asked of a dataset, and whether it holds."""

    name: str
    wanted: str
    found: str
    """Markdown."""
    passed: bool


def check(facts: Facts) -> list[Check]:
    """Return every check that can be made of the rows."""
    found = facts.summary
    failed = sum(step.manifest.rows.failed for step in facts.steps)
    results = [Check("rows that failed", "0", count(failed), failed == 0)]
    if found.splits:
        results.append(Check("prompts in two splits", "0", count(found.straddling), found.straddling == 0))
    if found.pairs is not None:
        results += _of_pairs(found.pairs)
    return results


def _of_pairs(pairs: PairSummary) -> Iterator[Check]:
    yield Check("pairs with identical sides", "0", rate(pairs.identical), pairs.identical.count == 0)
    longer, auc = pairs.lengths.longer, pairs.lengths.auc
    if longer.rate is not None:
        fits = LONGER[0] <= longer.rate <= LONGER[1]
        yield Check(
            "chosen is the longer side",
            f"{100 * LONGER[0]:.0f} to {100 * LONGER[1]:.0f} %",
            rate(longer),
            fits,
        )
    if auc.value is not None:
        yield Check(
            "AUC of length alone",
            f"{1 - LENGTH_AUC:g} to {LENGTH_AUC:g}",
            estimate(auc),
            _is_blind(auc.value),
        )
    for name, scores in pairs.scores.items():
        missing = Share(count=scores.gap.missing, n=scores.gap.n + scores.gap.missing)
        fits = (missing.rate or 0) <= MISSING
        yield Check(
            f"pairs without score {code(name)}", f"at most {100 * MISSING:.0f} %", rate(missing), fits
        )
    if pairs.labels.reversed is not None and pairs.labels.reversed.n:
        fits = pairs.labels.reversed.count == 0
        yield Check("`p_chosen` below one half, no tie", "0", rate(pairs.labels.reversed), fits)


def _is_blind(auc: float) -> bool:
    return 1 - LENGTH_AUC <= auc <= LENGTH_AUC


def checks(facts: Facts) -> str:
    """Show the checks."""
    cells = [
        (each.name, each.wanted, each.found, "yes" if each.passed else "**no**") for each in check(facts)
    ]
    return table(("check", "wanted", "found", "passed"), cells)


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
