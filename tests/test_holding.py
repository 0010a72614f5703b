"""What a step may hold is weighed before it starts; a refusal loses nothing, and memory does not follow the text."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar, final

import numpy as np
import pyarrow as pa
import pytest

from prefkit import holding
from prefkit.cli import run
from prefkit.columns import MESSAGES
from prefkit.errors import MemoryLimitError, PrefkitError
from prefkit.holding import allowed, bytes_of, need, said, usual_widths, widths
from prefkit.plan import plan
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.shards import cut
from prefkit.stage import PAIRS, Flow, Kind, Stage
from prefkit.stages import BUILTIN
from prefkit.store import Store

RECIPE = """
name: small
data:
  - file: pairs.jsonl
build:
  - split: {test: 0.5}
  - dedup: {by: pair, within: dataset}
  - order: {kind: shuffle}
"""


@pytest.fixture
def path(tmp_path):
    rows = [
        {"prompt": f"Question {n}", "chosen": f"yes {n % 300}", "rejected": f"no {n % 300}"}
        for n in range(400)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


def test_a_step_that_would_hold_too_much_is_refused_and_what_stands_is_used(path, tmp_path):
    recipe, store = Recipe.load(path), Store(tmp_path / "runs")
    with pytest.raises(MemoryLimitError) as refused:
        build(recipe, store, Settings(memory=1_000_000))
    assert "step '02-dedup' would hold about 256.1 MB of memory" in refused.value.what
    assert "400 rows, and 1.0 MB are allowed" in refused.value.what
    assert "`--memory 300MB` allows it" in refused.value.hint
    assert [ref.step for ref in store.refs("small")] == ["00-data", "01-split"]

    started = []
    settings = Settings(memory=300_000_000, progress=lambda e: started.append((e.step, e.state)))
    made = build(recipe, store, settings)
    assert ("01-split", "cached") in started
    assert {name: each.digest for name, each in made.steps.items()} == {
        name: each.digest for name, each in build(recipe, Store(tmp_path / "other")).steps.items()
    }


def test_what_stands_needs_no_memory(path, tmp_path):
    recipe, store = Recipe.load(path), Store(tmp_path / "runs")
    build(recipe, store)
    build(recipe, store, Settings(memory=1))


def test_the_flag_is_read_and_the_error_is_told(path, tmp_path, capsys):
    words = ["build", str(path), "--store", str(tmp_path / "runs"), "--memory"]
    assert run([*words, "1MB"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "step '02-dedup' would hold about 256.1 MB" in told
    assert "--memory 300MB" in told
    assert run([*words, "plenty"]) == 2
    assert "'plenty' is not a size" in capsys.readouterr().err
    assert run([*words, "2GiB"]) == 0


def test_a_plan_says_what_steps_hold(path):
    steps = plan(Recipe.load(path)).steps
    held = {step.stage: step.holds for step in steps}
    assert held["data"] is held["split"] is None
    assert 100 < held["dedup"] < 400
    assert 100 < held["order"] < 400


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16e9),
        ("16 gb", 16e9),
        ("1.5GiB", 1.5 * 2**30),
        ("300MB", 3e8),
        ("2g", 2e9),
        ("512", 512),
        ("1TB", 1e12),
    ],
)
def test_sizes(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "1e9", "16 PB", "16GBB", "sixteen"])
def test_what_is_no_size(text):
    with pytest.raises(PrefkitError, match="is not a size"):
        bytes_of(text)


def test_words_for_sizes():
    assert [said(size) for size in (1500, 2.5e6, 4.5e9, 1.2e13)] == ["2 kB", "2.5 MB", "4.5 GB", "12.0 TB"]


def test_a_share_of_the_machine_is_allowed():
    assert 1e8 < allowed(None) < 1e14
    assert allowed(5) == 5


def pairs(rows: int, text: int) -> pa.Table:
    at = np.arange(rows)
    says = [[{"role": "assistant", "content": f"{n % 5000} " + "x" * text}] for n in at]
    denies = says[7:] + says[:7]
    columns = {
        "id": [f"{n:032x}" for n in at],
        "prompt_id": [f"{n:032x}" for n in at],
        "prompt": pa.array([[{"role": "user", "content": f"{n}"}] for n in at], MESSAGES),
        "chosen": pa.array(says, MESSAGES),
        "rejected": pa.array(denies, MESSAGES),
        "margin": pa.array(np.sin(at)),
    }
    return pa.table(columns)


@final
class Sees(Stage):
    """A stage that does not say what it looks into."""

    name: ClassVar[str] = "sees"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = PAIRS

    def reads(self):
        return {}

    def writes(self):
        return {}

    def apply(self, table, ctx):
        return table


def test_text_counts_only_where_a_stage_does_not_say_what_it_looks_into(tmp_path):
    store = Store(tmp_path)
    shards = [store.put(piece) for piece in cut(pairs(500, 1000), 100)]
    width, schema = widths(store, shards), store.get(shards[0]).schema
    assert 2000 < sum(width.values()) < 2400
    held = {
        name: need(stage.model_validate(settings), 500, schema, width).per_row
        for stage in BUILTIN
        for name, settings in (
            ("order", {}),
            ("dedup", {"by": "pair", "within": "dataset", "kind": "minhash"}),
            ("filter", {"cut": {"column": "margin", "lowest": 0.1}, "drop": ["identical"]}),
            ("balance", {}),
        )
        if stage.name == name
    }
    assert len(held) == 4
    assert max(held.values()) < 400
    assert need(Sees(), 500, schema, width).per_row > 2000
    turns = need(
        BUILTIN_BY_NAME["order"].model_validate({"kind": "split", "on_disagree": "flip"}), 500, schema, width
    )
    assert turns.per_row < 400


BUILTIN_BY_NAME = {stage.name: stage for stage in BUILTIN}


def test_every_global_stage_says_what_it_holds():
    table = pairs(2, 10)
    guessed = usual_widths(table.schema)
    assert guessed["chosen"] == 1000
    assert (guessed["id"], guessed["margin"]) == (40, 8)
    counted = 0
    for stage in BUILTIN:
        if stage.kind == "global":
            assert "holds" in vars(stage), stage.name
            assert "looks" in vars(stage) or stage.name in {"condition", "on-policy"}, stage.name
            counted += 1
    assert counted >= 14


GROWTH = """
import sys, threading, time
from pathlib import Path
from prefkit.engines import Engines
from prefkit.manifest import Shard
from prefkit.parts import STAGES, Task, make_part
from prefkit.store import Store

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssFile"))}

import json
folder, shards, stages = json.loads(sys.argv[1])
shards = tuple(Shard.model_validate(each) for each in shards)
store = Store(folder)
make_part(STAGES.get("order").model_validate({"by": "margin"}), Task("0" * 32, shards[:2]), store, Engines(), 0, 250)
for number, (name, settings) in enumerate(stages):
    before, peak, done = anonymous(), {}, threading.Event()
    def watch():
        while not done.wait(0.005):
            for key, size in anonymous().items():
                peak[key] = max(peak.get(key, 0), size)
    thread = threading.Thread(target=watch)
    thread.start()
    make_part(STAGES.get(name).model_validate(settings), Task(f"{number + 1:032x}", shards), store, Engines(), 0, 250)
    done.set()
    thread.join()
    print(json.dumps({key: peak[key] - before[key] for key in before}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what is resident")
def test_memory_does_not_follow_the_text(tmp_path):
    store = Store(tmp_path / "runs")
    shards = [store.put(piece) for piece in cut(pairs(8000, 5000), 250)]
    text = sum(shard.bytes for shard in shards)
    assert text > 80e6
    stages = [
        ("order", {"kind": "split", "on_disagree": "flip", "gamma": 0.5}),
        ("dedup", {"by": "pair", "within": "dataset"}),
        ("filter", {"drop": ["identical"], "cut": {"column": "margin", "lowest": 0.3}}),
    ]
    given = json.dumps([str(tmp_path / "runs"), [shard.model_dump() for shard in shards], stages])
    done = subprocess.run([sys.executable, "-c", GROWTH, given], check=True, capture_output=True, text=True)
    grown = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(grown) == len(stages)
    for one in grown:
        assert one["RssAnon"] * 1024 < text / 2, grown


@pytest.mark.skipif(not Path("/proc/self/cgroup").exists(), reason="control groups are Linux's")
def test_a_limit_of_the_group_of_processes_counts(tmp_path, monkeypatch):
    for folder, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):  # of either version
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text("50000000\n")
    monkeypatch.setattr(holding, "_GROUPS", tmp_path)
    assert allowed(None) == 40_000_000
    assert allowed(7) == 7
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(f"{1 << 63}\n")
    assert allowed(None) > 100_000_000
