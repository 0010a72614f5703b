"""Fuzz a target, guided by coverage: `python tests/fuzz/run_fuzz.py reader --seconds 300`; without a target, each in turn.

Every input that makes something come out which must not is kept in `tests/fuzz/found/TARGET/`, one for each kind of bug,
and from then on is a test. A target runs in a process of its own, bounded in memory and in seconds for an input, so a
crash of a library is a finding too. Needs the extra `prefkit[fuzz]`.
"""

import argparse
import hashlib
import os
import re
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path

HERE = Path(__file__).parent
MEMORY = 6 << 30
SECONDS_FOR_ONE = 10


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("target", nargs="?", default="")
    asked.add_argument("--seconds", type=int, default=60)
    asked.add_argument("--corpus", type=Path, default=Path("fuzz-corpus"))
    asked.add_argument("--modules", default="", help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.modules:
        return child(given.target, given.seconds, given.corpus, given.modules.split(","))
    sys.path.insert(0, str(HERE))
    from fuzz_targets import TARGETS

    bugs = 0
    for name in [given.target] if given.target else TARGETS:
        bugs += parent(name, TARGETS[name].modules, given.seconds, given.corpus)
    return int(bugs > 0)


def parent(name: str, modules: tuple[str, ...], seconds: int, corpus: Path) -> int:
    """Run a target until its time is over, again after every crash; print how many inputs were tried."""
    before, tried, started, crashes = kept(name), 0, time.monotonic(), 0
    while (left := seconds - int(time.monotonic() - started)) > 0:
        command = [sys.executable, __file__, name, "--modules", ",".join(modules), "--seconds", str(left)]
        command += ["--corpus", str(corpus)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        runs = re.findall(r"(?m)^#(\d+)\s|^Done (\d+) runs", done.stderr)
        tried += max((int(one or other) for one, other in runs), default=0)
        if done.returncode == 0:
            break
        crashes += 1
        print("\n".join(done.stderr.splitlines()[-25:]), file=sys.stderr)
        if crashes > 50 or not runs:
            break
    new = sorted(kept(name) - before)
    print(
        f"{name:<9} {tried:>10,} inputs in {time.monotonic() - started:.0f} s, {crashes} crashes, {len(new)} new bugs"
    )
    for each in new:
        print(f"    tests/fuzz/found/{name}/{each}")
    sys.stdout.flush()
    return len(new) + crashes


def kept(name: str) -> set[str]:
    folder = HERE / "found" / name
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def child(name: str, seconds: int, corpus: Path, modules: list[str]) -> int:
    import atheris

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=modules, enable_loader_override=False):
        import fuzz_targets
    target, seen = fuzz_targets.TARGETS[name], set[str]()
    seeds, found = corpus / name, HERE / "found" / name
    seeds.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (seeds / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def once(data: bytes) -> None:
        error = fuzz_targets.bug(name, data)
        if error is None:
            return
        where = traceback.extract_tb(error.__traceback__)[-1]
        kind = f"{type(error).__name__}-{Path(where.filename).stem}-{where.lineno}"
        if kind not in seen:
            seen.add(kind)
            (found / kind).write_bytes(data)
            traceback.print_exception(error)

    arguments = [
        f"-max_total_time={seconds}",
        f"-max_len={target.most_bytes}",
        f"-timeout={SECONDS_FOR_ONE}",
        f"-rss_limit_mb={MEMORY >> 20}",
        f"-artifact_prefix={found}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(seeds)], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
