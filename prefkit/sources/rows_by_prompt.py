"""Rows by prompt: rows of any order brought into the order of their prompts, in bounded memory.

Prompts are numbered as they first appear. Where the rows of each prompt follow one another, as most files have them,
rows only pass through. Where they do not, they are dealt into files by ranges of prompts as they come, and each file,
small enough to hold, is put in order by itself; one that is too large is dealt once more into finer ranges. So every
row is written once or twice, however many there are.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import ipc

__all__ = ["Numbered", "ScatteredError", "Seen", "as_they_come", "in_order"]

_PROMPTS = 1 << 15
"""Prompts of one file: with four responses of 1 kB each, 130 MB."""
_HELD_BYTES = 256 << 20
"""Text and numbers of a file that is put in order in memory, which takes twice that."""
_WAITING_BYTES = 64 << 20
"""Rows that wait for being written, of all files together."""
_BLOCK_ROWS = 1 << 13
_NUMBER = "\0prompt"  # no file has such a column

Seen = dict[bytes, int]
"""Prompt id to number."""


class ScatteredError(Exception):
    """The rows of a prompt do not follow one another: they have to be brought together first."""


class Numbered(NamedTuple):
    """Some rows, with the number of each row's prompt, int64 [rows]."""

    table: pa.Table
    prompts: np.ndarray


def as_they_come(tables: Iterable[pa.Table]) -> Iterator[Numbered]:
    """Yield rows as they are. Raises ScatteredError at the first prompt that comes back after another."""
    seen, last = Seen(), -1
    for table in tables:
        if table.num_rows:
            prompts = _numbered(table["prompt_id"], seen)
            if prompts[0] < last or (np.diff(prompts) < 0).any():
                raise ScatteredError
            last = int(prompts[-1])
            yield Numbered(table, prompts)


def in_order(tables: Iterable[pa.Table], work: Path) -> Iterator[Numbered]:
    """Yield rows by the number of their prompt; those of one prompt as they came. Raises OSError.

    `work` is an empty folder that takes as much as the rows do; files in it go as their rows are yielded.
    """
    seen = Seen()

    def numbered() -> Iterator[pa.Table]:
        for table in tables:
            if table.num_rows:
                yield table.append_column(_NUMBER, pa.array(_numbered(table["prompt_id"], seen)))

    for file in _dealt(numbered(), work, 0, _PROMPTS):
        yield from _ordered(file, work)


class _File(NamedTuple):
    path: Path
    first: int
    """Number of its first prompt."""
    prompts: int
    """How many prompts it may have."""


def _numbered(ids: pa.ChunkedArray, seen: Seen) -> np.ndarray:
    codes = ids.combine_chunks().dictionary_encode()
    if isinstance(codes, pa.ChunkedArray):
        codes = codes.combine_chunks() if codes.num_chunks > 1 else codes.chunk(0)
    numbers = [seen.setdefault(_key(prompt), len(seen)) for prompt in codes.dictionary.to_pylist()]
    found: np.ndarray = np.asarray(numbers, np.int64)[codes.indices.to_numpy(zero_copy_only=False)]
    return found


def _key(prompt: str) -> bytes:
    """Return an id in little memory: ids are hex, so 16 bytes and not 32 for each of millions of prompts."""
    try:
        return bytes.fromhex(prompt)
    except ValueError:  # a ref to rows that a plug-in made
        return prompt.encode()


def _dealt(tables: Iterable[pa.Table], work: Path, first: int, width: int) -> list[_File]:
    """Deal rows into files of `width` prompts each, from the prompt `first` on."""
    waiting: dict[int, list[pa.Table]] = {}
    there, held = set[int](), 0
    for table in tables:
        of = (table[_NUMBER].to_numpy() - first) // width
        for place in np.unique(of).tolist():
            rows = np.flatnonzero(of == place)
            some = table if len(rows) == len(of) else table.take(pa.array(rows))
            waiting.setdefault(place, []).append(some)
            held += some.nbytes
        if held >= _WAITING_BYTES:
            _append(waiting, work, first, width)
            there, waiting, held = there | waiting.keys(), {}, 0
    _append(waiting, work, first, width)
    return [
        _File(_path(work, first, width, at), first + at * width, width)
        for at in sorted(there | waiting.keys())
    ]


def _append(waiting: dict[int, list[pa.Table]], work: Path, first: int, width: int) -> None:
    """Append tables to their files, each time as a stream of its own, so that no file has to stay open."""
    for place, some in waiting.items():
        with _path(work, first, width, place).open("ab") as file, ipc.new_stream(file, some[0].schema) as out:
            for table in some:
                out.write_table(table)


def _path(work: Path, first: int, width: int, place: int) -> Path:
    return work / f"{first + place * width}-{width}.arrows"


def _streams(path: Path) -> Iterator[pa.Table]:
    """Yield what was appended to a file, batch after batch."""
    with pa.memory_map(str(path)) as source:
        while source.tell() < source.size():
            with ipc.open_stream(source) as stream:
                for batch in stream:
                    yield pa.Table.from_batches([batch])


def _ordered(file: _File, work: Path) -> Iterator[Numbered]:
    """Yield a file's rows in order, and remove it."""
    size = file.path.stat().st_size
    if file.prompts == 1 or size <= _HELD_BYTES:
        held = _streams(file.path) if file.prompts == 1 else _sorted(file.path)
        for table in held:
            prompts = table[_NUMBER].to_numpy()
            yield Numbered(table.drop_columns([_NUMBER]), prompts)
    else:
        width = max(file.prompts // (2 * size // _HELD_BYTES), 1)
        for part in _dealt(_streams(file.path), work, file.first, width):
            yield from _ordered(part, work)
    file.path.unlink()


def _sorted(path: Path) -> Iterator[pa.Table]:
    table = pa.concat_tables(list(_streams(path))).combine_chunks()
    order = np.argsort(table[_NUMBER].to_numpy(), kind="stable")
    for start in range(0, len(order), _BLOCK_ROWS):
        yield table.take(pa.array(order[start : start + _BLOCK_ROWS]))
