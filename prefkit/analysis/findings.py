"""Findings: figures by name, as a stage can leave them behind and a card can read them.

A stage leaves whole numbers behind, its notes. So a figure is filed as what it is in millionths, beside its interval and how many
rows are behind it; counts of millions lose nothing that an interval would not swallow.
"""

from collections.abc import Mapping

from prefkit.statistics.figures import Estimate, Share, share_interval

__all__ = ["HEAD", "Findings", "filed", "of_share", "read"]

Findings = Mapping[str, Estimate]
HEAD = "analyse/"
_SCALE = 1_000_000
_PARTS = ("value", "low", "high")


def filed(findings: Findings) -> dict[str, int]:
    """Return findings as notes."""
    notes: dict[str, int] = {}
    for name, figure in findings.items():
        notes[f"{HEAD}{name}/n"] = figure.n
        for part, number in zip(_PARTS, (figure.value, figure.low, figure.high), strict=True):
            if number is not None:
                notes[f"{HEAD}{name}/{part}"] = round(number * _SCALE)
    return notes


def read(notes: Mapping[str, int]) -> dict[str, Estimate]:
    """Return the findings among notes, in the order of filing."""
    names = [name.removeprefix(HEAD).rpartition("/")[0] for name in notes if name.startswith(HEAD)]
    return {name: _figure(notes, f"{HEAD}{name}/") for name in dict.fromkeys(names)}


def of_share(part: Share) -> Estimate:
    """Return a share as a figure with its interval."""
    bounds = share_interval(part)
    if bounds is None:
        return Estimate(value=part.rate, n=part.n)
    return Estimate(value=part.rate, low=bounds.low, high=bounds.high, n=part.n)


def _figure(notes: Mapping[str, int], head: str) -> Estimate:
    numbers = {part: notes[head + part] / _SCALE for part in _PARTS if head + part in notes}
    return Estimate(n=notes.get(head + "n", 0), **numbers)
