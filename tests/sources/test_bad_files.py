"""A file that cannot be read is one clear error: never a traceback, never a silently shorter file."""

import gzip
import json
import os
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from prefkit.errors import DataError
from prefkit.sources import Source, identity, peek, read

GOOD = {"prompt": "What is 2 + 3?", "response": "5", "score": 1.0}


def fails(folder, **settings):
    with pytest.raises(DataError) as caught:
        list(read(Source(**settings), folder))
    error = caught.value
    assert error.what
    assert error.what[0].islower() or error.what[0] in "'0123456789"
    assert not error.what.endswith(".")
    assert error.where
    assert error.hint
    return error


def test_a_missing_file_is_named_with_its_nearest_neighbour(tmp_path):
    (tmp_path / "prompts.jsonl").write_text("{}", encoding="utf-8")
    error = fails(tmp_path, file="promts.jsonl")
    assert error.what == "file 'promts.jsonl' does not exist"
    assert error.hint == "did you mean 'prompts.jsonl'?"


@pytest.mark.parametrize(
    "settings", [{"file": "*.jsonl"}, {"file": "none/rows.jsonl"}, {"file": "https://x.org/a.jsonl"}]
)
def test_a_path_that_leads_nowhere_is_an_error(tmp_path, settings):
    with pytest.raises(DataError) as caught:
        peek(Source(**settings), tmp_path)
    assert caught.value.hint


def test_a_folder_is_not_a_file(tmp_path):
    (tmp_path / "data").mkdir()
    assert fails(tmp_path, file="data").hint == "name its files: 'data/*.parquet'"


def test_a_file_that_cannot_be_opened_is_an_error(tmp_path):
    (tmp_path / "rows.jsonl").symlink_to(tmp_path / "rows.jsonl")
    assert "cannot be opened" in fails(tmp_path, file="rows.jsonl").what
    assert "cannot be opened" in fails(tmp_path, file="r" * 300).what
    assert "cannot be opened" in fails(tmp_path, file="rows\0").what


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "rows.jsonl")
    assert fails(tmp_path, file="rows.jsonl").what == "'rows.jsonl' is not a regular file"


@pytest.mark.parametrize("content", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_an_error(tmp_path, content):
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert fails(tmp_path, file="rows.jsonl").what == "file 'rows.jsonl' is empty"


@pytest.mark.parametrize("content", ["[]", '"prompt","response"\n'])
def test_a_file_without_rows_is_an_error(tmp_path, content):
    (tmp_path / ("rows.json" if content == "[]" else "rows.csv")).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="no row that can be read"):
        peek(Source(file="rows.*"), tmp_path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n0000", b"hello world\n", b"<html></html>"])
def test_a_file_of_no_known_kind_is_an_error(tmp_path, content):
    (tmp_path / "rows.dat").write_bytes(content)
    assert fails(tmp_path, file="rows.dat").what == "file 'rows.dat' is of no known kind"


def test_one_json_object_over_several_lines_is_not_rows(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"train": [GOOD]}, indent=2), encoding="utf-8")
    assert fails(tmp_path, file="rows.json").what == "file 'rows.json' is one JSON object, not rows"


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_gzip_is_an_error_and_not_a_short_file(tmp_path, kept):
    rows = "".join(json.dumps({**GOOD, "response": f"{number:x}" * 40}) + "\n" for number in range(5000))
    data = gzip.compress(rows.encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(data[: int(len(data) * kept)])
    error = fails(tmp_path, file="rows.jsonl.gz")
    assert error.what.startswith("file 'rows.jsonl.gz' ends too early or is damaged")
    assert error.hint == "download or copy it again, whole"


def test_a_damaged_gzip_is_an_error(tmp_path):
    data = bytearray(gzip.compress("".join(json.dumps(GOOD) + "\n" for _ in range(9000)).encode()))
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    (tmp_path / "rows.jsonl.gz").write_bytes(data)
    assert "damaged" in fails(tmp_path, file="rows.jsonl.gz").what


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_a_truncated_columnar_file_is_an_error(tmp_path, kind):
    table = pa.Table.from_pylist([GOOD] * 3000)
    path = tmp_path / "rows"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        make = ipc.new_file if kind == "arrow" else ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert fails(tmp_path, file="rows").what.startswith("file 'rows' cannot be read")


def test_an_array_that_ends_in_the_middle_says_where(tmp_path):
    text = json.dumps([GOOD] * 3, indent=1)
    (tmp_path / "rows.json").write_text(text[:-40], encoding="utf-8")
    error = fails(tmp_path, file="rows.json")
    assert error.what.startswith("'rows.json' is not a JSON array: ")
    assert error.where.endswith(f":{text[:-40].count(chr(10)) + 1}")


def test_a_syntax_error_in_an_array_says_its_line_and_does_not_read_on(tmp_path):
    rows = [json.dumps({**GOOD, "response": "x" * 1000}) for _ in range(5000)]
    rows[1] = rows[1].replace(":", "=", 1)
    (tmp_path / "rows.json").write_text("[\n" + ",\n".join(rows) + "\n]", encoding="utf-8")
    error = fails(tmp_path, file="rows.json")
    assert error.where.endswith("rows.json:3")


def test_text_after_an_array_is_an_error(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([GOOD]) + "]", encoding="utf-8")
    assert "more after the array's end" in fails(tmp_path, file="rows.json").what


def test_two_columns_of_one_name_are_an_error(tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,prompt\na,b\n", encoding="utf-8")
    assert "two columns called 'prompt'" in fails(tmp_path, file="rows.csv").what


def test_a_later_file_without_a_needed_column_is_named(tmp_path):
    pq.write_table(pa.table({"prompt": ["a"], "response": ["b"], "score": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"prompt": ["a"], "response": ["b"]}), tmp_path / "b.parquet")
    error = fails(tmp_path, file="*.parquet")
    assert error.what == "file 'b.parquet' has no column 'score', which the first file has"


def test_identity_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        identity(Source(file="rows.jsonl"), tmp_path, None)


def damaged(data, random):
    """Change, drop or add a few bytes."""
    data = bytearray(data)
    for _ in range(random.choice([1, 2, 8])):
        at, what = random.randrange(len(data)), random.random()
        if what < 0.7:
            data[at] = random.randrange(256)
        elif what < 0.85 and len(data) > 20:
            del data[at : at + random.randrange(1, 9)]
        else:
            data.insert(at, random.randrange(256))
    return bytes(data)


def whole(kind, path):
    rows = [{**GOOD, "prompt": f"What is {number}?", "response": "é" * number} for number in range(50)]
    table = pa.Table.from_pylist(rows)
    if kind == "parquet":
        pq.write_table(table, path)
    elif kind in {"arrow", "arrow-stream"}:
        make = ipc.new_file if kind == "arrow" else ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    elif kind == "json":
        path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    elif kind == "csv":
        path.write_text("prompt,response\n" + '"What\nis?",é\n' * 50, encoding="utf-8")
    else:
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
        path.write_bytes(gzip.compress(lines) if kind == "gz" else lines)
    return path.read_bytes()


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "gz", "parquet", "arrow", "arrow-stream"])
def test_a_damaged_file_gives_rows_or_one_clear_error_and_nothing_else(tmp_path, kind):
    path = tmp_path / f"rows.{kind}"
    data = whole(kind, path)
    outcomes = []
    for seed in range(60):
        path.write_bytes(damaged(data, random.Random(seed)))
        try:
            batches = list(read(Source(file=path.name, max_bad=0.9), tmp_path))
            outcomes.append(sum(batch.table.num_rows for batch in batches))
        except DataError as error:
            outcomes.append(error.what)
    assert len(outcomes) == 60
    assert all(outcomes)
