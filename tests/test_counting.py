"""Counting: the digest and statistics of a step do not depend on shards, threads or where numbers lie meanwhile."""

import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from prefkit.columns import MESSAGES
from prefkit.counting import counting
from prefkit.disk import TEMPORARY
from prefkit.errors import MemoryLimitError
from prefkit.identity import digest
from prefkit.recipe import Recipe
from prefkit.run import build
from prefkit.shards import cut
from prefkit.statistics import Gathering, summarise
from prefkit.steps import Settings
from prefkit.store import DamagedError, Store


def _pairs(count: int) -> pa.Table:
    at = range(count)
    texts = {
        name: pa.array([[{"role": "user", "content": f"{name} {k} " * (k % 7)}] for k in at], MESSAGES)
        for name in ("prompt", "chosen", "rejected")
    }
    names = {name: [f"{name}-{k // 3}" for k in at] for name in ("id", "prompt_id")}
    return pa.table(
        {
            **names,
            **texts,
            "chosen_score": [float(k % 5) for k in at],
            "rationale": [f"since {k} " * 40 for k in at],  # too wide to be copied
            "source": ["one" if k % 2 else None for k in at],
            "rejected_score": [k / 7 if k % 4 else None for k in at],
            "split": ["train" if k % 6 else "test" for k in at],
        }
    )


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("rows", [7, 30, 1000])
def test_what_is_counted_does_not_depend_on_shards_or_threads(tmp_path: Path, cores: int, rows: int) -> None:
    table, store = _pairs(100), Store(tmp_path)
    with counting(store, "00-data", cores) as counts:
        for piece in cut(table, rows):
            counts.add(store.put(piece))
        found = counts.result()
    assert found.digest == digest(table)
    assert found.statistics == summarise(table)
    assert counts.timing.cpu > 0
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(TEMPORARY)]


@pytest.mark.parametrize("cores", [1, 2])
def test_a_shard_that_was_damaged_meanwhile_is_named(tmp_path: Path, cores: int) -> None:
    store = Store(tmp_path)
    shards = [store.put(piece) for piece in cut(_pairs(60), 20)]
    path = store.path(shards[1])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedError, match=shards[1].digest), counting(store, "00-data", cores) as counts:
        for shard in shards:
            counts.add(shard)
        counts.result()


def test_columns_that_come_after_wide_ones_keep_their_order_in_the_statistics(tmp_path: Path) -> None:
    table = _pairs(50)
    gathering = Gathering(tmp_path)
    for piece in cut(table, 9):
        gathering.add(piece)
    assert json.dumps(gathering.summary()) == json.dumps(summarise(table))  # in order
    assert (tmp_path / "measures.arrow").stat().st_size < table.nbytes / 2


def test_more_rows_than_can_be_counted_are_refused_and_what_is_filed_stays(tmp_path: Path) -> None:
    lines = [{"prompt": f"p {k}", "chosen": "a", "rejected": "b"} for k in range(12_000)]
    pl.DataFrame(lines).write_parquet(tmp_path / "rows.parquet")
    data = [{"file": str(tmp_path / "rows.parquet")}]
    recipe, store = (
        Recipe.model_validate({"name": "big", "data": data, "build": []}),
        Store(tmp_path / "store"),
    )
    with pytest.raises(MemoryLimitError, match=r"'00-data' has 10,000 rows by now") as refused:
        build(recipe, store, Settings(memory=1_000_000, shard_rows=1000))
    assert "--memory" in refused.value.hint
    assert len(list((tmp_path / "store" / "objects").rglob("*.arrow"))) == 10
    assert build(recipe, store, Settings(memory=2_000_000)).last.rows.kept == 12_000
