import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import MESSAGES
from prefkit.errors import ContractError
from prefkit.shards import cut
from prefkit.tables import floats, last_content, numbered, prompt_offsets, put, to_messages, word_where


def test_the_last_content_is_of_the_last_message_and_null_without_one():
    rows = [
        [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        None,
        [],
        [{"role": "user", "content": "c"}],
    ]
    column = pa.chunked_array([pa.array(rows, MESSAGES)])
    assert last_content(column).to_pylist() == ["b", None, None, "c"]
    assert last_content(column.slice(1)).to_pylist() == [None, None, "c"]
    assert last_content(column.slice(0, 0)).to_pylist() == []


def test_texts_become_messages_and_null_stays_null():
    found = to_messages(pa.array(["x", None, ""]), "assistant")
    assert found.type == MESSAGES
    assert found.to_pylist() == [
        [{"role": "assistant", "content": "x"}],
        None,
        [{"role": "assistant", "content": ""}],
    ]


def test_floats_spell_null_as_nan():
    assert np.isnan(floats(pa.chunked_array([[1.0, None]]))).tolist() == [False, True]


def test_prompt_offsets_find_the_runs():
    runs = prompt_offsets(pa.table({"prompt_id": ["p", "p", "q"]}))
    assert (runs.starts.tolist(), runs.lengths.tolist()) == ([0, 2], [2, 1])
    assert prompt_offsets(pa.table({"prompt_id": pa.array([], pa.string())})).starts.tolist() == []


def test_a_prompt_whose_rows_are_apart_is_refused():
    with pytest.raises(ContractError, match="not adjacent"):
        prompt_offsets(pa.table({"prompt_id": ["p", "q", "p"]}))


def test_put_replaces_or_appends():
    table = pa.table({"a": [1], "b": [2]})
    assert put(table, "a", pa.chunked_array([[9]])).column_names == ["a", "b"]
    assert put(table, "c", pa.chunked_array([[9]])).column_names == ["a", "b", "c"]


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 100])
def test_a_cut_never_divides_a_prompt_and_loses_nothing(rows):
    table = pa.table({"prompt_id": list("aabbbbcdde"), "n": list(range(10))})
    pieces = list(cut(table, rows))
    assert pa.concat_tables(pieces).equals(table)
    prompts = [set(piece["prompt_id"].to_pylist()) for piece in pieces]
    assert sum(map(len, prompts)) == 5, "each of the five prompts is in one piece"


def test_an_empty_table_is_cut_to_one_empty_piece():
    assert [piece.num_rows for piece in cut(pa.table({"prompt_id": pa.array([], pa.string())}))] == [0]


@given(st.lists(st.sampled_from(["a", "b", "", None, "aa"]), max_size=20), st.integers(1, 5))
def test_words_are_numbered_in_the_order_of_their_first_coming(words, size):
    pieces = [words[at : at + size] for at in range(0, len(words), size)]
    column = pa.chunked_array([pa.array(piece, pa.string()) for piece in pieces], pa.string())
    known = list(dict.fromkeys(word for word in words if word is not None))
    wanted = [-1 if word is None else known.index(word) for word in words]
    assert numbered(column).tolist() == wanted


def test_a_word_stands_where_it_is_meant():
    assert word_where(np.array([True, False]), "gone").to_pylist() == ["gone", None]
