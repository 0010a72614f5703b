"""The central abstraction: a stage is a frozen config that maps one Arrow table to another.

A stage declares how far its rows depend on each other (`kind`), what a row is before and after (`level`), and the
columns it reads and writes. From these alone the planner checks a whole recipe without touching data, and the runner
decides what it may run apart, resume and reuse. The kinds are laws, not labels; `prefkit.testing.check_stage` checks
them:

    map      apply(a ++ b) == apply(a) ++ apply(b)          any shard, anywhere
    group    the same when a and b share no prompt          shards never cut a prompt in two
    global   determinism                                    everything at once, memory-mapped

A stage is pure: what it may know of the world is its `Context`, and all it may add to it are notes (counters) and the
rows that do not go on: dropped, with a reason that is counted, or failed, to be tried again on the next build.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from prefkit import rng
from prefkit.columns import COLUMNS, LEVELS, Columns, Level
from prefkit.engines import Engines
from prefkit.errors import ContractError
from prefkit.threads import Apart

__all__ = [
    "ANY",
    "PAIRS",
    "PROMPTS",
    "RESPONSES",
    "Context",
    "Cost",
    "Flow",
    "Holds",
    "Kind",
    "Stage",
    "level_of",
]

Kind = Literal["map", "group", "global"]
_DRAWN = 1 << 16
"""Keys that are Python strings at once."""


class Flow(NamedTuple):
    """What a row is before a stage, and after it (`None`: the same as before)."""

    takes: tuple[Level, ...]
    gives: Level | None = None


ANY = Flow(LEVELS)
PROMPTS = Flow(("prompt",))
RESPONSES = Flow(("response",))
PAIRS = Flow(("pair",))


class Cost(NamedTuple):
    """What a stage asks of models per input row, for the planner's estimate."""

    calls: float = 0.0
    tokens_out: float = 0.0
    """Upper bound on generated tokens."""
    rows: float | None = None
    """Rows out per row in, at most; None: as many, or not known where the stage changes what a row is."""


class Holds(NamedTuple):
    """What a global stage keeps in memory while it works, beside the columns that it is given."""

    bytes: float = 100.0
    """A row: numbers, hashes, places in an order."""
    less: str = ""
    """Which setting holds less: "`kind: exact` holds 100 bytes a row"."""


@dataclass(frozen=True)
class Context:
    """What a stage may know of the world: a seed, the engines, a place for notes and for rows that do not go on."""

    seed: int = 0
    engines: Engines = field(default_factory=Engines)
    notes: Counter[str] = field(default_factory=Counter)
    """Counts by `stage/what`, summed over shards; shown in the card."""
    dropped: list[pa.Table] = field(default_factory=list)
    failed: list[pa.Table] = field(default_factory=list)
    folder: Path = Path()
    """What paths in settings are relative to."""
    work: Path | None = None
    """An empty folder on the store's disk, for what need not be in memory; None where there is none."""
    spare: tuple[str, ...] = ()
    """Texts that need not go on once rows are set aside, since the runner has them: they are null from there on."""
    threads: int = 1
    """Threads that a global stage may use. No result depends on it."""
    apart: Apart | None = None
    """Calls functions in worker processes, where there are some. No result depends on it."""
    files: tuple[tuple[Path, int], ...] = ()
    """Where the rows of a global stage's table lie: the Arrow file and the number of rows of each shard, in order."""

    def uniform(self, stage: "Stage", keys: Iterable[str] | pa.ChunkedArray, draw: int = 0) -> np.ndarray:
        """Return one number in [0, 1) per key, the same whatever the sharding.

        Keys of a column need not be Python strings all at once, which take three times the memory: hand it over as it is.
        """
        if not stage.draws():
            what = f"stage '{stage.name}' draws random numbers but does not declare random = True"
            raise ContractError(
                what, hint="set `random: ClassVar[bool] = True`, so that the seed enters its key"
            )
        if not isinstance(keys, pa.ChunkedArray):
            return rng.uniform(self.seed, stage.name, keys, draw)
        pieces = (chunk.slice(at, _DRAWN) for chunk in keys.chunks for at in range(0, len(chunk), _DRAWN))
        drawn = [rng.uniform(self.seed, stage.name, piece.to_pylist(), draw) for piece in pieces]
        return np.concatenate([np.zeros(0), *drawn])

    def drop(self, table: pa.Table, reasons: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> pa.Table:
        """Set aside the rows that have a reason, count each reason, and return the other rows."""
        return self._divert(table, reasons, "drop_reason", self.dropped, self.notes)

    def fail(self, table: pa.Table, errors: Sequence[str | None] | pa.Array | pa.ChunkedArray) -> pa.Table:
        """Set aside the rows that have an error, to be tried again on the next build; return the other rows."""
        return self._divert(table, errors, "error", self.failed, None)

    def _divert(
        self,
        table: pa.Table,
        reasons: Sequence[str | None] | pa.Array | pa.ChunkedArray,
        column: str,
        into: list[pa.Table],
        notes: Counter[str] | None,
    ) -> pa.Table:
        if not isinstance(reasons, pa.Array | pa.ChunkedArray):
            reasons = pa.array(reasons, pa.string())
        stays = pc.is_null(reasons)
        if pc.all(stays).as_py() is not False:
            return table
        for name in self.spare:
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pa.nulls(table.num_rows, table.schema.field(at).type))
        goes = table.append_column(column, reasons.cast(pa.string())).filter(pc.invert(stays))
        into.append(goes)
        if notes is not None:
            for entry in goes[column].value_counts().to_pylist():
                notes[f"dropped/{entry['values']}"] += entry["counts"]
        return table.filter(stays)


class Stage(BaseModel, ABC):
    """One step of a recipe: a frozen config that maps one Arrow table to another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    name: ClassVar[str]
    """How recipes spell it."""
    kind: ClassVar[Kind]
    """How far its rows depend on each other, at the widest; `scope` narrows it to the settings."""
    level: ClassVar[Flow]
    """What it takes and gives."""
    version: ClassVar[int] = 1
    """Bump when the same input gives another output."""
    random: ClassVar[bool] = False
    """Whether it draws; if not, the seed is no part of its key. `draws` narrows it to the settings."""

    @abstractmethod
    def reads(self) -> Columns:
        """Return the columns it cannot do without, with their types."""

    @abstractmethod
    def writes(self) -> Columns:
        """Return the columns it adds or replaces, with their types."""

    @abstractmethod
    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        """Do the work. Pure: same table, config and context in, same table out."""

    def drops(self) -> Collection[str]:
        """Return the reasons for which it may drop rows."""
        return ()

    def scope(self) -> Kind:
        """Return the kind under these settings; never wider than `kind`."""
        return self.kind

    def draws(self) -> bool:
        """Return whether it draws under these settings; only if so does the seed enter its key."""
        return self.random

    def touches(self) -> Collection[str]:
        """Return further columns that it reads and may change where they exist; `chosen_*` stands for any ending."""
        return ()

    def files(self, folder: Path) -> Sequence[str]:  # noqa: ARG002 - most stages read none
        """Return digests of the files that it reads beside its rows; they enter its key. Raises DataError."""
        return ()

    def looks(self) -> Collection[str] | None:
        """Return the columns of conversations whose text it looks into; `None`: any that it is given.

        A global stage that says so, if only that there are none, is given no other text: what it hands on or moves
        from one side to the other stays on disk. It must look before it sets the first row aside, and what it does
        not name in `reads`, `writes` or `touches` it does not see at all.
        """
        return None

    def holds(self, width: Mapping[str, float]) -> Holds:  # noqa: ARG002 - most keep a few numbers a row
        """Return what a global stage holds. `width`: the mean bytes a row of each column of its input."""
        return Holds()

    def cost(self) -> Cost:
        """Return what it asks of models per input row."""
        return Cost()

    def most_rows(self, per_prompt: float) -> float | None:
        """Return how many rows at most it makes of a prompt that has so many; None if that cannot be said."""
        rows = self.cost().rows
        if rows is None:
            return per_prompt if self.level.gives is None else None
        return per_prompt * rows

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        """Return the output schema for an input schema. Only stages that change the level need their own."""
        for name, kind in self.writes().items():
            column = pa.field(name, kind)
            at = schema.get_field_index(name)
            schema = schema.append(column) if at < 0 else schema.set(at, column)
        return schema

    @final
    def check_schema(self, schema: pa.Schema) -> None:
        """Raise ContractError unless `schema` has the level and the columns that the stage needs."""
        level = level_of(schema)
        if level not in self.level.takes:
            wanted = " or ".join(self.level.takes)
            what = f"stage '{self.name}' takes {wanted} rows, and the rows here are {level}s"
            raise ContractError(what, hint=_level_hint(level, self.level.takes))
        for name, kind in self.reads().items():
            _check_column(self.name, schema, name, kind)

    @final
    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Check `schema` and return what the stage makes of it."""
        self.check_schema(schema)
        return self.becomes(schema)

    @final
    def __call__(self, table: pa.Table, ctx: Context | None = None) -> pa.Table:
        """Apply with the contract checked on both sides, columns in declared order."""
        ctx = Context() if ctx is None else ctx
        expected = self.output_schema(table.schema)
        result = self.apply(table, ctx)
        missing = sorted(set(expected.names) - set(result.column_names))
        surplus = sorted(set(result.column_names) - set(expected.names))
        if missing or surplus:
            what = f"stage '{self.name}' broke its contract: missing columns {missing}, undeclared columns {surplus}"
            raise ContractError(what, hint=f"make `writes()` and `apply()` of '{self.name}' agree")
        return result.select(expected.names).cast(expected).replace_schema_metadata(None)


def level_of(schema: pa.Schema) -> Level:
    """Return what a row of this schema is, from the columns it must have."""
    names = set(schema.names)
    if {"chosen", "rejected"} <= names:
        return "pair"
    return "response" if "response" in names else "prompt"


def _level_hint(level: Level, takes: tuple[Level, ...]) -> str:
    if level == "prompt":
        return "add `sample` before it, or start from data that has responses"
    if level == "response" and "pair" in takes:
        return "add `pair` before it"
    return "move it before the stage that changed what a row is"


def _check_column(stage: str, schema: pa.Schema, name: str, kind: pa.DataType) -> None:
    at = schema.get_field_index(name)
    if at < 0:
        writer = COLUMNS[name].writer if name in COLUMNS else ""
        by = f"`{writer}` writes it; " if writer else ""
        what = f"stage '{stage}' reads column '{name}', which no earlier step writes"
        raise ContractError(what, hint=f"{by}columns at this point: {', '.join(schema.names)}")
    found = schema.field(at).type
    if found != kind:
        what = f"stage '{stage}' reads column '{name}' as {kind}, and it is {found} here"
        raise ContractError(what, hint="map or cast the column where the data is read")
