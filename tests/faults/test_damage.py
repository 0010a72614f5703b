"""Files of a store that rot, are cut short or go: `prefkit verify` names each, and what it advises mends it."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from prefkit.store import Store


@pytest.fixture
def whole(bench):
    digests = bench.build()
    bench.log.unlink()
    return digests


def rot(path: Path) -> None:
    """Change bytes in the middle; the size stays."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 24 : middle + 24] = bytes(255 - byte for byte in data[middle - 24 : middle + 24])
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {"rotten": rot, "cut": cut, "empty": lambda path: path.write_bytes(b""), "gone": Path.unlink}


def follow(advice: str) -> None:
    """Do what a fault says before the next build: remove a file, if it says so."""
    told = re.match(r"remove (\S+?), then|remove the file|remove it", advice)
    if told and told[1]:
        Path(told[1]).unlink()


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("step", ["00-data", "01-sample", "04-pair", "06-reference"])
def test_a_damaged_object_is_named_and_made_again_for_nothing(bench, whole, step, how):
    shard = Store("runs").resolve(f"small/{step}").shards[0]
    DAMAGE[how](Store("runs").path(shard))
    code, faults = bench.verify()
    assert code == 2
    assert [(fault["where"], fault["asked_again"]) for fault in faults] == [
        (f"objects/{shard.digest[:2]}/{shard.digest}.arrow", 0)
    ]
    (fault,) = faults
    assert fault["kind"] == {"rotten": "damaged", "gone": "missing"}.get(how, "cut-short")
    assert f"small/{step}" in fault["used_by"]
    source = "from the file 'prompts.jsonl', which is not in the store"
    assert (source if step == "00-data" else "whose rows are here") in fault["mend"]
    follow(fault["mend"])
    bench.check_whole(whole)
    assert not bench.log.exists(), "no recorded answer is asked for again"


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("folder", ["steps", "parts", "refs"])
def test_a_damaged_record_is_named_and_made_again_for_nothing(bench, whole, folder, how):
    pattern = {"refs": "refs/small/03-score.json"}.get(folder, f"{folder}/*.json")
    path = min(Path("runs").glob(pattern))
    DAMAGE[how](path)
    code, faults = bench.verify()
    if (folder, how) == ("parts", "gone"):
        assert (code, faults) == (0, []), "nothing that is finished needs a part"
    else:
        assert code == 2
        where = path.relative_to("runs").as_posix()
        assert [fault["where"] for fault in faults] == [
            "refs/small" if (folder, how) == ("refs", "gone") else where
        ]
        follow(faults[0]["mend"])
        if folder == "parts":
            path.unlink(missing_ok=True)
    bench.check_whole(whole)
    assert not bench.log.exists()


def test_every_byte_of_an_object_counts_or_is_padding(bench, whole):
    shard = Store("runs").resolve("small/04-pair").shards[0]
    path, noticed = Store("runs").path(shard), 0
    data = path.read_bytes()
    places = range(8, len(data), 97)
    for place in places:
        path.write_bytes(data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :])
        code, faults = bench.verify("small/pair")
        assert code in (0, 2)
        assert all(fault["where"].endswith(f"{shard.digest}.arrow") for fault in faults)
        noticed += code == 2
    assert noticed > len(places) / 2
    path.write_bytes(data)
    assert bench.verify("small/pair") == (0, [])


def test_what_it_would_cost_depends_on_the_memo(bench, whole):
    shard = Store("runs").resolve("small/01-sample").shards[0]
    Store("runs").path(shard).unlink()
    assert "the memo is sound and holds 119, which are not asked for again" in bench.verify()[1][0]["mend"]
    Path("runs/memo.sqlite").unlink()
    (fault,) = bench.verify()[1]
    assert fault["asked_again"] == 48
    assert "the memo is not here: all of them are asked, and paid for, again" in fault["mend"]
    assert bench.build() == whole
    assert len(bench.log.read_text().splitlines()) == 48


@pytest.mark.parametrize("how", ["rotten", "cut"])
def test_a_damaged_memo_is_named_and_moved_away(bench, whole, how):
    path = Path("runs/memo.sqlite")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
    data = path.read_bytes()
    path.write_bytes(
        data[:4096] + bytes(reversed(data[4096:])) if how == "rotten" else data[: len(data) // 2]
    )
    code, faults = bench.verify()
    assert code == 2
    assert [fault["where"] for fault in faults] == ["memo.sqlite"]
    assert "move memo.sqlite away" in faults[0]["mend"]
    assert bench.build() == whole, "what is finished needs no memo"
    path.rename("away")
    bench.check_whole(whole)


def test_answers_in_the_log_that_sqlite_leaves_of_a_killed_build_are_kept(bench, whole):
    child = bench.hooked(*bench.command(store="killed"), store="killed", at=200)
    assert bench.ends(child)[0] == -9
    left = sorted(path.name for path in Path("killed").glob("memo.sqlite*"))
    assert left == ["memo.sqlite", "memo.sqlite-shm", "memo.sqlite-wal"]
    before = {path: path.read_bytes() for path in Path("killed").rglob("*.json")}
    assert bench.verify("killed") == (0, [])
    assert {path: path.read_bytes() for path in Path("killed").rglob("*.json")} == before
    bench.check_whole(whole, store="killed")
    assert bench.asked_twice() == []


@pytest.mark.parametrize("beside", ["memo.sqlite-wal", "memo.sqlite-shm"])
def test_rubbish_beside_the_memo_is_not_believed(bench, whole, beside):
    Path("runs", beside).write_bytes(b"rubbish" * 5000)
    assert bench.verify() == (0, [])
    bench.build("small", "--refresh", "margin")
    bench.check_whole(whole)
    assert not bench.log.exists()


def test_a_removed_marker_is_written_again(bench, whole):
    Path("runs/store.json").unlink()
    bench.check_whole(whole)
    assert json.loads(Path("runs/store.json").read_text())["format"] == 1
