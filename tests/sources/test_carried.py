"""Columns that some objectives read come from files under their own names, typed and checked."""

import json
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from prefkit.columns import COLUMNS
from prefkit.sources import Source, Target
from prefkit.sources.carried import CARRIED


def span(start, end, kind="phrase", number=1, value=None):
    return {"start": start, "end": end, "kind": kind, "id": number, "value": value}


SPANS = [
    span(0, 2),
    span(0, 5, "sentence", None, 1.0),
    span(0, 5, "step", 1, -0.5),
    span(1, 2, "weight", None, 0.3),
]
ROW = {
    "prompt": "Say hi",
    "chosen": "hello",
    "rejected": "😀 hi",
    "chosen_win_rate": 0.8,
    "rejected_win_rate": 0.25,
    "chosen_spans": SPANS,
    "rejected_spans": [span(0, 4, "kl-weight", None, 1.0)],
    "annotator": "ann",
    "dimension": "honesty",
    "pair_group": "g",
    "trace_mode": "empty",
    "degree": 0,
    "ref_history": [{"model": "m", "chosen_logp": -1.5, "rejected_logp": -2.0}],
    "chosen_teacher": [[{"id": 3, "logp": -0.5}, {"id": 1, "logp": -1.0}], []],
    "rejected_teacher": [[{"id": 3, "logp": -0.5}]],
    "rejected_advantage": [[{"id": 3, "value": 0.25}]],
    "teacher_fingerprint": "a/b/c",
}


def test_every_such_column_may_be_mapped_and_has_a_place_in_the_vocabulary():
    names = [name for level in CARRIED for name in CARRIED[level]]
    assert len(names) == 15
    assert set(names) <= set(get_args(Target))
    assert {
        level for level in CARRIED for name in CARRIED[level] if level not in COLUMNS[name].levels
    } == set()
    assert set(CARRIED["pair"]) < set(ROW)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_with_these_columns_are_read_as_they_are(load, write_jsonl, tmp_path, kind):
    rows = [ROW, {**ROW, "prompt": "Say ho", "annotator": None, "chosen_spans": None, "degree": 2}]
    if kind == "jsonl":
        write_jsonl("rows.jsonl", rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    loaded = load(tmp_path, file=f"rows.{kind}")
    assert (loaded.format, loaded.bad.num_rows) == ("trl-explicit", 0)
    for name in CARRIED["pair"]:
        assert loaded.table[name].type == COLUMNS[name].type
        assert loaded.table[name].to_pylist() == [row[name] for row in rows]


def test_other_names_are_mapped(load, write_jsonl):
    row = {"q": "Say hi", "good": "hello", "bad": "no", "marks": SPANS[:1], "who": 7, "win": 1}
    columns = {
        "prompt": "q",
        "chosen": "good",
        "rejected": "bad",
        "chosen_spans": "marks",
        "annotator": "who",
    }
    folder = write_jsonl("rows.jsonl", [row])
    loaded = load(folder, file="rows.jsonl", columns={**columns, "chosen_win_rate": "win"})
    assert loaded.rows[0]["chosen_spans"] == SPANS[:1]
    assert (loaded.rows[0]["annotator"], loaded.rows[0]["chosen_win_rate"]) == ("7", 1.0)


def test_a_response_may_bring_its_win_rate(load, write_jsonl):
    row = {"prompt": "Say hi", "response": "hello", "win_rate": 0.5}
    assert load(write_jsonl("rows.jsonl", [row]), file="rows.jsonl").rows[0]["win_rate"] == 0.5
    loaded = load(
        write_jsonl("more.jsonl", [{**row, "win_rate": 50}, *[row] * 2]), file="more.jsonl", max_bad=0.5
    )
    assert loaded.reasons == {"win_rate is not in [0, 1]": 1}


BAD = [
    ({"chosen_spans": [span(0, 6)]}, "'chosen_spans' reaches outside its text"),
    ({"chosen_spans": [span(-1, 2)]}, "'chosen_spans' reaches outside its text"),
    ({"chosen_spans": [span(2, 2)]}, "'chosen_spans' reaches outside its text"),
    ({"chosen_spans": [span(0, None)]}, "'chosen_spans' reaches outside its text"),
    ({"rejected_spans": [span(0, 5)]}, "'rejected_spans' reaches outside its text"),
    ({"chosen_spans": [span(0, 1, "token")]}, "unknown kind of span in 'chosen_spans'"),
    ({"chosen_spans": [span(0, 1, None)]}, "unknown kind of span in 'chosen_spans'"),
    ({"chosen_spans": [span(0, 1, "step", None)]}, "a phrase or step without id in 'chosen_spans'"),
    ({"chosen_spans": [span(0, 1, "weight", None, 1.5)]}, "a value out of range in 'chosen_spans'"),
    ({"chosen_spans": [span(0, 1, "weight", None, -0.5)]}, "a value out of range in 'chosen_spans'"),
    ({"chosen_spans": [span(0, 1, "step", 1, -1.5)]}, "a value out of range in 'chosen_spans'"),
    ({"chosen_spans": "here"}, "wrong type in 'chosen_spans'"),
    ({"chosen_spans": [span("a", 1)]}, "wrong type in 'chosen_spans'"),
    ({"chosen_win_rate": 1.5}, "chosen_win_rate is not in [0, 1]"),
    ({"rejected_win_rate": "often"}, "rejected_win_rate is not a number"),
    ({"trace_mode": "full"}, "trace_mode is neither 'trace' nor 'empty'"),
    ({"degree": 0.5}, "degree is not a whole number of at least 0"),
    ({"degree": -1}, "degree is not a whole number of at least 0"),
    ({"degree": 1e12}, "degree is not a whole number of at least 0"),
    ({"chosen_teacher": [{"id": 3, "logp": -0.5}]}, "wrong type in 'chosen_teacher'"),
    ({"ref_history": [{"model": "m", "chosen_logp": "low"}]}, "wrong type in 'ref_history'"),
]


@pytest.mark.parametrize(("wrong", "reason"), BAD, ids=range(len(BAD)))
def test_a_row_that_does_not_fit_is_set_aside_with_its_reason(load, write_jsonl, wrong, reason):
    folder = write_jsonl("rows.jsonl", [ROW, {**ROW, **wrong}, {**ROW, "prompt": "Say ho"}])
    loaded = load(folder, file="rows.jsonl", max_bad=0.5)
    assert loaded.reasons == {reason: 1}
    assert loaded.table.num_rows == 2


def test_offsets_are_of_the_last_turn(load, write_jsonl):
    turns = [
        {"role": "assistant", "content": "a long turn"},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "ok"},
    ]
    rows = [{**ROW, "chosen": turns, "chosen_spans": [span(0, end)]} for end in (2, 3)]
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl", max_bad=0.5)
    assert loaded.reasons == {"'chosen_spans' reaches outside its text": 1}


@pytest.mark.parametrize("name", ["chosen_spans", "rejected_win_rate", "ref_history"])
def test_what_is_of_one_side_needs_sides_with_a_direction(name):
    columns = {"prompt": "p", "first": "a", "second": "b", "preference": "v", name: "x"}
    with pytest.raises(ValidationError, match=f"'{name}' is for pairs with 'chosen' and 'rejected'"):
        Source.model_validate_json(json.dumps({"file": "x", "columns": columns}))
