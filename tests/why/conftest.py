"""Small runs, built through the recipe, whose every row can be asked about."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pytest

from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Build, Settings, build
from prefkit.store import Store

MODELS = "models: { policy: { id: test/policy }, reward: { id: test/reward }, judge: { id: test/judge } }"
GATES = "fail_if: { order-inconsistency: off, parse-failures: off, identical-sides: off, null-scores: off, reversed-labels: off }"
FAKE = {"policy": "fake", "reward": "fake", "judge": "fake"}


class Made(NamedTuple):
    """A finished run, and the store it is in."""

    store: Store
    build: Build

    def rows(self, step: str) -> list[Mapping]:
        """Return the rows that a step kept."""
        return self.build[step].to_pylist()

    def aside(self, step: str) -> list[Mapping]:
        """Return the rows that a step dropped or failed."""
        manifest = next(made for name, made in self.build.steps.items() if name.endswith(step))
        tables = [self.store.get(shard) for shard in (*manifest.dropped, *manifest.failed)]
        return pa.concat_tables(tables, promote_options="default").to_pylist() if tables else []


Making = Callable[..., Made]


CHAIN = """
  - sample: { model: policy, n: 4, max_tokens: 16 }
  - filter: { min_chars: 12 }
  - dedup: { by: response }
  - score: { model: reward }
  - pair: { kind: best-worst }
  - judge: { model: judge, verdict: token }
  - rationale: { model: policy, kinds: [general] }
  - margin
  - order: { kind: sort, by: margin }
  - reference: { model: policy }
"""


def made_in(folder: Path, steps: str, rows: list[Mapping], shard_rows: int = 3, head: str = "") -> Made:
    """Build steps over some rows of data on the fake engine."""
    Path(folder, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = "data: [{ file: rows.jsonl, max_bad: 0.9 }]"
    text = f"name: small\nseed: 3\n{MODELS}\n{GATES}\n{head}\n{data}\nbuild:\n{steps}"
    store = Store(folder / "runs")
    settings = Settings(Placement(engines=FAKE), shard_rows=shard_rows)
    return Made(store, build(Recipe.parse(text, folder), store, settings))


@pytest.fixture
def make(tmp_path: Path) -> Making:
    """Build steps in a folder of the test's own."""

    def made(steps: str, rows: list[Mapping], **more: object) -> Made:
        return made_in(tmp_path, steps, rows, **more)

    return made


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A run from prompts to labels, which no test may change."""
    folder = tmp_path_factory.mktemp("chain")
    return made_in(folder, CHAIN, [{"prompt": f"Question {at}"} for at in range(6)])
