"""Columnar files that say gigabytes in a few bytes, and honest ones whose rows share long texts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from prefkit.sources import Source, read
from prefkit.sources.chunks import CHUNK_BYTES
from prefkit.sources.unfolding import slices, weights

MB = 1 << 20
LONG = "x" * 10_000_000
MANY = 100_000
READS = """
import json, resource, sys
from pathlib import Path
from prefkit.errors import DataError
from prefkit.sources import Source, pages, read, unfolding

unfolding.FREELY = pages.FREELY = 1 << 26  # a quarter of what it is, so that this is soon over

def peak(): return int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) >> 10

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
found = {}
for name, settings in json.loads(sys.argv[1]):
    try:
        for batch in read(Source(file=name, **settings), Path()):
            pass
        found[name] = ["", peak()]
    except DataError as error:
        found[name] = [f"{error.what} | {error.where} | {error.hint}", peak()]
print(json.dumps(found))
"""


def same(rows: int, text: str = LONG) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), [text])


def turns(offsets: list[int]) -> pa.Array:
    said = same(offsets[-1])
    who = same(offsets[-1], "user")
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays([who, said], ["role", "content"]))


def pages(name: str, prompt: pa.Array, **settings) -> None:
    table = pa.table({"prompt": prompt, "response": ["a"] * len(prompt)})
    plain = {"compression": "zstd", "store_schema": False, "dictionary_pagesize_limit": 1 << 30}
    pq.write_table(table, name, **{**plain, **settings})


def batch(name: str, prompt: pa.Array, compression: str | None = "zstd", **more: pa.Array) -> None:
    table = pa.table({"prompt": prompt, "response": ["a"] * len(prompt), **more})
    make = ipc.new_stream if "stream" in name else ipc.new_file
    with make(name, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)


def views() -> pa.Array:
    each = np.zeros((MANY, 4), np.int32)
    each[:, 0], each[:, 1] = len(LONG), int.from_bytes(b"xxxx", "little")
    return pa.Array.from_buffers(
        pa.string_view(), MANY, [None, pa.py_buffer(each), pa.py_buffer(LONG.encode())]
    )


def bombs() -> dict[str, str]:
    """Write files of at most a quarter of a megabyte that say 400 MB to a terabyte; return what is said of each."""
    nothing = pa.array(["\0" * 400 * MB])
    pages("entries.parquet", same(MANY))
    pages("lists.parquet", turns(list(range(MANY + 1))))
    pages("one-row.parquet", turns([0, MANY]))
    pages("page.parquet", nothing, use_dictionary=False)
    delta = {"prompt": "DELTA_BYTE_ARRAY"}
    pages("begins.parquet", pa.array([LONG[:MB]] * 500), use_dictionary=False, column_encoding=delta)
    batch("body.arrow", nothing)
    batch("body.stream.arrow", nothing)
    batch("entries.arrow", same(MANY))
    batch("views.arrow", views())
    batch("runs.arrow", pa.RunEndEncodedArray.from_arrays(pa.array([MANY], pa.int32()), pa.array([LONG])))
    batch("one-row.arrow", pa.ListArray.from_arrays([0, MANY], same(MANY)))
    none = pa.ListArray.from_arrays([0, 2**31 - 1], pa.nulls(2**31 - 1))
    batch("nothing.arrow", pa.array(["a"]), None, more=none)
    up_to = "its rows up to row"
    return {
        "entries.parquet": up_to,
        "lists.parquet": up_to,
        "one-row.parquet": "row 1 unfolds to",
        "page.parquet": "a page of 'prompt' unfolds from",
        "begins.parquet": up_to,
        "body.arrow": "a batch of 1 rows unfolds to",
        "body.stream.arrow": "a batch of 1 rows unfolds to",
        "entries.arrow": up_to,
        "views.arrow": up_to,
        "runs.arrow": up_to,
        "one-row.arrow": "row 1 unfolds to",
        "nothing.arrow": "claims 2,147,483,647 items of lists",
    }


def test_columnar_files_that_unfold_without_end_are_refused_in_bounded_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = bombs()
    pages("small.parquet", pa.array(["a"]))
    order = ["small.parquet", *said]
    asked = json.dumps([(name, {"keep": ["more"]} if name == "nothing.arrow" else {}) for name in order])
    ran = subprocess.run(
        [sys.executable, "-c", READS, asked], capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    before = found["small.parquet"]
    assert before[0] == ""
    for name, what in said.items():
        assert Path(name).stat().st_size < 300_000
        told, peak = found[name]
        assert what in told, name
        assert name in told
        assert "write the rows to JSON Lines" in told or "make it again" in told
        assert peak - before[1] < 400, f"{name} took {peak - before[1]} MB"


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("listed", [False, True])
def test_a_long_text_that_all_rows_share_is_read_in_bounded_chunks(tmp_path, dictionary, listed):
    system, rows = "You are kind. " * 400, 20_000
    prompts: list = [f"{system} {number % 50}" if not listed else None for number in range(rows)]
    if listed:
        prompts = [
            [{"role": "system", "content": system}, {"role": "user", "content": f"What is {number}?"}]
            for number in range(rows)
        ]
    table = pa.table({"prompt": prompts, "response": [f"It is {number}." for number in range(rows)]})
    pq.write_table(table, tmp_path / "rows.parquet", use_dictionary=dictionary, compression="zstd")
    assert (tmp_path / "rows.parquet").stat().st_size < 2 * MB
    batches = [batch.table for batch in read(Source(file="rows.parquet"), tmp_path)]
    assert max(table.nbytes for table in batches) < 1.5 * CHUNK_BYTES
    made = pa.concat_tables(batches)
    assert made.num_rows == rows
    for at in (0, 7_777, rows - 1):
        said = prompts[at] if listed else [{"role": "user", "content": prompts[at]}]
        assert made["prompt"][at].as_py() == said
        assert made["response"][at].as_py()[0]["content"] == f"It is {at}."


def test_rows_are_weighed_as_if_nothing_were_shared():
    shared = pa.array(["aaaa", "b", "aaaa"])
    forms = {
        "plain": shared,
        "entries": shared.dictionary_encode(),
        "views": shared.cast(pa.string_view()),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2, 3], pa.int32()), shared),
    }
    for name, column in forms.items():
        assert weights(pa.table({"a": column})).tolist() == [8.0, 5.0, 8.0], name
        assert weights(pa.table({"a": column}).slice(1, 2)).tolist() == [5.0, 8.0], name
    lists = pa.ListViewArray.from_arrays([0, 0, 2], [3, 3, 1], forms["entries"])
    assert weights(pa.table({"a": lists})).tolist() == [29.0, 29.0, 16.0]
    assert weights(pa.table({"a": lists}).slice(1)).tolist() == [29.0, 16.0]


def test_slices_hold_a_chunk_at_most_or_one_row():
    table = pa.table({"a": same(5, "x" * (CHUNK_BYTES // 2 - 20)), "b": list(range(5))})
    assert [(start, count) for start, count, _ in slices(table)] == [(0, 2), (2, 2), (4, 1)]
    large = pa.table({"a": same(3, "x" * 2 * CHUNK_BYTES)})
    assert [(start, count) for start, count, _ in slices(large)] == [(0, 1), (1, 1), (2, 1)]
