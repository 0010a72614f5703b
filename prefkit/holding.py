"""Holding: how much memory a global stage will take, said and weighed before it starts.

A stage that sees all rows at once keeps something of each: a hash, a rank, a copy of what it gives back. It says how
much that is (`Stage.holds`); the columns that it is given are counted here, at the width they have. Where rows times
bytes are more than is allowed, the step is refused before anything is done, and everything that stands stays.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from prefkit.errors import MemoryLimitError, PrefkitError
from prefkit.manifest import Shard
from prefkit.narrow import seen
from prefkit.stage import Stage
from prefkit.store import Store

__all__ = [
    "Need",
    "allowed",
    "bytes_of",
    "need",
    "refuse_above",
    "refuse_counting",
    "said",
    "usual_widths",
    "widths",
]

_SHARE = 0.8
"""Of the machine's memory: what a step may hold unless more or less is allowed."""
_BESIDE = 256e6
"""Bytes that any step takes: shards on their way, and what allocators keep."""
_COUNTED = 110.0
"""Bytes a row of the numbers that statistics look at together, at most, by measurement."""
_LOOKED_AT = 4
_TEXT, _LIST, _WORD = 1000.0, 100.0, 40.0
"""Bytes a row that are guessed where no row is there to be looked at: conversations, other lists, words and ids."""
_GROUPS = Path("/sys/fs/cgroup")
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


class Need(NamedTuple):
    """What a global stage takes."""

    rows: int
    per_row: float
    """Bytes."""
    less: str
    """Which setting holds less; empty if none does."""

    @property
    def bytes(self) -> int:
        """All together."""
        return int(self.rows * self.per_row + _BESIDE)


def need(stage: Stage, rows: int, schema: pa.Schema, width: Mapping[str, float]) -> Need:
    """Return what a global stage takes for so many rows. `width`: the mean bytes a row of each column."""
    holds = stage.holds(width)
    if stage.looks() is None:
        return Need(rows, sum(width.values()) + holds.bytes, holds.less)
    copied, numbers = seen(stage, schema), 8.0
    return Need(rows, sum(width[name] for name in copied) + numbers + holds.bytes, holds.less)


def widths(store: Store, shards: Sequence[Shard]) -> dict[str, float]:
    """Return the mean bytes a row of each column, measured on a few shards of a step."""
    places = sorted({at * (len(shards) - 1) // max(_LOOKED_AT - 1, 1) for at in range(_LOOKED_AT)})
    tables = [store.get(shards[place]) for place in places]
    rows = max(sum(table.num_rows for table in tables), 1)
    return {name: sum(table[name].nbytes for table in tables) / rows for name in tables[0].column_names}


def usual_widths(schema: pa.Schema) -> dict[str, float]:
    """Return bytes a row of each column as far as types tell, where there are no rows yet."""
    return {field.name: _usual(field.type) for field in schema}


def refuse_above(limit: int | None, stage: Stage, step: str, shards: Sequence[Shard], store: Store) -> None:
    """Raise MemoryLimitError if a global stage would hold more than is allowed; None: as much as the machine gives."""
    rows = sum(shard.rows for shard in shards)
    width = widths(store, shards)
    found = need(stage, rows, store.get(shards[0]).schema, width)
    most = allowed(limit)
    if found.bytes <= most:
        return
    what = (
        f"step '{step}' would hold about {said(found.bytes)} of memory, {found.per_row:.0f} bytes for each of "
        f"{rows:,} rows, and {said(most)} are allowed"
    )
    less = f"; {found.less}" if found.less else ""
    hint = f"`--memory {_rounded_up(found.bytes)}` allows it{less}; or build the data in parts"
    raise MemoryLimitError(what, hint=hint)


def refuse_counting(most: int, step: str, rows: int) -> None:
    """Raise MemoryLimitError if the statistics of so many rows would hold more than `most` bytes."""
    size = rows * _COUNTED
    if size <= most:
        return
    what = (
        f"step '{step}' has {rows:,} rows by now, whose statistics would hold about {said(size)} of memory, and "
        f"{said(most)} are allowed"
    )
    hint = f"`--memory {_rounded_up(2 * size)}` allows twice as many; or build the data in parts; what is filed is kept"
    raise MemoryLimitError(what, hint=hint)


def allowed(limit: int | None) -> int:
    """Return how many bytes a step may hold: the limit given, or four fifths of what the machine or its group has."""
    return int(_SHARE * _machine()) if limit is None else limit


def bytes_of(text: str) -> int:
    """Return a size in bytes: `16GB` is 16e9, `16GiB` 16 * 2**30. Raises PrefkitError."""
    found = _SIZE.fullmatch(text)
    if found is None or not float(found[1]):
        what = f"'{text}' is not a size"
        raise PrefkitError(what, where=f"--memory {text}", hint="--memory 16GB")
    power = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}[found[2].lower()]
    return int(float(found[1]) * (1024**power if found[3] else 1000**power))


def said(size: float) -> str:
    """Return bytes in words: `4.5 GB`."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"


def _rounded_up(size: float) -> str:
    return f"{math.ceil(size / 1e9)}GB" if size > 1e9 else f"{math.ceil(size / 1e8) * 100}MB"


def _usual(kind: pa.DataType) -> float:
    if pa.types.is_list(kind):
        return _TEXT if pa.types.is_struct(kind.value_type) and len(list(kind.value_type)) == 2 else _LIST
    if pa.types.is_string(kind):
        return _WORD
    return kind.bit_width / 8 if pa.types.is_primitive(kind) else _LIST


def _machine() -> float:
    """Return the bytes of memory of this machine, or of the group of processes that this one is confined to."""
    physical = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_group_limits()])


def _group_limits() -> list[float]:
    """Return the limits of the group of processes that this one belongs to, and of the groups around it."""
    try:
        groups = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    found = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = _GROUPS / "memory" if controllers else _GROUPS
        place = root / path.lstrip("/")
        for folder in (folder for folder in [place, *place.parents] if folder.is_relative_to(root)):
            found += _limit(folder / ("memory.limit_in_bytes" if controllers else "memory.max"))
    return found


def _limit(path: Path) -> list[float]:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:  # inside a container the group's own folder stands for the root
        return []
    return [float(text)] if text.isdecimal() else []
