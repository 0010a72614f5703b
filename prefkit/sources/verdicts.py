"""Verdicts: which of two sides is better, from the many ways of writing it down, as votes on chosen and rejected.

A tie has been written 1.5, 0, 2, 0.5, `tie` and `Tie`, depending on what the sides are called; a judge that
failed leaves null or a text that means nothing. A verdict keeps the difference: a tie is a vote for `tie`, a
failure a vote without a winner.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from prefkit.sources.cells import number, short_text
from prefkit.sources.chunks import BadRowError, Cell
from prefkit.sources.source import Coding

__all__ = ["NO_VERDICT", "Verdict", "as_votes", "read_verdict", "second_wins"]

Side = Literal["first", "second", "tie"]
_NAMES: dict[str, Side] = {
    **dict.fromkeys(("first", "a", "model_a", "output_1", "response_1", "chosen", "left"), "first"),
    **dict.fromkeys(("second", "b", "model_b", "output_2", "response_2", "rejected", "right"), "second"),
    **dict.fromkeys(("tie", "both", "equal", "same", "tie (bothbad)", "both_bad", "draw"), "tie"),
}
_SLACK = 1e-3  # graded preferences overshoot their range by rounding: 1.0000211 and the like


class Verdict(NamedTuple):
    """One judge's word on two sides."""

    winner: Side | None
    p: float | None = None
    """Probability that the first side is better."""
    strength: float | None = None
    """How much better the first side is, on the judge's own scale; negative where the second is."""


NO_VERDICT = Verdict(None)


def read_verdict(value: Cell, coding: Coding) -> Verdict:
    """Read one verdict. Text that means nothing is no verdict; a number out of range raises BadRowError."""
    if isinstance(value, str) and value.strip().lower() in _NAMES:
        return _sure(_NAMES[value.strip().lower()])
    try:
        given = number(value, "verdict")
    except BadRowError:
        return NO_VERDICT
    if given is None or given != given:  # noqa: PLR0124 - NaN is a missing verdict
        return NO_VERDICT
    if coding == "signed":
        return _signed(given)
    ties = (0.0, 1.5) if coding == "one-two" else (0.5, 2.0)
    if given in ties:
        return _sure("tie")
    second = given - 1 if coding == "one-two" else given
    if not -_SLACK <= second <= 1 + _SLACK:
        raise BadRowError(f"verdict out of the range of '{coding}'")
    p = 1 - min(max(second, 0.0), 1.0)
    return Verdict("first" if p > 0.5 else "second" if p < 0.5 else "tie", p)


def _sure(side: Side) -> Verdict:
    return Verdict(side, {"first": 1.0, "second": 0.0, "tie": 0.5}[side])


def _signed(value: float) -> Verdict:
    if abs(value) == float("inf"):
        raise BadRowError("verdict out of the range of 'signed'")
    # Strengths say nothing of probabilities until somebody maps them: `label` does.
    return Verdict("tie" if value == 0 else "first" if value < 0 else "second", None, 0.0 - value)


def second_wins(verdicts: Sequence[Verdict]) -> bool:
    """Say whether more verdicts are for the second side than for the first; equal numbers keep the order."""
    counts = Counter(verdict.winner for verdict in verdicts)
    return counts["second"] > counts["first"]


def as_votes(
    votes: Sequence[dict[str, Cell]], verdicts: Sequence[Verdict], *, swap: bool
) -> list[dict[str, Cell]]:
    """Return votes in terms of chosen and rejected; `swap` if the second side is the chosen one.

    `order` says which side the judge saw first: `chosen-first`, `rejected-first`, or null if that is not known.
    """
    return [_vote(vote, verdict, swap=swap) for vote, verdict in zip(votes, verdicts, strict=True)]


def _vote(vote: dict[str, Cell], verdict: Verdict, *, swap: bool) -> dict[str, Cell]:
    winner: str | None = verdict.winner
    if winner in {"first", "second"}:
        winner = "chosen" if (winner == "second") == swap else "rejected"
    p, strength = verdict.p, verdict.strength
    if swap:
        p = None if p is None else 1 - p
        strength = None if strength is None else 0.0 - strength
    swapped = vote.get("swapped")
    order = None if swapped is None else "rejected-first" if bool(swapped) != swap else "chosen-first"
    return {
        "judge": short_text(vote.get("judge")),
        "order": order,
        "winner": winner,
        "p": p,
        "strength": strength,
        "rationale": short_text(vote.get("rationale")),
    }
