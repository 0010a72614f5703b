"""A run that is killed at any moment: the same command ends as if nothing had happened, to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prefkit.engines import Model
from prefkit.train import TrainPlacement, TrainSettings, train

# Every life of a run is a process of its own, forked from one that has everything loaded. It ends just before what
# Python announces: an event, the file in the output folder, and how often that happened before in this life; or, where
# a moment is a number, somewhere in the step after so many. Then the run begins again, until no moment is left.
SCRIPT = """
import json, os, random, signal, sys, time
from pathlib import Path
import pyarrow.parquet as pq
import prefkit.train.run
from prefkit.engines.weights import load
from prefkit.train import TrainPlacement, TrainSettings, train
import torch

def begin(out, moment):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event == moment[0] and str(arguments[0]) == str(out / moment[1]):
            seen += 1
            if seen > moment[2]:
                os.kill(os.getpid(), signal.SIGKILL)
    if isinstance(moment, list):
        sys.addaudithook(hook)
    train(settings, pairs, out=out, placement=TrainPlacement(checkpoint_every=1, device="cpu"))

def wait(path, steps):
    while not path.is_file() or path.read_bytes().count(b"\\n") < steps:
        time.sleep(0.0005)
    time.sleep(random.uniform(0, 0.02))

folder = Path(sys.argv[1])
settings = TrainSettings.model_validate_json((folder / "settings.json").read_text())
pairs = pq.read_table(folder / "pairs.parquet")
loaded = load(settings.model, "language", torch.device("cpu"), "float32")
loaded.network.generate(torch.tensor([[4, 5]]), max_new_tokens=1)
for name, moments in json.loads(sys.argv[2]).items():
    for moment in moments:
        child = os.fork()
        if child == 0:
            begin(folder / name, moment)
            os._exit(0)
        if isinstance(moment, int):
            wait(folder / name / "metrics.jsonl", moment)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if moment and status != signal.SIGKILL:
            sys.exit(f"{name}: {moment} never came")
"""
END = None
"""A moment that never comes: the run ends by itself."""
MOMENTS: dict[str, list[list[object] | int | None]] = {
    "in a step": [1, 2, END],
    "in the first checkpoint": [["open", "checkpoint.new/checkpoint.json", 0], END],
    "in the last checkpoint": [["open", "checkpoint.new/checkpoint.json", 2], END],
    "before the old one is set aside": [["os.rename", "checkpoint", 0], END],
    "between the old one and the new, then in the next": [
        ["os.rename", "checkpoint.new", 1],
        ["open", "checkpoint.new/checkpoint.json", 0],
        END,
    ],
    "before the last old one is deleted": [["os.rmdir", "checkpoint.old", 1], END],
    "in an evaluation": [["os.rename", "evaluated.new", 1], END],
    "before the line of an evaluation": [["open", "evaluations.jsonl", 1], END],
    "in the model": [["open", "model.new/config.json", 0], ["os.rename", "model.new", 0], END],
    "in the report": [["open", "report.json.new", 0], ["os.rename", "report.json.new", 0], END],
    "at the very end": [["os.rmdir", "checkpoint", 0], END],
}


def killed(asked: TrainSettings, pairs: pa.Table, folder: Path, lives: object) -> Path:
    """Run lives of a run, each in a folder of its own; return that of an unbroken one."""
    pq.write_table(pairs, folder / "pairs.parquet")
    (folder / "settings.json").write_text(asked.model_dump_json())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(lives)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    read = pq.read_table(folder / "pairs.parquet")
    train(asked, read, out=folder / "whole", placement=TrainPlacement(device="cpu", threads=1))
    return folder / "whole"


def check_same(whole: Path, cut: Path) -> None:
    """Check what was learned, byte for byte, that no line is lost or repeated, and that nothing is left behind."""
    losses = [
        [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]
        for out in (whole, cut)
    ]
    assert losses[0] == losses[1]
    for name in ("model/model.safetensors", "evaluations.jsonl"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    reports = [json.loads((out / "report.json").read_text()) for out in (whole, cut)]
    for name in ("key", "curve", "steps"):
        assert reports[0][name] == reports[1][name], name
    left = [{str(path.relative_to(out)) for path in out.rglob("*")} for out in (whole, cut)]
    assert left[0] == left[1]


def test_a_run_killed_at_any_moment_ends_as_one_that_was_not(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    kind = {"steps": 3, "batch": 4, "learning_rate": 1e-3, "evaluate": {"every": 1}}
    trained = pairs.filter(
        pc.equal(pairs["split"], "train")
    )  # nothing is held out: an evaluation is its line
    whole = killed(TrainSettings(model=policy, **kind), trained, tmp_path, MOMENTS)
    for name in MOMENTS:
        check_same(whole, tmp_path / name)
