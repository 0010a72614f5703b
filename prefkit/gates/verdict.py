"""What gates find: each figure held against what is wanted of it, and what follows."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prefkit.errors import Problem
from prefkit.gates.measures import MEASURES, Figure, ran
from prefkit.gates.rules import RULES, Rule, Then, Wanted, spelled
from prefkit.gates.said import Limit, setting
from prefkit.manifest import Manifest

__all__ = ["Result", "announce", "applying", "gated", "passes", "stopping"]


class Result(NamedTuple):
    """One figure of one rule, judged."""

    rule: Rule
    figure: Figure | None
    """None: there is nothing to measure."""
    wanted: Wanted
    then: Then
    is_said: bool
    """Whether the limit is the recipe's own."""
    passed: bool

    @property
    def stops(self) -> bool:
        """Whether the build stops for it."""
        return not self.passed and self.then == "stop"

    @property
    def marks(self) -> bool:
        """Whether the card is marked with it."""
        return not self.passed and self.then == "mark"

    @property
    def title(self) -> str:
        """What was measured, as plain text."""
        return self.rule.name if self.figure is None else self.figure.title.format(f"'{self.figure.subject}'")

    @property
    def found(self) -> str:
        """The figure as plain text."""
        return "nothing to measure" if self.figure is None else self.figure.found

    @property
    def limit(self) -> str:
        """What was wanted, and who says so."""
        return f"wanted {spelled(self.wanted, self.rule.unit)} ({'fail_if' if self.is_said else 'default'})"


def gated(steps: Mapping[str, Manifest], said: Mapping[str, Limit], *, is_whole: bool = True) -> list[Result]:
    """Judge a run by every rule that has a limit, those that are off included.

    A rule that only a recipe can ask for fails where there is nothing to measure, if the run is whole: whoever asks wants
    a figure. The other rules then say nothing.
    """
    if not steps:
        return []
    run, results = ran(steps), list[Result]()
    for rule in RULES.values():
        wanted, then, is_said = setting(rule, said)
        if wanted is None:
            continue
        figures = list(MEASURES[rule.name](run))
        results += [
            Result(rule, figure, wanted, then, is_said, passes(rule, wanted, figure)) for figure in figures
        ]
        if not figures and rule.wanted is None and is_whole:
            results.append(Result(rule, None, wanted, then, is_said, passed=False))
    return results


def passes(rule: Rule, wanted: Wanted, figure: Figure) -> bool:
    """Say whether a figure passes; `prefkit.gates.rules` says how figures are judged."""
    if wanted.takes(figure.value):
        return True
    if rule.judged == "bias" and wanted.takes(rule.neutral):
        return figure.low <= rule.neutral <= figure.high
    if rule.judged == "sure":
        is_above = wanted.high is not None and figure.low > wanted.high
        return not (is_above or (wanted.low is not None and figure.high < wanted.low))
    return False


def stopping(results: Sequence[Result], run: str) -> list[Problem]:
    """Return what a build stops with: one problem for each figure that stops it."""
    return [_problem(each, run) for each in results if each.stops]


def _problem(result: Result, run: str) -> Problem:
    name, figure = result.rule.name, result.figure
    what = f"gate '{name}' failed: {result.title}: {result.found}, {result.limit}"
    if figure is None:
        return Problem(
            what, where=run, hint=f"take `{name}` out of `fail_if`, or add the step that gives the figure"
        )
    look = f"prefkit show {run}/{figure.step} {result.rule.look}".rstrip()
    accept = "write `then: mark` beside its limit" if result.is_said else f"fail_if: {{ {name}: mark }}"
    hint = f"{result.rule.mend}. To take it as it is: {accept}"
    return Problem(what, where=f"{run}/{figure.step} ({look})", hint=hint)


def announce(results: Sequence[Result]) -> Iterator[str]:
    """Yield a warning for each gate that marks the card."""
    for each in results:
        if each.marks:
            yield f"warning: gate '{each.rule.name}' failed: {each.title}: {each.found}, {each.limit}"
            yield f"  hint:  {each.rule.mend}; the card is marked"


def applying(said: Mapping[str, Limit], stages: Sequence[str], *, has_pairs: bool) -> dict[Then, list[str]]:
    """Return the rules that a run of these stages will be held to, by what happens where they fail."""
    found: dict[Then, list[str]] = {"stop": [], "mark": [], "off": []}
    for rule in RULES.values():
        wanted, then, _ = setting(rule, said)
        applies = not rule.stages or not set(rule.stages).isdisjoint(stages)
        if wanted is not None and (then == "off" or (applies and (has_pairs or not rule.of_pairs))):
            found[then].append(rule.name)
    return found
