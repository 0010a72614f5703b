"""Files read in worker processes give what one process gives: rows, refused rows, counts and errors."""

import gzip
import json

import pytest

from prefkit.errors import DataError
from prefkit.executors.calls import Calls
from prefkit.recipe import Recipe
from prefkit.run import make
from prefkit.sources import Source, can_be_apart, read, read_apart
from prefkit.steps import Settings
from prefkit.store import Store


@pytest.fixture
def folder(tmp_path):
    for file in range(5):
        rows = [
            {"prompt": f"question {file * 9 + row}", "response": f"answer {row}", "score": row}
            for row in range(9)
        ]
        lines = [json.dumps(row) for row in rows]
        if file in (1, 3):
            lines.insert(4, "{no json")
        (tmp_path / f"part-{file}.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def source(**settings: object) -> Source:
    return Source.model_validate({"file": "part-*.jsonl", "max_bad": 0.5, **settings})


def all_of(batches: object) -> tuple[list[object], list[object], dict[str, int]]:
    rows, bad, notes = [], [], {}
    for batch in batches:
        rows += batch.table.to_pylist()
        bad += batch.bad.to_pylist()
        for name, count in batch.notes.items():
            notes[name] = notes.get(name, 0) + count
    return rows, bad, notes


def here(function, tasks):
    return (function(*task) for task in tasks)


def test_rows_refused_rows_and_notes_are_those_of_one_process(folder, tmp_path):
    given = source(where={"score": 3})
    assert can_be_apart(given, folder)
    together = all_of(read(given, folder))
    assert len(together[0]) == 5
    assert len(together[1]) == 2
    assert all_of(read_apart(given, folder, tmp_path, here)) == together


def test_worker_processes_give_the_same_as_calls_here(folder, tmp_path):
    assert all_of(read_apart(source(), folder, tmp_path, Calls(2))) == all_of(read(source(), folder))
    assert not list(tmp_path.glob("*.arrows"))


@pytest.mark.parametrize("at", ["part-0.jsonl", "part-3.jsonl"])
def test_a_damaged_file_is_named_as_by_one_process(folder, tmp_path, at):
    whole = gzip.compress((folder / at).read_bytes())
    (folder / at).write_bytes(whole[: len(whole) - 12])
    said = []
    for batches in (read(source(), folder), read_apart(source(), folder, tmp_path, here)):
        with pytest.raises(DataError) as caught:
            list(batches)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert at in said[0]


def test_too_many_refused_rows_stop_the_reading(folder, tmp_path):
    with pytest.raises(DataError) as one:
        list(read(source(max_bad=0.001), folder))
    with pytest.raises(DataError) as other:
        list(read_apart(source(max_bad=0.001), folder, tmp_path, here))
    assert str(one.value) == str(other.value)


@pytest.mark.parametrize(
    "settings", [{"file": "part-0.jsonl"}, {"take": 3}, {"file": None, "hub": "some/dataset"}]
)
def test_what_depends_on_the_order_of_files_is_read_by_one_process(folder, settings):
    assert not can_be_apart(source(**settings), folder)


def test_a_build_with_two_workers_gives_the_same_dataset(folder):
    (folder / "r.yaml").write_text(
        "name: r\ndata: [{file: 'part-*.jsonl', max_bad: 0.5}]\nbuild: [{filter: {min_chars: 1}}]\n"
    )
    recipe = Recipe.load(folder / "r.yaml")
    one = make(recipe, Store(folder / "one"), Settings(shard_rows=10))
    two = make(recipe, Store(folder / "two"), Settings(shard_rows=10, jobs=2))
    first, second = one.steps["00-data"], two.steps["00-data"]
    assert (first.key, first.digest, first.rows, first.drops) == (
        second.key,
        second.digest,
        second.rows,
        second.drops,
    )
    assert one.last.digest == two.last.digest
