"""What a Ray cluster costs over worker processes of one machine: the same build, `-j N` against N CPUs of Ray.

    python benchmarks/ray_overhead.py [--pairs 100000] [--workers 2] [--rounds 3]

Each build runs in a process of its own, on a store of its own; rounds alternate, so that whatever else the machine does
meets both alike. Wall seconds are of the build: starting the cluster and joining it are told apart. With `--models`,
the stages that ask models come too, answered by the fake engine, which takes no time: what is seen then is all
overhead, of which a real model's answers hide most. Digests are compared. CPU seconds are those of all processes.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from pipeline import WORDS

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_worker_niceness": "0",  # by default workers give way to everything else, as -j workers do not
}
SCORED = """
name: bench
seed: 1
data:
  - file: rows.parquet
    columns: {prompt: prompt, response: response, score: score}
build:
  - pair: {kind: fold, max_pairs: 4}
  - margin
  - label: {ops: [from-scores: {temperature: 1.0}, tie: {rule: delta, delta: 0.05}]}
  - dedup: {by: pair, kind: minhash}
  - filter: {drop: [empty, identical]}
  - order: {kind: sort, by: margin}
"""
ASKED = """
name: bench
seed: 1
models: {policy: {id: org/policy}, reward: {id: org/reward}}
data:
  - file: rows.parquet
    columns: {prompt: prompt}
build:
  - sample: {model: policy, n: 4, max_tokens: 64}
  - score: {model: reward}
  - pair: {kind: fold, max_pairs: 4}
  - margin
  - order: {kind: sort, by: margin}
"""
CHILD = """
import json, os, resource, sys, time
from contextlib import nullcontext
from pathlib import Path
from prefkit.engines.placement import Placement
from prefkit.executors.local import Local
from prefkit.recipe import Recipe
from prefkit.run import build
from prefkit.steps import Settings
from prefkit.store import Store

recipe, store, jobs, address = sys.argv[1:]
began = time.perf_counter()
if address:
    import ray
    from prefkit.executors.ray import OnRay
    from prefkit.executors.ray_cluster import join

    join(address)
    ray.get(ray.remote(lambda: None).options(num_cpus=0).remote())
    executor = OnRay(jobs=int(jobs), say=lambda line: None)
else:
    executor = nullcontext(Local(int(jobs)))
joined = time.perf_counter()
placed = Placement(engines={"policy": "fake", "reward": "fake"} if "models:" in Path(recipe).read_text() else {})
steps, starts = {}, {}

def tell(event):
    if event.state == "start":
        starts[event.step] = time.perf_counter()
    if event.state == "done":
        steps[event.step] = time.perf_counter() - starts[event.step]

with executor as running:
    started = time.perf_counter()
    made = build(Recipe.load(recipe), Store(store), Settings(placed, int(jobs), executor=running, progress=tell))
    seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "join": joined - began, "digest": made.last.digest, "steps": steps,
                  "rows": made.last.rows.kept}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="prefkit-ray-") as name:
        folder = Path(name)
        write_rows(folder / "rows.parquet", asked.pairs // 4)
        (folder / "recipe.yaml").write_text(ASKED if asked.models else SCORED)
        began = time.perf_counter()
        with cluster(asked.workers) as address:
            print(f"cluster started in {time.perf_counter() - began:.1f} s; load {os.getloadavg()[0]:.1f}")
            compare(folder, asked.workers, asked.rounds, address)


def compare(folder: Path, workers: int, rounds: int, address: str) -> None:
    """Build by turns, and print both and their ratio."""
    found: dict[str, list[dict[str, object]]] = {"local": [], "ray": []}
    for number in range(rounds):
        for name, where in (("local", ""), ("ray", address)):
            store = folder / f"{name}-{number}"
            command = [
                sys.executable,
                "-c",
                CHILD,
                str(folder / "recipe.yaml"),
                str(store),
                str(workers),
                where,
            ]
            run = subprocess.run(
                command, env={**os.environ, **ENVIRONMENT}, check=True, stdout=subprocess.PIPE, text=True
            )
            told = json.loads(run.stdout.splitlines()[-1])
            found[name].append(told)
            steps = "  ".join(f"{step} {seconds:.1f}" for step, seconds in told["steps"].items())
            load = os.getloadavg()[0]
            print(
                f"{name:<6}{told['seconds']:7.1f} s  joined in {told['join']:.1f} s  load {load:.1f}  {steps}"
            )
    digests = {str(told["digest"]) for each in found.values() for told in each}
    assert len(digests) == 1, digests
    seconds = {name: [float(str(told["seconds"])) for told in each] for name, each in found.items()}
    ratios = [there / here for here, there in zip(seconds["local"], seconds["ray"], strict=True)]
    rows = found["ray"][0]["rows"]
    print(
        f"{rows} rows, same digests. ray / local: median {median(ratios):.3f}, each {[round(r, 3) for r in ratios]}"
    )


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Start a cluster of two nodes with so many CPUs together, with one worker each waiting."""
    os.environ.update(ENVIRONMENT)
    from ray.cluster_utils import Cluster

    found = Cluster()
    found.add_node(num_cpus=workers - workers // 2)
    found.add_node(num_cpus=workers // 2)
    try:
        yield found.address
    finally:
        found.shutdown()


def write_rows(path: Path, prompts: int) -> None:
    """Write prompts with eight scored answers each, some of them nearly equal."""
    import pyarrow as pa
    from pyarrow import parquet

    draw = random.Random(1)

    def text(count: int) -> str:
        return " ".join(draw.choices(WORDS, k=count))

    asked = [prompt for number in range(prompts) for prompt in [f"{number} {text(20)}"] * 8]
    answers = [text(60) for _ in asked]
    scores = [draw.random() for _ in asked]
    parquet.write_table(pa.table({"prompt": asked, "response": answers, "score": scores}), path)


if __name__ == "__main__":
    main()
