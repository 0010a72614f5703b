"""The opening of a page: what somebody with a minute should know of a build, in a few plain sentences.

Each sentence answers one question, in the order in which people ask them, and holds the figures it rests on, with
their intervals. Words such as *partly* follow from figures by the rules below, so that two pages can be compared.
"""

import itertools
from collections.abc import Iterator
from typing import Literal, NamedTuple

from prefkit.card.facts import Facts
from prefkit.card.limits import Check, check
from prefkit.card.markdown import code, rate, text
from prefkit.page.answer import Answer
from prefkit.page.doubts import labels, reference, uneven
from prefkit.page.flow import Loss, Stretch, losses, pairing, stretches
from prefkit.statistics.figures import Estimate, Share
from prefkit.statistics.records import Lengths
from prefkit.train.report import Change, Report

__all__ = ["Answer", "opening"]

_SLIGHT = 0.03
"""An AUC nearer to one half than this is called nothing, however sure it is: one pair in 33."""
_CLEAR = 0.1
_LARGE = 0.3
_BAD = 0.2
"""Where the gate of length fails by default, too; red only where the whole interval lies beyond."""
_NAMED = 3
"""Losses that are named in the opening."""
_LEVELS = {"prompt": "prompts", "response": "responses", "pair": "preference pairs"}


def opening(facts: Facts, agreed: Share | None = None) -> list[Answer]:
    """Return what a page opens with. `agreed` is the share of pairs on which all votes say the same."""
    found = [_what(facts), _where(facts), *uneven(facts)]
    if facts.summary.pairs is not None:
        found.append(_length(facts.summary.pairs.lengths))
    return [*found, *labels(facts, agreed), _checks(facts), *reference(facts), _training(facts)]


def _what(facts: Facts) -> Answer:
    found = facts.summary
    prompts = "" if found.prompts is None or found.level == "prompt" else f" on {found.prompts:,} prompts"
    told = {
        "pair": "Each row is a prompt with a better answer (*chosen*) and a worse one (*rejected*).",
        "response": "Each row is one answer to a prompt; no pairs have been made of them yet.",
        "prompt": "Each row is one prompt; nothing has answered it yet.",
    }
    splits = sorted(found.splits, key=lambda split: split.name != "train") if len(found.splits) > 1 else []
    parts = ", ".join(f"{split.rows:,} {_split_name(split.name)}" for split in splits)
    held = f" Of these: {parts}." if parts else ""
    return Answer(
        "What is this?",
        f"{found.rows:,} {_LEVELS[found.level]}{prompts}",
        told[found.level] + held,
    )


def _split_name(name: str | None) -> str:
    return {"train": "to train on", "test": "held out for testing"}.get(
        name or "", f"called {code(name)}" if name else "in no split"
    )


def _where(facts: Facts) -> Answer:
    parts, lost = stretches(facts), losses(facts)
    chain = " → ".join(f"{part.came:,} {part.level}s" for part in parts)
    if parts[-1].stayed != parts[-1].came:
        chain += f" → {parts[-1].stayed:,} kept"
    unused = _unpaired(parts, facts)
    if not lost:
        return Answer("Where did the rows go?", chain, f"{unused}No row was dropped, and none failed.")
    named = [_named(loss) for loss in lost[:_NAMED]]
    more = f"; {len(lost) - _NAMED} smaller ones below" if len(lost) > _NAMED else ""
    return Answer("Where did the rows go?", chain, f"{unused}Lost most: {'; '.join(named)}{more}.")


def _named(loss: Loss) -> str:
    meant = f": {loss.meaning}" if loss.meaning else ""
    return f"{loss.rows:,} {loss.level}s at {code(loss.step)} ({code(loss.reason)}{meant})"


def _unpaired(parts: list[Stretch], facts: Facts) -> str:
    """Say what became of responses that could have been paired, by the counts of the step."""
    told = ""
    for before, after in itertools.pairwise(parts):
        if after.level == "pair" and before.level == "response":
            why = ", ".join(f"{refused.pairs:,} not ({refused.why})" for refused in pairing(facts))
            possible = after.came + sum(refused.pairs for refused in pairing(facts))
            more = f" {possible:,} were proposed: {after.came:,} made, {why}." if why else ""
            told += f"{before.stayed:,} responses became {after.came:,} pairs.{more} "
    return told


def _length(found: Lengths) -> Answer:
    question = "Does length explain the labels?"
    auc = found.auc
    if auc.value is None or found.longer.rate is None:
        return Answer(question, "Not known", "The sides' lengths are not known.", "unknown")
    short, meaning, mood = _verdict(auc)
    side = "shorter" if auc.value < 0.5 else "longer"
    part = _shorter(found) if side == "shorter" else found.longer
    because = (
        f"Chosen is the {side} answer in {rate(part)}. AUC of the length difference: {_two(auc)}, where 0.5 is a coin toss and"
        f" {'0' if side == 'shorter' else '1'} is certainty: {meaning} The AUC is the chance that a pair as labelled has a larger"
        " difference than one turned round, so it counts by how much, and the share only how often."
    )
    return Answer(question, short, because, mood)


def _two(auc: Estimate) -> str:
    ends = "" if auc.low is None or auc.high is None else f" (95 %: {auc.low:.2f} to {auc.high:.2f})"
    return f"{auc.value or 0.0:.2f}{ends}"


def _verdict(auc: Estimate) -> tuple[str, str, Literal["plain", "good", "bad"]]:
    value = auc.value or 0.5
    low, high = (value if end is None else end for end in (auc.low, auc.high))
    off = abs(value - 0.5)
    if off < _SLIGHT or low <= 0.5 <= high:
        return "No", "no sign that labels follow length.", "good"
    if off < _CLEAR:
        return "A little", "labels follow length a little.", "plain"
    if off <= _LARGE:
        is_clear = low > 0.5 + _BAD or high < 0.5 - _BAD
        return "Partly", "labels are partly length.", "bad" if is_clear else "plain"
    return "Largely", "labels are largely length, and a model can learn that instead of quality.", "bad"


def _shorter(found: Lengths) -> Share:
    longer, equal = found.longer, found.equal
    return Share(count=longer.n - longer.count - equal.count, n=longer.n, effective=longer.effective)


def _checks(facts: Facts) -> Answer:
    question, found = "Did the checks pass?", check(facts)
    asked = [each for each in found if each.then != "off"]
    failed = [each for each in asked if not each.passed]
    off = f" {len(found) - len(asked)} more are switched off." if len(asked) < len(found) else ""
    if not failed:
        names = ", ".join(dict.fromkeys(code(each.gate) for each in asked))
        return Answer(question, f"All {len(asked)} passed", f"Looked at: {names}.{off}", "good")
    told = ". ".join(
        f"{_capital(each.name)}: {each.found}, wanted {each.wanted}{_near(each)}" for each in failed
    )
    close = all(each.is_close for each in failed)
    short = f"{len(failed)} of {len(asked)} failed{', just over' if close else ''}"
    return Answer(question, short, f"{told}.{off}", "plain" if close else "bad")


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _near(each: Check) -> str:
    return " (just over: the interval holds the limit, so it could be chance)" if each.is_close else ""


def _training(facts: Facts) -> Answer:
    question, report = "What did training show?", facts.report
    if report is None:
        because = "No training run on these rows is recorded, so what they are worth to a model is not shown."
        return Answer(question, "Nothing yet", because, "unknown")
    shown = list(_findings(report))
    warned = " ".join(f"Warning: {text(each, 400)}." for each in report.warnings)
    first = shown[0] if shown else None
    told = (
        " ".join(each.told for each in shown)
        or "Nothing was held out, so whether it generalises is not shown."
    )
    run = f"{report.pairs:,} pairs, {report.steps:,} steps of {code(report.objective)}, one seed. "
    mood: Literal["plain", "bad"] = "bad" if report.warnings else "plain"
    return Answer(question, first.short if first else "Not held out", f"{run}{told} {warned}".strip(), mood)


class _Finding(NamedTuple):
    short: str
    told: str


def _findings(report: Report) -> Iterator[_Finding]:
    if report.samples is not None and report.samples.score is not None:
        score = report.samples.score
        told = f"Fresh answers to {report.samples.prompts:,} held-out prompts score {_moved(score)}."
        yield _Finding(f"Answers score {_direction(score)}", told)
    if report.held_out is not None:
        right = report.held_out.accuracy
        told = f"It tells chosen from rejected in {100 * right.after.mean:.1f} %{_around(right)} of held-out pairs."
        yield _Finding(f"{100 * right.after.mean:.0f} % of held-out pairs right", told)


def _direction(change: Change) -> str:
    low, high = change.difference.low, change.difference.high
    if low is None or high is None or low <= 0 <= high:
        return "about the same"
    return "higher" if low > 0 else "lower"


def _moved(change: Change) -> str:
    found = change.difference
    ends = "" if found.low is None else f", 95 %: {found.low:+.3f} to {found.high:+.3f}"
    return (
        f"{change.after.mean:.3f} after, {change.before.mean:.3f} before (difference {found.mean:+.3f}{ends})"
    )


def _around(change: Change) -> str:
    found = change.after
    if found.low is None or found.high is None:
        return ""
    return f" (95 %: {100 * max(0.0, found.low):.1f} to {100 * min(1.0, found.high):.1f})"
