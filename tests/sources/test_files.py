import gzip
import json

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from prefkit.sources import Source, peek, read
from prefkit.sources.chunks import CHUNK_ROWS

ROWS = [
    {"prompt": "What is 2 + 3?", "response": 'He said "5".', "score": 1.0, "model": "a"},
    {"prompt": "What is 2 + 3?", "response": "6,\nor so", "score": 0.0, "model": "b"},
    {"prompt": "Grüße?", "response": "\u2028你好", "score": 0.5, "model": "a"},
]


def write(kind, path, rows):
    table = pa.Table.from_pylist(rows)
    if kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    elif kind == "json.gz":
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    elif kind == "csv":
        pl.DataFrame(rows).write_csv(path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(pl.DataFrame(rows).write_csv().encode()))
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=2)
    else:
        make = ipc.new_file if kind == "arrow" else ipc.new_stream
        with make(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)


KINDS = ["jsonl", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet", "arrow", "arrow-stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_come_out_of_every_kind_of_file(load, tmp_path, kind):
    write(kind, tmp_path / f"rows.{kind}", ROWS)
    loaded = load(tmp_path, file=f"rows.{kind}", name="rows")
    assert [(row["response"][0]["content"], row["score"], row["model"]) for row in loaded.rows] == [
        ('He said "5".', 1, "a"),
        ("6,\nor so", 0, "b"),
        ("\u2028你好", 0.5, "a"),
    ]
    write("jsonl", tmp_path / "same.jsonl", ROWS)
    assert loaded.table.equals(load(tmp_path, file="same.jsonl", name="rows").table)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "csv" not in kind])
def test_the_extension_may_lie(load, tmp_path, kind):
    write(kind, tmp_path / "rows.json", ROWS)
    assert load(tmp_path, file="rows.json").table.num_rows == 3


def test_a_tsv_file_has_no_quoting(load, tmp_path):
    (tmp_path / "rows.tsv").write_text('prompt\tresponse\n"Hm\t5" tall\na\tb\n', encoding="utf-8")
    loaded = load(tmp_path, file="rows.tsv")
    assert loaded.rows[0]["prompt"][0]["content"] == '"Hm'
    assert loaded.rows[0]["response"][0]["content"] == '5" tall'


def test_an_empty_csv_cell_is_no_value(load, tmp_path):
    (tmp_path / "rows.csv").write_text("prompt,response,score,model\na,b,,\na,c,N/A,m\n", encoding="utf-8")
    assert [(row["score"], row["model"]) for row in load(tmp_path, file="rows.csv").rows] == [
        (None, None),
        (None, "m"),
    ]


def test_a_glob_reads_files_in_the_order_of_their_names(load, tmp_path):
    for name in ("b", "a", "c"):
        write("jsonl", tmp_path / f"{name}.jsonl", [{"prompt": f"Who is {name}?"}])
    loaded = load(tmp_path, file="*.jsonl")
    assert [row["prompt"][0]["content"] for row in loaded.rows] == ["Who is a?", "Who is b?", "Who is c?"]
    listed = load(tmp_path, file=["c.jsonl", "a.jsonl"])
    assert [row["prompt"][0]["content"] for row in listed.rows] == ["Who is c?", "Who is a?"]


def test_a_name_with_brackets_is_a_name_if_such_a_file_is_there(load, tmp_path):
    write("jsonl", tmp_path / "rows[1].jsonl", ROWS)
    assert load(tmp_path, file="rows[1].jsonl").table.num_rows == 3


def test_paths_are_relative_to_the_recipe_and_may_leave_its_folder(load, tmp_path):
    (tmp_path / "recipes").mkdir()
    write("jsonl", tmp_path / "rows.jsonl", ROWS)
    assert load(tmp_path / "recipes", file="../rows.jsonl").table.num_rows == 3


def test_peek_tells_rows_and_bytes_where_the_file_does(tmp_path):
    write("parquet", tmp_path / "rows.parquet", ROWS)
    write("jsonl", tmp_path / "rows.jsonl", ROWS)
    seen = peek(Source(file="rows.parquet"), tmp_path)
    assert (seen.rows, seen.bytes) == (3, (tmp_path / "rows.parquet").stat().st_size)
    assert peek(Source(file="rows.parquet", take=2), tmp_path).rows == 2
    assert peek(Source(file="rows.jsonl"), tmp_path).rows == 3


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "csv"])
def test_take_reads_so_many_rows_and_no_more(load, tmp_path, kind):
    rows = [{"prompt": f"What is {number}?"} for number in range(CHUNK_ROWS + 100)]
    write(kind, tmp_path / "rows", rows) if kind != "csv" else write(kind, tmp_path / "rows.csv", rows)
    for take in (1, CHUNK_ROWS, CHUNK_ROWS + 50, CHUNK_ROWS + 1000):
        wanted = min(take, len(rows))
        assert load(tmp_path, file="rows*", take=take).table.num_rows == wanted


def test_take_does_not_reach_a_broken_row_behind(load, tmp_path):
    write("jsonl", tmp_path / "rows.jsonl", ROWS)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write("\n{broken\n")
    loaded = load(tmp_path, file="rows.jsonl", take=3)
    assert (loaded.table.num_rows, loaded.bad.num_rows) == (3, 0)


def test_the_bad_rows_of_a_file_carry_its_own_line_numbers(load, tmp_path):
    good = json.dumps(ROWS[0])
    (tmp_path / "a.jsonl").write_text(f"{good}\n\n\n{{\n{good}\n", encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(f"{{\n{good}\n", encoding="utf-8")
    loaded = load(tmp_path, file="*.jsonl", max_bad=0.9)
    assert [(row["file"], row["line"]) for row in loaded.bad.to_pylist()] == [("a.jsonl", 4), ("b.jsonl", 1)]


def test_an_array_larger_than_the_buffer_streams_whole(load, tmp_path):
    rows = [{"prompt": f"{number} {'word ' * 4000}", "response": "]}, {["} for number in range(200)]
    write("json", tmp_path / "rows.json", rows)
    loaded = load(tmp_path, file="rows.json")
    assert [row["prompt"][0]["content"] for row in loaded.rows] == [row["prompt"] for row in rows]


def test_reading_holds_a_chunk_and_not_the_file(tmp_path):
    rows = [{"prompt": f"What is {number}?", "response": "x" * 100} for number in range(3 * CHUNK_ROWS)]
    write("jsonl", tmp_path / "rows.jsonl", rows)
    sizes = [batch.table.num_rows for batch in read(Source(file="rows.jsonl"), tmp_path)]
    assert sizes == [CHUNK_ROWS] * 3
    large = [{"prompt": f"What is {number}?", "response": "x" * 2_000_000} for number in range(20)]
    write("jsonl", tmp_path / "large.jsonl", large)
    sizes = [batch.table.num_rows for batch in read(Source(file="large.jsonl"), tmp_path)]
    assert max(sizes) <= 9
    assert sum(sizes) == 20


def test_dictionary_and_large_columns_of_arrow_files_are_read(load, tmp_path):
    table = pa.table(
        {
            "prompt": pa.array(["a", "b"], pa.large_string()),
            "response": pa.array(["x", "y"]).dictionary_encode(),
            "model": pa.array(["m", None]).dictionary_encode(),
            "score": pa.array([1, 0], pa.int8()),
            "year": pa.array([2020, 2021], pa.int16()).dictionary_encode(),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    loaded = load(tmp_path, file="rows.parquet", keep=["year"])
    assert [(row["model"], row["score"], row["year"]) for row in loaded.rows] == [
        ("m", 1, 2020),
        (None, 0, 2021),
    ]


def test_kept_columns_keep_their_type_and_odd_types_become_text(load, tmp_path):
    table = pa.table(
        {
            "prompt": ["a"],
            "tags": pa.array([["x", "y"]], pa.large_list(pa.large_string())),
            "about": [{"year": 2020, "of": [1.5]}],
            "when": pa.array([0], pa.timestamp("s")),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    loaded = load(tmp_path, file="rows.parquet", keep=["tags", "about", "when"])
    row = loaded.rows[0]
    assert (row["tags"], row["about"]) == (["x", "y"], {"year": 2020, "of": [1.5]})
    assert row["when"].startswith("1970-01-01")
    assert str(loaded.table.schema.field("tags").type) == "list<item: string>"


def test_messages_of_parquet_are_read_whatever_the_order_of_their_fields(load, tmp_path):
    turns = [{"content": "What?", "role": "user"}]
    kind = pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))
    pq.write_table(pa.table({"prompt": pa.array([turns, [], None], kind)}), tmp_path / "rows.parquet")
    loaded = load(tmp_path, file="rows.parquet", format="prompts", max_bad=0.9)
    assert loaded.rows[0]["prompt"] == turns
    assert loaded.reasons == {"no prompt": 2}
