"""Matches: which responses of a prompt meet before a judge, and what the verdicts on them add up to."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from prefkit.judging.tasks import Ask, Outcome, Side

__all__ = ["Match", "asks_of", "is_even", "neighbours", "next_round", "probability", "win_rates"]

_P = {"first": 1.0, "tie": 0.5, "second": 0.0}
_DIGITS = 12
"""Of win rates: adding up in another order must not make two equal ones differ."""


class Match(NamedTuple):
    """Two responses to one prompt."""

    group: int
    """Row of the pair, or number of the prompt."""
    prompt: str
    one: Side
    other: Side
    rows: tuple[int, int]
    """Rows of both responses; twice that of the pair for a pair."""
    reference: str = ""


def is_even(match: Match) -> bool:
    """Return whether there is nothing to ask: both texts say the same, or the same came of both."""
    if match.one.text.split() == match.other.text.split():
        return True
    came = match.one.consequence.split()
    return bool(came) and came == match.other.consequence.split()


def asks_of(match: Match, votes: int, orders: Sequence[bool], canary: str = "") -> Iterator[Ask]:
    """Yield the asks of a match: each sample in each order; True shows the smaller id first."""
    lower, upper = sorted((match.one, match.other), key=lambda side: side.id)
    for at, is_lower in enumerate(orders):
        sides = (lower, upper) if is_lower else (upper, lower)
        for sample in range(votes):
            yield Ask(match.group, match.prompt, sides, sample, at, match.reference, canary)


def probability(match: Match, outcomes: Sequence[Outcome]) -> float | None:
    """Return the probability that `one` is better: the mean of each order's mean; None if nothing could be read."""
    orders: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.value is not None:
            p = _P[outcome.value] if outcome.p is None else outcome.p
            first = outcome.ask.sides[0].id
            orders.setdefault(first, []).append(p if first == match.one.id else 1 - p)
    means = [sum(found) / len(found) for found in orders.values()]
    return round(sum(means) / len(means), _DIGITS) if means else None


def neighbours(scores: np.ndarray) -> list[tuple[int, int]]:
    """Return neighbours in the ranking by falling score, equal ones in the order of rows; NaN takes no part."""
    order = [int(at) for at in np.argsort(-scores, kind="stable") if np.isfinite(scores[at])]
    return list(pairwise(order))


def next_round(alive: Sequence[int]) -> list[tuple[int, int]]:
    """Return who meets whom of those still in: the first and the second, and so on; the odd one has a bye."""
    return list(zip(alive[::2], alive[1::2], strict=False))


def win_rates(found: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """Return the mean probability with which each response beats those that it met.

    `found` holds P(i beats j) for (i, j), one entry a match. Source: SPO (2024), a pool without oneself; OSP (2024).
    """
    rates: dict[int, list[float]] = {}
    for (one, other), p in found.items():
        rates.setdefault(one, []).append(p)
        rates.setdefault(other, []).append(1 - p)
    return {row: round(sum(met) / len(met), _DIGITS) for row, met in rates.items()}
