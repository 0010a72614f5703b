"""A row that cannot be read is set aside with its line and reason; too many of them stop the reading."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from prefkit.errors import DataError
from prefkit.sources import Source, peek, read

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


BAD_LINES = {
    "{": "invalid JSON",
    '{"prompt": "a", "response": }': "invalid JSON",
    "[1, 2]": "not an object",
    '"text"': "not an object",
    "[" * 100_000: "invalid JSON",
    '{"prompt": "a", "response": "\\ud800"}': "invalid Unicode escape",
    '{"response": "b"}': "no prompt",
    '{"prompt": null, "response": "b"}': "no prompt",
    '{"prompt": " \\n", "response": "b"}': "empty prompt",
    '{"prompt": [], "response": "b"}': "no prompt",
    '{"prompt": "a"}': "no response",
    '{"prompt": {"text": "a"}, "response": "b"}': "unknown role in prompt",
    '{"prompt": [1], "response": "b"}': "prompt is neither text nor messages",
    '{"prompt": [{"role": "wizard", "content": "a"}], "response": "b"}': "unknown role in prompt",
    '{"prompt": [{"role": "user", "content": null}], "response": "b"}': "message without text in prompt",
    '{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "response": "c"}': (
        "roles out of order in prompt"
    ),
    '{"prompt": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}], "response": "c"}': (
        "roles out of order in prompt"
    ),
    '{"prompt": "a", "response": [{"role": "user", "content": "b"}]}': "roles out of order in response",
    '{"prompt": "a", "response": "b", "score": "good"}': "score is not a number",
    '{"prompt": "a", "response": "b", "score": [1]}': "score is not a number",
}


@pytest.mark.parametrize(("line", "reason"), BAD_LINES.items(), ids=range(len(BAD_LINES)))
def test_a_bad_row_is_set_aside_with_line_reason_and_text(load, write_jsonl, line, reason):
    folder = write_jsonl("rows.jsonl", [GOOD, "", line, {**GOOD, "prompt": "And 3 + 4?"}])
    loaded = load(folder, file="rows.jsonl", max_bad=0.5)
    assert loaded.table.num_rows == 2
    (bad,) = loaded.bad.to_pylist()
    assert (bad["line"], bad["reason"], bad["file"]) == (3, reason, "rows.jsonl")
    assert 0 < len(bad["text"]) <= 500


def test_a_row_that_is_not_utf8_is_set_aside(load, tmp_path):
    good = json.dumps(GOOD).encode()
    (tmp_path / "rows.jsonl").write_bytes(good + b"\n" + good.replace(b"5", b"caf\xe9") + b"\n")
    loaded = load(tmp_path, file="rows.jsonl", max_bad=0.5)
    assert loaded.reasons == {"invalid UTF-8": 1}
    assert loaded.bad["line"].to_pylist() == [2]


def test_an_array_element_that_is_not_utf8_is_set_aside(load, tmp_path):
    rows = json.dumps([GOOD, {**GOOD, "response": "caf?"}]).encode().replace(b"caf?", b"caf\xe9")
    (tmp_path / "rows.json").write_bytes(rows)
    loaded = load(tmp_path, file="rows.json", max_bad=0.5)
    assert (loaded.reasons, loaded.table.num_rows) == ({"invalid UTF-8": 1}, 1)


def test_a_csv_row_that_is_not_utf8_or_of_another_width_is_set_aside(load, tmp_path):
    (tmp_path / "rows.csv").write_bytes(b'prompt,response\na,b\nc,"d\xff"\ne,f,g\nh,i\n')
    loaded = load(tmp_path, file="rows.csv", max_bad=0.6)
    bad = {row["line"]: row["reason"] for row in loaded.bad.to_pylist()}
    assert bad == {3: "invalid UTF-8", 4: "wrong number of columns"}
    assert [row["response"][0]["content"] for row in loaded.rows] == ["b", "i"]


def test_a_byte_order_mark_is_no_part_of_the_data(load, tmp_path):
    for name, text in (("rows.jsonl", json.dumps(GOOD)), ("rows.json", json.dumps([GOOD]))):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert load(tmp_path, file=name).table.num_rows == 1


def test_non_finite_scores_become_null_and_are_counted(load, write_jsonl):
    line = '{"prompt": "a", "response": "b", "score": SCORE}'
    rows = [line.replace("SCORE", score) for score in ("NaN", "Infinity", "-1e999", "0.5")]
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl")
    assert loaded.table["score"].to_pylist() == [None, None, None, 0.5]
    assert loaded.notes["not finite, made null: score"] == 3
    assert loaded.bad.num_rows == 0


def test_non_finite_ratings_become_null_and_are_counted(load, write_jsonl):
    folder = write_jsonl("rows.jsonl", ['{"prompt": "a", "response": "b", "ratings": [1, NaN]}'])
    loaded = load(folder, file="rows.jsonl")
    assert [rating["score"] for rating in loaded.rows[0]["ratings"]] == [1, None]
    assert loaded.notes["not finite, made null: ratings"] == 1


def test_non_finite_scores_of_a_parquet_file_become_null(load, tmp_path):
    pq.write_table(
        pa.table({"prompt": ["a"] * 3, "response": ["b", "c", "d"], "score": [float("nan"), 1.0, None]}),
        tmp_path / "r",
    )
    loaded = load(tmp_path, file="r")
    assert loaded.table["score"].to_pylist() == [None, 1, None]
    assert loaded.notes["not finite, made null: score"] == 1


def test_an_empty_response_is_an_answer_and_stays(load, write_jsonl):
    loaded = load(write_jsonl("rows.jsonl", [{**GOOD, "response": ""}]), file="rows.jsonl")
    assert loaded.rows[0]["response"] == [{"role": "assistant", "content": ""}]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_response_of_two_megabytes_is_read_whole(load, tmp_path, kind):
    text = 'Ünï, "quoted"\n' * 150_000
    row = {"prompt": "Tell me everything.", "response": text}
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    elif kind == "csv":
        path.write_text(
            'prompt,response\nTell me everything.,"' + text.replace('"', '""') + '"\n', encoding="utf-8"
        )
    else:
        path.write_text(json.dumps(row if kind == "jsonl" else [row], ensure_ascii=False), encoding="utf-8")
    loaded = load(tmp_path, file=path.name)
    assert loaded.rows[0]["response"][0]["content"] == text


def test_above_max_bad_the_read_stops_and_names_the_first_line_and_the_reasons(write_jsonl):
    folder = write_jsonl("rows.jsonl", [*[GOOD] * 6, "{", {**GOOD, "prompt": ""}, "{", GOOD])
    error = fails(folder, file="rows.jsonl", max_bad=0.2)
    assert error.what == (
        "3 of 10 rows of 'rows' cannot be read, above max_bad = 0.2: invalid JSON (2), empty prompt (1)"
    )
    assert error.where == "first at rows.jsonl:7 (invalid JSON)"
    assert error.hint == "mend the rows, or allow them: max_bad: 0.5"


def test_at_max_bad_the_read_goes_on(load, write_jsonl):
    folder = write_jsonl("rows.jsonl", [*[GOOD] * 7, "{", {**GOOD, "prompt": ""}, "{"])
    assert load(folder, file="rows.jsonl", max_bad=0.3).table.num_rows == 7


def test_by_default_one_bad_row_in_a_thousand_is_allowed_and_two_are_not(load, write_jsonl):
    rows = [{**GOOD, "prompt": f"What is {number} + 1?"} for number in range(999)]
    assert load(write_jsonl("rows.jsonl", [*rows, "{"]), file="rows.jsonl").bad.num_rows == 1
    fails(write_jsonl("rows.jsonl", [*rows[1:], "{", "{"]), file="rows.jsonl")


def test_a_file_that_says_how_long_it_is_stops_as_soon_as_it_is_certain(tmp_path):
    prompts = [None if row < 100 else "a" for row in range(30_000)]
    pq.write_table(pa.table({"prompt": prompts, "response": ["b"] * 30_000}), tmp_path / "rows")
    source, read_so_far = Source(file="rows"), 0
    with pytest.raises(DataError, match="100 of 4096 rows"):
        for batch in read(source, tmp_path):
            read_so_far += batch.table.num_rows
    assert read_so_far == 0


def test_rows_that_differ_in_kept_columns_are_set_aside(load, write_jsonl):
    rows = [{**GOOD, "year": 2020}] * 600 + [{**GOOD, "year": "unknown"}, {**GOOD, "year": 2**80}]
    loaded = load(write_jsonl("rows.jsonl", rows), file="rows.jsonl", keep=["year"], max_bad=0.01)
    assert loaded.reasons == {"wrong type in 'year'": 2}
    assert str(loaded.table.schema.field("year").type) == "int64"


def test_a_layout_nobody_knows_asks_for_a_map(write_jsonl):
    error = fails(write_jsonl("rows.jsonl", [{"frage": "a", "antwort": "b"}]), file="rows.jsonl")
    assert error.what == "no known layout has the columns 'frage', 'antwort'"
    assert error.hint == "say what its columns mean: columns: { prompt: ..., response: ... }"


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"columns": {"prompt": "promt"}}, "'columns' names the column 'promt', which is not there"),
        ({"keep": ["scor"]}, "'keep' names the column 'scor', which is not there"),
        ({"where": {"modle": "x"}}, "'where' names the column 'modle', which is not there"),
        ({"prompt_template": "{prompt} {x}"}, "'prompt_template' names the column 'x', which is not there"),
        ({"columns": {"response": "response"}}, "nothing says which column is the prompt"),
        ({"format": "trl"}, "no layout is called 'trl'"),
        (
            {"format": "nectar"},
            "'nectar' needs the columns prompt, answers; here are 'prompt', 'response', 'score'",
        ),
        (
            {"explode": "answers", "columns": {"prompt": "prompt"}},
            "'explode' names the column 'answers', which is not there",
        ),
    ],
)
def test_a_setting_that_does_not_fit_the_data_is_an_error_before_anything_is_read(
    write_jsonl, settings, what
):
    folder = write_jsonl("rows.jsonl", [GOOD])
    with pytest.raises(DataError) as caught:
        peek(Source(file="rows.jsonl", **settings), folder)
    assert caught.value.what == what
    assert caught.value.where == "rows.jsonl"
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_text_of_a_columnar_file_that_is_not_utf8_is_set_aside(load, tmp_path, kind):
    texts = pa.array([b"a", b"caf\xe9", b"b"]).view(pa.string())
    table = pa.table({"prompt": ["x", "y", "z"], "response": texts})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "rows")
    else:
        with ipc.new_file(str(tmp_path / "rows"), table.schema) as writer:
            writer.write_table(table)
    loaded = load(tmp_path, file="rows", max_bad=0.5)
    assert loaded.bad.to_pylist() == [{"line": 2, "reason": "invalid UTF-8", "text": "", "file": "rows"}]
    assert [row["response"][0]["content"] for row in loaded.rows] == ["a", "b"]
