"""Apart: the files of a source read in worker processes, and their rows handed on in the order of the files.

Reading is mostly making ids, which is Python and takes one core. A worker writes the rows of a file beside the store's
and says what it could not read; here they come file after file, with the same rows, counts and errors as if one process
had read them all. A few files are read ahead, no more, so what lies on disk in between stays small.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
from pyarrow import ipc

from prefkit.sources.chunks import CHUNK_ROWS, BadRow, bad_table
from prefkit.sources.reading import Batch, arranged, check_there, looked_at, most_rows, read_file
from prefkit.sources.source import Source
from prefkit.sources.tally import Tally
from prefkit.threads import Apart

__all__ = ["can_be_apart", "read_apart"]


class _Part(NamedTuple):
    """What a worker says of one chunk."""

    batches: int
    """Of Arrow, in the file of rows."""
    bad: list[BadRow]
    notes: Mapping[str, int]


def can_be_apart(source: Source, folder: Path) -> bool:
    """Say whether a source is several files that can be read in any order."""
    if source.file is None or source.join is not None or source.take is not None:
        return False
    return len(looked_at(source, folder)[0]) > 1


def read_apart(source: Source, folder: Path, work: Path, apart: Apart) -> Iterator[Batch]:
    """Yield canonical rows, as `read` does. Raises DataError as soon as more than `max_bad` cannot be read.

    `work` is a folder for the rows of a few files.
    """
    files, shape = looked_at(source, folder)
    tally, most = Tally(source.max_bad, source.label), most_rows(files, source, shape)
    plain = source.model_dump_json(exclude_unset=True)
    tasks = [(plain, str(folder), at, str(work / f"{at}.arrows")) for at in range(len(files))]
    for file, task, parts in zip(files, tasks, apart(_read_one, tasks), strict=True):
        out = Path(task[-1])
        for part, table in _filed(parts, out):
            tally.add(table.num_rows, part.bad, file.shown)
            if most is not None:
                tally.check(most)
            yield Batch(table, bad_table(part.bad, file.shown), part.notes)
        out.unlink()
    tally.finish()


def _read_one(plain: str, folder: str, at: int, out: str) -> list[_Part]:
    """Read one file and write its rows; in a worker."""
    source = Source.model_validate_json(plain)
    files, shape = looked_at(source, Path(folder))
    needed, file, parts = shape.needed(source), files[at], list[_Part]()
    notes: Counter[str] = Counter()
    with ipc.new_file(out, shape.schema) as writer:
        for chunk in read_file(file, CHUNK_ROWS, None if needed is None else tuple(needed)):
            check_there(chunk, file, shape, source)
            table, bad = arranged(chunk, source, shape, None, notes)
            batches = table.to_batches() if table.num_rows else []
            for batch in batches:
                writer.write_batch(batch)
            parts.append(_Part(len(batches), bad, dict(notes)))
            notes.clear()
    return parts


class _Filed(NamedTuple):
    part: _Part
    table: pa.Table


def _filed(parts: Sequence[_Part], path: Path) -> Iterator[_Filed]:
    """Yield what a worker said of each chunk with its rows."""
    with pa.memory_map(str(path)) as source:
        reader, begin = ipc.open_file(source), 0
        for part in parts:
            batches = [reader.get_batch(begin + place) for place in range(part.batches)]
            begin += part.batches
            yield _Filed(part, pa.Table.from_batches(batches, reader.schema))
