"""What a build costs on a store in object storage: requests and seconds, cold and warm, at a latency of one's own.

    python benchmarks/remote_store.py [--shards 200] [--latency 20] [--stages margin,filter]

An S3 server (moto) runs in a process of its own, and answers each request that many milliseconds late; several at once.
A cold build makes every step; a warm one finds them; a second machine has no copies. A build in a folder says what the
work itself takes. CPU seconds are of the building process, the server's are not among them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from urllib.request import Request, urlopen

SERVER = """
import sys, time
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

port, seconds = int(sys.argv[1]), float(sys.argv[2])
app, log = DomainDispatcherApplication(create_backend_app), open(sys.argv[3], "a", buffering=1)

class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *told):
        pass

def late(environment, start):
    kind = "LIST" if "list-type=2" in environment["QUERY_STRING"] else environment["REQUEST_METHOD"]
    print(kind, environment["PATH_INFO"], file=log)
    time.sleep(seconds)
    return app(environment, start)

run_simple("127.0.0.1", port, late, threaded=True, request_handler=Quiet)
"""
BUILD = """
import json, sys, time
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

recipe, store = Recipe.load(sys.argv[1]), Store(sys.argv[2])
wall, cpu = time.perf_counter(), time.process_time()
done = build(recipe, store, Settings(shard_rows=int(sys.argv[3])))
told = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
print(json.dumps({**told, "digests": [each.digest for each in done.steps.values()]}))
"""
ROWS = 4
"""Pairs in a shard."""


def main() -> None:
    """Measure, and print a table."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="prefkit-remote-") as name:
        folder = Path(name)
        recipe = _recipe(folder, options.shards, options.stages.split(","))
        with _served(folder, options.latency / 1000) as log:
            address = "s3://bucket/measured"
            told = [("folder", _build(recipe, str(folder / "runs"), folder / "none", log))]
            for case, machine in (("cold", "one"), ("warm", "one"), ("warm, second machine", "two")):
                told.append((case, _build(recipe, address, folder / machine, log)))
    assert len({json.dumps(each["digests"]) for _, each in told}) == 1, "digests differ"
    steps = 1 + len(options.stages.split(","))
    print(
        f"{options.shards} shards, {steps} steps, {options.latency:g} ms a request; load {os.getloadavg()[0]:.1f}"
    )
    for case, each in told:
        asked = ", ".join(f"{count} {kind}" for kind, count in sorted(each["asked"].items()))
        total = sum(each["asked"].values())
        print(f"{case:22}{each['seconds']:8.2f} s  {each['cpu']:6.2f} s CPU  {total:6} requests  {asked}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=200)
    parser.add_argument("--latency", type=float, default=20.0, metavar="MS")
    parser.add_argument("--stages", default="margin,filter", help="of those two, separated by commas")
    return parser.parse_args()


def _recipe(folder: Path, shards: int, stages: list[str]) -> Path:
    rows = [
        {
            "prompt": f"q{n}",
            "chosen": f"a good answer {n}",
            "rejected": f"no {n}",
            "chosen_score": 1,
            "rejected_score": 0,
        }
        for n in range(shards * ROWS)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    kinds = {"margin": "margin", "filter": "filter: {drop: [identical]}"}
    build = "".join(f"  - {kinds[stage]}\n" for stage in stages)
    (folder / "recipe.yaml").write_text(f"name: bench\nseed: 1\ndata:\n  - file: rows.jsonl\nbuild:\n{build}")
    return folder / "recipe.yaml"


def _build(recipe: Path, store: str, cache: Path, log: Path) -> dict[str, object]:
    before = len(log.read_text().splitlines())
    command = [sys.executable, "-c", BUILD, str(recipe), store, str(ROWS)]
    environment = {**os.environ, "PREFKIT_CACHE": str(cache)}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    lines = log.read_text().splitlines()[before:]
    return {**json.loads(done.stdout), "asked": Counter(line.split()[0] for line in lines)}


@contextmanager
def _served(folder: Path, seconds: float) -> Iterator[Path]:
    """Run the server, with a bucket; give the log of what it was asked."""
    with socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    log, url = folder / "log", f"http://127.0.0.1:{port}"
    log.touch()
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
    }
    server = subprocess.Popen([sys.executable, "-c", SERVER, str(port), str(seconds), str(log)])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen(Request(f"{url}/bucket", method="PUT")):
                    break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield log
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    main()
