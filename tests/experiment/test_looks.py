"""Looking before the last seed: what it stops, and that neither looks nor intervals err more often than they say."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prefkit import build
from prefkit.comparing.differences import difference
from prefkit.comparing.sequential import look, shares
from prefkit.experiment import table
from prefkit.experiment.ready import Ready, run_folder
from prefkit.experiment.run import Done, prepare, run
from prefkit.store import Store

SETS = ["compare.seeds=4", "compare.looks=2", "compare.controls=[]", "compare.prompts=5"]


@pytest.fixture
def ready(world: Path, kit) -> Ready:
    """Two datasets, to be looked at after two seeds and after four."""
    store = Store(world / "runs")
    first = kit.recipe(world, "clean", kit.split, sets=SETS)
    for each in (first, kit.recipe(world, "half", kit.split, kit.half)):
        build(each, store)
    return prepare(store, ["clean", "half"], first)


def lay(finished, ready: Ready, gap: float, seeds: int = 4) -> None:
    """Put runs where they would stand, whose scores differ by `gap` on average; nothing is left to train."""
    draw, theirs = np.random.default_rng(0), finished.ready
    reference = finished.ready.out / "runs" / "reference" / "0"
    prompts = ready.test.prompts["prompt_id"].to_pylist()
    for seed in range(seeds):
        for at, arm in enumerate([None, *ready.arms]):
            came = reference if arm is None else run_folder(theirs, theirs.arms[0], 0)
            folder = (
                ready.out / "runs" / "reference" / str(seed) if arm is None else run_folder(ready, arm, seed)
            )
            folder.mkdir(parents=True)
            for path in came.iterdir():
                if path.suffix in (".arrow", ".npy", ".json", ".jsonl"):
                    (folder / path.name).write_bytes(path.read_bytes())
            score = draw.normal(gap * (at == 2), 1, (len(prompts), 2)).ravel()
            names = np.repeat(prompts, 2).tolist(), ["0", "1"] * len(prompts)
            frame = pl.concat(
                [table.rows("score", *names, score), table.rows("chars", *names, np.full(len(score), 9.0))]
            )
            told = {"arm": "" if arm is None else arm.name, "seed": seed, "step": 0 if arm is None else 2}
            frame = frame.with_columns(
                **{name: pl.lit(value, table.COLUMNS[name]) for name, value in told.items()}
            )
            table.write(frame.select(*table.COLUMNS), folder / "measured.arrow")


def looked(finished, ready: Ready, kit, gap: float, seeds: int = 4) -> Done:
    lay(finished, ready, gap, seeds)
    trained: list[str] = []
    done = run(ready, kit.place, kit_engines(ready, kit), lambda name, _: trained.append(name))
    assert trained == []
    return done


def kit_engines(ready: Ready, kit):
    from prefkit.recipe import Recipe

    return kit.engines(Recipe.load(str(ready.folder / "clean.yaml")), ready.store)


def test_a_question_that_is_settled_is_not_asked_of_more_seeds(finished, ready, kit):
    report = looked(finished, ready, kit, gap=50.0, seeds=2).report
    looks, allowed = report.looks, shares(np.array([0.5, 1.0]))
    assert (looks.planned, looks.taken, looks.seeds, looks.stopped) == (2, 1, 2, True)
    assert looks.spent == pytest.approx(allowed[0])
    assert looks.spent < 0.05
    assert report.versus[0].primary.level == pytest.approx(1 - allowed[0])
    assert report.versus[0].verdict == "better"
    assert f"{100 * (1 - allowed[0]):.4g} % interval" in report.versus[0].words
    assert any("1 of 2 planned looks were taken" in note for note in report.notes)
    assert {len(arm.runs) for arm in report.arms} == {2}


def test_one_that_is_not_is_asked_of_all_and_spends_no_more_than_the_error(finished, ready, kit):
    report = looked(finished, ready, kit, gap=0.1).report
    looks, allowed = report.looks, shares(np.array([0.5, 1.0]))
    assert (looks.taken, looks.seeds, looks.stopped) == (2, 4, False)
    assert looks.spent == pytest.approx(0.05)
    assert report.versus[0].primary.level == pytest.approx(1 - allowed[1])
    assert report.versus[0].verdict == "not distinguishable"
    assert report.versus[0].primary.seeds == 4


# by simulation, without training; benchmarks/intervals.py has more of it

REPEATS = 800


def grids(seeds: int, prompts: int, of_seed: float, draw: np.random.Generator) -> np.ndarray:
    """Differences without an effect, as wide as those of win rates are: [seeds, prompts]."""
    grid = draw.normal(0, 0.45, (seeds, prompts)) + draw.normal(0, 0.55, prompts)
    grid += draw.normal(0, of_seed, (seeds, 1))
    told: np.ndarray = np.clip(np.round(grid), -1, 1)
    return told


@pytest.mark.parametrize("of_seed", [0.0, 0.05])
def test_looks_after_every_few_seeds_find_what_is_not_there_once_in_twenty_at_most(of_seed):
    draw, allowed, found = np.random.default_rng(2), shares(np.array([0.25, 0.5, 0.75, 1.0])), 0
    for _ in range(REPEATS):
        grid = grids(8, 60, of_seed, draw)
        seen = [grid[: 2 * taken] for taken in (1, 2, 3, 4)]
        found += any(
            look(difference(part, np.zeros_like(part)), share).stop
            for part, share in zip(seen, allowed, strict=True)
        )
    assert found / REPEATS <= 0.065  # 5 % and two standard errors


@pytest.mark.parametrize("of_seed", [0.0, 0.03, 0.08])
def test_the_interval_of_95_percent_holds_the_truth_93_to_97_times_in_a_hundred(of_seed):
    draw, held = np.random.default_rng(3), []
    for _ in range(2 * REPEATS):
        grid = grids(4, 100, of_seed, draw)
        found = difference(grid, np.zeros_like(grid))
        held.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97
