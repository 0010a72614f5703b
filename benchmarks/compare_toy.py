"""Does `compare` tell good preference data from bad? Ten repetitions in the toy world, where it is known which is which.

    python benchmarks/compare_toy.py --out results.jsonl [--repeats 10] [--first 0]
    python benchmarks/compare_toy.py --out results.jsonl --table

Each repetition has its own prompts, answers, labels and seeds. The first dataset has clean labels. Against it stand the same
pairs with 30 % of the labels turned round (`flipped`), the same once more (`copy`, trained with other seeds), and the same labelled by
five people who each are wrong 30 % of the time, their noise estimated by Dawid and Skene's model (`labelled`). What should come out:
worse, not distinguishable, and between the two.
"""

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from toy_arms import POLICY, Votes, pool

import prefkit
from prefkit.comparing.differences import at_level
from prefkit.experiment.analyse import primary_gap
from prefkit.experiment.run import prepare, rules, run
from prefkit.experiment.settings import CompareSettings
from prefkit.experiment.table import read as read_table
from prefkit.sources import Source
from prefkit.stages.label import Label
from prefkit.stages.pair import Pair
from prefkit.stages.reference import Reference
from prefkit.stages.score import Score
from prefkit.toy.pools import jsonl, prompts
from prefkit.train import TrainPlacement, TrainSettings

PROMPTS, ANSWERS, MEASURED, RATE = 150, 6, 150, 0.3
PERSONS = (1 - RATE,) * 5
TRUTH = {"flipped": "worse", "copy": "not distinguishable", "labelled": "between"}


def label(*ops: Any) -> Label:
    """Return a `label` stage."""
    return Label(ops=ops)


ARMS = {
    "clean": (),
    "flipped": (label({"flip": {"rate": RATE}}),),
    "copy": (),
    "labelled": (
        label({"flip": {"rate": 0.5}}),
        Votes(rates=PERSONS),
        label({"from-judges": {"model": "dawid-skene"}}, "orient"),
    ),
}


def repetition(folder: Path, seed: int, seeds: int) -> dict[str, Any]:
    """Build the four datasets, compare them, and return what was said."""
    began, cpu = time.perf_counter(), time.process_time()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "building.jsonl").write_text(jsonl(prompts(PROMPTS, seed, "building")))
    (folder / "measuring.jsonl").write_text(jsonl(prompts(MEASURED, seed, "measuring")))
    store = prefkit.Store(folder / "store")
    pairs = (
        *pool(ANSWERS),
        Pair(kind="fold", by="gold", max_pairs=2, min_margin=0.05),
        Reference(model=POLICY),
    )
    train = TrainSettings(
        model=POLICY,
        objective={"preset": "dpo", "beta": 0.5},
        epochs=2,
        batch=32,
        learning_rate=2e-4,
        seed=100 * seed,
        order="shuffled",
    )
    settings = CompareSettings(
        seeds=seeds,
        prompts=MEASURED,
        data=(Source(file="measuring.jsonl"),),
        samples=2,
        temperature=1.0,
        top_p=1.0,
        max_tokens=96,
        score=Score(rule="toy-gold"),
        controls=(),
    )
    recipes = [
        prefkit.Recipe(
            name=name,
            seed=seed,
            models={"policy": POLICY},
            data=(Source(file="building.jsonl"),),
            build=(*pairs, *stages),
            train=train,
            compare=settings,
            folder=folder,
        )
        for name, stages in ARMS.items()
    ]
    for recipe in recipes:
        prefkit.build(recipe, store)
    ready = prepare(store, list(ARMS), recipes[0])
    done = run(ready, TrainPlacement(device="cpu", threads=1))
    frame = read_table(done.out / "measured.arrow")
    among = primary_gap(frame, "labelled", "flipped", range(seeds), rules(ready))
    found = {
        each.arm: {"verdict": each.verdict, **each.primary.model_dump(include={"estimate", "low", "high"})}
        for each in done.report.versus
    }
    score = {arm.name: arm.metrics["score"].estimate for arm in done.report.arms}
    told = at_level(among, 0.95)
    shutil.rmtree(store.root)
    return {
        "seed": seed,
        "versus": found,
        "score": score,
        "labelled over flipped": [told.estimate, told.low, told.high],
        "foretold": done.report.plan.effect,
        "pairs": done.report.arms[0].pairs,
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - began,
    }


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the confusion table, then every repetition."""
    verdicts = sorted({each["verdict"] for row in rows for each in row["versus"].values()})
    yield f"| {len(rows)} repetitions | should be | {' | '.join(verdicts)} |"
    yield f"| --- | --- | {' | '.join('---:' for _ in verdicts)} |"
    for arm, truth in TRUTH.items():
        counts = Counter(row["versus"][arm]["verdict"] for row in rows)
        yield f"| {arm} | {truth} | {' | '.join(str(counts[verdict]) for verdict in verdicts)} |"
    between = sum(
        row["versus"]["flipped"]["estimate"]
        < row["versus"]["labelled"]["estimate"]
        < max(0, row["versus"]["copy"]["estimate"])
        for row in rows
    )
    above = sum(row["labelled over flipped"][1] > 0 for row in rows)
    yield ""
    yield f"`labelled` lies between `flipped` and clean in {between} of {len(rows)}, and its interval over `flipped` leaves out 0 in {above}."
    yield ""
    yield "| repetition | flipped | copy | labelled | labelled over flipped | score: clean, flipped, copy, labelled |"
    yield "| ---: | --- | --- | --- | --- | --- |"
    for row in rows:
        cells = [
            _interval(*(row["versus"][arm][end] for end in ("estimate", "low", "high"))) for arm in TRUTH
        ]
        scores = ", ".join(f"{row['score'][arm]:.3f}" for arm in ARMS)
        yield f"| {row['seed']} | {' | '.join(cells)} | {_interval(*row['labelled over flipped'])} | {scores} |"


def _interval(estimate: float, low: float, high: float) -> str:
    return f"{estimate:+.3f} ({low:+.3f} to {high:+.3f})"


def main() -> None:
    """Do the repetitions that are missing, then print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--out", type=Path, required=True, help="finished repetitions, one a line")
    options.add_argument("--repeats", type=int, default=10)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--seeds", type=int, default=4)
    options.add_argument(
        "--table", action="store_true", help="print what the finished ones say, and run nothing"
    )
    given = options.parse_args()
    rows = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    for seed in range(given.first, given.first + given.repeats) if not given.table else ():
        if seed in {row["seed"] for row in rows}:
            continue
        row = repetition(given.out.with_suffix(".work") / str(seed), seed, given.seeds)
        rows.append(row)
        with given.out.open("a") as lines:
            lines.write(json.dumps(row) + "\n")
        print(
            seed,
            {arm: each["verdict"] for arm, each in row["versus"].items()},
            f"{row['cpu_seconds']:.0f} CPU s",
            flush=True,
        )
    print("\n".join(table(sorted(rows, key=lambda row: row["seed"]))))


if __name__ == "__main__":
    main()
