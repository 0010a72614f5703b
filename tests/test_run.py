"""What the runner promises: the same rows however it is cut or killed, nothing twice, nothing stale."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar, final

import pyarrow as pa
import pytest

from prefkit.engines import Model
from prefkit.engines.placement import Placement
from prefkit.errors import EngineError, PrefkitError
from prefkit.recipe import Recipe
from prefkit.run import Event, Settings, build
from prefkit.sources import Source
from prefkit.stage import ANY, Flow, Kind, Stage
from prefkit.stages.sample import Sample
from prefkit.store import Store
from prefkit.tables import put

RECIPE = """
name: small
seed: 3
models:
  policy: {id: test/policy}
  reward: {id: test/reward}
data:
  - file: prompts.jsonl
build:
  - sample: {model: policy, n: 4, max_tokens: 16}
  - filter: {drop: [empty]}
  - dedup: {by: response}
  - score: {model: reward}
  - pair: {kind: best-worst}
  - margin
  - label: {ops: [from-scores, {tie: {rule: delta, delta: 0.1}}]}
  - order: {kind: sort, by: margin}
  - split: {test: 0.25}
  - reference: {model: policy}
"""
STEPS = 10
FAKE = Placement(engines={"policy": "fake", "reward": "fake"})


def write(folder: Path, prompts: int = 40, recipe: str = RECIPE) -> Path:
    lines = [json.dumps({"prompt": f"Question {n} of {n % 7}"}) for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    return path


def digests(made):
    return {name: manifest.digest for name, manifest in made.steps.items()}


def run(path: Path, store: Store, *, sets=(), **settings):
    states: list[Event] = []
    made = build(Recipe.load(path, sets), store, Settings(placement=FAKE, progress=states.append, **settings))
    return made, [event.step for event in states if event.state == "start"], states


@pytest.fixture
def path(tmp_path):
    return write(tmp_path)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "calls.log"))
    return tmp_path / "calls.log"


def test_the_digests_are_the_same_for_1_3_and_17_shards(path, tmp_path):
    made = {}
    for shards, rows in ((1, 40), (3, 14), (17, 2)):
        built, _, _ = run(path, Store(tmp_path / f"store-{shards}"), shard_rows=rows)
        assert len(built.steps["00-data"].shards) >= shards
        made[shards] = digests(built)
    assert made[1] == made[3] == made[17]
    assert len(made[1]) == STEPS + 1


def test_worker_processes_make_the_same_digests(path, tmp_path):
    one, _, _ = run(path, Store(tmp_path / "one"), shard_rows=10)
    two, _, _ = run(path, Store(tmp_path / "two"), shard_rows=10, jobs=2)
    assert digests(one) == digests(two)


def test_a_second_build_runs_nothing_and_asks_nothing(path, store, log):
    run(path, store)
    before = log.read_text()
    made, started, _ = run(path, store)
    assert started == []
    assert log.read_text() == before
    assert made.table.num_rows == made.last.rows.kept > 0


def test_every_row_is_accounted_for(path, store):
    made, _, _ = run(path, store)
    for name, manifest in made.steps.items():
        rows = manifest.rows
        if manifest.stage not in ("sample", "pair", "data"):
            assert rows.read == rows.kept + rows.dropped + rows.failed, name
        assert sum(manifest.drops.values()) == rows.dropped, name
        assert sum(shard.rows for shard in manifest.dropped) == rows.dropped, name


def test_changing_a_parameter_runs_that_step_and_what_its_rows_change(path, store, log):
    first, _, _ = run(path, store)
    asked = len(log.read_text().splitlines())
    second, started, _ = run(path, store, sets=["build.label.ops.1.tie.delta=0.5"])
    assert started == ["07-label", "08-order", "09-split", "10-reference"]
    assert len(log.read_text().splitlines()) == asked, "the same pairs need no new log-probs"
    assert digests(first)["06-margin"] == digests(second)["06-margin"]
    again, started, _ = run(path, store)
    assert started == []
    assert digests(again) == digests(first), "going back serves the first result, not the last"


def test_a_change_that_changes_no_row_costs_nothing_downstream(path, store):
    first, _, _ = run(path, store)
    second, started, _ = run(path, store, sets=["build.label.ops.1.tie.delta=0.1000001"])
    assert started == ["07-label"]
    assert digests(first) == digests(second)


def test_changing_one_input_row_runs_again_only_the_parts_that_hold_it(path, store, log):
    first, _, _ = run(path, store, shard_rows=10)
    asked = len(log.read_text().splitlines())
    lines = (path.parent / "prompts.jsonl").read_text().splitlines()
    lines[5] = json.dumps({"prompt": "Quite another question"})
    (path.parent / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    second, started, states = run(path, store, shard_rows=10)
    assert started == list(second.steps), "every step reads other rows"
    parts = Counter(event.step for event in states if event.state == "part")
    assert parts["01-sample"] == parts["04-score"] == parts["05-pair"] == 1, "one part of four holds the row"
    assert len(first.steps["01-sample"].shards) == 4
    new = len(log.read_text().splitlines()) - asked
    assert 0 < new <= 4 + 4 + 2, "four samples, their scores, and two log-probs of one pair"


def test_a_new_version_of_a_stage_runs_again(path, store, monkeypatch):
    from prefkit.stages.margin import Margin

    run(path, store)
    monkeypatch.setattr(Margin, "version", Margin.version + 1)
    _, started, _ = run(path, store)
    assert started == ["06-margin"], "the rows are the same, so nothing after it runs"


def test_the_seed_reruns_what_draws(path, store):
    run(path, store)
    _, started, _ = run(path, store, sets=["seed=4"])
    assert started[0] == "01-sample"
    _, started, _ = run(path, store, sets=["seed=3"])
    assert started == []


def test_until_stops_after_a_step_and_refresh_makes_one_anew(path, store, log):
    made, _, _ = run(path, store, until="pair")
    assert list(made.steps)[-1] == "05-pair"
    assert [ref.step for ref in store.refs("small")][-1] == "05-pair"
    asked = len(log.read_text().splitlines())
    _, started, _ = run(path, store, until="pair", refresh=("sample",))
    assert started == ["01-sample"], "the fake engine answers the same, so nothing after it runs"
    assert len(log.read_text().splitlines()) == asked + 160


def test_an_unknown_step_is_named(path, store):
    with pytest.raises(PrefkitError, match="did you mean 'pair'"):
        run(path, store, until="pairs")


def test_a_fake_answer_is_never_served_for_a_real_model(path, store):
    made, _, _ = run(path, store, until="sample")
    with pytest.raises(EngineError):
        build(Recipe.load(path), store, Settings(until="sample"))
    assert made.steps["01-sample"].rows.kept == 160


@pytest.mark.parametrize("damage", ["cut", "edited", "gone"])
@pytest.mark.parametrize("step", ["02-filter", "10-reference"])
def test_a_damaged_shard_is_made_anew(path, store, step, damage):
    first, _, _ = run(path, store)
    name = first.steps[step].shards[0].digest
    target = store.root / "objects" / name[:2] / f"{name}.arrow"
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 0xFF
    if damage == "gone":
        target.unlink()
    else:
        target.write_bytes(data if damage == "edited" else data[: len(data) // 2])
    again, _, _ = run(path, Store(store.root), refresh=("dedup",))
    assert digests(again) == digests(first)
    assert Store(store.root).table(again.steps[step]).num_rows > 0


def test_failed_rows_are_kept_aside_and_tried_again(path, store, monkeypatch):
    monkeypatch.setenv("PREFKIT_FAKE_FAILING", "Question 11")
    with pytest.raises(EngineError, match="above max_failures"):
        run(path, store)
    recipe = ["max_failures=0.5"]
    made, _, _ = run(path, store, sets=recipe)
    assert made.steps["01-sample"].rows.failed > 0
    errors = store.get(made.steps["01-sample"].failed[0])["error"].to_pylist()
    assert all("fails on" in error for error in errors)
    monkeypatch.delenv("PREFKIT_FAKE_FAILING")
    healed, started, _ = run(path, store)
    assert started[0] == "01-sample"
    whole, _, _ = run(path, Store(path.parent / "other"))
    assert digests(healed) == digests(whole), "as if nothing had failed"


def test_two_builds_at_once_on_one_store_agree(path, tmp_path):
    alone, _, _ = run(path, Store(tmp_path / "alone"))
    made, errors = [], []

    def work():
        try:
            made.append(run(path, Store(tmp_path / "shared"), shard_rows=10)[0])
        except BaseException as error:  # noqa: BLE001 - the test reports it
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [digests(each) for each in made] == [digests(alone)] * 2


PROGRAM = """
import signal
import sys
from prefkit.engines.placement import Placement
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store
placement = Placement(engines={"policy": "fake", "reward": "fake"})
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs begin without it
print("ready", flush=True)
build(Recipe.load(sys.argv[1]), Store(sys.argv[2]), Settings(placement=placement, shard_rows=25))
"""


def start(path: Path, root: Path, log: Path):
    environment = {**os.environ, "PREFKIT_FAKE_LOG": str(log)}
    program = [sys.executable, "-c", PROGRAM, str(path), str(root)]
    child = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert child.stdout.readline() == "ready\n"
    return child


def finish(child):
    output, errors = child.communicate(timeout=120)
    assert child.returncode == 0, output + errors


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_build_killed_at_random_moments_ends_as_if_never_killed(tmp_path, how):
    kills = 20 if how == signal.SIGKILL else 3
    path = write(tmp_path, prompts=200)
    began = time.monotonic()
    finish(start(path, tmp_path / "whole", tmp_path / "whole.log"))
    seconds = time.monotonic() - began
    draw, landed = random.Random(7), 0
    log, root = tmp_path / "calls.log", tmp_path / "runs"
    for _ in range(kills):
        child = start(path, root, log)
        # Moments of the whole run, scaled so that twenty of them reach into its last steps.
        time.sleep(draw.uniform(0, seconds / 4))
        child.send_signal(how)
        child.communicate(timeout=60)
        landed += child.returncode != 0
    finish(start(path, root, log))
    assert landed >= kills // 2, "most kills must land in a running build"
    whole, killed = Store(tmp_path / "whole"), Store(root)
    steps = [ref.step for ref in whole.refs("small")]
    assert len(steps) == STEPS + 1
    assert [killed.resolve(f"small/{step}").digest for step in steps] == [
        whole.resolve(f"small/{step}").digest for step in steps
    ]
    asked = Counter(log.read_text().splitlines())
    assert [line for line, times in asked.items() if times > 1] == [], "a recorded answer was asked for again"
    assert set(asked) <= set((tmp_path / "whole.log").read_text().splitlines())


def test_where_the_data_lies_is_no_part_of_a_result(path, store, tmp_path):
    first, _, _ = run(path, store)
    (tmp_path / "elsewhere").mkdir()
    (path.parent / "prompts.jsonl").rename(tmp_path / "elsewhere" / "prompts.jsonl")
    second, started, _ = run(
        path, store, sets=["data.0.file=" + str(tmp_path / "elsewhere" / "prompts.jsonl")]
    )
    assert started == []
    assert digests(first) == digests(second)
    assert str(tmp_path) not in second.steps["00-data"].model_dump_json()


def test_the_manifest_is_the_golden_one(path, store, golden):
    manifest = run(path, store, until="pair")[0].steps["05-pair"].model_dump(mode="json")
    made = manifest["made"]
    timing = dict.fromkeys(made["timing"], 0)
    manifest["made"] = {**made, "python": "3", "prefkit": "0", "seconds": 0.0, "at": "then", "timing": timing}
    manifest["shards"] = [{**shard, "bytes": 0} for shard in manifest["shards"]]
    golden("manifest.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")


@final
class Loud(Stage):
    """A stage that no catalog knows."""

    name: ClassVar[str] = "loud"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = ANY

    def reads(self):
        return {}

    def writes(self):
        return {"loud": pa.bool_()}

    def apply(self, table, ctx):
        return put(table, "loud", pa.array([True] * table.num_rows))


def test_a_script_builds_with_a_stage_of_its_own(path, tmp_path):
    recipe = Recipe(name="own", data=(Source(file="prompts.jsonl"),), build=(Loud(),), folder=tmp_path)
    made = build(recipe, Store(tmp_path / "runs"))
    assert made.table["loud"].to_pylist() == [True] * 40


def test_a_script_may_give_a_stage_a_model_that_its_recipe_does_not_name(path, tmp_path):
    sample = Sample(model=Model(id="prefkit/toy-policy"), n=1, max_tokens=4)
    recipe = Recipe(name="own", data=(Source(file="prompts.jsonl"),), build=(sample,), folder=tmp_path)
    on_fake = Settings(Placement(engines={"prefkit/toy-policy": "fake"}))
    assert build(recipe, Store(tmp_path / "runs"), on_fake).table.num_rows == 40
