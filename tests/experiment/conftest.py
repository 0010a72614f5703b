"""Datasets of the toy world that take no sampling, and one comparison of two of them that is run to its end."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from prefkit import build
from prefkit.engines import Engines
from prefkit.engines.placement import Placement, open_engines
from prefkit.experiment.ready import Ready
from prefkit.experiment.report import Comparison
from prefkit.experiment.run import prepare, run
from prefkit.recipe import Recipe
from prefkit.store import Store
from prefkit.toy.demonstrators import COMMON_HABITS, demonstrate
from prefkit.toy.pools import draw_tasks
from prefkit.toy.world import write_prompt
from prefkit.train import TrainPlacement

PAIRS = 40
PLACE = TrainPlacement(device="cpu")
MODELS = """
models:
  policy: { id: prefkit/toy-policy }
  reward: { id: prefkit/toy-reward }
  critic: { id: prefkit/toy-critic }
"""
TRAIN = """
train:
  model: policy
  objective: { preset: dpo, beta: 0.5 }
  steps: 2
  batch: 4
  learning_rate: 1e-3
  order: shuffled
"""
FREE = TRAIN.replace("{ preset: dpo, beta: 0.5 }", "simpo")
"""The same with an objective that needs no reference log-probs."""
COMPARE = """
compare:
  seeds: 2
  prompts: 6
  pairs: 4
  samples: 2
  temperature: 1.0
  top_p: 1.0
  max_tokens: 12
  score: { rule: toy-gold }
"""


def write_pairs(path: Path, count: int = PAIRS, seed: int = 0) -> None:
    """Write pairs whose chosen side is right and whose rejected side is not, one a prompt."""
    rng, tasks, seen, rows = random.Random(seed), draw_tasks(seed, "building"), set(), []
    while len(rows) < count:
        task = next(tasks)
        prompt = write_prompt(task)
        if prompt in seen:
            continue
        seen.add(prompt)
        sides = demonstrate(rng, task), demonstrate(rng, task, 0.6, COMMON_HABITS)
        if sides[0] == sides[1]:
            continue
        said = [[{"role": "assistant", "content": side}] for side in sides]
        rows.append(
            {
                "prompt": [{"role": "user", "content": prompt}],
                "chosen": said[0],
                "rejected": said[1],
            }
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def recipe(
    folder: Path,
    name: str,
    *stages: str,
    data: str = "pairs.jsonl",
    train: str = TRAIN,
    compare: str = COMPARE,
    sets: Sequence[str] = (),
) -> Recipe:
    """Write `<name>.yaml` beside the data, and read it."""
    steps = "".join(f"  - {stage}\n" for stage in stages)
    text = f"name: {name}\nseed: 3\n{MODELS}data:\n  - file: {data}\n"
    text += f"build:\n{steps}" if stages else ""
    text += train + compare
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return Recipe.load(str(path), sets)


SPLIT = "split: { test: 0.4 }"
HALF = "label: { ops: [{ flip: { rate: 0.5 } }] }"


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A folder with pairs."""
    write_pairs(tmp_path / "pairs.jsonl")
    return tmp_path


WHOLE = (
    "compare.points=2",
    "compare.second.rule=length",
    "compare.judge.kind=pairwise",
    "compare.judge.model=critic",
)


class Kit(NamedTuple):
    """What tests build datasets with."""

    recipe: Callable[..., Recipe]
    write_pairs: Callable[..., None]
    built: Callable[..., tuple[Store, Recipe]]
    engines: Callable[[Recipe, Store], Engines]
    split: str = SPLIT
    half: str = HALF
    free: str = FREE
    whole: tuple[str, ...] = WHOLE
    place: TrainPlacement = PLACE


class Finished(NamedTuple):
    """A comparison that was run to its end, in a store of its own."""

    folder: Path
    ready: Ready
    report: Comparison
    measured: pl.DataFrame


def engines(asked: Recipe, store: Store) -> Engines:
    return open_engines(asked.models, Placement(device="cpu"), store.root / "memo.sqlite")


def built(folder: Path, sets: Sequence[str] = ()) -> tuple[Store, Recipe]:
    """Build `clean`, and `half` whose labels are worth nothing; the first has its reference log-probs, the second not."""
    store = Store(folder / "runs")
    first = recipe(folder, "clean", SPLIT, "reference: { model: policy }", sets=sets)
    for each in (first, recipe(folder, "half", SPLIT, HALF, sets=sets)):
        build(each, store)
    return store, first


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two datasets, two controls, two seeds, two points; a scorer, another, and a judge. Nobody may change it."""
    folder = tmp_path_factory.mktemp("finished")
    write_pairs(folder / "pairs.jsonl")
    store, first = built(folder, WHOLE)
    ready = prepare(store, ["clean", "half"], first)
    done = run(ready, PLACE, engines(first, store))
    return Finished(folder, ready, done.report, pl.read_ipc(done.out / "measured.arrow"))


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit(recipe, write_pairs, built, engines)
