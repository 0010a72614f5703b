import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefkit.errors import DataError
from prefkit.sources import Source, identity, peek

ROWS = [{"prompt": f"What is {n}?", "chosen": f"{n}", "rejected": "?", "score_chosen": n} for n in range(40)]
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::FutureWarning")


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "owner" / "name"
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(ROWS), folder / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(ROWS[:5]), folder / "data" / "test-00000-of-00001.parquet")
    return tmp_path


def test_a_dataset_folder_is_read_by_split(offline, load, dataset):
    loaded = load(dataset, hub="./owner/name")
    assert (loaded.format, loaded.table.num_rows) == ("trl-explicit", 40)
    assert loaded.rows[3]["chosen_score"] == 3
    assert load(dataset, hub="./owner/name", split="test").table.num_rows == 5
    assert load(dataset, hub="owner/name", take=7).table.num_rows == 7


def test_a_folder_of_jsonl_is_a_dataset_too(offline, load, tmp_path):
    (tmp_path / "set").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "set" / "train.jsonl").write_text(lines, encoding="utf-8")
    assert load(tmp_path, hub="./set", keep=["score_chosen"]).table["score_chosen"].to_pylist()[:2] == [0, 1]


def test_a_saved_dataset_is_read(offline, load, tmp_path):
    import datasets

    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    loaded = load(tmp_path, hub="./saved")
    assert (loaded.format, loaded.table.num_rows) == ("trl-explicit", 40)


def test_an_unknown_split_is_one_clear_error(offline, load, dataset):
    with pytest.raises(DataError) as caught:
        load(dataset, hub="./owner/name", split="validation")
    assert "validation" in caught.value.what
    assert caught.value.hint


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder '\./none'"):
        peek(Source(hub="./none"), tmp_path)


def test_a_folder_without_data_is_an_error(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="has no data files"):
        peek(Source(hub="./set"), tmp_path)


def test_well_known_datasets_are_planned_without_the_network(tmp_path):
    seen = peek(Source(hub="HuggingFaceH4/ultrafeedback_binarized", split="train_prefs"), tmp_path)
    assert seen.format == "ultrafeedback-binarized"
    assert {"chosen_score", "rejected_score"} <= set(seen.schema.names)
    assert peek(Source(hub="openbmb/UltraFeedback"), tmp_path).format == "ultrafeedback"


def test_a_dataset_nobody_knows_asks_for_its_layout(tmp_path):
    with pytest.raises(DataError) as caught:
        peek(Source(hub="owner/unknown"), tmp_path)
    assert caught.value.what == "the columns of 'owner/unknown' are not known without reading it"
    assert "format:" in caught.value.hint
    named = peek(Source(hub="owner/unknown", format="trl-explicit"), tmp_path)
    mapped = peek(
        Source(hub="owner/unknown", columns={"prompt": "q", "response": "a"}, keep=["lang"]), tmp_path
    )
    assert named.schema.names[-4:] == ["chosen", "rejected", "chosen_id", "rejected_id"]
    assert str(mapped.schema.field("lang").type) == "string"


def test_a_changed_dataset_folder_has_another_identity(dataset):
    source = Source(hub="./owner/name")
    before = identity(source, dataset, None)
    pq.write_table(pa.Table.from_pylist(ROWS[:9]), dataset / "owner/name/data/train-00000-of-00001.parquet")
    assert identity(source, dataset, None) != before


def test_a_set_in_a_folder_of_a_dataset_has_its_own_layout(offline, load, tmp_path):
    source = Source(hub="nvidia/HelpSteer2", data_dir="preference")
    assert peek(source, tmp_path).format == "helpsteer2-preference"
    assert peek(Source(hub="nvidia/HelpSteer2"), tmp_path).format == "helpsteer"
    (tmp_path / "set" / "preference").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "set" / "preference" / "train.jsonl").write_text(lines, encoding="utf-8")
    assert load(tmp_path, hub="./set", data_dir="preference").table.num_rows == 40
