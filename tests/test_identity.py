import json
from itertools import pairwise

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import ContractError
from prefkit.identity import Digester, digest, fingerprint, step_key
from prefkit.stages.margin import Margin

TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("number", pa.float64()),
        ("count", pa.int32()),
        ("flag", pa.bool_()),
        ("turns", pa.list_(TURN)),
        ("nested", pa.list_(pa.list_(pa.int64()))),
    ]
)
ROWS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(max_size=5),
        "number": st.none() | st.floats(allow_nan=True),
        "count": st.none() | st.integers(-5, 5),
        "flag": st.none() | st.booleans(),
        "turns": st.none()
        | st.lists(
            st.none()
            | st.fixed_dictionaries({"role": st.none() | st.just("user"), "content": st.text(max_size=3)}),
            max_size=3,
        ),
        "nested": st.none() | st.lists(st.none() | st.lists(st.integers(0, 3), max_size=2), max_size=2),
    }
)


def table(rows):
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def canonical(rows):
    """Spell NaN and minus zero alike, as the digest does."""
    return json.dumps(
        [{k: v + 0.0 if isinstance(v, float) else v for k, v in sorted(row.items())} for row in rows]
    )


@given(st.lists(ROWS, max_size=8), st.lists(st.integers(0, 8), max_size=4))
def test_equal_tables_have_equal_digests_however_they_are_cut(rows, cuts):
    whole = table(rows)
    edges = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    pieces = [whole.slice(a, b - a) for a, b in pairwise(edges)]
    assert digest(pa.concat_tables([whole.slice(0, 0), *pieces])) == digest(whole)
    assert digest(table(rows).slice(0)) == digest(whole)


@given(st.lists(ROWS, max_size=5), st.lists(ROWS, max_size=5))
def test_different_tables_have_different_digests(one, other):
    assert (digest(table(one)) == digest(table(other))) == (canonical(one) == canonical(other))


@given(st.lists(ROWS, max_size=8), st.integers(0, 8))
def test_digesting_shard_after_shard_is_digesting_the_whole(rows, cut):
    digester = Digester(SCHEMA)
    digester.update(table(rows[:cut]))
    digester.update(table(rows[cut:]))
    assert digester.hexdigest() == digest(table(rows))


def test_a_polars_round_trip_cast_back_keeps_the_digest():
    one = table([{"text": "x", "turns": [{"role": "user", "content": "y"}]}, {"text": None}])
    assert digest(pl.from_arrow(one).to_arrow().cast(SCHEMA)) == digest(one)


def test_metadata_and_leftover_null_bitmaps_do_not_count():
    plain = pa.table({"x": pa.array([1.0, 2.0])})
    masked = pa.table({"x": pa.array([1.0, 2.0, None]).slice(0, 2)})
    assert digest(plain) == digest(masked) == digest(plain.replace_schema_metadata({"k": "v"}))


def test_values_hidden_under_nulls_do_not_count():
    under = [pa.array(np.array([1.0, value]), mask=np.array([False, True])) for value in (7.0, 8.0)]
    assert digest(pa.table({"x": under[0]})) == digest(pa.table({"x": under[1]}))


def test_names_types_and_rows_count():
    base = pa.table({"x": pa.array([1, 2])})
    others = [
        pa.table({"y": pa.array([1, 2])}),
        pa.table({"x": pa.array([1, 2], pa.int32())}),
        pa.table({"x": pa.array([2, 1])}),
        pa.table({"x": pa.array([1])}),
    ]
    assert len({digest(each) for each in [base, *others]}) == 5


def test_text_boundaries_count():
    assert digest(pa.table({"x": ["ab", "c"]})) != digest(pa.table({"x": ["a", "bc"]}))
    assert digest(pa.table({"x": ["", None]})) != digest(pa.table({"x": [None, ""]}))


def test_what_has_no_digest_is_refused():
    with pytest.raises(ContractError, match="has no digest"):
        digest(pa.table({"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))


def test_a_fingerprint_is_the_config_and_the_version():
    assert fingerprint(Margin()) == fingerprint(Margin(scale=1.0))
    assert fingerprint(Margin()) != fingerprint(Margin(scale=2.0))


def test_the_seed_enters_the_key_only_of_a_stage_that_draws():
    assert step_key(Margin(), 1, ["a"]) == step_key(Margin(), 2, ["a"])
    assert step_key(Margin(), 1, ["a"]) != step_key(Margin(), 1, ["b"])
    assert step_key(Margin(), 1, ["a"], ["weights"]) != step_key(Margin(), 1, ["a"])


def test_an_empty_chunk_is_no_content():
    schema = pa.schema([("id", pa.string()), ("x", pa.list_(pa.int64()))])
    empty = pa.chunked_array([[]], pa.string()), pa.chunked_array([[]], pa.list_(pa.int64()))
    assert digest(schema.empty_table()) == digest(pa.table(list(empty), schema=schema))
