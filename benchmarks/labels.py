"""Fit Dawid and Skene's model to the same million labels with prefkit and with crowd-kit, one thread each.

    python benchmarks/labels.py [--peer-python PYTHON] [--shape NAME] [--runs 3]

Every run is a fresh process, prefkit's and crowd-kit's in turn, so that a machine that slows down slows both. Figures
are CPU seconds of `fit` alone: reading the labels, and making crowd-kit's data frame, are left out; both sides get
integer codes. Rows are shuffled, so that sorting them is part of the fit. Memory is by how much the fit raises the
process's peak. Both stop by their own default rule, so steps and log-likelihood stand beside the seconds.

`--peer-python` is an interpreter that has crowd-kit; without one only prefkit runs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SIDES, MODELS = ("prefkit", "crowd-kit"), ("full", "one-coin")


class Shape(NamedTuple):
    """A crowd to draw: so many votes on each item, and accuracies even between the lowest and the highest."""

    items: int
    votes: int
    annotators: int
    classes: int
    lowest: float
    highest: float


SHAPES = {
    "two": Shape(100_000, 10, 500, 2, 0.45, 0.9),
    "three": Shape(200_000, 5, 500, 3, 0.35, 0.95),
    "hard": Shape(100_000, 10, 500, 2, 0.45, 0.65),
    "tiny": Shape(200, 5, 20, 3, 0.5, 0.9),
}
"""The third needs many steps; the last only shows that everything runs."""


class Measured(NamedTuple):
    """What one side says of one fit."""

    side: str
    seconds: float
    memory: float
    steps: int
    accuracy: float
    log_likelihood: float
    """Nats per label, of the parameters it ended with, computed alike for both."""


def draw(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Draw truth and shuffled labels; wrong classes are equally likely."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, shape.classes, shape.items)
    item = rng.permutation(np.repeat(np.arange(shape.items), shape.votes))
    annotator = rng.integers(0, shape.annotators, len(item))
    right = rng.random(len(item)) < rng.uniform(shape.lowest, shape.highest, shape.annotators)[annotator]
    wrong = (truth[item] + rng.integers(1, shape.classes, len(item))) % shape.classes
    return {
        "truth": truth,
        "item": item,
        "annotator": annotator,
        "label": np.where(right, truth[item], wrong),
    }


class Fitted(NamedTuple):
    """What a side's fit found; `confusion` is P(said | true), [annotators, true, said]."""

    posterior: np.ndarray
    confusion: np.ndarray
    prior: np.ndarray
    seconds: float
    memory: float
    steps: int


def run_side(side: str, model: str, folder: Path) -> Measured:
    """Fit in this process, whose interpreter has what the side needs."""
    crowd = dict(np.load(folder / "crowd.npz"))
    found = (fit_prefkit if side == "prefkit" else fit_crowd_kit)(crowd, model, int(crowd["truth"].max()) + 1)
    np.save(folder / f"{side}.npy", found.posterior)
    right = float((found.posterior.argmax(axis=1) == crowd["truth"]).mean())
    return Measured(side, *found[3:], right, likelihood(crowd, found.confusion, found.prior))


def timed(fit: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return what a fit returns, its CPU seconds, and by how many MiB it raised the peak."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    found = fit()
    after, seconds = resource.getrusage(resource.RUSAGE_SELF), time.process_time() - start
    return found, seconds, (after.ru_maxrss - before.ru_maxrss) / 1024


def fit_prefkit(crowd: dict[str, np.ndarray], model: str, classes: int) -> Fitted:
    from prefkit.estimators.dawid_skene import fit_dawid_skene, fit_one_coin

    fit = fit_dawid_skene if model == "full" else fit_one_coin
    fit(np.zeros(3, int), np.arange(3), np.zeros(3, int), 2)  # whatever the first call loads
    found, seconds, memory = timed(lambda: fit(crowd["item"], crowd["annotator"], crowd["label"], classes))
    return Fitted(found.posterior, found.confusion, found.prior, seconds, memory, found.steps)


def fit_crowd_kit(crowd: dict[str, np.ndarray], model: str, classes: int) -> Fitted:
    import pandas as pd
    from crowdkit.aggregation import DawidSkene, OneCoinDawidSkene

    frame = pd.DataFrame({"task": crowd["item"], "worker": crowd["annotator"], "label": crowd["label"]})
    fitter = (DawidSkene if model == "full" else OneCoinDawidSkene)(n_iter=100)
    fitter.fit(frame.head(100))  # whatever the first call loads
    _, seconds, memory = timed(lambda: fitter.fit(frame))
    columns = [*range(classes)]
    posterior = fitter.probas_.sort_index()[columns].to_numpy()
    if model == "full":
        cells = pd.MultiIndex.from_product([np.unique(crowd["annotator"]), columns])
        said = fitter.errors_.reindex(cells, fill_value=0.0)[columns].to_numpy()
        confusion = said.reshape(-1, classes, classes).transpose(0, 2, 1)
    else:
        skill = fitter.skills_.sort_index().to_numpy()[:, None, None]
        confusion = np.where(np.eye(classes, dtype=bool), skill, (1 - skill) / (classes - 1))
    return Fitted(posterior, confusion, posterior.mean(axis=0), seconds, memory, len(fitter.loss_history_))


def likelihood(crowd: dict[str, np.ndarray], confusion: np.ndarray, prior: np.ndarray) -> float:
    """Return ln P(labels) per label."""
    told = np.log(np.maximum(confusion, 1e-12))[crowd["annotator"], :, crowd["label"]]
    sums = [np.bincount(crowd["item"], column) for column in told.T]
    joint = np.log(np.maximum(prior, 1e-12)) + np.stack(sums, axis=1)
    return float(np.logaddexp.reduce(joint, axis=1).sum()) / len(told)


def measure(side: str, model: str, folder: Path, peer_python: str | None) -> Measured:
    """Run a side in a process of its own; exit with its log if it fails."""
    python = sys.executable if side == "prefkit" else str(peer_python)
    command = [python, __file__, "--side", side, "--model", model, "--folder", str(folder)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def compare(name: str, model: str, options: argparse.Namespace) -> None:
    """Print what each side costs on one crowd, and the ratio."""
    shape, sides = SHAPES[name], SIDES if options.peer_python else SIDES[:1]
    with tempfile.TemporaryDirectory() as temporary:
        folder, crowd = Path(temporary), draw(shape, seed=0)
        np.savez(folder / "crowd.npz", **crowd)  # type: ignore[arg-type]
        votes = [np.bincount(crowd["item"], crowd["label"] == k) for k in range(shape.classes)]
        majority = (np.argmax(votes, axis=0) == crowd["truth"]).mean()
        print(f"\n{name}, {model}: {len(crowd['item']):,} labels, {shape}; majority vote {majority:.4f}")
        runs = [measure(s, model, folder, options.peer_python) for _ in range(options.runs) for s in sides]
        best = [min((run for run in runs if run.side == side), key=lambda run: run.seconds) for side in sides]
        for side in best:
            worst = max(run.seconds for run in runs if run.side == side.side)
            print(
                f"  {side.side:10} {side.seconds:7.3f} CPU-s (to {worst:.3f} in {options.runs} runs)"
                f"   {side.memory:5.0f} MiB   {side.steps:3d} steps   accuracy {side.accuracy:.4f}"
                f"   {side.log_likelihood:.7f} nats a label",
                flush=True,
            )
        if len(best) > 1:
            mine, peer = (np.load(folder / f"{side}.npy").argmax(axis=1) for side in sides)
            ratio = best[1].seconds / best[0].seconds
            print(f"    {ratio:.1f}x faster; {(mine == peer).mean():.3%} of items get the same class")


def main() -> None:
    """Print the tables, or run one side of them."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--peer-python")
    options.add_argument("--model", choices=MODELS)
    options.add_argument("--side", choices=SIDES, help="run only this one, on the labels in --folder")
    options.add_argument("--folder", type=Path)
    given = options.parse_args()
    shapes = ("two", "three", "hard") if given.shape == "all" else (given.shape,)
    if given.side:
        print(json.dumps(run_side(given.side, given.model, given.folder)._asdict()))
        shapes = ()
    for name, model in product(shapes, (given.model,) if given.model else MODELS):
        compare(name, model, given)


if __name__ == "__main__":
    main()
