"""Ranking rows: by value, then by id; what is no number comes last."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.ranking import ranked, share_of


def test_values_then_ids_and_nothing_last():
    table = pa.table({"id": list("edcba"), "x": [1.0, None, 1.0, math.inf, 0.0]})
    assert [table["id"][int(row)].as_py() for row in ranked(table, "x")] == ["a", "c", "e", "b", "d"]
    assert [table["id"][int(row)].as_py() for row in ranked(table, "x", descending=True)] == [
        "c",
        "e",
        "a",
        "b",
        "d",
    ]


@pytest.mark.parametrize(
    ("count", "share", "wanted"), [(100, 0.29, 29), (10, 0.3, 3), (3, 0.5, 1), (0, 0.9, 0), (7, 1.0, 7)]
)
def test_shares_are_rounded_down(count, share, wanted):
    assert share_of(count, share) == wanted


IDS = st.text(st.sampled_from("ab\0é中🎉"), max_size=12)
VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, None, math.nan, math.inf])


@given(st.lists(st.tuples(IDS, VALUES), max_size=30, unique_by=lambda row: row[0]), st.booleans())
def test_ranks_are_those_of_sorting_row_by_row(rows, descending):
    def key(at):
        word, value = rows[at]
        missing = value is None or not math.isfinite(value)
        return missing, 0.0 if missing else -value if descending else value, word.encode()

    pieces = [rows[at : at + 3] for at in range(0, len(rows), 3)] or [[]]
    table = pa.concat_tables(
        pa.table(
            {
                "id": pa.array([w for w, _ in piece], pa.string()),
                "x": pa.array([v for _, v in piece], pa.float64()),
            }
        )
        for piece in pieces
    )
    assert ranked(table, "x", descending=descending).tolist() == sorted(range(len(rows)), key=key)
