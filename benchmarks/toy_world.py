"""What curation is worth: a tiny policy learns from one pool of answers, labelled well, badly and in between.

    python benchmarks/toy_world.py --seeds 4 --out results.jsonl [--experiments flips annotators ...]
    python benchmarks/toy_world.py --seeds 4 --out results.jsonl --table

A seed has its own 200 prompts, 8 answers to each, labels, order of training, and 200 prompts to measure on, which no arm
learns from. All arms of a seed share these, so differences between arms are taken within seeds. What counts is the gold
reward of 3 fresh samples a prompt at temperature 1. The policy itself is the one that ships.

Every finished run is a line of the file, and a run that stands there is not made again: kill it and call it once more.
One process, one thread; a run takes about a quarter of a minute.
"""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from toy_arms import ARMS, EXPERIMENTS, POLICY, PROMPTS, Arm, pool
from toy_table import tables

import prefkit
from prefkit.engines import Model
from prefkit.sources import Source
from prefkit.stage import Stage
from prefkit.stages.sample import Sample
from prefkit.stages.score import Score
from prefkit.toy.pools import Use, jsonl, prompts
from prefkit.train import TrainPlacement, TrainSettings, train

UNTRAINED = "untrained"
OPEN, CLOSE = "<!-- tables -->", "<!-- /tables -->"


class Size(NamedTuple):
    """How much is done; the smoke test does less."""

    prompts: int = PROMPTS
    answers: int = 8
    measured: int = 200
    epochs: float = 1.0
    """Times the epochs of the arm."""


class Bench(NamedTuple):
    """Where one seed's runs happen."""

    folder: Path
    seed: int
    size: Size

    def build(self, model: Model, use: Use, count: int, stages: tuple[Stage, ...]) -> pa.Table:
        """Run stages on prompts of a pool, by the same door as a recipe, and return the last rows."""
        file = self.folder / f"{use}-{self.seed}-{count}.jsonl"
        if not file.exists():
            file.write_text(jsonl(prompts(count, self.seed, use)))
        recipe = prefkit.Recipe(
            name=use,
            seed=self.seed,
            models={"policy": model},
            data=(Source(file=file.name),),
            build=stages,
            folder=self.folder,
        )
        return prefkit.build(recipe, prefkit.Store(self.folder / "store")).table

    def measure(self, model: Model) -> dict[str, float]:
        """Sample a model on prompts that no arm learns from and score what it says by the gold rule."""
        stages = (Sample(model=model, n=3, max_tokens=96), Score(rule="toy-gold", into="gold"))
        table = self.build(model, "measuring", self.size.measured, stages)
        gold = np.asarray(table["gold"].to_pylist(), dtype=np.float64)
        characters = [len(turns[-1]["content"]) for turns in table["response"].to_pylist()]
        return {
            "gold": float(gold.mean()),
            "perfect": float((gold > 1 - 1e-9).mean()),
            "characters": float(np.mean(characters)),
        }

    def run(self, arm: str) -> dict[str, Any]:
        """Build the pairs of an arm, train on them and measure."""
        started, before = time.process_time(), time.perf_counter()
        found = self.measure(POLICY) if arm == UNTRAINED else self._trained(arm, ARMS[arm])
        seconds = {"cpu_seconds": time.process_time() - started, "seconds": time.perf_counter() - before}
        return {"arm": arm, "seed": self.seed, **found, **seconds}

    def _trained(self, name: str, arm: Arm) -> dict[str, float]:
        pairs = self.build(POLICY, "building", self.size.prompts, (*pool(self.size.answers), *arm.stages))
        gap = np.asarray(pairs["chosen_gold"].to_pylist()) - np.asarray(pairs["rejected_gold"].to_pylist())
        settings = TrainSettings(
            model=POLICY,
            objective=arm.objective,
            epochs=arm.epochs * self.size.epochs,
            batch=32,
            learning_rate=2e-4,
            seed=self.seed,
            order="auto" if arm.obeys else "shuffled",
        )
        out = self.folder / f"{name.replace(' ', '-')}-{self.seed}"
        shutil.rmtree(out, ignore_errors=True)
        trained = train(settings, pairs, out=out, placement=TrainPlacement(device="cpu", threads=1))
        accuracy = float((gap[gap != 0] > 0).mean())
        told = {"pairs": float(len(gap)), "accuracy": accuracy, "gap": float(gap.mean())}
        found = told | self.measure(trained.model)
        shutil.rmtree(out)
        return found


def run_all(arms: Sequence[str], seeds: Sequence[int], out: Path, folder: Path, size: Size) -> None:
    """Do what does not stand in the file yet, all arms of a seed before the next seed."""
    folder.mkdir(parents=True, exist_ok=True)
    done = {(row["arm"], row["seed"]) for row in read(out)}
    for seed in seeds:
        for arm in (UNTRAINED, *arms):
            if (arm, seed) in done:
                continue
            row = Bench(folder, seed, size).run(arm)
            with out.open("a") as lines:
                lines.write(json.dumps(row) + "\n")
            print(f"{seed} {arm}: gold {row['gold']:.3f}, {row['cpu_seconds']:.0f} CPU s", flush=True)


def read(out: Path) -> list[dict[str, Any]]:
    """Return the finished runs."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def main() -> None:
    """Do the runs that are missing, or print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    options.add_argument("--seeds", type=int, default=4, help="how many, from 0")
    options.add_argument("--out", type=Path, required=True, help="finished runs, one a line")
    options.add_argument("--folder", type=Path, help="store and prompts; left out, beside --out")
    options.add_argument(
        "--table", action="store_true", help="print what the finished runs say, and run nothing"
    )
    options.add_argument("--doc", type=Path, help="a page whose tables are to be replaced by these")
    options.add_argument("--tiny", action="store_true", help="a few prompts and steps, to see that it runs")
    given = options.parse_args()
    chosen = {name: EXPERIMENTS[name] for name in given.experiments}
    if not given.table:
        arms = list(dict.fromkeys(arm for names in chosen.values() for arm in names))
        size = Size(16, 4, 4, 0.2) if given.tiny else Size()
        run_all(arms, range(given.seeds), given.out, given.folder or given.out.with_suffix(".work"), size)
    lines = "\n".join(tables(read(given.out), chosen))
    print(lines)
    if given.doc is not None:
        above, rest = given.doc.read_text().split(OPEN)
        given.doc.write_text(f"{above}{OPEN}\n\n{lines}\n{CLOSE}{rest.split(CLOSE)[1]}")


if __name__ == "__main__":
    main()
