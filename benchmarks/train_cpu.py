"""Train the same Llama on the same pairs with prefkit and with TRL's `DPOTrainer`, one thread each.

    python benchmarks/train_cpu.py [--peer-python PYTHON] [--shape head] [--steps 20] [--dtype auto]

Every run is a fresh process: prefkit's before and after each configuration of TRL, so that a machine that slows down
slows both. Figures are CPU seconds of the training loop from its first step to its last, and the peak memory of the
process as the kernel accounts it: loading, tokenising and saving are left out of the seconds and not of the memory.
Reference log-probs are inside TRL's loop where it computes them at every step, and stand on their own where a side
computes them once. FLOPs and bytes are counted while it runs, which costs well under one percent.

`--peer-python` is an interpreter that has TRL; without one only prefkit runs. All sides get the same token ids in the
same order, except where TRL groups pairs by length: there one pass holds the same pairs. `--dtype auto` takes what the
processor multiplies faster; one without instructions for bfloat16 is many times slower in it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sides import BATCH, PEERS, Given, Measured, Rates
from workload import Shape, draw_pairs

SHAPES = {
    "head": Shape(hidden=256, layers=4, heads=4, kv_heads=4, inner=688, vocab=32_000),
    "body": Shape(hidden=512, layers=4, heads=8, kv_heads=8, inner=1408, vocab=2_048),
    "tiny": Shape(hidden=32, layers=2, heads=2, kv_heads=2, inner=64, vocab=256),
}
"""The vocabulary dominates the first, the layers the second; the third only shows that everything runs."""
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}
CURVE = 20
"""Steps whose losses are compared."""


class Bench:
    """A folder with a model and pairs, and the processes that train on them."""

    def __init__(self, folder: Path, given: Given, peer_python: str | None) -> None:
        self.folder, self.given, self._peer_python = folder, given, peer_python
        (folder / "given.json").write_text(json.dumps(given._asdict()))

    def run(self, side: str) -> dict[str, object]:
        """Run a side in a process of its own and return what it wrote; exit with its log if it fails."""
        python = self._peer_python if side in PEERS else sys.executable
        assert python is not None
        command = [python, str(Path(__file__).with_name("sides.py")), side, str(self.folder)]
        with tempfile.TemporaryDirectory() as cache, (self.folder / "log").open("w") as log:
            places = {"HF_HOME": cache, "HF_DATASETS_CACHE": cache}
            environment = {**os.environ, **ENVIRONMENT, **places}
            status = subprocess.call(command, env=environment, stdout=log, stderr=log)
        if status:
            sys.exit((self.folder / "log").read_text())
        found: dict[str, object] = json.loads((self.folder / "measured.json").read_text())
        return found

    def measure(self, side: str) -> Measured:
        # A run that is finished would not run again.
        with tempfile.TemporaryDirectory() as name:
            work = Bench(Path(name), self.given, self._peer_python)
            for shared in ("model", "pairs.jsonl"):
                (work.folder / shared).symlink_to(self.folder / shared)
            return Measured(**work.run(side))  # type: ignore[arg-type]


def compare(name: str, options: argparse.Namespace) -> None:
    """Run all sides on one shape and print what they cost."""
    with tempfile.TemporaryDirectory() as folder:
        given = Given(SHAPES[name], options.steps, options.dtype, options.profile)
        bench = Bench(Path(folder), given, options.peer_python)
        rates = Rates(**bench.run("prepare"))  # type: ignore[arg-type]
        if options.dtype == "auto":
            dtype = "bfloat16" if rates.bfloat16 > rates.float32 else "float32"
            bench = Bench(Path(folder), given._replace(dtype=dtype), options.peer_python)
        tell_machine(name, bench.given, rates)
        mine = [bench.measure("prefkit")]
        tell(mine[0], bench.given, rates)
        print("   ", ", ".join(f"{package} {version}" for package, version in mine[0].versions.items()))
        for side in options.peers if options.peer_python else ():
            peer = bench.measure(side)
            tell(peer, bench.given, rates)
            mine.append(bench.measure("prefkit"))
            tell(mine[-1], bench.given, rates)
            tell_ratio(mine[-2:], peer)


def tell_machine(name: str, given: Given, rates: Rates) -> None:
    """Print what is trained, and what the machine could do at best."""
    drawn = draw_pairs(given.steps * BATCH, given.shape)
    least = sum(given.shape.least_flops(*pair.tokens()) for pair in drawn) / len(drawn)
    best = rate_of(given, rates) / least
    print(f"\n{name}: {given.shape}, {len(drawn)} pairs in {given.steps} steps, {given.dtype}")
    print(
        f"  products of 1024 x 1024 matrices, one thread: float32 {rates.float32 / 1e9:.0f} GFLOP/s, "
        f"bfloat16 {rates.bfloat16 / 1e9:.0f}; copies {rates.bytes / 1e9:.1f} GB/s"
    )
    print(
        f"  a pair costs at least {least / 1e9:.1f} GFLOP: at most {best:.2f} pairs/CPU-s at that rate",
        flush=True,
    )


def tell(side: Measured, given: Given, rates: Rates) -> None:
    """Print one run, and what share of its time the counted work would take at this machine's rates."""
    pairs = given.steps * BATCH
    once = f" + {side.reference / pairs:.3f} once" if side.reference else ""
    products = side.flops / rate_of(given, rates) / side.seconds
    print(
        f"  {side.side:12} {pairs / side.seconds:6.3f} pairs/CPU-s   {side.seconds / pairs:.3f} CPU-s a pair{once}"
        f"   peak {side.peak:,.0f} MiB ({side.start:,.0f} before)   {side.flops / pairs / 1e9:.1f} GFLOP a pair,"
        f" {products:.0%} of the time at that rate   {side.bytes / pairs / 1e9:.1f} GB,"
        f" {side.bytes / rates.bytes / side.seconds:.0%} at the rate of a copy",
        flush=True,
    )
    for family, share in side.families.items():
        print(f"      {share:6.1%} {family}")


def rate_of(given: Given, rates: Rates) -> float:
    return rates.bfloat16 if given.dtype == "bfloat16" else rates.float32


def tell_ratio(mine: Sequence[Measured], peer: Measured) -> None:
    """Print the ratio to the mean of the runs before and after, and how far the losses are apart."""
    seconds, peak = (np.mean([getattr(one, name) for one in mine]) for name in ("seconds", "peak"))
    whole = (peer.seconds + peer.reference) / (seconds + np.mean([one.reference for one in mine]))
    line = f"    prefkit / {peer.side}: {peer.seconds / seconds:.2f}x, {whole:.2f}x with reference log-probs"
    line += f", {peak / peer.peak:.2f} of the memory"
    if "train_sampling_strategy" not in PEERS[peer.side]:
        apart = np.abs(np.subtract(mine[0].losses, peer.losses))[:CURVE].max()
        line += f"; losses of the first {min(CURVE, len(peer.losses))} steps within {apart:.1e}"
    print(line, "" if peer.seen == mine[0].seen else "\n    THE TOKEN IDS DIFFER", flush=True)


def main() -> None:
    """Print the tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--shape", choices=[*SHAPES, "both"], default="both")
    options.add_argument("--steps", type=int, default=20)
    options.add_argument("--dtype", choices=["auto", "float32", "bfloat16"], default="auto")
    options.add_argument("--peer-python")
    options.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    options.add_argument("--profile", action="store_true", help="say which operations took the time; slower")
    given = options.parse_args()
    for name in ("head", "body") if given.shape == "both" else (given.shape,):
        compare(name, given)


if __name__ == "__main__":
    main()
