"""Two processes train the run that one trains, and what is on disk does not tell how many there were."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from prefkit.engines import Model
from prefkit.train import TrainPlacement, TrainSettings, train

SCRIPT = """
import json, os, sys, warnings
from pathlib import Path
import pyarrow.parquet as pq
from prefkit.cli.process import leave
from prefkit.train import TrainPlacement, TrainSettings, train

folder, out, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def told(event):
    if event.phase == "train" and event.done == stop:
        os._exit(9)

settings = TrainSettings.model_validate_json((folder / "settings.json").read_text())
placement = TrainPlacement(device="cpu", micro_tokens=60, checkpoint_every=1)
result = train(settings, pq.read_table(folder / "pairs.parquet"), out=out, placement=placement, progress=told)
assert result.report.steps
leave(0)
"""


def settings(policy: Model, **kind: Any) -> TrainSettings:
    return TrainSettings(model=policy, **{"epochs": 2.0, "batch": 6, "learning_rate": 1e-3, **kind})


def told(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def on_two_ranks(asked: TrainSettings, pairs: pa.Table, folder: Path, stop: int = 0) -> tuple[Path, str]:
    pq.write_table(pairs, folder / "pairs.parquet")
    (folder / "settings.json").write_text(asked.model_dump_json())
    (folder / "script.py").write_text(SCRIPT)
    out = folder / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(folder / "script.py"), str(folder), str(out), str(stop)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode == 0) == (stop == 0), done.stderr[-3000:]
    return out, done.stderr


KINDS = {
    "dpo": {},
    "lora": {"lora": {"rank": 4, "alpha": 8.0}, "learning_rate": 1e-2},
    "kl-robust": {"objective": "kldpo"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_do_what_one_does(policy: Model, pairs: pa.Table, tmp_path: Path, kind: str) -> None:
    asked = settings(policy, **KINDS[kind])
    pq.write_table(pairs, tmp_path / "read.parquet")
    pairs = pq.read_table(tmp_path / "read.parquet")
    alone = TrainPlacement(device="cpu", micro_tokens=60)
    one = train(asked, pairs, out=tmp_path / "one", placement=alone)
    out, _ = on_two_ranks(asked, pairs, tmp_path)
    mine, theirs = told(tmp_path / "one"), told(out)
    assert len(mine) == len(theirs) == one.report.steps
    for ours, other in zip(mine, theirs, strict=True):
        for name in ("loss", "grad_norm", "chosen_logp", "accuracy", "tokens"):
            assert other[name] == pytest.approx(ours[name], rel=2e-4, abs=1e-5), name
    weights = [load_file(at / "model" / "model.safetensors") for at in (tmp_path / "one", out)]
    assert weights[0].keys() == weights[1].keys()
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=2e-5, rtol=0)
    reports = [json.loads((at / "report.json").read_text()) for at in (tmp_path / "one", out)]
    assert reports[0]["key"] == reports[1]["key"]
    assert reports[1]["held_out"]["loss"]["after"]["mean"] == pytest.approx(
        reports[0]["held_out"]["loss"]["after"]["mean"], abs=1e-4
    )


def test_two_ranks_go_on_where_they_were_killed(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    asked = settings(policy)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, _ = on_two_ranks(asked, pairs, tmp_path / "whole")
    out, _ = on_two_ranks(asked, pairs, tmp_path / "cut", stop=3)
    assert (out / "checkpoint").is_dir()
    on_two_ranks(asked, pairs, tmp_path / "cut")
    assert [line["loss"] for line in told(out)] == [line["loss"] for line in told(whole)]


def test_what_one_device_must_do_alone_is_refused(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    asked = settings(policy, objective="wdpo")
    pq.write_table(pairs, tmp_path / "pairs.parquet")
    with pytest.raises(AssertionError, match="train without torchrun"):
        on_two_ranks(asked, pairs, tmp_path)
