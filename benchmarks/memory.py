"""What global stages hold: peak memory and time of one step each, over pairs of 2 kB in a temporary store.

    python benchmarks/memory.py --rows 300000 1000000
    python benchmarks/memory.py --rows 300000 --only dedup-minhash order-sort --whole

Every step runs in a process of its own. `anonymous` is memory that no file stands behind, at its highest, less what the
process had before; `resident` is the system's own peak, with what of mapped files happens to be in memory. `--whole`
also runs each stage over one whole table, as a stage would that does not say what it looks into.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from prefkit.columns import COLUMNS
from prefkit.engines import Engines
from prefkit.manifest import Shard
from prefkit.parts import STAGES, Task, make_part
from prefkit.shards import SHARD_ROWS, cut
from prefkit.stage import Context
from prefkit.store import Store

STEPS = {
    "dedup-exact": ("dedup", {"by": "pair", "within": "dataset"}),
    "dedup-prompt": ("dedup", {"by": "prompt"}),
    "dedup-minhash": ("dedup", {"by": "chosen", "within": "dataset", "kind": "minhash"}),
    "order-sort": ("order", {"by": "margin"}),
    "order-shuffle": ("order", {"kind": "shuffle"}),
    "order-flip": ("order", {"kind": "split", "on_disagree": "flip", "gamma": 0.5}),
    "label-flip": ("label", {"ops": [{"flip": {"bottom": 0.2}}]}),
    "label-noise": ("label", {"ops": ["from-scores", {"noise": {}}, "orient"]}),
    "filter-cut": ("filter", {"cut": {"column": "margin", "lowest": 0.2}}),
    "filter-text": ("filter", {"drop": ["identical", "empty"], "cut": {"column": "margin", "lowest": 0.2}}),
    "mix": ("mix", {"by": "source", "temperature": 2.0}),
    "balance": ("balance", {}),
    "weight": ("weight", {"kind": "kl-dro"}),
    "margin": ("margin", {"transform": "standardise"}),
}
_PIECE = 10_000
_WORDS = 4096


def make_store(folder: Path, rows: int, text: int) -> list[Shard]:
    """File so many pairs, two a prompt, holding one shard at a time."""
    store = Store(folder)
    words = np.array([f"w{number:04d} ".encode() for number in range(_WORDS)])
    return [
        store.put(_piece(start, min(_PIECE, rows - start), text, words)) for start in range(0, rows, _PIECE)
    ]


def _piece(start: int, rows: int, text: int, words: np.ndarray) -> pa.Table:
    rng = np.random.default_rng(start)
    numbers = np.arange(start, start + rows)
    prompts = [f"{number // 2:032x}" for number in numbers]
    margin = rng.normal(0.5, 1.0, rows)
    columns = {
        "id": pa.array([f"{number:032x}" for number in numbers]),
        "prompt_id": pa.array(prompts),
        "prompt": _said("user", rng, rows // 2 + 1, text // 10, words).take(
            pa.array(numbers // 2 - start // 2)
        ),
        "chosen": _said("assistant", rng, rows, text * 9 // 20, words),
        "rejected": _said("assistant", rng, rows, text * 9 // 20, words),
        "chosen_score": pa.array(margin),
        "rejected_score": pa.array(np.zeros(rows)),
        "margin": pa.array(margin),
        "source": pa.array([("one", "two", "three")[number % 3] for number in (numbers // 2)]),
    }
    return pa.table(columns)


def _said(role: str, rng: np.random.Generator, rows: int, size: int, words: np.ndarray) -> pa.Array:
    count = max(size // words.dtype.itemsize, 1)
    drawn = words[rng.integers(0, _WORDS, (rows, count))]
    texts = pa.array(drawn.view(f"S{count * words.dtype.itemsize}")[:, 0].astype("U"), pa.string())
    roles = pa.repeat(pa.scalar(role), rows)
    kind = COLUMNS["prompt"].type
    turns = pa.StructArray.from_arrays([roles, texts], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32)), turns).cast(kind)


def run_step(name: str, folder: Path, shards: list[Shard], *, whole: bool) -> dict[str, float]:
    """Run one step in this process and say what it took. The digest of what it made is its first eight digits."""
    stage = STAGES.get(STEPS[name][0]).model_validate(STEPS[name][1])
    store = Store(folder)
    peak, done = [_anonymous()], threading.Event()
    threading.Thread(target=_watch, args=(peak, done), daemon=True).start()
    before, resident = peak[0], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    if whole:
        ctx = Context(engines=Engines())
        result = stage(pa.concat_tables([store.get(shard) for shard in shards]), ctx)
        made = [store.put(piece) for piece in cut(result, SHARD_ROWS)]
        made += [store.put(pa.concat_tables(ctx.dropped))] if ctx.dropped else []
    else:
        part = make_part(stage, Task("0" * 32, tuple(shards)), store, Engines(), 0, SHARD_ROWS)
        made = [*part.outputs, *([part.dropped] if part.dropped else [])]
    done.set()
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "anonymous": max(peak) - before,
        "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident * 1024,
        "digest": sum(int(shard.digest[:12], 16) for shard in made),
    }


def _watch(peak: list[int], done: threading.Event) -> None:
    while not done.wait(0.02):
        peak[0] = max(peak[0], _anonymous())


def _anonymous() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def in_a_process(name: str, folder: Path, shards: Path, *, whole: bool) -> dict[str, float]:
    """Run one step in a process of its own, over a copy of the store of hard links."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        copy = Path(work) / "store"
        shutil.copytree(folder, copy, copy_function=os.link)
        command = [sys.executable, __file__, "--step", name, "--store", str(copy), "--shards", str(shards)]
        done = subprocess.run([*command, *(["--whole"] if whole else [])], check=True, capture_output=True)
        return json.loads(done.stdout)


def compare(rows: list[int], text: int, names: list[str], folder: Path | None, *, whole: bool) -> None:
    print(
        f"{'step':16} {'rows':>9} {'text MB':>8} {'way':>7} {'wall s':>7} {'cpu s':>7} "
        f"{'anonymous MB':>12} {'bytes/row':>9} {'resident MB':>11}"
    )
    for count in rows:
        with tempfile.TemporaryDirectory(dir=folder) as work:
            shards = make_store(Path(work) / "store", count, text)
            told = Path(work) / "shards.json"
            told.write_text(json.dumps([shard.model_dump() for shard in shards]))
            size = sum(shard.bytes for shard in shards)
            for name in names:
                found = {}
                for way in (False, True) if whole else (False,):
                    found[way] = one = in_a_process(name, Path(work) / "store", told, whole=way)
                    print(
                        f"{name:16} {count:9} {size / 1e6:8.0f} {'whole' if way else 'narrow':>7} "
                        f"{one['wall']:7.2f} {one['cpu']:7.2f} {one['anonymous'] / 1e6:12.1f} "
                        f"{one['anonymous'] / count:9.0f} {one['resident'] / 1e6:11.1f}",
                        flush=True,
                    )
                if len({one["digest"] for one in found.values()}) > 1:
                    raise SystemExit(f"{name}: the two ways do not give the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--text", type=int, default=2000, help="bytes of text a pair")
    parser.add_argument("--only", nargs="+", choices=sorted(STEPS), default=list(STEPS))
    parser.add_argument("--whole", action="store_true", help="also over one whole table")
    parser.add_argument("--folder", type=Path, help="where the store lies for the time being")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shards", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        shards = [Shard.model_validate(each) for each in json.loads(given.shards.read_text())]
        print(json.dumps(run_step(given.step, given.store, shards, whole=given.whole)))
    else:
        compare(given.rows, given.text, given.only, given.folder, whole=given.whole)


if __name__ == "__main__":
    main()
