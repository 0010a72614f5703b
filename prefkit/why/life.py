"""What a biography is: plain values, for the terminal, for notebooks and for machines alike.

A life is told step by step. In each step stand the row itself, what it was made of, and what was made of it, each with
what became of it there, what was written of it, and, where that is known, what decided. Calls stand by step too, since
one call may be for several rows.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

__all__ = ["Biography", "Call", "Chapter", "Fate", "Kin", "Passage", "Verdict", "Wrote", "as_data"]

Fate = Literal["read", "made", "kept", "became", "dropped", "failed", "unused"]
"""`read` from the data; `made` by the step; `became` other rows, and went no further itself; `unused`: nothing was made
of it, and the step did not call that dropping it."""
Kin = Literal["itself", "ancestor", "descendant"]


class Wrote(NamedTuple):
    """A column that a step wrote for a row."""

    column: str
    before: Any
    """None where the row had no such value."""
    after: Any


class Passage(NamedTuple):
    """One row on its way through one step."""

    id: str
    level: str
    """`prompt`, `response` or `pair`."""
    kin: Kin
    fate: Fate
    reason: str = ""
    """Why it was dropped, or the error it failed with."""
    parents: tuple[str, ...] = ()
    """Rows it was made of, where it is new."""
    became: tuple[str, ...] = ()
    """Rows that were made of it here."""
    wrote: tuple[Wrote, ...] = ()
    decided: Mapping[str, Any] = {}
    """Values that its fate depends on, by name, as far as they are known."""
    turned: bool = False
    """Whether chosen and rejected changed places."""


class Verdict(NamedTuple):
    """What was read of a judge's answer."""

    task: str
    first: str | None
    """Id of the response that was shown first."""
    second: str | None
    verdict: str | None
    """`first`, `second` or `tie`; None where there is none."""
    value: float | None
    p: float | None
    """Probability that the first is better."""
    flaw: str | None
    """Why the answer could not be read."""
    sample: int | None
    attempt: int | None
    counts: bool
    """Whether it is part of the result: no canary, and not asked for again."""


class Call(NamedTuple):
    """One request to a model, and its answer."""

    model: str
    engine: str
    """Which engine answered, with its version; "" where the step does not say."""
    method: str
    """`generate`, `log-probs`, `rewards`, `thinned-rewards` or `embed`."""
    asked: Mapping[str, Any]
    """`messages`, or `prompt` and `response`, or `text`, with the settings of the request."""
    answer: Mapping[str, Any] | None
    """None where nothing is remembered: failures are not, and a memo may be gone."""
    about: tuple[str, ...] = ()
    """Ids of the rows it was asked for, as far as that can be told."""
    tokens_in: int | None = None
    tokens_out: int | None = None
    dollars: Decimal | None = None
    """At the prices given; None without a price, or where tokens are not known."""
    remembered: bool | None = None
    """Whether the step found it in the memo instead of asking; None where only some of its calls were."""
    verdict: Verdict | None = None


class Chapter(NamedTuple):
    """One step, and what it did to the rows of this life."""

    step: str
    """`05-pair`."""
    stage: str
    version: int
    scope: str
    """`source`, `map`, `group` or `global`."""
    settings: Mapping[str, Any]
    seed: int | None
    rows: Mapping[str, int]
    """All rows of the step: read, kept, dropped, failed."""
    at: str
    """When the step finished, UTC."""
    passages: tuple[Passage, ...]
    more: int = 0
    """Further rows of this life in this step, which are not told."""
    calls: tuple[Call, ...] = ()
    other_calls: int = 0
    """Calls for other rows of the same prompt."""
    note: str = ""
    """What is not known of the calls, and why."""


class Biography(NamedTuple):
    """The life of one row."""

    run: str
    id: str
    level: str
    prompt_id: str
    step: str
    """The last step that has the row."""
    fate: Fate
    """What became of it there; `kept` if it is in the last step's rows."""
    reason: str
    row: Mapping[str, Any]
    """The row as it was last."""
    prompt: tuple[Mapping[str, Any], ...]
    """The conversation, as messages with role and content."""
    chapters: tuple[Chapter, ...]

    @property
    def calls(self) -> tuple[Call, ...]:
        """Return every call of the life, in order."""
        return tuple(call for chapter in self.chapters for call in chapter.calls)

    @property
    def dollars(self) -> Decimal | None:
        """Return what the calls cost as far as it is known, remembered ones at what they once cost."""
        known = [call.dollars for call in self.calls if call.dollars is not None]
        return sum(known, Decimal(0)) if known else None


def as_data(value: Any) -> Any:
    """Return a biography, or a part of one, as plain JSON values. Amounts of money are exact, as text."""
    if isinstance(value, tuple) and isinstance(value, _RECORDS):
        return {name: as_data(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {key: as_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value


_RECORDS = (Biography, Chapter, Passage, Wrote, Call, Verdict)
