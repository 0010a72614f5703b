"""Ranking rows: by value, then by id; what is no number comes last."""

import math

import pyarrow as pa
import pytest

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
