"""What `prefkit verify` says of trainings, comparisons, ablations and answers: files that have no digest of their own."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from pyarrow import ipc
from safetensors.numpy import save_file

from prefkit.card import save_report
from prefkit.engines.answers import Memo
from prefkit.experiment import table
from prefkit.experiment.ready import write_answers
from prefkit.experiment.report import Comparison, Looks, Plan
from prefkit.manifest import Made, Manifest, Rows
from prefkit.sharing import fold_in
from prefkit.store import Store
from prefkit.train.report import Report
from prefkit.verify import verify_store

TRAINED, COMPARED = "trained/tiny-5e0243e1", "compared/tiny-vs-other-8ccb81e4"
RUN = f"{COMPARED}/runs/1-tiny/0"
REPORT = Report(
    key="k",
    model="m",
    objective="dpo",
    settings={},
    placement={},
    pairs=2,
    notes={},
    steps=3,
    seconds=1.0,
    tokens=9,
    first_loss=1.0,
    last_loss=float("inf"),
    curve=[(0, 1.0)],
    held_out=None,
    samples=None,
)
PLAN = Plan(
    runs=2,
    steps=1,
    pairs=1,
    answers=1,
    verdicts=0,
    seconds=None,
    effect=0.1,
    floor=0.1,
    variance={},
    variance_from="typical",
)
EARNED = {"recipe": "tiny", "primary": "", "pairs": None, "comparison": "", "stages": []}


def file_training(folder: Path) -> None:
    """Leave what a training leaves, its weights in two files."""
    (folder / "model").mkdir(parents=True)
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    for name in names:
        save_file({name[6:11]: np.arange(64, dtype=np.float32)}, folder / "model" / name)
    index = {"weight_map": {name[6:11]: name for name in names}}
    (folder / "model" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model" / "config.json").write_text("{}")
    lines = [json.dumps({"step": number, "loss": float("nan")}) + "\n" for number in range(3)]
    (folder / "metrics.jsonl").write_text("".join(lines))
    (folder / "report.json").write_text(REPORT.model_dump_json())


def file_checkpoint(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("weights", "optimizer", "state"):
        save_file({"w": np.arange(64, dtype=np.float32)}, folder / f"{name}.safetensors")
    (folder / "checkpoint.json").write_text('{"steps": 2, "key": "k"}')


def file_run(folder: Path, arm: str, value: float) -> None:
    folder.mkdir(parents=True)
    found = table.rows("score", ["p", "q"], ["0", "0"], np.asarray([value, np.nan]))
    names = pl.lit(arm).alias("arm"), pl.lit(0, pl.Int64).alias("seed"), pl.lit(1, pl.Int64).alias("step")
    table.write(found.with_columns(*names).select(*table.COLUMNS), folder / "measured.arrow")
    said = pa.table({"prompt_id": ["p"], "response": [[{"role": "assistant", "content": f"{value}"}]]})
    write_answers(said, arm, 0, folder / "answers.arrow")
    if arm:
        np.save(folder / "changed.npy", np.zeros(3, dtype=np.uint8))
        (folder / "metrics.jsonl").write_text('{"loss": 1.0}\n')
        (folder / "report.json").write_text(REPORT.model_dump_json())


def file_comparison(folder: Path) -> None:
    runs = {"reference/0": "", "1-tiny/0": "tiny", "2-other/0": "other"}
    for value, (run, arm) in enumerate(runs.items()):
        file_run(folder / "runs" / run, arm, float(value))
    paths = [folder / "runs" / run for run in runs]
    table.write(pl.concat([table.read(path / "measured.arrow") for path in paths]), folder / "measured.arrow")
    said = pa.concat_tables(
        [ipc.open_file(path / "answers.arrow").read_all() for path in paths], promote_options="default"
    )
    with ipc.new_file(str(folder / "answers.arrow"), said.schema) as file:
        file.write_table(said)
    plan = PLAN.model_dump()
    (folder / "plan.json").write_text(json.dumps(plan))
    whole = dict.fromkeys(("name", "id", "protocol", "model", "model_identity", "objective", "primary"), "x")
    whole |= {"batch": 1, "prompts": 2, "arms": [], "versus": [], "notes": [], "plan": plan}
    whole |= {name: {} for name in ("train", "settings", "removed", "software")}
    whole["looks"] = Looks(planned=1, taken=1, seeds=1, spent=0.05, stopped=False).model_dump()
    (folder / "report.json").write_text(json.dumps(whole))
    Comparison.model_validate_json((folder / "report.json").read_bytes())
    for name in ("report.md", "report.html"):
        (folder / name).write_text("read me")


@pytest.fixture
def trained(store) -> Store:
    """A run of one step, what a training and a comparison of it left, and what an ablation found."""
    shard = store.put(pa.table({"id": ["a"]}))
    made = Manifest(
        key="k0",
        stage="data",
        version=1,
        kind="source",
        level="response",
        config={},
        seed=None,
        input=None,
        digest=shard.digest,
        columns=(("id", "string"),),
        shards=(shard,),
        rows=Rows(read=1, kept=1),
        made=Made(prefkit="1", python="3"),
    )
    store.save_step(made)
    store.save_refs("tiny", {"00-data": "k0"}, {"name": "tiny"})
    save_report(store, "tiny", shard.digest, REPORT)
    file_training(store.root / TRAINED)
    file_comparison(store.root / COMPARED)
    (store.root / "ablated").mkdir()
    (store.root / "ablated" / "tiny.json").write_text(json.dumps(EARNED))
    return store


def faults(store: Store, name: str = "") -> dict[str, tuple[str, str]]:
    return {fault.where: (fault.kind, fault.mend) for fault in verify_store(Store(store.root), name).faults}


def test_what_training_and_comparing_leave_is_sound_and_counted(trained):
    report = verify_store(trained)
    assert report.faults == ()
    assert report.notes == ()
    assert report.counts.files == 1 + 6 + 2 + 5 * 2 + 4 + 1


def test_checking_results_loads_no_torch(trained):
    import subprocess
    import sys

    code = "import sys; from prefkit.verify import verify; verify('', sys.argv[1]); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained.root)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("name", "mend"),
    [
        (f"{TRAINED}/report.json", f"remove {TRAINED}, then `prefkit train` with the recipe of 'tiny'"),
        (f"{TRAINED}/model/model-00002-of-00002.safetensors", f"remove {TRAINED}, then `prefkit train`"),
        (f"{TRAINED}/model/model.safetensors.index.json", f"remove {TRAINED}, then `prefkit train`"),
        (f"{TRAINED}/metrics.jsonl", "nothing but charts reads it"),
        (f"{COMPARED}/report.json", "`prefkit compare` of the same datasets writes it again"),
        (f"{COMPARED}/plan.json", "remove it, then `prefkit compare` of the same datasets writes it anew"),
        (f"{COMPARED}/measured.arrow", "`prefkit compare` of the same datasets writes it again"),
        (f"{COMPARED}/answers.arrow", "`prefkit compare` of the same datasets writes it again"),
        (f"{RUN}/measured.arrow", f"remove {RUN}, then `prefkit compare` of the same datasets trains"),
        (f"{RUN}/answers.arrow", f"remove {RUN}, then `prefkit compare` of the same datasets trains"),
        (f"{RUN}/changed.npy", f"remove {RUN}, then `prefkit compare`"),
        (f"{RUN}/report.json", f"remove {RUN}, then `prefkit compare`"),
        (f"{COMPARED}/runs/reference/0/answers.arrow", "draws the untrained model's answers again"),
    ],
)
def test_a_file_that_was_cut_short_is_named_with_what_makes_it_again(trained, name, mend):
    path = trained.root / name
    path.write_bytes(path.read_bytes()[: -max(path.stat().st_size // 3, 2)])
    found = faults(trained)
    assert set(found) == {name}
    kind, told = found[name]
    assert kind in {"damaged", "disagrees"}
    assert mend in told


@pytest.mark.parametrize(
    "name",
    [
        f"{TRAINED}/model/model-00001-of-00002.safetensors",
        f"{TRAINED}/model/config.json",
        f"{TRAINED}/metrics.jsonl",
        f"{COMPARED}/measured.arrow",
        f"{COMPARED}/report.md",
        f"{RUN}/answers.arrow",
        f"{RUN}/report.json",
        f"{RUN}/changed.npy",
    ],
)
def test_a_file_that_another_one_names_is_missed(trained, name):
    (trained.root / name).unlink()
    assert faults(trained)[name][0] == "missing"


@pytest.mark.parametrize("part", ["measured.arrow", "runs/1-tiny/0/measured.arrow"])
def test_a_number_that_was_changed_in_one_of_its_two_tables_is_found(trained, part):
    path = trained.root / COMPARED / part
    frame = table.read(path)
    at = pl.int_range(pl.len()) == frame.with_row_index().filter(arm="tiny")["index"][0]
    table.write(frame.with_columns(pl.when(at).then(7.0).otherwise("value").alias("value")), path)
    report = verify_store(trained)
    assert [fault.where for fault in report.faults] == [f"{COMPARED}/measured.arrow"]
    assert "of 'tiny', seed 0" in report.faults[0].what


def test_an_answer_that_was_changed_in_one_of_its_two_tables_is_found(trained):
    path = trained.root / RUN / "answers.arrow"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"1.0", b"1.1"))
    assert path.read_bytes() != data
    assert set(faults(trained)) == {f"{COMPARED}/answers.arrow"}


def test_a_run_that_is_gone_though_it_was_counted_is_found(trained):
    shutil.rmtree(trained.root / RUN)
    report = verify_store(trained)
    assert {fault.where for fault in report.faults} == {
        f"{COMPARED}/{n}.arrow" for n in ("measured", "answers")
    }
    assert all("nothing is left in `runs/`" in fault.what for fault in report.faults)


def test_steps_without_metrics_are_found(trained):
    path = trained.root / TRAINED / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    (fault,) = verify_store(trained).faults
    assert fault.what == f"{TRAINED}/metrics.jsonl is of 2 steps, and the report beside it of 3"


def test_a_training_that_is_not_finished_is_a_note_and_its_checkpoint_is_checked(trained):
    folder = trained.root / TRAINED
    (folder / "report.json").unlink()
    shutil.rmtree(folder / "model")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')  # as a killed run leaves it
    file_checkpoint(folder / "checkpoint")
    report = verify_store(trained)
    assert report.faults == ()
    assert report.notes == (f"the training in {TRAINED} is not finished and goes on from its checkpoint",)
    path = folder / "checkpoint" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    (folder / "checkpoint" / "state.safetensors").unlink()
    found = faults(trained)
    assert {Path(name).name for name in found} == {"optimizer.safetensors", "state.safetensors"}
    assert all("begins from the start" in mend for _, mend in found.values())


def test_what_is_being_written_is_nobodys_fault(trained):
    for name in (f"{TRAINED}/checkpoint.new/weights.safetensors", f"{COMPARED}/measured.arrow.new"):
        (trained.root / name).parent.mkdir(exist_ok=True)
        (trained.root / name).write_bytes(b"half")
    assert faults(trained) == {}


def test_the_report_that_a_card_shows_is_checked(trained):
    path = trained.root / "refs/tiny/train-report.json"
    path.write_bytes(path.read_bytes()[:-40])
    assert set(faults(trained)) == set(faults(trained, "tiny")) == {"refs/tiny/train-report.json"}


def test_an_ablation_that_is_none_is_found(trained):
    (trained.root / "ablated" / "tiny.json").write_text('{"recipe": 3}')
    assert set(faults(trained)) == {"ablated/tiny.json"}


def test_a_run_is_checked_with_its_own_trainings_alone(trained):
    for name in (TRAINED, "trained/tiny-other-5e0243e1", COMPARED):
        (trained.root / name).mkdir(exist_ok=True)
        (trained.root / name / "report.json").write_text("{")
    assert set(faults(trained, "tiny")) == {f"{TRAINED}/report.json"}
    assert faults(trained, "tiny/data") == {}


def test_results_in_object_storage_are_checked_alike(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    there = Store(f"memory://{tmp_path.name}")
    for path in trained.root.rglob("*"):
        if path.is_file():
            there.remote.upload(path, path.relative_to(trained.root).as_posix())
    assert verify_store(Store(there.address)).is_sound
    name = f"{TRAINED}/model/model-00001-of-00002.safetensors"
    there.remote.write(name, there.remote.read(name)[:-1])
    assert [fault.where for fault in verify_store(Store(there.address)).faults] == [name]


# answers


@pytest.fixture
def answered(trained) -> Store:
    """The same with three answers."""
    memo = Memo(trained.root / "memo.sqlite")
    for number in range(3):
        memo.remember(bytes([number]) * 16, f'["answer {number}"]'.encode())
    return trained


def rot(path: Path) -> None:
    """Turn a bit in an answer, as a bad disk does: it is as good JSON as before."""
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"answer 1", b"answer 3"))
    assert path.read_bytes() != data


def test_an_answer_whose_bits_rotted_is_named_and_not_given(answered):
    rot(answered.root / "memo.sqlite")
    report = verify_store(Store(answered.root))
    (fault,) = report.faults
    assert (fault.where, fault.asked_again, report.counts.answers) == ("memo.sqlite", 1, 2)
    assert fault.what == "the memo of engine answers: 1 answer is not as it was written"
    memo, key = Memo(answered.root / "memo.sqlite"), b"\x01" * 16
    assert memo.claim([key]).mine == [key], "it is asked for again"
    assert memo.remember(key, b'["another"]'), "and what is answered then takes its place"
    assert memo.find([key]) == {key: b'["another"]'}
    assert not memo.remember(key, b'["a third"]')
    assert verify_store(Store(answered.root)).is_sound


def test_an_answer_under_the_key_of_another_request_is_not_given(answered):
    with sqlite3.connect(answered.root / "memo.sqlite") as db:
        db.execute("UPDATE answers SET key = ? WHERE key = ?", (b"\x07" * 16, b"\x01" * 16))
    db.close()
    assert Memo(answered.root / "memo.sqlite").find([b"\x07" * 16]) == {}
    assert [fault.kind for fault in verify_store(Store(answered.root)).faults] == ["damaged"]


def test_answers_of_an_older_version_are_given_and_counted_as_unchecked(answered):
    with sqlite3.connect(answered.root / "memo.sqlite") as db:
        db.execute("UPDATE answers SET answer = rtrim(answer, char(32, 9, 10, 13))")
        db.execute("UPDATE answers SET answer = cast(answer AS BLOB)")
    db.close()
    memo = Memo(answered.root / "memo.sqlite")
    assert memo.find([b"\x01" * 16]) == {b"\x01" * 16: b'["answer 1"]'}
    assert not memo.remember(b"\x01" * 16, b'["another"]')
    report = verify_store(Store(answered.root))
    assert report.is_sound
    assert report.notes == ("3 remembered answers have no checksum, since an older prefkit wrote them",)


def test_a_rotten_answer_takes_the_place_of_none_on_another_machine(tmp_path, monkeypatch):
    address = f"memory://{tmp_path.name}"
    key = b"\x01" * 16
    for machine in ("one", "two"):
        monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / machine))
        store = Store(address)
        path = store.answers()
        if machine == "one":
            with store.locked():
                Memo(path).remember(key, b'["answer 1"]')
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "one"))
    store = Store(address)
    rot(store.root / "memo.sqlite")
    with sqlite3.connect(store.root / "memo.sqlite") as db:
        db.execute("INSERT INTO unsent (key) SELECT key FROM answers")
    db.close()
    with store.locked():
        pass
    assert len(store.remote.listed("memo")) == 2
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "two"))
    other = Store(address)
    fold_in(other.root / "memo.sqlite", other.remote)
    assert Memo(other.root / "memo.sqlite").find([key]) == {key: b'["answer 1"]'}
    (fault,) = verify_store(other).faults
    assert fault.where == "memo"
