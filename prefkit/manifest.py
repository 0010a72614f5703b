"""Manifests: what a step did, in a form that a card, a person and another machine can read.

A manifest is written once, after everything it names is on disk; a step is done when its manifest stands. It holds no
path, host or device: those are placement. What a run is called, and which manifest each of its steps points to, is
kept in refs, so that two runs share what they have in common.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["FORMAT", "Made", "Manifest", "Part", "Ref", "Rows", "Shard"]

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
    seconds: float = 0.0
    at: str = ""
    """UTC time the step finished, ISO 8601."""


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


class Ref(_Record):
    """A name for people: one step of one run."""

    run: str
    step: str
    """`05-pair`."""
    key: str
