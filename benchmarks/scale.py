"""Build 10 thousand to 10 million pairs from scored responses, and say what a row costs at each size.

    python benchmarks/scale.py [--pairs 10000 100000 1000000] [--workers 1 2] [--limit 4GB] [--peers]
    python benchmarks/scale.py --pairs 10000000 --keep last --limit 4GB --folder /big/disk

Four responses a prompt -> pair -> label -> near-duplicates -> order -> Parquet, 2 kB of text a pair; the data are
synthetic, the same every time, and written piece by piece (`scale_data.py`). Each build is a process of its own, looked
at from outside four times a second: CPU seconds of it and its workers, the most anonymous memory of all of them
together, the resident memory (which counts mapped files that the kernel would take back), and the disk of the store.
`--limit` gives the build with its workers so much memory and no more, by the kernel (`scale_limit.py`): one that needs
more fails. One worker is given one core, with all threads of its libraries, and two are given two.

`--peers`: the same work with `datasets` (batched functions as its users write them, exact duplicates, since it has no
near ones), and near-duplicates alone with datatrove where `--peer-python` has it (0.10.1 needs xxhash below 4).
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from scale_data import Shape, write
from scale_watch import Watched, peak_between, watch

HERE = Path(__file__).parent
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
RECIPE = """
name: scale
seed: 1
data:
  - file: {data}
    columns: {{prompt: prompt, response: response, score: score, model: model}}
build:
  - pair: {{kind: fold}}
  - label: {{ops: [{{from-scores: {{temperature: 1.0}}}}, {{tie: {{rule: delta, delta: 0.05}}}}]}}
  - dedup: {{kind: minhash, by: chosen, within: dataset}}
  - order: {{kind: sort, by: chosen_score}}
"""
MB = 2**20


class Cost(NamedTuple):
    """What a step, or the whole, took."""

    step: str
    rows: int
    """Rows it gave."""
    cpu: float
    wall: float
    anonymous: int
    resident: int
    disk: int
    """The most that the store held meanwhile."""


class Ran(NamedTuple):
    """One build."""

    side: str
    pairs: int
    workers: int
    costs: tuple[Cost, ...]
    """Steps in order, the whole last."""
    digest: str
    limit: str
    """How memory was limited, if it was."""
    load: tuple[float, ...]
    """Load averages of the machine when it ended."""


def run_prefkit(data: Path, work: Path, pairs: int, workers: int, given: argparse.Namespace) -> Ran:
    """Build and export; exit with the log if it fails."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    recipe = work / "recipe.yaml"
    recipe.write_text(RECIPE.format(data=data / "*.parquet"))
    command = [
        sys.executable,
        str(HERE / "scale_build.py"),
        *map(str, (recipe, work / "store", work / "out")),
    ]
    environment = {**os.environ, **ENVIRONMENT}
    ran = watch([*command, str(workers), given.keep], environment, work / "log", work, given.limit)
    lines = (work / "log").read_text().splitlines()
    if ran.status:
        sys.exit("\n".join(lines[-40:]))
    said = [json.loads(line) for line in lines if line.startswith("{")]
    made = Ran(
        "prefkit",
        pairs,
        workers,
        tuple(_steps(said, ran, workers)),
        said[-1]["digest"],
        ran.limit,
        os.getloadavg(),
    )
    if not given.leave:
        shutil.rmtree(work)
    return made


def run_peer(side: str, python: str, data: Path, work: Path, pairs: int) -> Ran:
    """Do the same work, or the part of it that a peer does, with the peer."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if side == "datatrove":
        _write_texts(data, work / "texts.jsonl")
    command = [python, str(HERE / "scale_peers.py"), side, str(data), str(work)]
    ran = watch(command, {**os.environ, **ENVIRONMENT}, work / "log", work)
    lines = (work / "log").read_text().splitlines()
    if ran.status:
        sys.exit("\n".join(lines[-40:]))
    said = [json.loads(line) for line in lines if line.startswith("{")]
    shutil.rmtree(work)
    return Ran(side, pairs, 1, tuple(_steps(said, ran)), "", "", os.getloadavg())


def _write_texts(data: Path, to: Path) -> None:
    """Write every second response, as many as there are pairs: datatrove's environment need not read Parquet."""
    import pyarrow.parquet as pq

    with to.open("w") as file:
        for path in sorted(data.glob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(columns=["response"]):
                file.writelines(json.dumps(text) + "\n" for text in batch["response"].to_pylist()[::2])


def _steps(said: Sequence[Mapping[str, Any]], ran: Watched, workers: int = 1) -> Iterator[Cost]:
    """Yield what each step cost, from where it began to where the next did, then the whole with start-up."""
    marks = [one for one in said if "at" in one and one["step"] != "rows"]
    rows = 0
    for mark, after in pairwise(marks):
        told = [
            one["rows"]
            for one in said
            if one.get("step") == "rows" and mark["at"] <= one["at"] <= after["at"]
        ]
        rows = told[-1] if told else rows
        most = peak_between(ran.looks, mark["at"], after["at"])
        if mark["step"] != "start":
            # Of one process by its own count; of workers that have not ended by looking at them.
            cpu = most.cpu if workers > 1 else after["cpu"] - mark["cpu"]
            yield Cost(
                mark["step"], rows, cpu, after["at"] - mark["at"], most.anonymous, most.resident, most.disk
            )
    most = peak_between(ran.looks, 0, float("inf"))
    yield Cost("whole", rows, ran.cpu, ran.wall, most.anonymous, most.resident, most.disk)


def tell(ran: Ran) -> None:
    """Print one run as a table."""
    load = ", ".join(f"{one:.1f}" for one in ran.load)
    held = f", memory limited by {ran.limit}" if ran.limit else ""
    workers = f"{ran.workers} worker{'s' * (ran.workers > 1)}"
    print(f"\n{ran.side}, {ran.pairs:,} pairs, {workers}{held} (load {load})\n")
    print(
        "| step | rows out | CPU s | µs CPU a pair | wall s | pairs/s | anonymous MB | resident MB | disk MB |"
    )
    print("| --- | --: | --: | --: | --: | --: | --: | --: | --: |")
    for cost in ran.costs:
        print(
            f"| {cost.step} | {cost.rows:,} | {cost.cpu:,.1f} | {cost.cpu / ran.pairs * 1e6:.1f} | {cost.wall:,.1f}"
            f" | {ran.pairs / cost.wall:,.0f} | {cost.anonymous / MB:,.0f} | {cost.resident / MB:,.0f}"
            f" | {cost.disk / MB:,.0f} |"
        )
    sys.stdout.flush()


def tell_growth(runs: Sequence[Ran]) -> None:
    """Print what a pair costs at each size beside 100,000 pairs, and what a second worker brings."""
    mine = [run for run in runs if run.side == "prefkit"]
    one = {run.pairs: run for run in mine if run.workers == min(each.workers for each in mine)}
    start = _started(mine)
    if 100_000 in one:
        base = (one[100_000].costs[-1].cpu - start) / 100_000
        print("\n| pairs | µs CPU a pair | beside 100,000 | anonymous MB | disk a pair, bytes |")
        print("| --: | --: | --: | --: | --: |")
        for pairs, run in sorted(one.items()):
            whole, each = run.costs[-1], (run.costs[-1].cpu - start) / pairs
            print(
                f"| {pairs:,} | {each * 1e6:.1f} | {each / base - 1:+.0%} | {whole.anonymous / MB:,.0f}"
                f" | {whole.disk / pairs:,.0f} |"
            )
        print(f"\nStart-up, {start:.1f} CPU s, is left out here.")
    for run in mine:
        single = one.get(run.pairs)
        if single is not None and run.workers > single.workers:
            print(f"\n{run.pairs:,} pairs, {run.workers} workers beside {single.workers}, wall:")
            for few, many in zip(single.costs, run.costs, strict=True):
                cpu = many.cpu / few.cpu
                print(f"  {few.step:9} {few.wall / many.wall:.2f}x, {cpu:.2f} of the CPU seconds")
    sys.stdout.flush()


def _started(runs: Sequence[Ran]) -> float:
    """Return the CPU seconds before the first step: Python and its imports."""
    return min((run.costs[-1].cpu - sum(cost.cpu for cost in run.costs[:-1]) for run in runs), default=0.0)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--pairs", type=int, nargs="+", default=[10_000, 100_000])
    options.add_argument("--workers", type=int, nargs="+", default=[1])
    options.add_argument("--bytes", type=int, default=2000, help="text of a pair")
    options.add_argument("--shuffled", action="store_true", help="the rows of a prompt lie far apart")
    options.add_argument("--keep", choices=("all", "last"), default="all", help="as `prefkit build --keep`")
    options.add_argument("--limit", type=size, default=0, help="memory for data a process: 4GB")
    options.add_argument("--peers", action="store_true")
    options.add_argument("--peer-python", help="an interpreter that has datatrove")
    options.add_argument("--folder", type=Path, default=Path("scale"), help="where data and stores are made")
    options.add_argument("--leave", action="store_true", help="leave the store and the data")
    options.add_argument("--json", type=Path, help="write all figures there too")
    return options


def size(text: str) -> int:
    """Read a size: 4GB is 4 * 2**30 bytes."""
    for unit, power in (("GB", 30), ("MB", 20)):
        if text.upper().endswith(unit):
            return int(float(text[: -len(unit)]) * 2**power)
    return int(text)


def measure(given: argparse.Namespace, pairs: int) -> Iterator[Ran]:
    """Make the data of one size, run all sides on it, and remove it."""
    data, work = given.folder / f"data-{pairs}", given.folder / f"work-{pairs}"
    if not data.exists():
        weighs = write(data, Shape(pairs, given.bytes, given.shuffled))
        print(f"\n{pairs:,} pairs: {weighs / MB:,.0f} MB of Parquet", flush=True)
    for workers in given.workers:
        yield run_prefkit(data.resolve(), work, pairs, workers, given)
    if given.peers:
        yield run_peer("datasets", sys.executable, data.resolve(), work, pairs)
        if given.peer_python:
            yield run_peer("datatrove", given.peer_python, data.resolve(), work, pairs)
    if not given.leave:
        shutil.rmtree(data)


def main() -> None:
    """Print the tables."""
    given = parser().parse_args()
    runs: list[Ran] = []
    for pairs in given.pairs:
        for ran in measure(given, pairs):
            tell(ran)
            runs.append(ran)
            if given.json:
                plain = [{**run._asdict(), "costs": [cost._asdict() for cost in run.costs]} for run in runs]
                given.json.write_text(json.dumps(plain, indent=1))
    tell_growth(runs)
    given.folder.rmdir() if not any(given.folder.iterdir()) else None


if __name__ == "__main__":
    main()
