import errno
import json
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.errors import StoreError
from prefkit.gc import collect, find
from prefkit.identity import digest
from prefkit.manifest import FORMAT, Made, Manifest, Rows, Shard
from prefkit.store import DamagedError, Store

TABLE = pa.table({"prompt_id": ["p", "q"], "id": ["a", "b"], "n": [1, None]})


def manifest(key: str, shard: Shard, **more) -> Manifest:
    made = Made(prefkit="0", python="3")
    fields = {
        "key": key,
        "stage": "margin",
        "version": 1,
        "kind": "map",
        "level": "pair",
        "config": {},
        "seed": None,
        "input": None,
        "digest": shard.digest,
        "columns": (("id", "string"),),
        "shards": (shard,),
        "rows": Rows(read=2, kept=2),
        "made": made,
    }
    return Manifest.model_validate(fields | more)


def test_what_is_put_comes_back_by_its_digest(store):
    shard = store.put(TABLE)
    assert shard.digest == digest(TABLE)
    assert Store(store.root).get(shard).equals(TABLE)


def test_opening_a_store_writes_nothing(tmp_path):
    Store(tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_putting_twice_writes_once(store):
    first = store.put(TABLE)
    path = next(store.root.glob("objects/*/*.arrow"))
    before = path.stat().st_mtime_ns
    assert store.put(TABLE) == first
    assert path.stat().st_mtime_ns == before


def test_objects_are_uncompressed_ipc_files_that_polars_maps(store):
    import polars as pl

    store.put(TABLE)
    frame = pl.scan_ipc(next(store.root.glob("objects/*/*.arrow"))).collect()
    assert frame["n"].to_list() == [1, None]


@pytest.mark.parametrize("damage", ["cut", "edited", "gone", "emptied"])
def test_a_damaged_object_is_never_served(store, damage):
    shard = store.put(TABLE)
    path = next(store.root.glob("objects/*/*.arrow"))
    data = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        at = data.index(b"pq")
        data[at : at + 2] = b"px"
        path.write_bytes({"cut": data[:-40], "edited": data, "emptied": b""}[damage])
    with pytest.raises(DamagedError) as caught:
        Store(store.root).get(shard)
    assert caught.value.hint
    assert Store(store.root).put(TABLE) == shard
    assert Store(store.root).get(shard).equals(TABLE), "putting it again mends it"


def test_an_object_edited_after_it_was_checked_is_noticed(store):
    shard = store.put(TABLE)
    store.get(shard)
    path = next(store.root.glob("objects/*/*.arrow"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"pq", b"px", 1))
    with pytest.raises(DamagedError):
        store.get(shard)


def test_a_manifest_comes_back_and_a_damaged_one_is_absent(store):
    made = manifest("0" * 32, store.put(TABLE))
    store.save_step(made)
    assert store.step(made.key) == made
    path = store.root / "steps" / f"{made.key}.json"
    path.write_bytes(path.read_bytes()[:-20])
    assert store.step(made.key) is None
    assert store.step("f" * 32) is None


def test_refs_resolve_by_number_name_or_run(store):
    made = [manifest(str(n) * 32, store.put(TABLE)) for n in range(2)]
    for each in made:
        store.save_step(each)
    store.save_refs("run", {"00-data": made[0].key, "01-margin": made[1].key}, {"name": "run"})
    assert store.resolve("run/00-data") == store.resolve("run/data") == made[0]
    assert store.resolve("run") == store.resolve("run/margin") == made[1]
    assert store.recipe("run") == {"name": "run"}
    store.save_refs("run", {"00-data": made[1].key}, {})
    assert [ref.step for ref in store.refs("run")] == ["00-data"], "a shorter recipe leaves no stale ref"


def test_an_unknown_run_or_step_names_what_there_is(store):
    made = manifest("0" * 32, store.put(TABLE))
    store.save_step(made)
    store.save_refs("my-run", {"00-data": made.key}, {})
    with pytest.raises(StoreError, match="did you mean 'my-run'"):
        store.resolve("my-rum")
    with pytest.raises(StoreError, match="00-data"):
        store.resolve("my-run/pair")


@pytest.mark.parametrize("name", ["../x", "", "a/../b", "-x", "x" * 200, "a\x00b", ".."])
def test_a_name_never_leaves_the_store(store, name):
    with pytest.raises(StoreError, match="usable name"):
        store.save_refs(name, {}, {})
    with pytest.raises(StoreError, match="usable name"):
        store.refs(name)


def test_a_digest_that_is_a_path_is_refused(store):
    with pytest.raises(StoreError, match="not a digest"):
        store.get(Shard(digest="../../etc/passwd", rows=1, bytes=1))


def test_a_store_of_a_newer_version_is_refused(store):
    store.put(TABLE)
    (store.root / "store.json").write_text(json.dumps({"format": FORMAT + 1}))
    with pytest.raises(StoreError, match="upgrade prefkit"):
        Store(store.root)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "x"}', "\xff"])
def test_a_marker_that_is_no_marker_is_refused(store, text):
    store.put(TABLE)
    (store.root / "store.json").write_text(text)
    with pytest.raises(StoreError):
        Store(store.root)


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_file(store, monkeypatch):
    store.put(TABLE)
    before = sorted(store.root.rglob("*"))

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        store.put(TABLE.slice(0, 1))
    assert "free space" in caught.value.hint
    assert sorted(p for p in store.root.rglob("*") if p.is_file()) == [p for p in before if p.is_file()]


def test_a_store_that_is_a_file_is_one_clear_error(tmp_path):
    (tmp_path / "runs").write_text("x")
    with pytest.raises(StoreError):
        Store(tmp_path / "runs").put(TABLE)


def test_two_writers_of_one_object_agree(store):
    tables = [pa.table({"prompt_id": [str(n)], "id": [str(n)]}) for n in range(40)]
    threads = [threading.Thread(target=lambda: [Store(store.root).put(t) for t in tables]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.root.glob("objects/*/*.arrow"))) == 40
    assert not list(store.root.rglob(".tmp-*"))
    for table in tables:
        assert store.get(store.put(table)).equals(table)


def test_gc_lists_and_deletes_only_what_no_ref_reaches(store):
    kept, loose = manifest("0" * 32, store.put(TABLE)), manifest("1" * 32, store.put(TABLE.slice(0, 1)))
    store.save_step(kept)
    store.save_step(loose)
    store.save_refs("run", {"00-data": kept.key}, {})
    garbage = find(store)
    assert sorted(Path(file).stem for file in garbage.files) == sorted(["1" * 32, loose.shards[0].digest])
    assert store.step(loose.key) is not None, "finding deletes nothing"
    collect(store)
    assert store.step(loose.key) is None
    assert store.get(kept.shards[0]).equals(TABLE)
    assert find(store).files == ()


def test_gc_refuses_while_a_build_runs(store):
    with store.locked(), pytest.raises(StoreError, match="a build is running"):
        collect(Store(store.root))
