"""Report: what every rule found, and how long the pairs are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.lint.reading import Read
from prefkit.lint.rules import RULES, Severity
from prefkit.lint.subject import Subject

__all__ = ["Finding", "Report", "check"]

_EXAMPLES = 3
_UNREADABLE = ("no build takes the row", "mend it; --fix leaves it out")


@dataclass(frozen=True)
class Finding:
    """What one rule found."""

    rule: str
    severity: Severity
    count: int
    """Pairs."""
    share: float
    """Of all rows, the unreadable ones too."""
    meaning: str
    hint: str
    examples: Sequence[Mapping[str, str]]
    """`id` and `detail` of the first few."""


@dataclass(frozen=True)
class Report:
    """What was found in some pairs."""

    rows: int
    """Rows of the dataset, the unreadable ones too."""
    trained_on: int
    """Pairs that the trainer would keep."""
    limit: int | None
    """Tokens a prompt and a response may have together."""
    truncate: str
    tokens: Mapping[str, Mapping[str, int]]
    """Lengths of prompt, chosen and rejected before anything is cut, and where the responses part: p50, p95, max."""
    findings: Sequence[Finding]
    """In the order of `RULES`, the errors first."""

    @property
    def errors(self) -> int:
        """Return how many rules with severity error found something."""
        return sum(finding.severity == "error" for finding in self.findings)


def check(subject: Subject, read: Read) -> Report:
    """Ask every rule."""
    total = len(read.ids) + len(read.unreadable)

    def finding(
        rule: str, severity: Severity, told: tuple[str, str], found: Iterable[tuple[str, str]]
    ) -> Finding:
        told_of = [{"id": place, "detail": detail} for place, detail in found]
        return Finding(rule, severity, len(told_of), len(told_of) / max(total, 1), *told, told_of[:_EXAMPLES])

    asked = ((rule, rule.find(subject)) for rule in RULES)
    findings = [
        finding(rule.name, rule.severity, rule.told, ((read.ids[row], hits[row]) for row in sorted(hits)))
        for rule, hits in asked
    ]
    known = ~subject.because("no-template")
    lengths = {part: tokens.lengths for part, tokens in subject.tokens.items()}
    lengths["first difference"] = subject.first_difference()
    return Report(
        total,
        int(subject.because(None).sum()),
        subject.limit,
        subject.truncate,
        {part: _spread(sizes[known]) for part, sizes in lengths.items()},
        [
            one
            for one in (finding("unreadable-row", "error", _UNREADABLE, read.unreadable), *findings)
            if one.count
        ],
    )


def _spread(lengths: np.ndarray) -> dict[str, int]:
    found = np.percentile(lengths, (50, 95, 100), method="lower") if len(lengths) else (0, 0, 0)
    return dict(zip(("p50", "p95", "max"), map(int, found), strict=True))
