"""Manifests: what a step did, in a form that a card, a person and another machine can read.

A manifest is written once, after everything it names is on disk; a step is done when its manifest stands. It holds no
path, host or device: those are placement. What a run is called, and which manifest each of its steps points to, is
kept in refs, so that two runs share what they have in common.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

__all__ = ["FORMAT", "Made", "Manifest", "Part", "Ref", "Rows", "Shard", "Timing", "Used", "add_used"]

FORMAT = 1
"""Version of the store's layout. A store written by a newer one is refused, never guessed at."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Record):
    """One object: a table, filed by the digest of its content."""

    digest: str
    rows: int
    bytes: int


class Rows(_Record):
    """The flow of rows through a step. Stages that keep ids have read == kept + dropped + failed."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    failed: int = 0


class Used(_Record):
    """What was asked of one model. What is zero or unknown is left out of the file."""

    calls: int = 0
    """Requests answered by an engine."""
    remembered: int = 0
    """Requests answered from the memo."""
    failed: int = 0
    """Requests without an answer."""
    tokens_in: int = 0
    tokens_out: int = 0
    saved_in: int = 0
    """Tokens that the remembered answers took when they were first given."""
    saved_out: int = 0
    uncounted: int = 0
    """Answers whose tokens are not all known; the tokens and dollars here are then a lower bound."""
    seconds: float = 0.0
    """Time spent waiting for the model."""
    dollars: Decimal | None = None
    """What the calls cost; None where the model had no price."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is zero or unknown."""
        plain: dict[str, Any] = dump(self)
        return {
            name: value for name, value in plain.items() if value is not None and (value or name == "dollars")
        }


def add_used(used: Iterable[Mapping[str, Used]]) -> dict[str, Used]:
    """Return the sum of what was used, by model. A cost is unknown where that of any call is."""
    found: dict[str, list[Used]] = {}
    for each in used:
        for name, one in each.items():
            found.setdefault(name, []).append(one)
    return {name: _added(found[name]) for name in sorted(found)}


def _added(used: Sequence[Used]) -> Used:
    counts = {
        name: sum(getattr(one, name) for one in used) for name in Used.model_fields if name != "dollars"
    }
    asked = [one.dollars for one in used if one.calls]
    known = [one for one in asked if one is not None]
    cost = sum(known, Decimal(0)) if asked and len(known) == len(asked) else None
    return Used.model_validate({**counts, "seconds": round(counts["seconds"], 3), "dollars": cost})


class Timing(_Record):
    """Where the seconds went. Of a step, the sums over its parts, which several workers may have made at once."""

    wall: float = 0.0
    """Seconds from start to end as somebody who waited saw them; of a step, in the build that finished it."""
    cpu: float = 0.0
    """CPU seconds of the processes that made it, all their threads together."""
    reading: float = 0.0
    """Seconds to open and check what it read; of a source, to read its files."""
    working: float = 0.0
    """Seconds in the stage itself, waiting for models included."""
    filing: float = 0.0
    """Seconds to digest the rows it made and write them to disk."""
    counting: float = 0.0
    """Seconds that were waited for the step's statistics and the digest of all its shards."""
    peak_bytes: int = 0
    """Most memory that the process which made it held at once, since that process began: at least what this took."""


class Made(_Record):
    """How a result came about. No part of its identity."""

    prefkit: str
    python: str
    plugin: str = "prefkit"
    """Distribution and version the stage came from."""
    engines: dict[str, str] = {}
    """Model name or id to the engine and version that answered."""
    calls: int = 0
    """Requests answered by an engine."""
    remembered: int = 0
    """Requests answered from the memo."""
    tokens_in: int = 0
    tokens_out: int = 0
    models: dict[str, Used] = {}
    """The same by model, named as in `engines`. What is left out of the file where no model was asked."""
    seconds: float = 0.0
    """Seconds it took; of a step, summed over its parts."""
    timing: Timing = Timing()
    """Where they went. Left out of the file where nothing was measured, as by versions that did not."""
    at: str = ""
    """UTC time the step finished, ISO 8601."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the models of a step that asked none, and a timing that was not taken."""
        plain: dict[str, Any] = dump(self)
        if not self.models:
            plain.pop("models", None)
        if self.timing == Timing():
            plain.pop("timing", None)
        return plain


class Part(_Record):
    """What a step made of one input shard (or of everything, for a global step). Resume works by part."""

    key: str
    outputs: tuple[Shard, ...]
    dropped: Shard | None = None
    failed: Shard | None = None
    rows: Rows
    notes: dict[str, int] = {}
    made: Made


class Manifest(_Record):
    """One finished step."""

    format: int = FORMAT
    key: str
    stage: str
    version: int
    kind: Literal["source", "map", "group", "global"]
    level: Literal["prompt", "response", "pair"]
    config: dict[str, Any]
    seed: int | None
    """The seed, if the stage draws; else null."""
    input: str | None
    """Digest of the rows it read; null for a source."""
    digest: str
    """Digest of the rows it made, whatever their shards."""
    columns: tuple[tuple[str, str], ...]
    """Name and Arrow type of each column."""
    shards: tuple[Shard, ...]
    dropped: tuple[Shard, ...] = ()
    failed: tuple[Shard, ...] = ()
    rows: Rows
    drops: dict[str, int] = {}
    """Rows dropped by reason."""
    notes: dict[str, int] = {}
    """Whatever else the stage counted."""
    statistics: dict[str, Any] = {}
    """What a card says of the rows: a `prefkit.statistics.Summary`. No part of the identity."""
    made: Made

    @property
    def complete(self) -> bool:
        """Whether no row failed: an incomplete step is tried again on the next build."""
        return self.rows.failed == 0

    @property
    def rows_per_second(self) -> float | None:
        """Rows read per second that somebody waited; None where that was not measured."""
        return self.rows.read / self.made.timing.wall if self.made.timing.wall > 0 else None


class Ref(_Record):
    """A name for people: one step of one run."""

    run: str
    step: str
    """`05-pair`."""
    key: str
