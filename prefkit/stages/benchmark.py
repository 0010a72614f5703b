"""A benchmark: the files whose items must not be trained on, and what of each line is an item."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, final

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict

from prefkit.errors import DataError
from prefkit.near.coverage import Index, index
from prefkit.near.words import parts
from prefkit.sources import Source, identity
from prefkit.sources.cells import as_list
from prefkit.sources.chunks import Chunk
from prefkit.sources.reading import raw
from prefkit.texts import slices

__all__ = ["Benchmark", "Items", "benchmarks", "read_items", "stamp"]

_USUAL = ("prompt", "question", "problem", "instruction", "query", "text")


def _several(value: object) -> object:
    return (value,) if isinstance(value, str) else value


@final
class Benchmark(BaseModel):
    """Files of a benchmark."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | tuple[str, ...]
    """Path or glob pattern, or several: JSON Lines, JSON, CSV, TSV, Parquet or Arrow, compressed or not."""
    fields: Annotated[tuple[str, ...], BeforeValidator(_several, json_schema_input_type=str | list[str])] = ()
    """What of a line is an item each: text, or a list of messages. By default whichever there are of prompt, question,
    problem, instruction, query and text."""
    name: str = ""
    """What drop reasons call it; by default the end of the path."""

    @property
    def source(self) -> Source:
        """Return it as a source of rows."""
        return Source(file=self.file, name=self.name)


def benchmarks(value: Any) -> Any:
    """Read benchmarks as recipes spell them: a path, a benchmark, or a list of such."""
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple({"file": one} if isinstance(one, str) else one for one in several)


class Items(NamedTuple):
    """The items of some benchmarks, in the order of their files."""

    ready: Index
    texts: pa.ChunkedArray
    """string [items]"""
    names: pa.Array
    """The benchmark of each item, string [items]."""
    places: pa.Array
    """File and line of each item, string [items]: `test.jsonl:17`."""


def stamp(against: Sequence[Benchmark], folder: Path) -> tuple[str, ...]:
    """Return a digest of what stands in the files of each benchmark. Raises DataError if one is missing."""
    return tuple(identity(one.source, folder) for one in against)


@lru_cache(maxsize=1)  # the same items for every shard of a step
def read_items(against: tuple[Benchmark, ...], folder: Path, n: int, stamped: tuple[str, ...]) -> Items:  # noqa: ARG001
    """Return the items, ready to be looked for; `stamped` is their `stamp`, so that changed files are read again.

    Raises DataError for a line that cannot be read, or a field that no line has.
    """
    texts: list[pa.Array] = []
    names: list[str] = []
    places: list[str] = []
    for one in against:
        for file, lines, found in _texts(one, folder):
            texts.append(found)
            names += [one.source.label] * len(found)
            places += [f"{Path(file).name}:{line}" for line in lines.tolist()]
    column = pa.chunked_array(texts, pa.string())
    pieces = [parts(piece) for piece in slices(column)]
    return Items(index(pieces, n), column, pa.array(names, pa.string()), pa.array(places, pa.string()))


def _texts(one: Benchmark, folder: Path) -> Iterator[tuple[str, np.ndarray, pa.Array]]:
    """Yield (file, lines, texts) of a benchmark, field by field of a few thousand lines."""
    met = False
    for file, chunk in raw(one.source, folder):
        if chunk.bad:
            where = f"{file}:{chunk.bad[0].line}"
            raise DataError(
                f"a line of benchmark '{one.source.label}' cannot be read: {chunk.bad[0].reason}", where=where
            )
        for field in one.fields or _usual(chunk):
            texts = [_text(value) for value in as_list(chunk.column(field))]
            there = np.array([text is not None for text in texts], dtype=bool)
            met |= bool(there.any())
            yield (
                file,
                chunk.lines[there],
                pa.array([text for text in texts if text is not None], pa.string()),
            )
    if not met:
        fields = ", ".join(f"'{field}'" for field in one.fields or _USUAL)
        hint = "name the fields that hold the questions: {file: ..., fields: [question]}"
        raise DataError(f"no line of benchmark '{one.source.label}' has text in {fields}", hint=hint)


def _usual(chunk: Chunk) -> list[str]:
    if isinstance(chunk.data, pa.Table):
        return [name for name in _USUAL if name in chunk.data.column_names]
    return [name for name in _USUAL if any(name in row for row in chunk.data)]


def _text(value: Any) -> str | None:
    """Return a text, or the turns of a conversation as one; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return _text(value.get("content"))
    if isinstance(value, list):
        told = [text for text in map(_text, value) if text is not None]
        return "\n".join(told) if told else None
    return None
