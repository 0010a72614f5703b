"""The decision, in words: better, worse, not worse, or not distinguishable with this budget, and what would settle it.

An interval that leaves out 0 is not enough. A copy of the baseline must not differ from it and flipped labels must lose, or the
protocol shows what is not there, or nothing; a win that goes away with length or divergence held is a win of those; and two
judges who disagree decide nothing.
"""

from typing import Literal, NamedTuple

import numpy as np

from prefkit.comparing.bootstrap import Resampled
from prefkit.comparing.differences import Difference, at_level
from prefkit.comparing.planning import Detectable, Settled, detectable, settle

__all__ = ["Decision", "Evidence", "Verdict", "decide", "not_worse"]

Verdict = Literal[
    "better",
    "worse",
    "not worse",
    "not distinguishable",
    "longer",
    "further",
    "alarmed",
    "judges disagree",
    "no power",
]
"""`longer` and `further` won by length and by divergence alone, `alarmed` while its training went astray; `no power` says that a
control failed."""


class Evidence(NamedTuple):
    """What a decision of arm B against arm A rests on. Only the first is needed; None is not measured."""

    primary: Difference
    """The metric named beforehand, B less A."""
    length_controlled: Resampled | Difference | None = None
    """The same with length held: a rate with its null at one half, or a difference."""
    matched: Resampled | Difference | None = None
    """The difference at equal divergence from the reference."""
    other_judge: Difference | None = None
    copy: Difference | None = None
    """A with other seeds less A: must hold 0."""
    flipped: Difference | None = None
    """A with flipped labels less A: must be below 0."""
    alarms: tuple[str, ...] = ()
    """Alarms of B's training that A's lacks."""
    one_run: bool = False
    """Whether training was the same for all seeds, which then only drew other answers."""


class Decision(NamedTuple):
    """What was found, and how sure."""

    verdict: Verdict
    words: str
    """One paragraph for a reader who has seen nothing else."""
    detectable: Detectable
    """The smallest difference that a run of this size would detect with a power of 80 %, from the variances it showed."""
    settle: Settled
    """What would show the smallest difference of interest."""
    reasons: tuple[str, ...]
    """Why it is not simply better, or what to be careful about."""


def decide(
    evidence: Evidence,
    names: tuple[str, str] = ("B", "A"),
    smallest: float = 0.05,
    margin: float | None = None,
) -> Decision:
    """Decide. `smallest` is the least difference worth having, in the unit of the primary metric.

    With `margin`, an arm that is not shown better passes as `not worse` if it is shown to lose by less: for filters, which
    keep half of the data.
    """
    found = evidence.primary
    can = detectable(found.variance, found.seeds, found.prompts)
    needs = settle(found.variance, smallest, found.seeds, found.prompts)
    verdict, reasons = _judge(evidence, margin)
    finding = _finding(verdict, found, names, margin, one_run=evidence.one_run)
    words = " ".join([finding, *_advice(verdict, found, can, needs)])
    if reasons:
        said = "; ".join(reasons)
        words += f" {said[0].upper()}{said[1:]}."
    return Decision(verdict, words, can, needs, reasons)


def not_worse(found: Difference, margin: float, alpha: float = 0.05) -> bool:
    """Say whether the one-sided bound of 1 - alpha is above -margin: a test of non-inferiority."""
    return at_level(found, 1 - 2 * alpha).low > -margin


def _judge(evidence: Evidence, margin: float | None) -> tuple[Verdict, tuple[str, ...]]:
    found, reasons = evidence.primary, _cautions(evidence)
    if _sign(evidence.copy) or (evidence.flipped is not None and _sign(evidence.flipped) >= 0):
        return "no power", reasons
    other = evidence.other_judge
    if other is not None and found.estimate * other.estimate < 0 and (_sign(found) or _sign(other)):
        return "judges disagree", reasons
    if _sign(found) < 0:
        return "worse", reasons
    if _sign(found) > 0:
        if evidence.length_controlled is not None and _side(evidence.length_controlled) <= 0:
            return "longer", reasons
        if evidence.matched is not None and _side(evidence.matched) <= 0:
            return "further", reasons
        return ("alarmed" if evidence.alarms else "better"), reasons
    if margin is not None and not_worse(found, margin):
        return "not worse", reasons
    return "not distinguishable", reasons


def _cautions(evidence: Evidence) -> tuple[str, ...]:
    said = []
    if _sign(evidence.copy):
        said.append("a copy of the baseline differs from it, so the protocol finds what is not there")
    if evidence.flipped is not None and _sign(evidence.flipped) >= 0:
        said.append("flipped labels do not lose, so the protocol cannot see what is there")
    if evidence.alarms:
        said.append(f"alarms: {', '.join(evidence.alarms)}")
    if evidence.one_run:
        said.append("one training run each: this does not show what another run would give")
    elif evidence.primary.seeds == 1:
        said.append("with one seed this holds for these two models, not for the datasets")
    elif evidence.primary.seeds < 4:
        said.append("with fewer than four seeds the interval is too narrow if seeds differ much")
    return tuple(said)


def _side(found: Resampled | Difference) -> int:
    """Return 1, -1 or 0: above its null, below, or not told apart. A resampled figure names its own."""
    if isinstance(found, Difference):
        return _sign(found)
    return (found.low > found.null) - (found.high < found.null)


def _sign(found: Difference | None) -> int:
    return 0 if found is None else (found.low > 0) - (found.high < 0)


def _finding(
    verdict: Verdict, found: Difference, names: tuple[str, str], margin: float | None, *, one_run: bool
) -> str:
    better, than = names
    figure = (
        f"{found.estimate:+.3f} ({100 * found.level:.4g} % interval {found.low:+.3f} to {found.high:+.3f}; "
        f"{'answers of ' * one_run}{_seeds(found.seeds)}, {found.prompts:,} prompts)"
    )
    told = {
        "better": f"{better} is better than {than}: {figure}.",
        "worse": f"{better} is worse than {than}: {figure}.",
        "not worse": f"{better} is not worse than {than} by {margin} or more: {figure}.",
        "not distinguishable": f"{better} and {than} are not distinguishable with this budget: {figure}.",
        "longer": f"{better} beats {than} by length alone: {figure}, and not with length held equal.",
        "further": f"{better} beats {than} by moving further from the reference: {figure}, and not at equal divergence.",
        "alarmed": f"{better} scores higher than {than}: {figure}, but its training raised an alarm.",
        "judges disagree": f"The judges disagree about {better} and {than}: {figure} by the first, the other way by the second.",
        "no power": f"Nothing can be said of {better} and {than}, since a control failed: {figure}.",
    }
    return told[verdict]


def _advice(verdict: Verdict, found: Difference, can: Detectable, needs: Settled) -> list[str]:
    if verdict not in {"not distinguishable", "not worse"}:
        return []
    said = [f"The smallest difference that a run of this size would detect is {can.effect:.3f} (power 80 %)."]
    ways = []
    if needs.prompts is not None and needs.prompts > found.prompts:
        ways.append(f"{needs.prompts:,} prompts with {_seeds(found.seeds)}")
    if needs.seeds is not None and needs.seeds > found.seeds:
        ways.append(f"{_seeds(needs.seeds)} with {found.prompts:,} prompts")
    if can.effect <= needs.effect:
        said.append(f"So a difference of {needs.effect:g} would probably have been seen.")
    elif ways:
        said.append(f"To find one of {needs.effect:g}: {', or '.join(ways)}.")
    else:
        said.append(f"To find one of {needs.effect:g}, more seeds and more prompts are needed together.")
    if needs.prompts is None and not np.isnan(found.variance.seed) and can.effect > needs.effect:
        said.append(f"No number of prompts is enough with {_seeds(found.seeds)}.")
    return said


def _seeds(count: int) -> str:
    return f"{count:,} seed{'s' * (count > 1)}"
