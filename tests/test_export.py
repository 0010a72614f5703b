"""Exports: folders that other programs open, whole or not at all, with a word on what is lost."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from prefkit import export_rows
from prefkit.columns import MESSAGES
from prefkit.errors import ContractError, DataError, PrefkitError, StoreError
from prefkit.export import Target, export
from prefkit.export_folder import MARKER
from prefkit.identity import digest
from prefkit.manifest import Made, Manifest, Rows
from prefkit.stage import level_of
from prefkit.statistics import summarise
from prefkit.store import Store
from prefkit.verify.exported import verify_export


def turns(role: str, texts: list[str]) -> pa.Array:
    return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)


def pairs_of(count: int, **more: Any) -> pa.Table:
    at = range(count)
    columns = {
        "id": [f"pair-{k}" for k in at],
        "prompt_id": [f"prompt-{k}" for k in at],
        "prompt": turns("user", [f"question {k}" for k in at]),
        "chosen": turns("assistant", [f"good {k}" for k in at]),
        "rejected": turns("assistant", [f"bad {k}" for k in at]),
    }
    return pa.table({**columns, **more})


def file_run(store: Store, table: pa.Table, shards: int = 1, place: str = "rows.jsonl") -> None:
    """File a run of one step over several shards."""
    size = -(-max(len(table), 1) // shards)
    pieces = tuple(store.put(table.slice(at, size)) for at in range(0, max(len(table), 1), size))
    manifest = Manifest(
        key="k0",
        stage="data",
        version=1,
        kind="source",
        level=level_of(table.schema),
        config={"data": [{"file": place}]},
        seed=None,
        input=None,
        digest=digest(table),
        columns=tuple((column.name, str(column.type)) for column in table.schema),
        shards=pieces,
        rows=Rows(read=len(table), kept=len(table)),
        statistics=summarise(table),
        made=Made(prefkit="0.1.0", python="3.11.7"),
    )
    store.save_step(manifest)
    store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny", "data": [{"file": place}], "build": []})


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_load_dataset_opens_every_kind_with_equal_rows(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from datasets import disable_progress_bars, load_dataset

    disable_progress_bars()
    table = pairs_of(
        12, split=["test" if k % 4 == 0 else "train" for k in range(12)], margin=[k / 2 for k in range(12)]
    )
    file_run(store, table, shards=3)
    for kind in ("parquet", "hub-folder", "trl"):
        out = tmp_path / kind
        assert export(store, "tiny", out, kind).rows == 12
        loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
        assert {name: len(split) for name, split in loaded.items()} == {"test": 3, "train": 9}
        names = ["prompt", "chosen", "rejected"] if kind == "trl" else table.column_names
        assert loaded["train"].column_names == names
        wanted = [row for row in table.select(names).to_pylist() if row["prompt"][0]["content"] not in _TEST]
        assert loaded["train"].to_list() == wanted
    # What TRL calls explicit and conversational: lists of dicts, the completions without the prompt.
    row = loaded["test"][0]
    assert row == {
        "prompt": [{"role": "user", "content": "question 0"}],
        "chosen": [{"role": "assistant", "content": "good 0"}],
        "rejected": [{"role": "assistant", "content": "bad 0"}],
    }


_TEST = {"question 0", "question 4", "question 8"}


def test_files_of_a_split_are_numbered_as_the_hub_wants(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rows, "FILE_BYTES", 400)
    file_run(store, pairs_of(30), shards=5)
    export(store, "tiny", tmp_path / "out", "parquet")
    found = [name for name in files(tmp_path / "out") if name.startswith("data/")]
    assert len(found) > 2
    assert found[0] == f"data/train-00000-of-{len(found):05d}.parquet"
    whole = pa.concat_tables([pq.read_table(tmp_path / "out" / name) for name in found])
    assert whole.column("id").to_pylist() == [f"pair-{k}" for k in range(30)]


def test_parquet_is_compressed_with_zstd(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3))
    out = export(store, "tiny", tmp_path / "out", "parquet").path
    meta = pq.ParquetFile(next((out / "data").iterdir())).metadata
    assert {meta.row_group(0).column(at).compression for at in range(meta.num_columns)} == {"ZSTD"}


def test_a_hub_folder_has_the_whole_account_without_places_on_the_machine(
    store: Store, tmp_path: Path
) -> None:
    file_run(store, pairs_of(3), place="/home/somebody/rows.jsonl")
    out = export(store, "tiny", tmp_path / "out", "hub-folder").path
    assert files(out) == [
        "README.md",
        "data/train-00000-of-00001.parquet",
        "manifests/00-data.json",
        "prefkit-export.json",
        "recipe.yaml",
    ]
    assert yaml.safe_load((out / "recipe.yaml").read_text())["data"] == [{"file": "rows.jsonl"}]
    for path in out.rglob("*"):
        assert path.is_dir() or b"somebody" not in path.read_bytes()
    assert Manifest.model_validate_json((out / "manifests" / "00-data.json").read_bytes()).key == "k0"


def test_trl_says_which_labels_are_lost_and_of_how_many_pairs(store: Store, tmp_path: Path) -> None:
    table = pairs_of(
        4,
        p_chosen=[1.0, 0.75, 0.5, None],
        tie=[False, False, True, False],
        weight=[1.0, 1.0, 0.0, 2.0],
        phase=pa.array([0, 0, 1, 1], pa.int32()),
        rank=[0, 1, 2, 3],
        ref_chosen_logp=[-1.0, -1.0, -1.0, None],
        ref_rejected_logp=[-1.0] * 4,
    )
    file_run(store, table)
    found = export(store, "tiny", tmp_path / "out", "trl").warnings
    assert [warning.partition(" is lost")[0].partition(" are lost")[0] for warning in found] == [
        "'p_chosen'",
        "'tie'",
        "'weight'",
        "'phase'",
        "'rank'",
        "'ref_chosen_logp' and 'ref_rejected_logp'",
    ]
    assert "2 of 4 pairs have a graded label" in found[0]
    assert "1 of 4 pairs are ties" in found[1]
    readme = (tmp_path / "out" / "README.md").read_text()
    assert all(warning in readme for warning in found)
    assert export(store, "tiny", tmp_path / "all", "parquet").warnings == ()


def test_labels_that_say_nothing_are_no_warning(store: Store, tmp_path: Path) -> None:
    table = pairs_of(
        2, p_chosen=[1.0, 1.0], tie=[False, False], weight=[1.0, 1.0], phase=pa.array([0, 0], pa.int32())
    )
    file_run(store, table)
    assert export(store, "tiny", tmp_path / "out", "trl").warnings == ()


def test_template_settings_become_objects_and_void_tools_are_left_out(store: Store, tmp_path: Path) -> None:
    table = pairs_of(
        3,
        tools=pa.nulls(3, pa.string()),
        chat_template_kwargs=['{"enable_thinking": false}', None, '{"depth": 2}'],
    )
    file_run(store, table, shards=3)
    out = export(store, "tiny", tmp_path / "out", "trl").path
    rows = pq.read_table(out / "data" / "train-00000-of-00001.parquet")
    assert rows.column_names == ["prompt", "chosen", "rejected", "chat_template_kwargs"]
    assert [row["enable_thinking"] if row else None for row in rows["chat_template_kwargs"].to_pylist()] == [
        False,
        None,
        None,
    ]


def test_template_settings_that_are_no_object_are_an_error(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(1, chat_template_kwargs=["[1]"]))
    with pytest.raises(DataError, match="no JSON object"):
        export(store, "tiny", tmp_path / "out", "trl")
    assert list(tmp_path.glob("*out*")) == []


def test_trl_wants_pairs(store: Store, tmp_path: Path) -> None:
    prompts = pairs_of(2).select(["id", "prompt_id", "prompt"])
    file_run(store, prompts)
    with pytest.raises(ContractError, match="TRL wants pairs"):
        export(store, "tiny", tmp_path / "out", "trl")
    assert export(store, "tiny", tmp_path / "out", "parquet").rows == 2


def test_rows_without_a_split_belong_to_train_and_odd_names_are_made_plain(
    store: Store, tmp_path: Path
) -> None:
    file_run(store, pairs_of(3, split=["a/../b", None, "train"]))
    out = export(store, "tiny", tmp_path / "out", "parquet").path
    assert sorted(path.name for path in (out / "data").iterdir()) == [
        "a____b-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]
    assert pq.read_table(out / "data" / "train-00000-of-00001.parquet").num_rows == 2


def test_an_empty_dataset_still_has_its_columns(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3).slice(0, 0))
    out = export(store, "tiny", tmp_path / "out", "trl").path
    assert pq.read_table(out / "data" / "train-00000-of-00001.parquet").column_names == [
        "prompt",
        "chosen",
        "rejected",
    ]


# the folder


def test_an_earlier_export_is_replaced_whole(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3))
    out = tmp_path / "out"
    export(store, "tiny", out, "hub-folder")
    export(store, "tiny", out, "trl")
    assert files(out) == ["README.md", "data/train-00000-of-00001.parquet", "prefkit-export.json"]
    assert json.loads((out / "prefkit-export.json").read_text())["to"] == "trl"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_a_folder_with_files_of_its_own_is_left_alone(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3))
    out = tmp_path / "out"
    export(store, "tiny", out, "parquet")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(PrefkitError, match=r"has files that no export wrote \(1\): 'notes.txt'"):
        export(store, "tiny", out, "parquet")
    assert (out / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    with pytest.raises(PrefkitError, match="is a file"):
        export(store, "tiny", tmp_path / "file", "parquet")


def test_an_empty_folder_is_taken(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3))
    (tmp_path / "out").mkdir()
    assert export(store, "tiny", tmp_path / "out", "parquet").rows == 3


def test_an_export_that_fails_leaves_what_was_there(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(6), shards=2)
    out = tmp_path / "out"
    export(store, "tiny", out, "parquet")
    before = {name: (out / name).read_bytes() for name in files(out)}
    manifest = store.resolve("tiny")
    damaged = store.root / "objects" / manifest.shards[1].digest[:2] / f"{manifest.shards[1].digest}.arrow"
    damaged.write_bytes(b"torn")
    with pytest.raises(StoreError):
        export(Store(store.root), "tiny", out, "parquet")
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_an_unwritable_place_is_an_error_with_a_hint(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(3))
    (tmp_path / "file").write_text("")
    with pytest.raises(PrefkitError, match="cannot be written") as caught:
        export(store, "tiny", tmp_path / "file" / "out", "parquet")
    assert "untouched" in caught.value.hint


def test_two_exports_of_one_run_have_the_same_bytes(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(30), shards=3)
    for name in ("one", "two"):
        export(store, "tiny", tmp_path / name, "hub-folder")
    assert [(tmp_path / "one" / n).read_bytes() for n in files(tmp_path / "one")] == [
        (tmp_path / "two" / n).read_bytes() for n in files(tmp_path / "two")
    ]


def test_trl_does_not_get_pairs_whose_responses_had_parts_taken_out(store: Store, tmp_path: Path) -> None:
    file_run(store, pairs_of(4, degree=pa.array([0, 1, 2, 0], pa.int32())))
    found = export(store, "tiny", tmp_path / "out", "trl")
    assert found.rows == 2
    assert found.warnings[-1].startswith("2 of 4 pairs are left out: ")
    assert found.warnings[-1] in (tmp_path / "out" / "README.md").read_text()
    (rows,) = (pq.read_table(path) for path in (tmp_path / "out" / "data").glob("*.parquet"))
    assert [row["chosen"][0]["content"] for row in rows.to_pylist()] == ["good 0", "good 3"]
    assert export(store, "tiny", tmp_path / "all", "parquet").rows == 4


@pytest.mark.parametrize("to", ["parquet", "trl"])
def test_how_many_files_are_written_at_once_changes_none_of_them(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Target
) -> None:
    monkeypatch.setattr(export_rows, "FILE_BYTES", 400)
    splits = ["train", None, "test", "odd name", "train"]
    file_run(store, pairs_of(30, split=[splits[at % 5] for at in range(30)]), shards=6)
    one, many = tmp_path / "one", tmp_path / "many"
    export(store, "tiny", one, to)
    export(store, "tiny", many, to, threads=4)
    written = [name for name in files(one) if name.startswith("data/")]
    assert len(written) > 6
    assert {name.split("-")[0] for name in written} == {"data/train", "data/test", "data/odd_name"}
    assert files(many) == files(one)
    for name in files(one):
        assert (many / name).read_bytes() == (one / name).read_bytes(), name
    assert not verify_export(many).faults


def test_the_digest_of_an_export_of_everything_is_that_of_the_dataset(store: Store, tmp_path: Path) -> None:
    table = pairs_of(30)
    file_run(store, table, shards=5)
    out = export(store, "tiny", tmp_path / "out", "parquet").path
    about = json.loads((out / MARKER).read_text())
    found = digest(pq.read_table(out / "data").cast(table.schema))
    assert about["splits"]["train"]["digest"] == about["digest"] == found
