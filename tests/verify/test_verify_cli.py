"""The verb: what it prints, and how it ends."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.cli import run
from prefkit.store import Store


@pytest.fixture
def built(tmp_path, monkeypatch, capsys) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFKIT_STORE", raising=False)
    Path("rows.jsonl").write_text(
        '{"prompt": "q", "response": "a", "score": 1}\n{"prompt": "q", "response": "b", "score": 0}\n'
    )
    Path("tiny.yaml").write_text("name: tiny\ndata: [{file: rows.jsonl}]\nbuild: [pair]\n")
    assert run(["build", "tiny.yaml"]) == 0
    capsys.readouterr()
    return Store("runs")


def test_a_sound_store_prints_no_fault_and_one_line_of_what_was_looked_at(built, capsys):
    assert run(["verify"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"the store 'runs': 1 run, 2 steps, 1 part, 2 files, 3 rows; 0\.0 MB in \d+\.\d s: sound\n", err
    )


def test_a_fault_is_printed_with_what_would_mend_it_and_the_code_is_2(built, capsys):
    path = built.path(built.resolve("tiny/pair").shards[0])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:100])
    assert run(["verify", "tiny"]) == 2
    out, err = capsys.readouterr()
    assert out == (
        f"object {path.stem} is cut short: 100 of {size:,} bytes\n"
        f"  where: {path.relative_to('runs')}\n"
        "  of:    tiny/01-pair\n"
        "  mend:  `prefkit build` with the recipe of 'tiny' makes it again from step tiny/00-data, whose rows are "
        "here; no model is asked\n"
    )
    assert err.endswith(": 1 fault\n")
    assert run(["verify", "tiny", "--json"]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["faults"]
    assert (fault["kind"], fault["asked_again"], fault["used_by"]) == ("cut-short", 0, ["tiny/01-pair"])


def test_what_a_hostile_store_says_is_printed_without_escapes(built, capsys):
    ref = Path("runs/refs/tiny/01-pair\x1b[31m\n.json")
    ref.write_text("{}")
    run(["verify"])
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert all(line.startswith(("the ref", "  ")) for line in out.splitlines())


def test_a_name_that_is_not_there_is_one_clear_error(built, capsys):
    assert run(["verify", "nope"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.splitlines()[0]) == ("", "error: no run is called 'nope'")


def test_an_object_of_many_batches_is_read_in_slices(built, capsys):
    table = pa.table({"id": [str(n) for n in range(30_000)]})
    built.put(table)
    assert run(["verify", "-j", "2"]) == 0
