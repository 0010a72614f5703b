"""Build pair, label, margin, order and dedup over 200k scored responses, beside the same work in plain `datasets`.

    python benchmarks/pipeline.py [--prompts 25000]

Each side runs in a process of its own, on the same parquet file, one thread each; the figures are CPU seconds and peak
memory of that process as the kernel accounts them, and the ratio is of one run. `datasets` does the work as its
documentation shows it: batched `map` and `filter`, a Python set for duplicates, `sort` for the order. It is given
what prefkit does besides (digests, manifests, drop counts) for free.

The second part measures what prefkit adds to a model call: three engine stages over 5,000 prompts, answered by an
engine that does nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "is",
    "was",
    "for",
    "on",
    "with",
    "as",
    "by",
    "at",
    "from",
    "it",
    "an",
    "be",
    "this",
    "which",
    "or",
    "are",
    "not",
    "have",
    "has",
]
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}

RECIPE = """
name: bench
seed: 1
data:
  - file: {data}
    columns: {{prompt: prompt, response: response, score: score, model: model}}
build:
  - pair: {{kind: best-worst}}
  - label: {{ops: [{{from-scores: {{temperature: 1.0}}}}, {{tie: {{rule: delta, delta: 0.05}}}}]}}
  - margin
  - order: {{kind: sort, by: margin}}
  - dedup: {{by: pair}}
"""


class Cost(NamedTuple):
    """CPU seconds, wall seconds, and peak memory in MiB."""

    cpu: float
    wall: float
    peak: float


def make_data(path: Path, prompts: int) -> None:
    """Write prompts x 8 scored responses of about 1,250 characters each, as answers to AlpacaEval have on average."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    words = np.array(WORDS)
    rows = prompts * 8
    text = [" ".join(words[draw.integers(0, len(words), 320)]) for _ in range(2000)]
    table = pa.table(
        {
            "prompt": [f"Question {row // 8}: {text[row // 8 % 2000][:120]}" for row in range(rows)],
            "response": [f"{row} {text[(row * 7) % 2000]}" for row in range(rows)],
            "score": draw.normal(size=rows).round(3),
            "model": [f"model-{row % 8}" for row in range(rows)],
        }
    )
    pq.write_table(table, path)


def run_datasets(data: Path, work: Path) -> None:
    """Do the same work with `datasets`."""
    import math

    from datasets import load_dataset

    def pairs(batch: dict[str, Any]) -> dict[str, Any]:
        best = max(range(len(batch["score"])), key=lambda i: batch["score"][i])
        worst = min(range(len(batch["score"])), key=lambda i: batch["score"][i])
        turn = [{"role": "user", "content": batch["prompt"][0]}]
        return {
            "prompt": [turn],
            "chosen": [[{"role": "assistant", "content": batch["response"][best]}]],
            "rejected": [[{"role": "assistant", "content": batch["response"][worst]}]],
            "chosen_score": [batch["score"][best]],
            "rejected_score": [batch["score"][worst]],
            "chosen_model": [batch["model"][best]],
            "rejected_model": [batch["model"][worst]],
        }

    def label(batch: dict[str, Any]) -> dict[str, Any]:
        gaps = [a - b for a, b in zip(batch["chosen_score"], batch["rejected_score"], strict=True)]
        return {"p_chosen": [1 / (1 + math.exp(-gap)) for gap in gaps], "tie": [gap <= 0.05 for gap in gaps]}

    def margin(batch: dict[str, Any]) -> dict[str, Any]:
        return {
            "margin": [a - b for a, b in zip(batch["chosen_score"], batch["rejected_score"], strict=True)]
        }

    seen: set[str] = set()

    def fresh(row: dict[str, Any]) -> bool:
        key = " ".join(
            (
                row["prompt"][0]["content"] + row["chosen"][0]["content"] + row["rejected"][0]["content"]
            ).split()
        ).lower()
        if key in seen:
            return False
        seen.add(key)
        return True

    rows = load_dataset("parquet", data_files=str(data), split="train", cache_dir=str(work / "cache"))
    made = rows.map(pairs, batched=True, batch_size=8, remove_columns=rows.column_names)
    made = made.filter(lambda row: row["chosen_score"] > row["rejected_score"])
    made = made.map(label, batched=True).map(margin, batched=True)
    made = made.sort("margin", reverse=True)
    made = made.map(lambda _, index: {"rank": index}, with_indices=True, batched=True)
    made = made.filter(fresh)
    made.save_to_disk(str(work / "out"))


ENGINES = ("policy", "reward", "second")
NOOP = """
name: noop
seed: 1
models:
  policy: {{id: bench/policy}}
  reward: {{id: bench/reward}}
  second: {{id: bench/second}}
data:
  - file: {data}
build:
  - sample: {{model: policy, n: 1, max_tokens: 16}}
  - score: {{model: reward}}
  - score: {{model: second, as: second}}
"""


def command(side: str, data: Path, work: Path) -> list[str]:
    """Return the command line of one side; prefkit's is the one its users type."""
    if side == "datasets":
        return [sys.executable, __file__, "--data", str(data), "--work", str(work)]
    text = RECIPE if side == "prefkit" else NOOP
    (work / "recipe.yaml").write_text(text.format(data=data))
    fakes = [] if side == "prefkit" else [part for name in ENGINES for part in ("--engine", f"{name}=fake")]
    tool = str(Path(sys.executable).with_name("prefkit"))
    return [tool, "build", str(work / "recipe.yaml"), "--store", str(work / "runs"), *fakes]


def measure(side: str, data: Path, work: Path) -> Cost:
    """Run one side in a process of its own and return what the kernel says it cost, start-up included."""
    work.mkdir()
    started = time.perf_counter()
    with (work / "log").open("w") as log:
        child = subprocess.Popen(
            command(side, data, work), env={**os.environ, **ENVIRONMENT}, stdout=log, stderr=log
        )
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit((work / "log").read_text())
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - started, used.ru_maxrss / 1024)


def main() -> None:
    """Print the table and the ratios."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--prompts", type=int, default=25_000)
    arguments.add_argument("--data", type=Path)
    arguments.add_argument("--work", type=Path)
    given = arguments.parse_args()
    if given.work:
        run_datasets(given.data, given.work)
        return
    if given.data:
        make_data(given.data, given.prompts)
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), given.prompts)
        overhead(Path(name))


def compare(folder: Path, prompts: int) -> None:
    """Print what both sides cost on the same rows."""
    data, rows = folder / "responses.parquet", prompts * 8
    # In another process: the kernel counts what a parent holds when it forks as its child's peak.
    subprocess.run([sys.executable, __file__, "--data", str(data), "--prompts", str(prompts)], check=True)
    costs = {side: measure(side, data, folder / side) for side in ("datasets", "prefkit")}
    print(f"pair, label, margin, order, dedup over {rows:,} responses")
    for side, cost in costs.items():
        print(
            f"  {side:9} {rows / cost.cpu:9,.0f} rows per CPU second  {cost.cpu:6.1f} CPU s"
            f"  {cost.wall:6.1f} s  {cost.peak:6.0f} MiB peak"
        )
    mine, theirs = costs["prefkit"], costs["datasets"]
    print(
        f"  ratio     {theirs.cpu / mine.cpu:.1f}x the rows per CPU second, {mine.peak / theirs.peak:.2f} of the peak"
    )


def overhead(folder: Path) -> None:
    """Print what three engine stages add per prompt, start-up left out."""
    costs = []
    for count in (5000, 5):
        data = folder / f"prompts-{count}.jsonl"
        data.write_text("".join(json.dumps({"prompt": f"Question {n}"}) + "\n" for n in range(count)))
        costs.append(measure("noop", data, folder / f"noop-{count}"))
    full, few = costs
    print(
        f"three no-op engine stages over 5,000 prompts: {(full.cpu - few.cpu) / 4.995:.3f} ms of CPU a row"
        f" (start-up of {few.cpu:.1f} s left out), {full.peak:.0f} MiB peak"
    )


if __name__ == "__main__":
    main()
