"""One answer to each of 1,000 prompts from a server, beside distilabel and curator.

    python benchmarks/engines.py --distilabel PYTHON --curator PYTHON [--rows 1000] [--repeats 3]

PYTHON is the interpreter of an environment that has the peer; a peer that is not named is left out. All talk to one
stub server (50 ms an answer, 50 at a time, `stub.py`), in turn, each run in a process and a folder of its own. The
ideal is `at_once / delay` = 1,000 rows a second. `rows/s` leaves out imports; CPU seconds and peak memory are those of the
process and its children, imports included, as the kernel accounts them. Ratios are of one run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import NamedTuple

AT_ONCE, DELAY = 50, 0.05
HERE = Path(__file__).parent
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
}

RECIPE = """
name: bench
seed: 1
models: {{policy: {{id: stub}}}}
data: [{{file: {data}, columns: {{prompt: prompt}}}}]
build:
  - sample: {{model: policy, n: 1, max_tokens: 64}}
"""


class Cost(NamedTuple):
    """What one run took: seconds, CPU seconds, MiB."""

    rows: int
    run: float
    cpu: float
    peak: float


def prefkit_side(data: Path, port: int) -> int:
    """Build a recipe with one `sample` step."""
    import prefkit
    from prefkit.engines.placement import Placement

    recipe = Path("recipe.yaml")
    recipe.write_text(RECIPE.format(data=data))
    place = Placement(engines={"policy": f"http://127.0.0.1:{port}/v1"}, concurrency=AT_ONCE)
    done = prefkit.build(prefkit.Recipe.load(recipe), prefkit.Store("store"), prefkit.Settings(place))
    return done.table.num_rows


def distilabel_side(data: Path, port: int) -> int:
    """Run a pipeline with one `TextGeneration` task, as its documentation shows it."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [{"instruction": json.loads(line)["prompt"]} for line in data.read_text().splitlines()]
    with Pipeline(name="bench") as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=AT_ONCE)
        llm = OpenAILLM(model="stub", base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=AT_ONCE)
    done = pipeline.run(use_cache=False)["default"]["train"]
    return sum(text is not None for text in done["generation"])


def curator_side(data: Path, port: int) -> int:
    """Call an `LLM` of its litellm backend on the prompts."""
    from bespokelabs import curator

    limits = {"max_requests_per_minute": 10**7, "max_tokens_per_minute": 10**9}
    address = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "none"}
    llm = curator.LLM(
        model_name="openai/stub",
        backend="litellm",
        backend_params={**address, **limits, "max_concurrent_requests": AT_ONCE},
    )
    found = llm([json.loads(line)["prompt"] for line in data.read_text().splitlines()])
    return len(getattr(found, "dataset", found))


IMPORTS = {
    "prefkit": ["prefkit.run", "prefkit.stages.sample", "prefkit.engines.http", "pandas"],
    "distilabel": ["distilabel.pipeline", "distilabel.steps.tasks", "distilabel.models"],
    "curator": ["bespokelabs.curator"],
}
SIDES = {"prefkit": prefkit_side, "distilabel": distilabel_side, "curator": curator_side}


def measure(side: str, python: str, data: Path, port: int) -> Cost:
    """Run one side in a process and a folder of its own. Raises RuntimeError with what it wrote if it fails."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        command = [python, str(HERE / "engines.py"), "--side", side, "--data", str(data), "--port", str(port)]
        own = {"HOME": folder, "CURATOR_CACHE_DIR": folder, "DISTILABEL_CACHE_DIR": folder}
        started = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT, **own}
        )
        _, status, used = os.wait4(started.pid, 0)
        told = Path(folder) / "told.json"
        if status or not told.exists():
            log.seek(0)
            raise RuntimeError(f"{side} failed:\n{log.read()[-3000:]}")
        rows, run = json.loads(told.read_text())
        return Cost(rows, run, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def compare(pythons: dict[str, str], rows: int, repeats: int) -> None:
    """Print what each side took."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "prompts.jsonl"
        data.write_text(
            "".join(json.dumps({"prompt": f"What is {at} times 7?"}) + "\n" for at in range(rows))
        )
        command = [sys.executable, str(HERE / "stub.py"), "--delay", str(DELAY), "--at-once", str(AT_ONCE)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            try:
                costs: dict[str, list[Cost]] = {side: [] for side in pythons}
                for _ in range(repeats):
                    for side, python in pythons.items():
                        costs[side].append(measure(side, python, data, port))
            finally:
                server.kill()
    print(f"{'':12}{'rows':>7}{'rows/s':>9}{'CPU s':>8}{'rows/CPU s':>12}{'peak MiB':>10}")
    for side, found in costs.items():
        rate, cpu, peak = (
            median(one)
            for one in ([c.rows / c.run for c in found], [c.cpu for c in found], [c.peak for c in found])
        )
        print(f"{side:12}{found[0].rows:>7}{rate:>9.0f}{cpu:>8.2f}{rows / cpu:>12.0f}{peak:>10.0f}")


def main() -> None:
    """Compare, or run one side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--distilabel", help="interpreter of an environment with distilabel")
    parser.add_argument("--curator", help="interpreter of an environment with bespokelabs-curator")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side is None:
        pythons = {"prefkit": sys.executable, "distilabel": asked.distilabel, "curator": asked.curator}
        compare({side: python for side, python in pythons.items() if python}, asked.rows, asked.repeats)
        return
    for module in IMPORTS[asked.side]:
        import_module(module)
    began = time.perf_counter()
    rows = SIDES[asked.side](asked.data, asked.port)
    Path("told.json").write_text(json.dumps([rows, time.perf_counter() - began]))


if __name__ == "__main__":
    main()
