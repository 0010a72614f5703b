import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from prefkit.errors import ContractError, DataError, StoreError
from prefkit.identity import digest
from prefkit.sources import Source, gather, peek, read, unify

ROWS = [
    {"prompt": f"What is {number % 40}?", "response": f"It is {number}.", "model": "ab"[number % 2]}
    for number in range(300)
]


def read_all(folder, **settings):
    source = Source(**settings)
    return peek(source, folder).schema, pa.concat_tables([batch.table for batch in read(source, folder)])


def pieces(table, cuts):
    edges = [0, *sorted(cut % (table.num_rows + 1) for cut in cuts), table.num_rows]
    return [table.slice(a, b - a) for a, b in pairwise(edges)]


@pytest.fixture
def responses(write_jsonl):
    rows = [*ROWS, *ROWS[:7]]
    random.Random(0).shuffle(rows)
    return read_all(write_jsonl("rows.jsonl", rows), file="rows.jsonl")


def test_rows_of_a_prompt_become_adjacent_in_the_order_in_which_prompts_appear(responses, tmp_path):
    schema, table = responses
    out = pa.concat_tables(list(gather([table], schema, tmp_path)))
    first_seen = list(dict.fromkeys(table["prompt_id"].to_pylist()))
    assert list(dict.fromkeys(out["prompt_id"].to_pylist())) == first_seen
    for prompt in first_seen:
        before = [row["response"] for row in table.to_pylist() if row["prompt_id"] == prompt]
        rows = [row for row in out.to_pylist() if row["prompt_id"] == prompt]
        assert [row["response"] for row in rows] == before
        assert [row["index"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize("shard_rows", [1, 3, 17, 100, 1000])
def test_shards_hold_whole_prompts_and_their_size_changes_nothing(responses, tmp_path, shard_rows):
    schema, table = responses
    whole = pa.concat_tables(list(gather([table], schema, tmp_path)))
    shards = list(gather([table], schema, tmp_path, shard_rows))
    assert digest(pa.concat_tables(shards)) == digest(whole)
    seen = [set(shard["prompt_id"].to_pylist()) for shard in shards]
    assert sum(map(len, seen)) == len(set.union(*seen)) == 40
    assert all(shard.num_rows <= shard_rows or len(of) == 1 for shard, of in zip(shards, seen, strict=True))
    if shard_rows == 100:
        assert len(shards) <= 5


def test_batches_change_nothing(responses, tmp_path):
    schema, table = responses
    whole = digest(pa.concat_tables(list(gather([table], schema, tmp_path))))

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 10_000), max_size=12))
    def check(cuts):
        assert digest(pa.concat_tables(list(gather(pieces(table, cuts), schema, tmp_path, 50)))) == whole

    check()


def test_exact_repeats_of_a_response_get_ids_of_their_own(responses, tmp_path):
    schema, table = responses
    notes = Counter()
    out = pa.concat_tables(list(gather([table], schema, tmp_path, notes=notes)))
    assert out.num_rows == 307
    assert len(set(out["id"].to_pylist())) == 307
    assert len(set(table["id"].to_pylist())) == 300
    assert set(table["id"].to_pylist()) <= set(out["id"].to_pylist())
    assert notes == {"exact repeats of a response": 7}


def test_exact_repeats_of_a_pair_get_ids_of_their_own(write_jsonl, tmp_path):
    row = {"prompt": "What?", "chosen": "1", "rejected": "2"}
    schema, table = read_all(
        write_jsonl("rows.jsonl", [row, {**row, "rejected": "3"}, row, row]), file="rows.jsonl"
    )
    out = pa.concat_tables(list(gather([table], schema, tmp_path)))
    assert len(set(out["id"].to_pylist())) == 4
    assert out["chosen_id"][0] == out["chosen_id"][1]
    assert len({*out["chosen_id"].to_pylist()}) == 3


def test_repeats_of_a_prompt_are_one_row_and_counted(write_jsonl, tmp_path):
    rows = [{"prompt": text} for text in ("a", "b", "a", "a")]
    schema, table = read_all(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    notes = Counter()
    (out,) = gather([table], schema, tmp_path, notes=notes)
    assert [row["prompt"][0]["content"] for row in out.to_pylist()] == ["a", "b"]
    assert out["id"].to_pylist() == out["prompt_id"].to_pylist()
    assert notes == {"repeated prompts merged": 2}


def test_sources_with_different_columns_share_a_table(write_jsonl, tmp_path):
    one = read_all(write_jsonl("a.jsonl", [{"prompt": "a", "response": "1", "score": 0.5}]), file="a.jsonl")
    other = read_all(write_jsonl("b.jsonl", [{"prompt": "a", "response": "2"}]), file="b.jsonl")
    schema = unify([one[0], other[0]])
    (out,) = gather([one[1], other[1]], schema, tmp_path)
    assert [(row["source"], row["index"], row["score"]) for row in out.to_pylist()] == [
        ("a", 0, 0.5),
        ("b", 1, None),
    ]


def test_sources_of_different_levels_cannot_be_mixed(write_jsonl):
    one, _ = read_all(write_jsonl("a.jsonl", [{"prompt": "a", "response": "1"}]), file="a.jsonl")
    other, _ = read_all(write_jsonl("b.jsonl", [{"prompt": "a"}]), file="b.jsonl")
    with pytest.raises(DataError, match="different levels: prompt, response"):
        unify([one, other])


def test_sources_must_agree_on_the_type_of_a_column(write_jsonl):
    one, _ = read_all(write_jsonl("a.jsonl", [{"prompt": "a", "x": 1}]), file="a.jsonl", keep=["x"])
    other, _ = read_all(write_jsonl("b.jsonl", [{"prompt": "a", "x": "1"}]), file="b.jsonl", keep=["x"])
    with pytest.raises(DataError, match="'x' is int64 in one source and string in another"):
        unify([one, other])


def test_no_rows_give_one_empty_shard(responses, tmp_path):
    schema, table = responses
    assert list(gather([table.slice(0, 0)], schema, tmp_path)) == [schema.empty_table()]


def test_a_column_outside_the_schema_is_refused(responses, tmp_path):
    schema, table = responses
    with pytest.raises(ContractError, match="'extra'"):
        list(gather([table.append_column("extra", table["id"])], schema, tmp_path))


def test_nothing_is_left_in_the_work_folder(responses, tmp_path):
    schema, table = responses
    work = tmp_path / "work"
    list(gather([table], schema, work))
    shards = gather([table], schema, work, 10)
    next(shards)
    shards.close()
    assert list(work.iterdir()) == []


def test_a_work_folder_that_cannot_be_written_is_one_clear_error(responses, tmp_path):
    schema, table = responses
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StoreError) as caught:
        list(gather([table], schema, tmp_path / "file" / "work"))
    assert caught.value.what.startswith("cannot write temporary rows")
    assert caught.value.hint


def test_numbers_of_responses_that_come_from_a_build_stay(responses, tmp_path):
    schema, table = responses
    whole = pa.concat_tables(list(gather([table], schema, tmp_path)))
    some = whole.filter(pa.array([row % 3 != 0 for row in range(whole.num_rows)]))
    assert pa.concat_tables(list(gather([some], schema, tmp_path))) == some


def test_a_disk_that_fills_up_is_one_clear_error_and_leaves_nothing(responses, tmp_path):
    schema, table = responses
    with ipc.new_file(str(tmp_path / "rows.arrow"), schema) as writer:
        writer.write_table(table)
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from pyarrow import ipc; from prefkit.errors import StoreError; from prefkit.sources import gather\n"
        f"table = ipc.open_file({str(tmp_path / 'rows.arrow')!r}).read_all()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"  # as if the disk had only so much room
        "try:\n"
        f"    list(gather([table] * 50, table.schema, Path({str(tmp_path / 'work')!r})))\n"
        "except StoreError as error:\n"
        "    print(error.what)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.startswith("cannot write temporary rows: ")
    assert list((tmp_path / "work").iterdir()) == []
