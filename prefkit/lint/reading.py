"""Reading: pairs as they stand, the wrong ones too.

`prefkit.sources` sets a row aside whose turns are out of order or whose text is missing, so nothing could be said of
it. Rows that name prompt, chosen and rejected outright are therefore taken here as they are; any other layout is read
as a build reads it, and the rows that it would set aside are kept with their reason.
"""

from collections.abc import Sequence
from glob import has_magic
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from prefkit.columns import MESSAGES
from prefkit.errors import ContractError
from prefkit.sources import Source, peek
from prefkit.sources import read as read_rows
from prefkit.sources.cells import as_list, short_text
from prefkit.sources.chunks import Cell, Chunk
from prefkit.sources.conversations import speaker
from prefkit.sources.hub import hub_files
from prefkit.sources.reading import raw
from prefkit.store import Store
from prefkit.tables import put

__all__ = ["Read", "read"]

_SPEAKERS = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
_ALMOST_ALL = 0.999999
"""Share of rows that may be unreadable: as many as a source allows."""


class Read(NamedTuple):
    """Pairs, and the rows that are none."""

    table: pa.Table
    """`prompt`, `chosen` and `rejected` as messages, `tools` as text where given, other columns as they are."""
    ids: list[str]
    """What to call each row: its `id`, or file and line."""
    unreadable: Sequence[tuple[str, str]] = ()
    """File and line of each row that no build would take, and why."""


def read(dataset: str, store: Store) -> Read:
    """Read the pairs of `run`, `run/05-pair`, a file, a pattern, or a folder.

    Raises: StoreError or DataError if it is not there or not readable; ContractError if it does not hold pairs.
    """
    path = Path(dataset)
    named = dataset.partition("/")[0] in store.runs()
    if named or not (path.exists() or path.suffix or has_magic(dataset)):
        manifest = store.resolve(dataset)
        if manifest.level != "pair":
            raise _no_pairs(dataset, manifest.level)
        table = store.table(manifest)
        return Read(table, table["id"].to_pylist())
    files = hub_files(Source(hub=dataset), path) if path.is_dir() else []
    source = Source(file=tuple(str(file.path) for file in files) or dataset, max_bad=_ALMOST_ALL)
    found = peek(source, Path())
    if found.format == "trl-explicit":
        return _as_they_are(source)
    if "chosen" not in found.schema.names:
        raise _no_pairs(dataset, "response" if "response" in found.schema.names else "prompt")
    return _as_built(source)


def _no_pairs(dataset: str, level: str) -> ContractError:
    hint = "add `pair` to the recipe" if level == "response" else "give pairs: prompt, chosen and rejected"
    return ContractError(f"'{dataset}' holds {level}s, not pairs", hint=hint)


def _as_built(source: Source) -> Read:
    tables, ids, bad = list[pa.Table](), list[str](), list[tuple[str, str]]()
    for (file, chunk), batch in zip(raw(source, Path()), read_rows(source, Path()), strict=True):
        wrong = {row["line"]: row["reason"] for row in batch.bad.to_pylist()}
        lines = [line for line in chunk.lines.tolist() if line not in wrong]
        tables.append(batch.table)
        # A row may unfold into several pairs: then lines cannot tell them apart, and ids do.
        alike = len(lines) == batch.table.num_rows
        ids += [_place(file, line) for line in lines] if alike else batch.table["id"].to_pylist()
        bad += [(_place(file, line), reason) for line, reason in wrong.items()]
    return Read(pa.concat_tables(tables), ids, bad)


def _as_they_are(source: Source) -> Read:
    parts = list(raw(source, Path()))
    places = [_place(file, line) for file, chunk in parts for line in chunk.lines.tolist()]
    bad = [(_place(file, row.line), row.reason) for file, chunk in parts for row in chunk.bad]
    table = _together([chunk for _, chunk in parts])

    def values(name: str) -> list[Cell]:
        return [value for _, chunk in parts for value in as_list(chunk.column(name))]

    for side, role in _SPEAKERS.items():
        turns = [_turns(value, role) for value in values(side)]
        if side == "prompt" and "system" in table.column_names:
            turns = [_below(text, row) for text, row in zip(values("system"), turns, strict=True)]
        table = put(table, side, pa.array(turns, MESSAGES))
    if "tools" in table.column_names:
        table = put(table, "tools", pa.array(map(short_text, values("tools")), pa.string()))
    ids = table["id"].to_pylist() if "id" in table.column_names else []
    return Read(table, [str(one) for one in ids] if len(set(ids)) == table.num_rows else places, bad)


def _place(file: str, line: int) -> str:
    return f"{Path(file).name}:{line}"


def _together(chunks: Sequence[Chunk]) -> pa.Table:
    """Return the rows of all chunks as one table. A column whose values have no common type becomes JSON text."""
    parts = [chunk.data for chunk in chunks]
    if all(isinstance(part, pa.Table) for part in parts):
        return pa.concat_tables(parts, promote_options="permissive")
    rows = [row for chunk in chunks for row in chunk.dicts()]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Cell]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([short_text(value) for value in values], pa.string())


def _turns(value: Cell, role: str) -> list[dict[str, str | None]] | None:
    """Return messages as they stand: a turn without text has none, and a role that is not known stays as it is."""
    if value is None:
        return None
    turns = value if isinstance(value, list) else [value]
    if not all(isinstance(turn, dict) for turn in turns):
        return [{"role": role, "content": "\n".join(map(str, turns))}]
    return [
        {"role": speaker(turn) or short_text(turn.get("role")), "content": _content(turn)} for turn in turns
    ]


def _content(turn: dict[str, Cell]) -> str | None:
    content = turn.get("content", turn.get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        return "".join(str(part.get("text") or "") for part in content)
    return short_text(content)


def _below(system: Cell, turns: list[dict[str, str | None]] | None) -> list[dict[str, str | None]] | None:
    if not system or not turns or turns[0]["role"] == "system":
        return turns
    return [{"role": "system", "content": str(system)}, *turns]
