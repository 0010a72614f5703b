import json
import re
from io import StringIO

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from prefkit.columns import MESSAGES
from prefkit.errors import StoreError
from prefkit.manifest import Made, Manifest, Rows
from prefkit.show import as_json, columns, draw, rows, summary, thousands, visible
from prefkit.store import Store

NASTY = "\x1b[31mred\x07\x9b2J\u202eevil\r\x00"


def pair_table() -> pa.Table:
    def turns(role: str, *texts: str) -> pa.Array:
        return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)

    return pa.table(
        {
            "id": ["aa1", "aa2", "bb3"],
            "prompt_id": ["p", "p", "q"],
            "prompt": turns("user", "say hi", "say hi", NASTY),
            "chosen": turns("assistant", "hi", "hello", "x" * 5000),
            "rejected": turns("assistant", "what", "no", NASTY),
            "chosen_score": [3.0, 2.0, None],
            "rejected_score": [1.0, 2.0, 0.25],
            "margin": [2.0, 0.0, None],
            "note": [None, "line\nbreak", NASTY],
        }
    )


def filed(store: Store, *tables: pa.Table, **more) -> Manifest:
    shards = tuple(store.put(table) for table in tables)
    fields = {
        "key": "k",
        "stage": "pair",
        "version": 1,
        "kind": "group",
        "level": "pair",
        "config": {"by": "score", "models": []},
        "seed": None,
        "input": None,
        "digest": shards[0].digest,
        "columns": tuple((field.name, str(field.type)) for field in tables[0].schema),
        "shards": shards,
        "rows": Rows(read=1200, kept=1000, dropped=200),
        "drops": {"equal-scores": 150, "no-score": 50},
        "notes": {"pair/tried": 3},
        "made": Made(prefkit="0", python="3"),
    }
    return Manifest.model_validate(fields | more)


def drawn(table: pa.Table, width: int = 80, *, signs: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False)
    for drawing in draw(table, signs=signs):
        console.print(drawing)
    return out.getvalue()


@given(st.text())
def test_nothing_a_terminal_obeys_gets_through(text):
    shown = visible(text)
    assert all(mark.isprintable() or mark in "\n\t" or not mark.isascii() for mark in shown)
    assert not any("\x7f" <= mark <= "\x9f" or mark in "\u202e\u2066\u2028\x1b" for mark in shown)


@given(st.dictionaries(st.text(), st.text()))
def test_json_for_a_terminal_is_still_the_same_json(value):
    text = as_json(value)
    assert visible(text) == text
    assert "\n" not in text
    assert json.loads(text) == value


def test_text_that_is_only_foreign_stays_as_it_is():
    assert visible("é 日本 🙂 ½\n\tx") == "é 日本 🙂 ½\n\tx"


def test_a_pair_is_drawn_side_by_side():
    text = drawn(pair_table().slice(0, 1))
    line = next(line for line in text.splitlines() if "assistant: hi" in line)
    assert "assistant: what" in line
    assert "score 3" in text
    assert "margin 2" in text


def sides(chosen: str, rejected: str) -> pa.Table:
    said = {"chosen": chosen, "rejected": rejected}
    return pa.table(
        {"id": ["a"]}
        | {
            name: pa.array([[{"role": "assistant", "content": text}]], MESSAGES)
            for name, text in said.items()
        }
    )


def test_words_that_differ_are_marked_by_signs_where_there_are_no_styles():
    table = sides("it costs 12 euros in all", "it costs 13 euros")
    text = " ".join(drawn(table, signs=True, width=200).split())
    assert "it costs {+12+} euros {+in all+}" in text
    assert "it costs [-13-] euros" in text
    assert "{+" not in drawn(table)


def test_words_that_differ_are_bold_and_underlined_where_colours_are_off():
    out = StringIO()
    console = Console(file=out, width=120, force_terminal=True, no_color=True, highlight=False, markup=False)
    for drawing in draw(sides("it costs 12 euros", "it costs 13 euros")):
        console.print(drawing)
    assert re.findall(r"\x1b\[1;4m(\w+)\x1b\[0m", out.getvalue()) == ["12", "13"]


def test_sides_with_nothing_in_common_are_not_marked():
    text = drawn(sides("one two three", "entirely other words here"), signs=True)
    assert "{+" not in text
    assert "[-" not in text


def test_marks_stay_on_their_words_behind_what_is_written_out():
    text = drawn(sides("\x07\x07 say yes to it all", "\x07\x07 say no to it all"), signs=True, width=120)
    assert "say {+yes+} to it all" in text
    assert "say [-no-] to it all" in text


def test_rows_reach_the_terminal_without_their_control_characters():
    text = drawn(pair_table())
    assert not set(text) & set("\x1b\x07\x9b\u202e\r\x00")
    assert "\\u001b[31mred" in text


def test_long_messages_are_cut_and_say_by_how_much():
    assert "… 3 500 characters more" in " ".join(drawn(pair_table(), width=4000).split("\n"))


def test_only_as_many_shards_are_opened_as_needed(store):
    table = pair_table()
    manifest = filed(store, table.slice(0, 2), table.slice(2))
    store.discard(manifest.shards[1])
    assert rows(store, manifest, count=2)["id"].to_pylist() == ["aa1", "aa2"]
    assert rows(store, manifest, count=0).num_rows == 0


def test_rows_come_from_several_shards(store):
    table = pair_table()
    manifest = filed(store, table.slice(0, 2), table.slice(2))
    assert rows(store, manifest, count=99)["id"].to_pylist() == ["aa1", "aa2", "bb3"]


def test_dropped_and_failed_rows_are_apart(store):
    aside = store.put(pa.table({"id": ["x"], "drop_reason": ["equal-scores"]}))
    manifest = filed(store, pair_table(), dropped=(aside,))
    assert rows(store, manifest, part="dropped")["drop_reason"].to_pylist() == ["equal-scores"]
    assert rows(store, manifest, part="failed").num_rows == 0


def test_a_row_is_found_by_the_first_digits_of_its_id(store):
    manifest = filed(store, pair_table())
    assert rows(store, manifest, row_id="bb")["id"].to_pylist() == ["bb3"]
    assert rows(store, manifest, row_id="aa2")["id"].to_pylist() == ["aa2"]


def test_digits_that_begin_ids_of_two_shards_name_no_row(store):
    table = pair_table()
    manifest = filed(store, table.slice(0, 1), table.slice(1))
    with pytest.raises(StoreError) as caught:
        rows(store, manifest, row_id="aa")
    assert caught.value.hint == "several ids begin so: aa1, aa2"


@pytest.mark.parametrize(
    ("row_id", "hint"), [("aa", "several ids begin so: aa1, aa2"), ("zz", "`prefkit show` without")]
)
def test_an_id_that_names_no_row_is_an_error(store, row_id, hint):
    with pytest.raises(StoreError) as caught:
        rows(store, filed(store, pair_table()), row_id=row_id)
    assert caught.value.what == f"no row has the id '{row_id}'"
    assert caught.value.hint.startswith(hint)


def test_a_summary_says_where_rows_went(store):
    assert summary("run/05-pair", filed(store, pair_table())) == [
        "run/05-pair · pair v1 · 1 000 pair rows",
        "settings  by: score",
        "rows      1 200 read, 200 dropped, 1 000 kept",
        "dropped   equal-scores 150, no-score 50",
        "notes     pair/tried 3",
    ]


def test_columns_say_what_they_mean(store):
    found = {column.name: column for column in columns(filed(store, pair_table()))}
    assert found["margin"].meaning == "by how much chosen is better"
    assert found["chosen_score"].type == "double"
    assert found["note"].meaning == ""


def test_numbers_are_grouped():
    assert [thousands(number) for number in (0, 999, 1000, 1234567)] == ["0", "999", "1 000", "1 234 567"]
