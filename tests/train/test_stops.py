"""What stops a run: Ctrl-C, a full disk, a number that is not finite. Each says so, and costs no step that was kept."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from prefkit.cli import run
from prefkit.engines import Model
from prefkit.errors import TrainError
from prefkit.train import TrainPlacement, TrainSettings, train
from prefkit.train.run import Event

OFTEN = TrainPlacement(checkpoint_every=1)
RECIPE = """
name: stopped
models: {{ policy: {{ id: {policy} }} }}
data: [{{ file: {folder}/pairs.jsonl }}]
train: {{ model: policy, objective: simpo, steps: 40, batch: 4, learning_rate: 1e-3 }}
"""


def settings(policy: Model, **kind: object) -> TrainSettings:
    return TrainSettings(model=policy, **{"steps": 4, "batch": 4, "learning_rate": 1e-3, **kind})


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def kept(out: Path) -> int:
    """Return how many steps the checkpoint holds."""
    steps: int = json.loads((out / "checkpoint" / "checkpoint.json").read_text())["steps"]
    return steps


def at(done: int, act: Callable[[], None], phase: str = "train") -> Callable[[Event], None]:
    """Return a progress display that acts once so many steps are done, before their checkpoint is written."""
    return lambda event: act() if (event.phase, event.done) == (phase, done) else None


class Steps:
    """Notes which steps a run does."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, event: Event) -> None:
        if event.phase == "train":
            self.done.append(event.done)


# Ctrl-C


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("prefkit")), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell's job in the background ignores Ctrl-C and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread runs here
    )


def wait(store: Path, child: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Wait until a run in the store has a checkpoint."""
    until = time.monotonic() + seconds
    while not list(store.glob("trained/*/checkpoint")) and child.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    assert child.poll() is None, child.communicate()


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(
    policy: Model, pairs: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pairs.select(["prompt", "chosen", "rejected"]).to_pylist()
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(policy=policy.id, folder=tmp_path))
    command = ["train", str(recipe), "--device", "cpu", "--checkpoint-every", "1", "--store"]

    child = start(*command, str(tmp_path / "cut"))
    wait(tmp_path / "cut", child)
    child.send_signal(signal.SIGINT)
    told, said = child.communicate(timeout=60)
    assert (child.returncode, told) == (2, "")
    assert said.splitlines()[-1] == "stopped; what was finished is kept: the same command goes on from there"
    assert "Traceback" not in said
    (cut,) = (tmp_path / "cut" / "trained").iterdir()
    before, done = losses(cut), kept(cut)
    assert 1 <= done <= len(before) < 40
    for store in ("cut", "whole"):
        assert run([*command, str(tmp_path / store)]) == 0, capsys.readouterr().err
    (whole,) = (tmp_path / "whole" / "trained").iterdir()
    assert losses(cut)[:done] == before[:done]
    assert losses(cut) == losses(whole)
    assert weights(cut) == weights(whole)


# full disks


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow beyond a number of bytes from then on: a full disk that needs no root."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


UNLIMITED = resource.RLIM_INFINITY


def test_a_disk_that_is_full_at_a_checkpoint_costs_one_step(
    policy: Model, pairs: pa.Table, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    train(settings(policy), pairs, out=tmp_path / "whole")
    out, seen = tmp_path / "cut", Steps()
    with pytest.raises(TrainError, match=r"cannot write.*File too large") as raised:
        train(
            settings(policy), pairs, out=out, placement=OFTEN, progress=at(3, lambda: small_files(1_000_000))
        )
    assert raised.value.where == str(out / "checkpoint")
    assert raised.value.hint.startswith("free space")
    assert kept(out) == 2
    small_files(UNLIMITED)
    train(settings(policy), pairs, out=out, placement=OFTEN, progress=seen)
    assert seen.done == [3, 4]
    assert losses(out) == losses(tmp_path / "whole")
    assert weights(out) == weights(tmp_path / "whole")


def test_a_checkpoint_set_aside_is_kept_until_the_next_is_whole(
    policy: Model, pairs: pa.Table, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    """A run killed between setting the old checkpoint aside and putting the new one in its place, on a full disk."""
    seen = Steps()
    with pytest.raises(TrainError):
        train(
            settings(policy),
            pairs,
            out=tmp_path,
            placement=OFTEN,
            progress=at(3, lambda: small_files(1_000_000)),
        )
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    with pytest.raises(TrainError):
        train(settings(policy), pairs, out=tmp_path, placement=OFTEN)
    small_files(UNLIMITED)
    train(settings(policy), pairs, out=tmp_path, placement=OFTEN, progress=seen)
    assert seen.done == [3, 4]


def test_a_disk_that_is_full_at_the_end_costs_no_step(
    policy: Model, pairs: pa.Table, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    out, seen = tmp_path / "cut", Steps()
    whole = train(settings(policy), pairs, out=tmp_path / "whole")

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(policy), pairs, out=out, progress=at(0, stop, "evaluate after"))
    before = weights(out)
    small_files(1_000_000)
    with pytest.raises(TrainError, match=r"cannot write.*File too large") as raised:
        train(settings(policy), pairs, out=out)
    assert raised.value.where == str(out / "model")
    assert (kept(out), weights(out)) == (4, before)
    small_files(UNLIMITED)
    done = train(settings(policy), pairs, out=out, progress=seen)
    assert seen.done == []
    assert weights(out) == weights(tmp_path / "whole")
    assert done.report.curve == whole.report.curve
    assert done.report.held_out == whole.report.held_out


def test_a_disk_that_is_full_at_a_line_of_metrics_is_as_clear(
    policy: Model, pairs: pa.Table, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    with pytest.raises(TrainError, match=r"cannot write.*File too large") as raised:
        train(settings(policy), pairs, out=tmp_path, progress=at(2, lambda: small_files(600)))
    assert raised.value.where == str(tmp_path / "metrics.jsonl")
    small_files(UNLIMITED)
    train(settings(policy), pairs, out=tmp_path)
    assert len(losses(tmp_path)) == 4


# numbers that are not finite


def spoiled(pairs: pa.Table, column: str, row: int, value: float) -> pa.Table:
    """Return the pairs with a column of ones, one and a half in the first row, but for one number."""
    values = [1.5, *[1.0] * (pairs.num_rows - 1)]
    values[row] = value
    return pairs.append_column(column, pa.array(values))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("column", "objective"), [("margin", {"offset": "margin"}), ("weight", "weighted-dpo")]
)
def test_a_number_that_is_not_finite_stops_before_its_step_and_names_its_row(
    policy: Model, pairs: pa.Table, tmp_path: Path, column: str, objective: object, value: float
) -> None:
    asked = settings(policy, objective=objective)
    with pytest.raises(TrainError, match="is not finite at step 1") as raised:
        train(asked, spoiled(pairs, column, 5, value), out=tmp_path / "bad", placement=OFTEN)
    assert kept(tmp_path / "bad") == 1
    good = spoiled(pairs, column, 5, 1.0)
    with pytest.raises(TrainError):  # the step before is that of the same pairs without it
        train(asked, good, out=tmp_path / "bad", placement=OFTEN)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(asked, good, out=tmp_path / "good", placement=OFTEN, progress=at(2, stop))
    found = [load_file(tmp_path / name / "checkpoint/weights.safetensors") for name in ("bad", "good")]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert raised.value.where == "rows pair5"


def test_held_out_rows_that_are_not_finite_are_named_before_the_first_step(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    asked = settings(policy, objective={"offset": "margin"})
    last = pairs.num_rows - 1
    assert pairs["split"][last].as_py() == "test"
    seen = Steps()
    with pytest.raises(TrainError, match="the loss is not finite on held-out pairs") as raised:
        train(asked, spoiled(pairs, "margin", last, float("inf")), out=tmp_path, progress=seen)
    assert raised.value.where == f"rows {pairs['id'][last].as_py()}"
    assert seen.done == []


def test_a_policy_that_ran_away_is_reported_like_any_other(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    """Its distance to the reference by k3 is beyond float32; the report says so and can be read again."""
    evaluate = {"prompts": 2, "samples": 1, "max_tokens": 20}
    wild = {"learning_rate": 3.0, "max_grad_norm": None, "steps": 12, "evaluate": evaluate}
    done, seen = train(settings(policy, **wild), pairs, out=tmp_path), Steps()
    assert done.report.samples is not None
    assert done.report.samples.kl_k3.mean == float("inf")
    again = train(settings(policy, **wild), pairs, out=tmp_path, progress=seen)
    assert again.report.samples is not None
    assert again.report.samples.kl_k3.mean == float("inf")
    assert seen.done == []


def test_metrics_that_are_gone_are_not_reported_as_fewer_steps(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(policy), pairs, out=tmp_path, placement=OFTEN, progress=at(3, stop))
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(TrainError, match="the checkpoint is of step 2, and the metrics beside it are of 0"):
        train(settings(policy), pairs, out=tmp_path, placement=OFTEN)


def test_a_finished_run_whose_weights_are_cut_short_is_trained_again_to_the_same_weights(
    policy: Model, pairs: pa.Table, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings(policy), pairs, out=tmp_path)
    whole, steps = weights(tmp_path), Steps()
    (tmp_path / "model" / "model.safetensors").write_bytes(whole[:-100])
    with caplog.at_level("WARNING", logger="prefkit"):
        train(settings(policy), pairs, out=tmp_path, progress=steps)
    assert len(steps.done) > 0
    assert weights(tmp_path) == whole
    assert [record.message for record in caplog.records] == ["weights damaged"]


def test_an_adapter_that_is_cut_short_is_trained_again_too(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    adapted = settings(policy, lora={"rank": 2})
    train(adapted, pairs, out=tmp_path)
    (path,) = (tmp_path / "adapter").glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    train(adapted, pairs, out=tmp_path)
    assert path.read_bytes() == whole


def test_a_finished_run_whose_weights_were_deleted_still_has_its_report(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    report, steps = train(settings(policy), pairs, out=tmp_path).report, Steps()
    (tmp_path / "model" / "model.safetensors").unlink()
    assert train(settings(policy), pairs, out=tmp_path, progress=steps).report == report
    assert steps.done == []


def test_an_output_folder_that_cannot_be_made_is_an_error_with_its_place(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainError, match="cannot write") as raised:
        train(settings(policy), pairs, out=tmp_path / "file" / "run")
    assert raised.value.where == str(tmp_path / "file" / "run")
