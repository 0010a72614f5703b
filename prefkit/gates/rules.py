"""The rules, with their defaults: what each asks, and how to mend what fails it.

Three ways to judge a figure. `exact`: what is counted is all there is, so one row too many fails. `sure`: the figure is a
rate of something that goes on, such as a judge that errs, so its whole 95 % interval must lie beyond the limit. `bias`:
the figure must lie beyond the limit, and its interval must leave out `neutral`, the value without any bias, so that
a few pairs that happen to lean one way are not called biased.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

__all__ = ["RULES", "Judged", "Rule", "Then", "Unit", "Wanted", "percent", "spelled"]

Then = Literal["stop", "mark", "off"]
Judged = Literal["exact", "sure", "bias"]
Unit = Literal["count", "share", "number"]


class Wanted(NamedTuple):
    """The values that pass, ends included; None is no end."""

    low: float | None = None
    high: float | None = None

    def takes(self, value: float) -> bool:
        """Say whether a value passes."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


class Rule(NamedTuple):
    """What is asked of a dataset."""

    name: str
    meaning: str
    wanted: Wanted | None
    """None: asked only where a recipe gives a limit."""
    then: Then
    """What happens where it fails and the recipe says nothing."""
    unit: Unit
    judged: Judged
    mend: str
    """What to do where it fails."""
    look: str = ""
    """What to add to `prefkit show RUN/STEP` to see the rows."""
    neutral: float = 0.5
    of_pairs: bool = False
    """It has something to measure only of pairs."""
    stages: tuple[str, ...] = ()
    """It has something to measure only where one of these runs; empty: in every run."""


_NONE, _FEW = Wanted(high=0), Wanted(high=0.02)
_HALF = "even the sides out: `- balance`"
_ALL = (
    Rule(
        "contamination",
        "Rows that hold an item of a benchmark, found by `decontaminate` and left in.",
        _NONE,
        "stop",
        "count",
        "exact",
        "let `decontaminate` drop them: `then: drop`",
        stages=("decontaminate",),
    ),
    Rule(
        "identical-sides",
        "Share of pairs whose chosen and rejected side are the same messages.",
        _NONE,
        "stop",
        "share",
        "exact",
        "add `- filter: { drop: [identical] }`",
        of_pairs=True,
    ),
    Rule(
        "split-leakage",
        "Prompts that have rows in more than one split; not asked where people are held out and not prompts.",
        _NONE,
        "stop",
        "count",
        "exact",
        "end with `- split`, which puts each prompt on one side",
    ),
    Rule(
        "reversed-labels",
        "Share of pairs that are no tie although `p_chosen` is below one half: the label is the wrong way round.",
        _NONE,
        "stop",
        "share",
        "exact",
        "add `orient` to the ops of `label`",
        of_pairs=True,
    ),
    Rule(
        "null-scores",
        "Share of rows without a score that a step of the recipe writes or goes by.",
        Wanted(high=0.01),
        "stop",
        "share",
        "sure",
        "see why the scorer gave no number, or drop these rows before it",
    ),
    Rule(
        "parse-failures",
        "Share of the questions to a judge whose answer could not be read in the end.",
        _FEW,
        "stop",
        "share",
        "sure",
        "read its answers in `judgements.raw`; raise `max_tokens` or `retries`, or ask another judge",
        stages=("judge",),
    ),
    Rule(
        "order-inconsistency",
        "Share of the pairs a judge saw in both orders on which the verdict changed with the order.",
        Wanted(high=0.3),
        "stop",
        "share",
        "sure",
        "ask a stronger judge, or one with another template",
        stages=("judge",),
    ),
    Rule(
        "rows-failed",
        "Rows whose model calls failed, fewer than `max_failures`: they are missing from the dataset.",
        _NONE,
        "mark",
        "count",
        "exact",
        "build again: only these rows are asked for",
        "--failed",
    ),
    Rule(
        "longer-chosen",
        "Share of pairs whose chosen side is the longer one.",
        Wanted(0.35, 0.65),
        "mark",
        "share",
        "bias",
        _HALF,
        of_pairs=True,
    ),
    Rule(
        "length-auc",
        "How well the difference in length alone tells chosen from rejected (AUC; 0.5 is not at all).",
        Wanted(0.3, 0.7),
        "mark",
        "number",
        "bias",
        _HALF,
        of_pairs=True,
    ),
    Rule("pairs", "Pairs in the result.", None, "off", "count", "exact", "read more rows, or drop fewer"),
    Rule("prompts", "Prompts in the result.", None, "off", "count", "exact", "read more, or drop fewer"),
    Rule(
        "kept-share",
        "Share of the prompts of the data that are in the result.",
        None,
        "off",
        "share",
        "exact",
        "see which step drops most: `prefkit show RUN`",
    ),
    Rule(
        "drop-share",
        "Share of its rows that the step which drops most of them drops.",
        None,
        "off",
        "share",
        "exact",
        "look at what it drops",
        "--dropped",
    ),
    Rule(
        "tie-rate",
        "Share of pairs that are a tie.",
        None,
        "off",
        "share",
        "exact",
        "pair responses that are further apart: `pair: { min_margin: ... }`",
    ),
    Rule(
        "agreement",
        "Share of pairs of votes on one pair that agree.",
        None,
        "off",
        "number",
        "sure",
        "look at the pairs on which votes differ; ask other judges",
    ),
    Rule(
        "first-wins",
        "Share of a judge's verdicts that are no tie in which what it saw first wins.",
        None,
        "off",
        "share",
        "sure",
        "ask in both orders (`swap: true`), or ask another judge",
        stages=("judge",),
    ),
)
RULES: Mapping[str, Rule] = {rule.name: rule for rule in _ALL}


def spelled(wanted: Wanted, unit: Unit) -> str:
    """Return what passes as a person says it: `35 to 65 %`, `at most 0.7`, `0`."""
    low, high = (None if end is None else _number(end, unit) for end in wanted)
    sign = " %" if unit == "share" else ""
    if low is None:
        return "anything" if high is None else "0" if wanted.high == 0 else f"at most {high}{sign}"
    return f"at least {low}{sign}" if high is None else f"{low} to {high}{sign}"


def percent(share: float) -> str:
    """Return a share in per cent, without the sign."""
    return f"{100 * share:.6g}"


def _number(value: float, unit: Unit) -> str:
    if unit == "share":
        return percent(value)
    return f"{value:,.0f}" if unit == "count" and value == round(value) else f"{value:.6g}"
