"""What a request over HTTP costs prefkit: rows a second and CPU time, against `stub.py` in a process of its own.

    python benchmarks/http_engine.py [--rows 4000] [--seconds 0.05] [--under-way 50] [--repeat 3]

Sides: `engine`, the engine alone; `build`, a whole build of one `sample` step, memo and store included; `httpx2`, the
general client that the engine's own wire stands in for, with as many tasks and nothing around it.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prefkit.engines import Failure, Message, Model, Request
from prefkit.engines.http import HttpEngine
from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

PROMPT = "Say something about it. " * 20
RECIPE = """
name: over-http
models: { policy: { id: org/model } }
data: [{ file: prompts.jsonl }]
build: [{ sample: { model: policy, n: 1, max_tokens: 100 } }]
"""


@contextmanager
def stub(seconds: float, at_once: int) -> Iterator[str]:
    """Serve in another process; yield the address."""
    options = ["--delay", str(seconds), "--at-once", str(at_once)]
    command = [sys.executable, str(Path(__file__).with_name("stub.py")), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def by_engine(url: str, rows: int, under_way: int) -> int:
    requests = [Request((Message("user", PROMPT),), 100, seed=at) for at in range(rows)]
    answers = HttpEngine(url, "", under_way).generate(Model(id="org/model"), requests)
    return sum(not isinstance(answer, Failure) for _, answer in answers)


def by_build(url: str, rows: int, under_way: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        lines = (json.dumps({"prompt": f"{at}: {PROMPT}"}) for at in range(rows))
        (path / "prompts.jsonl").write_text("\n".join(lines))
        (path / "recipe.yaml").write_text(RECIPE)
        placement = Placement(engines={"policy": url}, concurrency=under_way)
        made = build(Recipe.load(path / "recipe.yaml"), Store(path / "runs"), Settings(placement=placement))
        return made.last.rows.kept


def by_httpx2(url: str, rows: int, under_way: int) -> int:
    return asyncio.run(_by_httpx2(url + "/chat/completions", rows, under_way))


async def _by_httpx2(url: str, rows: int, under_way: int) -> int:
    import httpx2

    rest, answered = iter(range(rows)), 0
    limits = httpx2.Limits(max_connections=under_way)
    async with httpx2.AsyncClient(limits=limits, timeout=60) as client:

        async def work() -> None:
            nonlocal answered
            for at in rest:
                messages = [{"role": "user", "content": PROMPT}]
                payload = {"model": "org/model", "messages": messages, "max_tokens": 100, "seed": at}
                reply = await client.post(url, json=payload)
                answered += bool(json.loads(reply.content)["choices"][0]["message"]["content"])

        await asyncio.gather(*(work() for _ in range(under_way)))
    return answered


SIDES: dict[str, Callable[[str, int, int], int]] = {
    "engine": by_engine,
    "build": by_build,
    "httpx2": by_httpx2,
}


def measure(side: str, options: argparse.Namespace) -> tuple[float, float]:
    """Return rows a second and CPU seconds per 1,000 rows of one run."""
    with stub(options.seconds, options.under_way) as url:
        SIDES[side](url, 50, options.under_way)  # imports and first connections
        started, busy = time.perf_counter(), time.process_time()
        answered = SIDES[side](url, options.rows, options.under_way)
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
    assert answered == options.rows, f"{side}: {answered} of {options.rows} rows"
    return options.rows / seconds, 1000 * busy / options.rows


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rows", type=int, default=4000)
    options.add_argument("--seconds", type=float, default=0.05, help="until the stub answers")
    options.add_argument("--under-way", type=int, default=50)
    options.add_argument("--repeat", type=int, default=3)
    options.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    return options


def main() -> None:
    options = parser().parse_args()
    ideal = options.under_way / options.seconds if options.seconds else float("inf")
    print(f"{options.rows} rows, {options.under_way} under way, {options.seconds:g} s an answer")
    print(f"ideal {ideal:.0f} rows/s; best of {options.repeat}, the sides in turns")
    found: dict[str, list[tuple[float, float]]] = {side: [] for side in options.sides}
    for _ in range(options.repeat):
        for side, runs in found.items():
            runs.append(measure(side, options))
    for side, runs in found.items():
        rate, busy = max(rate for rate, _ in runs), min(busy for _, busy in runs)
        print(f"{side:8} {rate:6.0f} rows/s  {busy:6.3f} CPU s per 1,000 rows")


if __name__ == "__main__":
    main()
