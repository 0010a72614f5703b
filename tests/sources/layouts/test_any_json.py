"""Whatever JSON stands where a layout expects something else, the row is read or set aside: nothing else happens."""

import contextlib
import copy
import importlib.util
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefkit.errors import DataError
from prefkit.sources import LAYOUTS, Source, gather, peek, read

SPEC = importlib.util.spec_from_file_location("layout_examples", Path(__file__).with_name("test_layouts.py"))
EXAMPLES = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(EXAMPLES)

SCALARS = st.none() | st.booleans() | st.integers(-4, 2**70) | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "Rating", "rank", "strength", "is_correct"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=4,
)


def places(value, path=()):
    """Yield the path to every value within a row."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(row, path, value):
    for key in path[:-1]:
        row = row[key]
    row[path[-1]] = value


def look_at_it_alone(folder, row):
    (folder / "alone.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with contextlib.suppress(DataError):
        peek(Source(file="alone.jsonl"), folder)


@pytest.mark.parametrize("name", [layout.name for layout in LAYOUTS])
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow], database=None)
@given(data=st.data())
def test_a_row_is_read_or_set_aside(name, data):
    good = EXAMPLES.EXAMPLES[name]
    wrong = copy.deepcopy(good)
    put(wrong, data.draw(st.sampled_from(list(places(good)))), data.draw(ANYTHING))
    with tempfile.TemporaryDirectory() as folder:
        lines = [json.dumps(row) for row in (good, wrong)]
        (Path(folder) / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        look_at_it_alone(Path(folder), wrong)
        source = Source(file="rows.jsonl", format=name, max_bad=0.9)
        schema = peek(source, Path(folder)).schema
        try:
            batches = list(read(source, Path(folder)))
        except DataError:
            return
        tables = list(gather((batch.table for batch in batches), schema, Path(folder)))
    assert sum(table.num_rows for table in tables) + sum(batch.bad.num_rows for batch in batches) >= 1
