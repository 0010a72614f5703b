import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from prefkit.sources import Source, gather, peek, read, unify


class Loaded(NamedTuple):
    table: pa.Table
    bad: pa.Table
    notes: Counter[str]
    format: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()

    @property
    def reasons(self) -> Counter[str]:
        return Counter(self.bad["reason"].to_pylist())


Load = Callable[..., Loaded]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load one source whole, gathered, having checked that it gives the columns that were promised."""

    def loaded(folder: Path, **settings: Any) -> Loaded:
        source = Source(**settings)
        seen = peek(source, folder)
        batches = list(read(source, folder))
        for batch in batches:
            assert batch.table.schema == seen.schema
        notes: Counter[str] = Counter()
        for batch in batches:
            notes.update(batch.notes)
        shards = list(
            gather((b.table for b in batches), unify([seen.schema]), tmp_path / "work", 5000, notes)
        )
        bad = pa.concat_tables([batch.bad for batch in batches])
        return Loaded(pa.concat_tables(shards), bad, notes, seen.format)

    return loaded


Write = Callable[[str, Iterable[Any]], Path]


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Write:
    """Write rows as JSON Lines; a text is written as it is."""

    def written(name: str, rows: Iterable[Any]) -> Path:
        lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return tmp_path

    return written
