"""Rows are brought into the order of their prompts, however they come and however small the files are."""

import random

import pyarrow as pa
import pytest

from prefkit.sources import rows_by_prompt
from prefkit.sources.rows_by_prompt import ScatteredError, as_they_come, in_order

ROWS = [(f"{prompt:032x}", row) for prompt in range(40) for row in range(prompt % 5 + 1)]


def tables(rows, size):
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [
        pa.table({"prompt_id": [one for one, _ in part], "row": [two for _, two in part]}) for part in parts
    ]


def read(found):
    return [
        (row["prompt_id"], row["row"], int(number))
        for table, numbers in found
        for row, number in zip(table.to_pylist(), numbers, strict=True)
    ]


def expected(rows):
    numbers = {}
    told = [(prompt, row, numbers.setdefault(prompt, len(numbers))) for prompt, row in rows]
    return sorted(told, key=lambda row: row[2])  # a stable sort: rows of one prompt as they came


@pytest.mark.parametrize(
    ("prompts", "held", "waiting"), [(1 << 15, 1 << 28, 1 << 26), (8, 1, 1), (16, 400, 300), (1, 1, 500)]
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_any_order_comes_out_by_first_appearance(tmp_path, monkeypatch, prompts, held, waiting, size):
    monkeypatch.setattr(rows_by_prompt, "_PROMPTS", prompts)
    monkeypatch.setattr(rows_by_prompt, "_HELD_BYTES", held)
    monkeypatch.setattr(rows_by_prompt, "_WAITING_BYTES", waiting)
    for seed in range(3):
        rows = random.Random(seed).sample(ROWS, len(ROWS))
        assert read(in_order(tables(rows, size), tmp_path)) == expected(rows)
        assert not list(tmp_path.iterdir())


def test_rows_that_are_in_order_pass_through():
    assert read(as_they_come(tables(ROWS, 7))) == expected(ROWS)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_prompt_that_comes_back_is_noticed(size):
    with pytest.raises(ScatteredError):
        read(as_they_come(tables([*ROWS, ROWS[0]], size)))


def test_ids_that_are_not_hex_are_ids_too(tmp_path):
    rows = [("b", 0), ("a", 1), ("b", 2)]
    assert read(in_order(tables(rows, 1), tmp_path)) == [("b", 0, 0), ("b", 2, 0), ("a", 1, 1)]
