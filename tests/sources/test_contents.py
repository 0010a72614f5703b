import json
import os

import pytest

from prefkit.errors import DataError
from prefkit.sources import Source, identity

ROW = json.dumps({"prompt": "a", "response": "b"}) + "\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").write_text(ROW, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text(ROW * 2, encoding="utf-8")
    return tmp_path


def test_content_counts_and_name_and_date_do_not(folder):
    before = identity(Source(file="a.jsonl"), folder, None)
    (folder / "a.jsonl").rename(folder / "c.jsonl")
    os.utime(folder / "c.jsonl", (0, 0))
    assert identity(Source(file="c.jsonl"), folder, None) == before
    (folder / "c.jsonl").write_text(ROW + " ", encoding="utf-8")
    assert identity(Source(file="c.jsonl"), folder, None) != before


def test_the_order_and_the_number_of_files_count(folder):
    found = {
        identity(Source(file=files), folder, None)
        for files in ("a.jsonl", "b.jsonl", "*.jsonl", ("b.jsonl", "a.jsonl"), ("a.jsonl", "a.jsonl"))
    }
    assert len(found) == 5


def test_the_file_of_a_join_counts(folder):
    source = Source(
        file="a.jsonl",
        columns={"prompt": "prompt", "response": "response"},
        join={"file": "b.jsonl", "on": ["prompt"], "score": "score"},
    )
    before = identity(source, folder, None)
    (folder / "b.jsonl").write_text(ROW * 3, encoding="utf-8")
    assert identity(source, folder, None) != before


def test_the_cache_never_gives_a_stale_digest(folder):
    cache, source = folder / "cache" / "digests.json", Source(file="a.jsonl")
    before = identity(source, folder, cache)
    assert identity(source, folder, cache) == before == identity(source, folder, None)
    (folder / "a.jsonl").write_text(ROW.replace("a", "c"), encoding="utf-8")
    os.utime(folder / "a.jsonl", (1, 1))
    after = identity(source, folder, cache)
    assert after == identity(source, folder, None) != before


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"x": 1}', b"\xff"])
def test_a_damaged_cache_is_ignored(folder, content):
    (folder / "digests.json").write_bytes(content)
    source = Source(file="a.jsonl")
    assert identity(source, folder, folder / "digests.json") == identity(source, folder, None)


def test_a_cache_that_cannot_be_written_costs_only_time(folder):
    source = Source(file="a.jsonl")
    assert identity(source, folder, folder / "a.jsonl" / "digests.json") == identity(source, folder, None)


def test_a_hub_dataset_counts_by_name_configuration_and_revision(folder):
    sources = [
        Source(hub="owner/name"),
        Source(hub="owner/other"),
        Source(hub="owner/name", revision="abc"),
        Source(hub="owner/name", config="hard"),
    ]
    assert len({identity(source, folder, None) for source in sources}) == 4


def test_a_ref_counts_by_what_it_points_to(folder):
    source = Source(ref="run/02-filter")
    assert identity(source, folder, None, lambda ref: f"of {ref}") != identity(
        source, folder, None, lambda ref: "else"
    )
    with pytest.raises(DataError, match="needs a store"):
        identity(source, folder, None)
