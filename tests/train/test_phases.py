"""Phases: pairs in the order that a curriculum says, each phase as often as it should be, against its own reference."""

import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow as pa
import pytest

from prefkit.engines import Model
from prefkit.errors import TrainError
from prefkit.train import TrainPlacement, TrainSettings, train
from prefkit.train.run import Event

STILL = {"learning_rate": 1e-12, "warmup": 0.0}
"""So slow that log-probs stay those of the reference, by which a pair can be told."""


def settings(policy: Model, **kind: object) -> TrainSettings:
    return TrainSettings(model=policy, **{"batch": 4, "learning_rate": 1e-3, **kind})


def told(out: Path, name: str) -> list[float]:
    return [json.loads(line)[name] for line in (out / "metrics.jsonl").read_text().splitlines()]


def with_numbers(pairs: pa.Table, **columns: Sequence[int | None]) -> pa.Table:
    for name, values in columns.items():
        kind = pa.int32() if name == "phase" else pa.int64()
        pairs = pairs.append_column(name, pa.array(values, kind))
    return pairs


def halves(pairs: pa.Table, phases: int = 2) -> pa.Table:
    """Return the pairs, dealt to phases in turn."""
    return with_numbers(pairs, phase=[at % phases for at in range(pairs.num_rows)])


def stop_at(done: int) -> Callable[[Event], None]:
    def stop(event: Event) -> None:
        if (event.phase, event.done) == ("train", done):
            raise KeyboardInterrupt

    return stop


def test_pairs_come_by_phase_and_within_it_by_rank(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    phase, rank = draw.integers(0, 3, pairs.num_rows), draw.permutation(pairs.num_rows)
    table = with_numbers(pairs, phase=phase.tolist(), rank=rank.tolist())
    train(settings(policy, batch=1, **STILL), table, out=tmp_path)
    rows = [at for at in np.lexsort([rank, phase]) if pairs["split"][at].as_py() == "train"]
    for side in ("chosen", "rejected"):
        expected = np.asarray(pairs[f"ref_{side}_logp"])[rows]
        assert told(tmp_path, f"{side}_logp") == pytest.approx(expected, abs=1e-3)


def test_a_rank_without_phases_is_obeyed_in_every_epoch(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    table = with_numbers(pairs, rank=list(range(pairs.num_rows))[::-1])
    train(settings(policy, batch=1, epochs=2.0, **STILL), table, out=tmp_path)
    rows = [at for at in range(pairs.num_rows) if pairs["split"][at].as_py() == "train"][::-1]
    expected = np.asarray(pairs["ref_chosen_logp"])[[*rows, *rows]]
    assert told(tmp_path, "chosen_logp") == pytest.approx(expected, abs=1e-3)
    assert told(tmp_path, "epoch") == [0] * 16 + [1] * 16


def test_each_phase_has_its_own_passes(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    """A pass is three steps: a third of one, five thirds, and two, of which each holds every pair in another order."""
    train(
        settings(policy, batch=2, phase_epochs=(1 / 3, 5 / 3, 2.0), **STILL), halves(pairs, 3), out=tmp_path
    )
    assert told(tmp_path, "phase") == [0] + [1] * 5 + [2] * 6
    assert told(tmp_path, "epoch") == [0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1]
    logps, sizes = (np.reshape(told(tmp_path, name)[-6:], (2, 3)) for name in ("chosen_logp", "pairs"))
    assert sizes.tolist() == [[2, 2, 1], [2, 2, 1]]
    once, again = (logps * sizes).sum(1)
    assert once == pytest.approx(again, abs=1e-3)
    assert logps[0] != pytest.approx(logps[1], abs=1e-3)


def test_phases_that_the_pairs_do_not_have_are_refused(
    policy: Model, pairs: pa.Table, tmp_path: Path
) -> None:
    for table in (halves(pairs, 3), pairs):
        with pytest.raises(TrainError, match="`phase_epochs` names 2 phases, and the pairs have") as raised:
            train(settings(policy, phase_epochs=(1.0, 1.0)), table, out=tmp_path)
        assert raised.value.where == "column 'phase'"


@pytest.fixture
def impatient() -> Iterator[None]:
    """Fail a test that would never end."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
def test_a_pair_without_a_phase_is_refused(policy: Model, pairs: pa.Table, tmp_path: Path) -> None:
    table = with_numbers(pairs, phase=[None, *(at % 2 for at in range(1, pairs.num_rows))])
    with pytest.raises(TrainError, match="phase"):
        train(settings(policy, phase_epochs=(1.0, 1.0, 1.0)), table, out=tmp_path)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8.0}])
def test_every_later_phase_begins_at_its_own_reference(
    policy: Model, pairs: pa.Table, tmp_path: Path, lora: object
) -> None:
    asked = {"phase_epochs": (2.0, 1.0, 1.0), "learning_rate": 1e-2, "lora": lora}
    for name, update in (("new", True), ("old", False)):
        train(settings(policy, update_reference=update, **asked), halves(pairs, 3), out=tmp_path / name)
    phase, new, old = (
        told(tmp_path / "new", "phase"),
        told(tmp_path / "new", "loss"),
        told(tmp_path / "old", "loss"),
    )
    firsts = [phase.index(number) for number in (0, 1, 2)]
    assert [new[at] for at in firsts] == pytest.approx([np.log(2)] * 3, abs=1e-5)
    assert all(abs(old[at] - np.log(2)) > 1e-3 for at in firsts[1:])
    assert new[: firsts[1]] == old[: firsts[1]]
    assert told(tmp_path / "new", "accuracy")[firsts[1]] == 0.5
    assert told(tmp_path / "new", "kl")[firsts[1]] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize(("every", "done"), [(1, 3), (1, 4), (1, 5), (3, 6)])
def test_a_run_cut_around_a_boundary_of_phases_goes_on_to_the_bit(
    policy: Model, pairs: pa.Table, tmp_path: Path, every: int, done: int
) -> None:
    """Three steps a phase: cut in the first, exactly between both, and in the second, where it begins and further on."""
    kind = {"phase_epochs": (1.5, 1.5), "update_reference": True}
    table, asked = halves(pairs), settings(policy, **kind)
    train(asked, table, out=tmp_path / "whole")
    assert told(tmp_path / "whole", "phase") == [0, 0, 0, 1, 1, 1]
    often = TrainPlacement(checkpoint_every=every)
    with pytest.raises(KeyboardInterrupt):
        train(asked, table, out=tmp_path / "cut", placement=often, progress=stop_at(done))
    train(asked, table, out=tmp_path / "cut", placement=often)
    assert told(tmp_path / "cut", "loss") == told(tmp_path / "whole", "loss")
    found = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("cut", "whole")]
    assert found[0] == found[1]
