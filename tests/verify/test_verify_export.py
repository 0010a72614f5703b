"""An export can be checked wherever it is taken: its files, its rows, its values."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefkit.disk import SEAL
from prefkit.errors import DataError
from prefkit.export import export
from prefkit.identity import hash_json
from prefkit.manifest import Made, Manifest, Rows
from prefkit.statistics import summarise
from prefkit.store import Store
from prefkit.verify import verify, verify_export

KINDS = ("trl", "parquet", "hub-folder")
MARKER = "prefkit-export.json"


def file_run(store: Store, table: pa.Table) -> Manifest:
    shard = store.put(table)
    manifest = Manifest(
        key="k0",
        stage="data",
        version=1,
        kind="source",
        level="pair",
        config={"data": [{"file": "rows.jsonl"}]},
        seed=None,
        input=None,
        digest=shard.digest,
        columns=tuple((column.name, str(column.type)) for column in table.schema),
        shards=(shard,),
        rows=Rows(read=len(table), kept=len(table)),
        statistics=summarise(table),
        made=Made(prefkit="0.1.0", python="3.11.7"),
    )
    store.save_step(manifest)
    store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny", "data": [], "build": []})
    return manifest


@pytest.fixture(params=KINDS)
def folder(request, store, pairs, tmp_path) -> Path:
    """An export of three pairs in two splits."""
    file_run(store, pairs.append_column("split", pa.array(["train", "test", "train"])))
    export(store, "tiny", tmp_path / "out", request.param)
    return shutil.move(tmp_path / "out", tmp_path / "taken elsewhere")


def kinds(folder: Path) -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in verify_export(folder).faults]


def test_an_export_is_sound_without_its_store(folder, store):
    shutil.rmtree(store.root)
    report = verify(str(folder), "nowhere", jobs=2)
    assert report.is_sound
    assert report.counts.rows == 3
    assert report.counts.files >= 3


@pytest.mark.parametrize("kind", ["parquet", "hub-folder"])
def test_one_split_with_all_columns_has_the_digest_of_the_step(store, pairs, tmp_path, kind):
    lists = pa.array([[1.5], [], None], pa.list_(pa.field("element", pa.float64())))
    made = file_run(store, pairs.append_column("spans", lists))
    export(store, "tiny", tmp_path / "out", kind)
    signed = json.loads((tmp_path / "out" / MARKER).read_text())
    assert [split["digest"] for split in signed["splits"].values()] == [made.digest]
    assert verify_export(tmp_path / "out").is_sound


def test_a_split_without_rows_is_sound(store, pairs, tmp_path):
    file_run(store, pairs.slice(0, 0))
    export(store, "tiny", tmp_path / "out", "parquet")
    assert verify_export(tmp_path / "out").is_sound


@pytest.mark.parametrize("how", ["cut", "changed", "gone"])
def test_a_damaged_file_is_named(folder, how):
    path = min((folder / "data").glob("train*"))
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if how == "cut" else data[:100] + bytes([data[100] ^ 1]) + data[101:])
    kind = {"cut": "cut-short", "changed": "damaged", "gone": "missing"}[how]
    assert kinds(folder) == [(kind, path.relative_to(folder).as_posix())]
    assert "prefkit export tiny FOLDER --to" in verify_export(folder).faults[0].mend


def rewrite(folder: Path, table: pa.Table) -> None:
    """Put other rows in the place of a split's, and sign the file as the export would have."""
    path = min((folder / "data").glob("train*"))
    pq.write_table(table, path)
    from prefkit.export_folder import sha256

    value = json.loads((folder / MARKER).read_text())
    value.pop(SEAL)
    name = path.relative_to(folder).as_posix()
    value["bytes"][name], value["sha256"][name] = path.stat().st_size, sha256(path)
    (folder / MARKER).write_text(json.dumps({**value, SEAL: hash_json(value)}))


def test_rows_that_were_changed_and_signed_anew_have_another_digest(folder):
    table = pq.read_table(min((folder / "data").glob("train*")))
    rewrite(folder, table)
    assert verify_export(folder).is_sound, "the same values in another file are the same values"
    rewrite(folder, table.slice(1))
    assert [kind for kind, _ in kinds(folder)] == ["disagrees"]
    rewrite(folder, pa.concat_tables([table.slice(1), table.slice(0, 1)]))
    assert [kind for kind, _ in kinds(folder)] == ["disagrees"]
    rewrite(folder, table.drop_columns(table.column_names[-1:]))
    assert [kind for kind, _ in kinds(folder)] == ["disagrees"]


def test_a_file_that_would_be_read_with_the_others_is_named(folder):
    shutil.copy(min((folder / "data").glob("train*")), folder / "data" / "train-00009-of-00009.parquet")
    assert kinds(folder) == [("stranger", "data/train-00009-of-00009.parquet")]


def test_an_edited_card_is_a_note(folder):
    (folder / "README.md").write_text("mine")
    report = verify_export(folder)
    assert report.is_sound
    assert any("README.md was changed" in note for note in report.notes)


def test_what_git_and_the_hub_add_is_nobodys_business(folder):
    (folder / ".gitattributes").write_text("*")
    (folder / ".cache").mkdir()
    assert verify_export(folder).is_sound


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1}', "[" * 100_000])
def test_a_marker_that_is_none_is_one_clear_error(folder, text):
    (folder / MARKER).write_text(text)
    with pytest.raises(DataError, match=MARKER):
        verify_export(folder)


def test_a_marker_that_was_edited_is_refused(folder):
    value = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps({**value, "rows": 9}))
    with pytest.raises(DataError, match="is not as it was written"):
        verify_export(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "data/../../x"])
def test_a_marker_names_no_file_outside(folder, name):
    value = json.loads((folder / MARKER).read_text())
    value.pop(SEAL)
    value["sha256"][name] = "0"
    (folder / MARKER).write_text(json.dumps({**value, SEAL: hash_json(value)}))
    with pytest.raises(DataError, match="outside the folder"):
        verify_export(folder)


def test_an_export_of_an_older_version_says_that_it_has_no_digests(folder):
    value = json.loads((folder / MARKER).read_text())
    old = {name: value[name] for name in ("to", "ref", "digest", "rows", "files")}
    (folder / MARKER).write_text(json.dumps(old))
    report = verify_export(folder)
    assert report.is_sound
    assert "an older prefkit made it" in report.notes[0]
