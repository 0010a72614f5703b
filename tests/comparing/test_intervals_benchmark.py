"""The benchmark of intervals runs, and prints every table."""

import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "intervals.py"


def test_the_benchmark_of_intervals_runs():
    command = [sys.executable, str(BENCHMARK), "--repeats", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("\n\n")
    assert len(tables) == 7
    assert tables[0].count("\n") == 1 + 5 * 2 * 4
    assert "prompts differ by 3.0 in log-odds" in tables[-1]
