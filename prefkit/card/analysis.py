"""Analysis: what `analyse` steps found, each at its place in the recipe, so that a step before and after another shows what that did.

Every figure was worked out when the step was made. What it means stands beside it; how it is worked out stands in docs/quality.md.
"""

from collections.abc import Iterable, Mapping

from prefkit.analysis.findings import HEAD, read
from prefkit.card.facts import Facts, Step
from prefkit.card.markdown import code, estimate, number, table
from prefkit.statistics.figures import Estimate

__all__ = ["analysis", "is_of_analysis"]

_TITLES: Mapping[str, Mapping[str, str]] = {
    "shortcut": {
        "auc": "how well length, formatting, refusal and tone alone tell chosen from rejected (AUC, 0.5 is not at all)",
        "right": "share of pairs whose label they tell",
    },
    "length": {
        "longer": "chosen is the longer side, of pairs that differ",
        "auc": "how well the difference in characters tells chosen from rejected (AUC)",
        "ratio": "ln of characters of chosen over rejected, mean",
        "doubling": "what twice the length adds to the log-odds of being chosen",
    },
    "votes": {
        "alpha": "Krippendorff's alpha of all votes (1: all agree, 0: as by chance)",
        "unanimous": "pairs on which all votes agree, of those with several",
        "least-alike": "Cohen's kappa of the two judges who agree least",
        "most-alike": "Cohen's kappa of the two judges who agree most",
    },
    "ratings": {
        "alpha-interval": "Krippendorff's alpha of ratings as numbers",
        "alpha-ordinal": "Krippendorff's alpha of ratings as places",
    },
    "cycles": {
        "pairs": "pairs on a cycle, A over B over C over A",
        "prompts": "prompts with a cycle, of those with several pairs",
    },
    "cells": {
        "wide-good": "wide gap, good chosen",
        "wide-poor": "wide gap, poor chosen",
        "narrow-good": "narrow gap, good chosen",
        "narrow-poor": "narrow gap, poor chosen",
        "median-chosen": "what good is: median score of chosen",
        "median-gap": "what wide is: median gap",
    },
    "coverage": {
        "mean-logp": "mean log-prob a token under the policy, nats",
        "k1": "ln sampler less ln policy a token, mean",
        "per-token": "effective share of the responses, by ratio a token",
        "whole": "effective share of the responses, by ratio of the whole (falls with length)",
        "short": "the same of the shortest third",
        "middling": "the same of the middle third",
        "long": "the same of the longest third",
        "within-2": "share of responses at most twice as likely under the policy",
        "largest-log-ratio": "largest log-ratio, nats",
    },
    "strength": {"contradicted": "pairs that the ensemble's mean contradicts"},
}


def is_of_analysis(note: str) -> bool:
    """Return whether a note is shown here, and not among what the steps counted besides."""
    return note.startswith(HEAD)


def analysis(facts: Facts) -> str:
    """Show what each `analyse` step found; empty where there is none."""
    return "\n\n".join(_step(step) for step in facts.steps if step.manifest.stage == "analyse")


def _step(step: Step) -> str:
    by_kind: dict[str, dict[str, Estimate]] = {}
    for name, figure in read(step.manifest.notes).items():
        kind, _, rest = name.partition("/")
        by_kind.setdefault(kind, {})[rest] = figure
    parts = [f"{code(step.name)}, after {step.manifest.rows.read:,} rows were read:"]
    for kind, found in by_kind.items():
        if kind == "factors":
            parts.append(_features(found))
        elif kind == "gaps":
            parts.append("By how much more chosen has:\n\n" + _pairs(("", "mean difference"), found.items()))
        else:
            parts += _figures(kind, found)
    return "\n\n".join(parts)


def _figures(kind: str, found: Mapping[str, Estimate]) -> list[str]:
    titles = _TITLES.get(kind, {})
    plain = {name: each for name, each in found.items() if not name.startswith("band-")}
    lines = [
        f"- {titles[name] if name in titles else code(name)}: {estimate(each)}"
        for name, each in plain.items()
    ]
    bands = sorted({name.partition("/")[0] for name in found if name.startswith("band-")})
    parts = ["\n".join(lines)]
    if bands:
        head = ("pairs, weakest first", "mean margin:", "std over members:", "members that agree:")
        cells = [
            (str(at), *(number(found[f"{band}/{each}"].value) for each in ("mean", "std", "agree")))
            for at, band in enumerate(bands, start=1)
        ]
        parts.append(table(head, cells))
    return parts


def _features(found: Mapping[str, Estimate]) -> str:
    names = list(dict.fromkeys(name.rpartition("/")[0] for name in found))
    head = (
        "feature",
        "share of pairs where chosen has more less share where rejected has",
        "effect beside the others",
    )
    cells = [
        (code(name), estimate(found.get(f"{name}/tau")), estimate(found.get(f"{name}/effect")))
        for name in names
        if found.get(f"{name}/tau", Estimate()).value is not None
    ]
    note = "An effect is in log-odds a standard deviation; features that never differ are left out."
    return table(head, cells) + "\n\n" + note if cells else "No feature differs between the sides."


def _pairs(head: tuple[str, str], found: Iterable[tuple[str, Estimate]]) -> str:
    return table(head, [(code(name), estimate(each)) for name, each in found if each.value is not None])
