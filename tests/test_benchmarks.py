"""The benchmarks run, and what they compare is the same training."""

import subprocess
import sys
from argparse import Namespace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from prefkit.train import attention, forward
from prefkit.train.batches import pack
from prefkit.train.logps import log_probs
from prefkit.train.tokenise import Pair

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the benchmarks importable, and undo what their knobs replace."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("pack", "token_log_probs"):
        monkeypatch.setattr(forward, name, vars(forward)[name])
    yield
    for name in set(sys.modules) - before:
        if str(BENCHMARKS) in str(vars(sys.modules[name]).get("__file__")):
            del sys.modules[name]


def test_prefkit_trains_on_the_benchmarks_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import train_cpu
    from sides import Given, prepare, run_prefkit

    given = Given(train_cpu.SHAPES["tiny"], steps=2, dtype="float32", profiled=True)
    rates = prepare(tmp_path, given)
    found = run_prefkit(tmp_path, given)
    assert len(found.losses) == 2
    assert found.losses[0] == pytest.approx(0.693147, abs=1e-4)
    assert sum(found.families.values()) == pytest.approx(1)
    train_cpu.tell_machine("tiny", given, rates)
    train_cpu.tell(found, given, rates)
    slower = found._replace(side="trl-default", seconds=3 * found.seconds, losses=[0.5, *found.losses[1:]])
    train_cpu.tell_ratio([found, found], slower)
    said = capsys.readouterr().out
    assert "prefkit / trl-default: 3.00x" in said
    assert "losses of the first 2 steps within 1.9e-01" in said
    assert "DIFFER" not in said


@pytest.fixture
def options(benchmarks: None) -> Namespace:
    from train_gpu import parser

    sizes = "--batch 3 --steps 1 --micro-pairs 2 --micro-tokens 150 --low 4 --high 40 --rate 0.001"
    return parser().parse_args(["--shape", "tiny", "--device", "cpu", *sizes.split()])


def test_every_knob_leaves_the_training_as_it_is(options: Namespace) -> None:
    from knobs import ROWS
    from train_gpu import measure

    # The compiler takes half a minute, and FlexAttention has no backward pass on a CPU.
    rows = [row for row in ROWS if row not in {"prefkit", "compiling", "flex"}]
    assert len(rows) == 7
    wanted = measure("prefkit", options)["loss"]
    assert abs(wanted - 0.693147) > 1e-3
    for row in rows:
        assert measure(row, options)["loss"] == pytest.approx(wanted, abs=2e-5), row


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_sees_what_the_packed_rows_see(
    options: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    import flex
    from train_gpu import build

    setup = build(options)
    attention.register()
    setup.model.set_attn_implementation(attention.NAME)
    prompts = [(5, 6, 7), (8, 9)]
    pairs = [Pair(at, "a", prompts[at % 2], tuple(range(9, 14 + at)), (7, 8, 5)) for at in range(4)]
    with torch.no_grad():
        rows = log_probs(setup.model, pack(pairs, torch.device("cpu"))).responses
        flex.use(setup.model)
        line = log_probs(setup.model, forward.pack(pairs, torch.device("cpu"))).responses
    assert len(rows) == 6
    torch.testing.assert_close(line, rows, atol=1e-5, rtol=1e-5)


def test_counted_flops_are_those_of_the_arithmetic(options: Namespace) -> None:
    from counting import Counted
    from knobs import as_it_is, ids_of, run_prefkit
    from train_gpu import SHAPES, build

    options.low, options.high, options.micro_tokens = 20, 40, 4096
    setup = build(options)
    flops, counted = [], Counted()

    def mark(_: float) -> None:
        flops.append(counted.flops)

    with counted:
        run_prefkit(setup, mark, as_it_is)
    pairs = setup.words[3:9]  # those of the second and third step
    assert list(map(len, ids_of(pairs[0]))) == list(pairs[0].tokens())
    shape = SHAPES["tiny"]
    least = sum(shape.least_flops(*pair.tokens()) for pair in pairs)
    watched = 2 * 64 * 2 * shape.hidden * shape.vocab  # the uncertainty of 64 tokens a step
    # More, because attention looks at a prompt once an answer, and recomputes its scores in the backward pass.
    assert least + watched < flops[2] - flops[0] < 1.15 * least + watched


def test_a_causal_attention_counts_half() -> None:
    from counting import Counted
    from torch.nn.functional import scaled_dot_product_attention

    parts = [torch.randn(1, 2, 64, 8, requires_grad=True) for _ in range(3)]
    for causal in (False, True):
        with Counted() as counted:
            out = scaled_dot_product_attention(*parts, is_causal=causal)
        forward_flops = counted.flops
        with counted:
            out.sum().backward()
        assert forward_flops == 4 * 2 * 64 * 64 * 8 / (1 + causal)
        assert counted.flops == 3.5 * forward_flops


def test_the_benchmark_of_labels_runs() -> None:
    command = [sys.executable, str(BENCHMARKS / "labels.py"), "--shape", "tiny", "--runs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "tiny, full: 1,000 labels" in done.stdout
    assert "prefkit" in done.stdout


def test_every_way_to_sample_writes_about_as_much(tmp_path: Path) -> None:
    from generate import SAMPLES, SHAPES, SIDES, draw_prompts, measure, prepare

    prepare(tmp_path, SHAPES["tiny"], even=True)
    for side in SIDES:
        found = measure(side, tmp_path, draw_prompts(2, even=True), 4)
        assert 2 * SAMPLES * 3 <= found.tokens <= 2 * SAMPLES * 4, side
        assert found.calls >= 4, side
        assert 0 < found.outside < 1, side


def test_what_engines_cost_is_told_for_each_kind_of_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from overhead import SHAPES, kinds_of_work, measure, tell, write_models

    write_models(tmp_path, SHAPES["tiny"])
    kinds = kinds_of_work(tmp_path, 8)
    assert list(kinds) == ["generate", "log_probs", "rewards", "embed"]
    for name, work in kinds.items():
        assert {way() for way in work.ways.values()} == {8}, name
        found = measure(work, 1)
        assert all(run.inside > 0 for runs in found.values() for run in runs), name
        tell(name, found, 8)
    assert capsys.readouterr().out.count(" %") == 2 * len(kinds)


def test_the_benchmark_of_near_duplicates_runs_and_finds_what_was_planted() -> None:
    command = [sys.executable, str(BENCHMARKS / "dedup.py"), "--documents", "200"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "200 documents" in done.stdout
    assert "wrongly dropped 0" in done.stdout


def test_the_benchmark_of_noise_finds_a_fifth_where_judges_are_independent(
    benchmarks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from noise import SECOND, Set, measure

    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 1500) * SECOND
    right = draw.random((5, 1500)) < 0.85
    verdict = np.where(right, label, SECOND - label).ravel()
    judge, pair = np.repeat(np.arange(5), 1500), np.tile(np.arange(1500), 5)
    lead = (1 - verdict).reshape(5, 1500).sum(axis=0).astype(float)
    order = np.full(7500, 2)
    given = Set("drawn", label, np.arange(1500), lambda _: lead, pair, judge, order, verdict)
    for op in ("noise", "from-judges, orders", "from-judges, dawid-skene"):
        measure(given, op, 3)
        cells = capsys.readouterr().out.split("|")
        assert float(cells[6].split()[0]) == pytest.approx(0.2, abs=0.02)
        curve = [float(cell) for cell in cells[8:14]]
        assert curve[0] == pytest.approx(0.8, abs=0.02)
        assert curve == sorted(curve)
        assert curve[2] > curve[0] + 0.12


def test_the_toy_experiments_go_on_where_they_were_cut(tmp_path: Path) -> None:
    from toy_world import Size, read, run_all

    out, size = tmp_path / "runs.jsonl", Size(prompts=8, answers=4, measured=3, epochs=0.1)
    arms = ["residual of all pairs", "dawid-skene, soft"]
    run_all([], [1], out, tmp_path / "work", size)
    before = out.read_text()
    run_all(arms, [1], out, tmp_path / "work", size)
    assert out.read_text().startswith(before)
    rows = read(out)
    assert [row["arm"] for row in rows] == ["untrained", *arms]
    assert all(0 <= row["gold"] <= 1 and row["seed"] == 1 for row in rows)
    assert rows[-1]["pairs"] > 4


def test_differences_between_arms_are_taken_within_seeds() -> None:
    from toy_table import layout, tables

    # The seeds lie .2 apart; what is left of the values below is .01, up and down: four squares over one degree.
    laid = layout(np.array([[0.5, 0.7], [0.62, 0.78]]))
    assert laid.half_width == pytest.approx(12.7062 * 0.02, rel=1e-4)
    flat = {"untrained": 0.3, "random order": 0.5, "easy first": 0.52, "hard first": 0.48}
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "gold": gold + seed / 10,
            "perfect": 0,
            "characters": 9,
            "pairs": 3,
            "accuracy": 1,
        }
        for arm, gold in flat.items()
        for seed in range(2)
    ]
    lines = list(tables(rows, {"curriculum": ("easy first", "random order", "hard first")}))
    assert lines[0] == "### curriculum: 2 seeds"
    assert any(
        "| easy first | 3 | 1.000 | 0.570 " in line and "+0.020 (+0.020 to +0.020)" in line for line in lines
    )


def test_data_for_scale_are_the_same_each_time_and_shuffling_moves_rows_only(tmp_path: Path) -> None:
    import pyarrow.parquet as pq
    from scale_data import Shape, write

    for name, shuffled in (("one", False), ("same", False), ("mixed", True)):
        write(tmp_path / name, Shape(400, 300, shuffled=shuffled))
    one, same, mixed = (pq.read_table(tmp_path / name) for name in ("one", "same", "mixed"))
    assert one.equals(same)
    assert one.num_rows == 800
    assert sorted(map(str, mixed.to_pylist())) == sorted(map(str, one.to_pylist()))
    prompts = mixed["prompt"].to_pylist()
    assert sum(before == after for before, after in pairwise(prompts)) < 20


def test_the_scale_benchmark_says_what_each_step_costs_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import scale

    line = f"--pairs 400 --bytes 300 --keep last --limit 4GB --folder {tmp_path}"
    given = scale.parser().parse_args(line.split())
    (ran,) = scale.measure(given, 400)
    scale.tell(ran)
    scale.tell_growth([ran, ran._replace(pairs=100_000)])
    steps = {cost.step: cost for cost in ran.costs}
    assert list(steps) == ["00-data", "01-pair", "02-label", "03-dedup", "04-order", "export", "whole"]
    assert steps["00-data"].rows == 800
    assert 300 < steps["01-pair"].rows <= 400
    assert 0 < steps["whole"].anonymous < 2**30
    assert "| whole |" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
