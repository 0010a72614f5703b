"""What a Ray cluster promises: what one machine makes, also where workers and whole nodes vanish."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import pytest

from prefkit.engines import Spend
from prefkit.engines.placement import Placement
from prefkit.engines.spend import BudgetError, read_budget
from prefkit.errors import EngineError, PrefkitError, StoreError
from prefkit.executors import ray as on_ray
from prefkit.executors.ray import OnRay
from prefkit.executors.ray_sizes import Bounds
from prefkit.executors.ray_tasks import check_times, outcomes
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.store import Store

pytestmark = pytest.mark.ray
RECIPE = """
name: small
seed: 3
models:
  policy: {id: test/policy}
  reward: {id: test/reward}
  judge: {id: test/judge}
data:
  - file: prompts.jsonl
fail_if: {parse-failures: mark}
build:
  - sample: {model: policy, n: 4, max_tokens: 16}
  - filter: {drop: [empty]}
  - score: {model: reward}
  - pair: {kind: fold, max_pairs: 2}
  - judge: {model: judge}
  - margin
  - label: {ops: [from-scores, {tie: {rule: delta, delta: 0.1}}]}
  - dedup: {by: pair, kind: minhash, threshold: 0.9}
  - order: {kind: sort, by: margin}
"""
ROWS = 8
"""A shard; 40 prompts make five."""


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two CPUs each, and this process a driver on the first."""
    if find_spec("ray") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Ray is not installed, and CI needs it")
        pytest.skip("Ray is not installed: pip install 'prefkit[ray]'")
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled", RAY_worker_niceness="0")
    from ray.cluster_utils import Cluster

    for _ in range(
        3
    ):  # a node that does not stand within 30 s is given up by Ray: a busy machine needs another try
        found = Cluster()
        try:
            found.add_node(num_cpus=2)
            found.add_node(num_cpus=2)
        except Exception as error:  # as Ray has it
            if "timed out" not in str(error):
                raise
            found.shutdown()
        else:
            break
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def joined(cluster):
    """This process, connected once for all tests that need no process of their own."""
    import ray

    from prefkit.executors.ray_cluster import join

    join(cluster.address)
    yield cluster
    ray.shutdown()


def write(folder: Path, recipe: str = RECIPE, prompts: int = 40) -> Path:
    lines = [json.dumps({"prompt": f"Question {n} of {n % 7}"}) for n in range(prompts)]
    (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
    path = folder / "recipe.yaml"
    path.write_text(recipe)
    return path


def run(path: Path, store: Store, executor=None, placement=None, **settings):
    recipe = Recipe.load(path)
    placement = placement or Placement(engines=dict.fromkeys(recipe.models, "fake"))
    settings = Settings(placement, executor=executor, **{"shard_rows": ROWS, **settings})
    return build(recipe, store, settings)


def digests(made):
    return {name: manifest.digest for name, manifest in made.steps.items()}


def counted(made):
    """What manifests say, without when and how long."""
    told = {name: manifest.model_dump(mode="json") for name, manifest in made.steps.items()}
    for step in told.values():
        for name in ("seconds", "at", "timing"):
            step["made"].pop(name, None)
        for used in step["made"].get("models", {}).values():
            used.pop("seconds")
    return told


@pytest.mark.parametrize("few_rows", [0, 200_000])
def test_a_cluster_makes_what_one_machine_makes_with_the_same_keys_rows_and_counts(
    joined, tmp_path, monkeypatch, few_rows
):
    path = write(tmp_path)
    here = run(path, Store(tmp_path / "here"))
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "calls.log"))
    said = []
    with OnRay(workers=Bounds(1, 2), say=said.append, few_rows=few_rows) as executor:
        there = run(path, Store(tmp_path / "there"), executor)
    assert counted(there) == counted(here)
    assert len(here.steps) == 10
    calls = (tmp_path / "calls.log").read_text().splitlines()
    assert max(Counter(calls).values()) == 1
    assert len(calls) == sum(manifest.made.calls for manifest in here.steps.values()) > 300
    assert len(said) == 1
    assert said[0].startswith("ray: 2 nodes, 4 CPUs at ")


SHORT = """
name: short
seed: 3
models:
  policy: {id: test/policy}
data:
  - file: prompts.jsonl
build:
  - sample: {model: policy, n: 4, max_tokens: 16}
  - filter: {drop: [empty]}
  - dedup: {by: response}
"""


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A recipe with a stage of each kind, and the log of what its model was asked."""
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "here.log"))
    path = write(tmp_path, SHORT)
    here = run(path, Store(tmp_path / "here"))
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "calls.log"))
    return path, here


def asked(path: Path) -> Counter[str]:
    return Counter((path.parent / "calls.log").read_text().splitlines())


def busy(cluster, title: str) -> list[int]:
    """Return the worker processes of a cluster whose title, which says what they do, has this text in it."""
    raylets = {
        str(one.process.pid) for node in cluster.list_all_nodes() for one in node.all_processes["raylet"]
    }
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = folder.joinpath("stat").read_text().rpartition(")")[2].split()[1]
                line = folder.joinpath("cmdline").read_text()
            except OSError:
                continue
            if parent in raylets and title in line:
                found.append(int(folder.name))
    return found


def once(step: str, do):
    """Do something at the first part of a step."""
    done = []

    def tell(event):
        if (event.step, event.state) == (step, "part") and not done:
            done.append(do())

    return tell


def test_a_worker_killed_in_a_step_with_a_model_loses_and_repeats_nothing(joined, short, tmp_path):
    path, here = short
    killed, said = [], []

    def kill():
        killed.extend(busy(joined, "MapWorker"))
        os.kill(killed[0], signal.SIGKILL)

    store = Store(tmp_path / "there")
    with OnRay(workers=Bounds(1, 2), say=said.append) as executor:
        there = run(path, store, executor, progress=once("01-sample", kill), shard_rows=2)
    assert killed
    assert digests(there) == digests(here)
    lines = asked(path)
    unwritten = set((tmp_path / "here.log").read_text().splitlines()) - set(lines)
    assert len(unwritten) <= 1, "the fake engine writes an answer down once it is passed on: one may be lost"
    repeated = sum(lines.values()) - len(lines)
    assert repeated <= 8, (
        "only what was under way in the worker may be asked again: two prompts of four samples"
    )
    assert len(list((store.root / "parts").iterdir())) == 3 * 20


def test_a_worker_killed_in_a_step_without_a_model_loses_and_repeats_nothing(joined, short, tmp_path):
    path, here = short
    killed = []

    def kill():
        killed.extend(busy(joined, "prefkit filter"))
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    store = Store(tmp_path / "there")
    with OnRay() as executor:
        there = run(path, store, executor, progress=once("02-filter", kill), shard_rows=2)
    assert digests(there) == digests(here)
    assert set(asked(path).values()) == {1}
    assert len(list((store.root / "parts").iterdir())) == 3 * 20


def test_a_worker_killed_in_a_stage_over_all_rows_loses_and_repeats_nothing(joined, tmp_path):
    path = write(tmp_path, SHORT.replace("by: response", "by: response, within: dataset"))
    here, killed, said = run(path, Store(tmp_path / "here")), [], []

    def kill(event):
        while event.step == "03-dedup" and event.state == "start" and not killed:
            killed.extend(busy(joined, "prefkit dedup"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    def tell(event):
        Thread(target=kill, args=(event,)).start()

    with OnRay(say=said.append, few_rows=0) as executor:
        there = run(path, Store(tmp_path / "there"), executor, progress=tell)
    assert killed
    assert digests(there) == digests(here)
    assert said[-1] == "ray: 1 part was begun again, its worker being gone"


def test_a_call_that_takes_its_worker_down_each_time_is_given_up_and_another_is_begun_again(joined, tmp_path):
    import ray

    @ray.remote(num_cpus=1, max_retries=0)
    def call(text):
        (tmp_path / f"{text}-{time.monotonic_ns()}").touch()
        if text == "always" or (text == "once" and len(list(tmp_path.glob("once-*"))) == 1):
            os._exit(1)
        return f"made {text}"

    lost = []
    found = outcomes(call.remote, ["once", "never"], lambda: 4, lost.append)
    assert sorted(found) == ["made never", "made once"]
    assert lost == [1]
    with pytest.raises(PrefkitError, match="stage 'pair' was begun 10 times, and its worker was gone each"):
        list(outcomes(call.remote, ["always"], lambda: 4, lambda begun: check_times(begun, "pair")))
    assert len(list(tmp_path.glob("always-*"))) == 10


@pytest.mark.parametrize("step", ["01-sample", "02-filter"])
def test_a_node_that_vanishes_loses_and_repeats_nothing(joined, short, tmp_path, step):
    path, here = short
    node = joined.add_node(num_cpus=2)
    with OnRay(workers=Bounds(1, 6)) as executor:

        def vanish():
            joined.remove_node(node, allow_graceful=False)

        there = run(path, Store(tmp_path / "there"), executor, progress=once(step, vanish), shard_rows=2)
    assert digests(there) == digests(here)
    lines = asked(path)
    assert sum(lines.values()) - len(lines) <= 2 * 8
    _await_nodes(2)  # or the next test would find the lost one among those it counts


def _await_nodes(count: int) -> None:
    import ray

    deadline = time.monotonic() + 90
    while sum(node["Alive"] for node in ray.nodes()) > count:
        assert time.monotonic() < deadline, "Ray still counts a node that was killed"
        time.sleep(0.2)


def test_the_process_that_keeps_the_answers_may_die_too(joined, short, tmp_path):
    path, here = short
    killed = []

    def kill():
        killed.extend(busy(joined, "ray::Hub"))
        os.kill(killed[0], signal.SIGKILL)

    spend = Spend()
    with OnRay(workers=Bounds(2, 2)) as executor:
        there = run(
            path,
            Store(tmp_path / "there"),
            executor,
            progress=once("01-sample", kill),
            shard_rows=2,
            spend=spend,
        )
    assert len(killed) == 1
    assert digests(there) == digests(here)
    lines = asked(path)
    assert sum(lines.values()) - len(lines) <= 2 * 8
    assert spend.counts["calls"] == sum(lines.values())


def test_a_budget_holds_over_all_workers_and_the_next_build_goes_on(joined, short, tmp_path):
    path, here = short
    store, spend = Store(tmp_path / "there"), Spend(budgets=(read_budget("600tokens"),))
    with OnRay(workers=Bounds(2, 2)) as executor:
        with pytest.raises(BudgetError, match="the budget of 600 tokens is spent") as caught:
            run(path, store, executor, shard_rows=2, spend=spend)
        with pytest.raises(BudgetError) as expected:
            run(
                path,
                Store(tmp_path / "alone"),
                shard_rows=2,
                spend=Spend(budgets=(read_budget("600tokens"),)),
            )
        assert caught.value.hint == expected.value.hint
        tokens = spend.counts["tokens_in"] + spend.counts["tokens_out"]
        assert 600 <= tokens < 600 + 2 * 20, "each of two workers may have one answer under way"
        (path.parent / "calls.log").unlink()
        there = run(path, store, executor, shard_rows=2)
    assert digests(there) == digests(here)
    total = sum(asked(path).values())
    assert total + spend.counts["calls"] == here.steps["01-sample"].made.calls


def test_the_same_request_in_two_shards_is_asked_once(joined, tmp_path, monkeypatch):
    monkeypatch.setenv("PREFKIT_FAKE_LOG", str(tmp_path / "calls.log"))
    path = write(
        tmp_path,
        SHORT.replace("policy", "reward").replace(
            "- sample: {model: reward, n: 4, max_tokens: 16}", "- score: {model: reward}"
        ),
    )
    lines = [json.dumps({"prompt": f"Question {n}", "response": "the same"}) for n in range(4)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(line for line in lines for _ in range(6)) + "\n")
    with OnRay(workers=Bounds(2, 2)) as executor:
        made = run(path, Store(tmp_path / "there"), executor, shard_rows=2, until="score")
    assert set(asked(path).values()) == {1}
    assert made.steps["01-score"].made.calls == 4


def test_an_error_on_a_worker_is_the_error_that_one_machine_raises(joined, short, tmp_path):
    path, _ = short
    placed = Placement(engines={"policy": "vllm?enforce_eager=perhaps"})
    with pytest.raises(EngineError) as here:
        run(path, Store(tmp_path / "one"), placement=placed)
    with OnRay() as executor, pytest.raises(EngineError) as there:
        run(path, Store(tmp_path / "two"), executor, placement=placed)
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))


def test_an_object_that_a_worker_finds_damaged_is_made_anew(joined, short, tmp_path):
    path, here = short
    store = Store(tmp_path / "there")
    with OnRay() as executor:
        half = run(path, store, executor, until="sample")
        broken = store.path(half.last.shards[2])
        broken.write_bytes(broken.read_bytes()[:-100] + bytes(100))
        there = run(path, Store(tmp_path / "there"), executor)
    assert digests(there) == digests(here)
    assert set(asked(path).values()) == {1}


def test_a_worker_that_does_not_see_the_store_says_so(joined, short, tmp_path, monkeypatch):
    path, _ = short
    monkeypatch.setattr(on_ray, "_sign", lambda _: nullcontext(str(tmp_path / "nowhere")))
    with OnRay() as executor, pytest.raises(StoreError, match="a worker does not see the store") as caught:
        run(path, Store(tmp_path / "there"), executor, until="sample")
    assert "at the same path on every node" in caught.value.hint


def test_ctrl_c_stops_at_once_and_leaves_a_store_that_goes_on(cluster, short, tmp_path):
    path, _ = short
    write(tmp_path, SHORT, prompts=4000)
    here = run(path, Store(tmp_path / "whole"), shard_rows=10_000)
    (tmp_path / "calls.log").unlink()
    store = tmp_path / "there"
    arguments = ["build", str(path), "--store", str(store), "--engine", "policy=fake"]
    arguments += ["--executor", "ray", "--ray-address", cluster.address]
    child = subprocess.Popen(
        [sys.executable, "-m", "prefkit", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A shell has jobs in the background ignore Ctrl-C, and hands that down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread of ours runs here
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "calls.log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=120)
    assert child.returncode == 2, errors
    assert errors.rstrip().endswith("stopped; what was finished is kept: the same command goes on from there")
    assert "Traceback" not in errors
    assert digests(run(path, Store(store), shard_rows=10_000)) == digests(here)
