"""What `prefkit verify` says of a store: nothing of a sound one, and of others what is wrong and what would mend it."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from prefkit.disk import sealed
from prefkit.errors import StoreError
from prefkit.manifest import Made, Manifest, Rows, Used
from prefkit.store import Store
from prefkit.verify import verify, verify_store


def file_step(
    store: Store, key: str, rows: list[pa.Table], stage: str, input_: str | None, **more
) -> Manifest:
    """File a step whose rows are in several shards."""
    shards = tuple(store.put(table) for table in rows)
    whole = store.put(pa.concat_tables(rows)).digest if len(rows) > 1 else shards[0].digest
    made = Manifest(
        key=key,
        stage=stage,
        version=1,
        kind="source" if input_ is None else "map",
        level="response",
        config={"data": [{"file": "rows.jsonl"}]} if input_ is None else {},
        seed=None,
        input=input_,
        digest=whole,
        columns=tuple((column.name, str(column.type)) for column in rows[0].schema),
        shards=shards,
        rows=Rows(read=sum(map(len, rows)), kept=sum(map(len, rows))),
        **{"made": Made(prefkit="1", python="3"), **more},
    )
    store.save_step(made)
    return made


@pytest.fixture
def filed(store) -> Store:
    """A run of three steps: data in two shards, a step that asked a model, and one that did not."""
    data = [pa.table({"id": ["a", "b"]}), pa.table({"id": ["c"]})]
    first = file_step(store, "k0", data, "data", None)
    asked = Made(prefkit="1", python="3", calls=3, models={"policy": Used(calls=3)})
    second = file_step(store, "k1", [pa.table({"id": ["a1", "b1"]})], "sample", first.digest, made=asked)
    file_step(store, "k2", [pa.table({"id": ["a1"]})], "filter", second.digest)
    keys = {"00-data": "k0", "01-sample": "k1", "02-filter": "k2"}
    store.save_refs("tiny", keys, {"name": "tiny"})
    return store


def faults(store: Store, name: str = "") -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in verify_store(Store(store.root), name).faults]


def edit(store: Store, name: str, **change: object) -> None:
    """Change a record and seal it again, as somebody would who means to deceive."""
    path = store.root / name
    value = {**json.loads(path.read_text()), **change}
    value.pop("seal")
    path.write_bytes(sealed(value))


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_sound_store_is_sound_and_counted(filed, jobs):
    report = verify_store(filed, jobs=jobs)
    assert report.is_sound
    assert (report.counts.runs, report.counts.steps, report.counts.rows) == (1, 3, 6)
    assert report.counts.files == 5
    assert report.notes == ()


def test_checking_writes_nothing(filed):
    before = {path: path.stat().st_mtime_ns for path in filed.root.rglob("*")}
    verify_store(Store(filed.root))
    assert {path: path.stat().st_mtime_ns for path in filed.root.rglob("*")} == before


def test_a_copy_elsewhere_is_checked_by_its_folder(filed, tmp_path):
    shutil.copytree(filed.root, tmp_path / "copy")
    assert verify(str(tmp_path / "copy"), "runs").is_sound
    assert verify("", str(tmp_path / "copy")).is_sound
    assert verify("tiny/sample", str(tmp_path / "copy")).counts.steps == 1


@pytest.mark.parametrize("name", ["tiny", "tiny/sample", "tiny/01-sample"])
def test_only_what_is_asked_for_is_looked_at(filed, name):
    filed.path(filed.resolve("tiny/filter").shards[0]).unlink()
    (filed.root / "parts").mkdir()
    (filed.root / "parts" / "x.json").write_text("{}")
    found = faults(filed, name)
    assert len(found) == (1 if name == "tiny" else 0)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"digest": "0" * 32}, "disagrees"),
        ({"columns": [["id", "int64"]]}, "disagrees"),
        ({"rows": {"read": 3, "kept": 9, "dropped": 0, "failed": 0}}, "disagrees"),
        ({"shards": []}, "disagrees"),
        ({"key": "k1"}, "damaged"),
        ({"surprise": 1}, "damaged"),
    ],
)
def test_a_manifest_that_lies_under_a_good_seal_is_found_out(filed, change, kind):
    edit(filed, "steps/k0.json", **change)
    found = faults(filed)
    assert (kind, "steps/k0.json") in found


def test_shards_in_another_order_are_other_rows(filed):
    shards = json.loads((filed.root / "steps/k0.json").read_text())["shards"]
    edit(filed, "steps/k0.json", shards=shards[::-1])
    assert faults(filed) == [("disagrees", "steps/k0.json")]


def test_steps_that_do_not_follow_from_each_other_are_found(filed):
    edit(filed, "steps/k2.json", input="0" * 32)
    assert faults(filed) == [("disagrees", "refs/tiny/02-filter.json")]
    edit(filed, "steps/k2.json", stage="pair")
    assert faults(filed) == [("disagrees", "refs/tiny/02-filter.json")]


def test_a_ref_to_a_manifest_that_is_gone_is_named(filed):
    (filed.root / "steps/k1.json").unlink()
    (fault,) = verify_store(filed).faults
    assert (fault.kind, fault.used_by) == ("missing", ("tiny/01-sample",))
    assert "`prefkit build` with the recipe of 'tiny'" in fault.mend


def test_an_object_that_is_named_after_another_is_found(filed):
    one, other = (filed.path(filed.resolve(f"tiny/{step}").shards[0]) for step in ("sample", "filter"))
    shutil.copy(other, one)
    (fault,) = verify_store(filed).faults
    assert "has other values" in fault.what or "cut short" in fault.what
    assert fault.asked_again == 3, "there is no memo"


def test_a_digest_that_is_a_path_leads_nowhere(filed):
    shard = {"digest": "../../etc/passwd", "rows": 1, "bytes": 1}
    edit(filed, "steps/k2.json", shards=[shard])
    assert {kind for kind, _ in faults(filed)} == {"damaged"}


def test_what_can_be_rebuilt_depends_on_what_else_is_there(filed):
    for step in ("filter", "sample", "data"):
        filed.path(filed.resolve(f"tiny/{step}").shards[0]).unlink()
        told = {fault.used_by: fault.mend for fault in verify_store(filed).faults}
        mend = told[("tiny/02-filter",)]
        if step == "filter":
            assert "makes it again from step tiny/01-sample, whose rows are here; no model is asked" in mend
        elif step == "sample":
            assert "makes 2 steps again from step tiny/00-data, whose rows are here; 3 answers" in mend
        else:
            assert "makes 3 steps again from the file 'rows.jsonl', which is not in the store" in mend


def test_rows_that_were_removed_on_purpose_are_no_fault(filed):
    shards = filed.resolve("tiny/sample").shards
    (filed.root / "removed").mkdir()
    note = {"key": "k1", "objects": [shard.digest for shard in shards]}
    (filed.root / "removed" / "k1.json").write_bytes(sealed(note))
    for shard in shards:
        filed.path(shard).unlink()
    report = verify_store(filed)
    assert report.is_sound
    assert ["the rows of tiny/01-sample were removed" in note for note in report.notes] == [True]
    (filed.root / "removed" / "k1.json").write_bytes(b"{}")
    assert not verify_store(filed).is_sound


def test_removed_rows_of_several_steps_are_one_note(filed):
    (filed.root / "removed").mkdir()
    for key, step in (("k0", "data"), ("k1", "sample")):
        shards = filed.resolve(f"tiny/{step}").shards
        note = {"key": key, "objects": [shard.digest for shard in shards]}
        (filed.root / "removed" / f"{key}.json").write_bytes(sealed(note))
        for shard in shards:
            filed.path(shard).unlink()
    report = verify_store(filed)
    assert report.is_sound
    (note,) = report.notes
    assert note.startswith("the rows of 2 steps were removed to save disk; ")


def test_temporary_files_are_a_note(filed):
    (filed.root / "objects" / ".tmp-x").write_bytes(b"half")
    report = verify_store(filed)
    assert report.is_sound
    assert report.notes == (
        "1 temporary files, of a build that runs or was killed: `prefkit gc --yes` removes them",
    )


@pytest.mark.parametrize("what", ["", "tiny", "folder"])
def test_where_there_is_no_store_there_is_nothing_to_check(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(StoreError, match="there is no store 'nowhere'"):
        verify(what, "nowhere")


def test_a_store_of_a_newer_format_is_refused(filed):
    (filed.root / "store.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="has format 99"):
        verify("", str(filed.root))


def test_a_store_in_object_storage_is_checked_alike(tmp_path, monkeypatch, pairs):
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    store = Store("memory://verified/runs")
    made = file_step(store, "k0", [pairs], "data", None)
    store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny"})
    assert verify("", "memory://verified/runs").is_sound
    shutil.rmtree(tmp_path / "cache")
    name = f"objects/{made.digest[:2]}/{made.digest}.arrow"
    store.remote.write(name, store.remote.read(name)[:-100])
    (fault,) = verify("memory://verified/runs", "runs").faults
    assert (fault.kind, fault.where) == ("cut-short", name)
