"""Keeping the rows of the last step only: less disk, the same dataset, and nothing that is lost without a word."""

import json
import signal
import subprocess
import sys

import pytest

from prefkit.card import render
from prefkit.card.facts import collect
from prefkit.diff import compare
from prefkit.errors import StoreError
from prefkit.export import export
from prefkit.gc import collect as collect_garbage
from prefkit.gc import find
from prefkit.page import write_report
from prefkit.recipe import Recipe
from prefkit.run import Build, make
from prefkit.show import rows
from prefkit.steps import Event, Settings
from prefkit.store import Store

RECIPE = """
name: {name}
seed: 1
data: {data}
build:
  - pair: {{kind: fold}}
  - label: {{ops: [{{from-scores: {{temperature: {temperature}}}}}]}}
  - dedup: {{by: chosen, within: dataset}}
  - order: {{kind: sort, by: chosen_score}}
"""
STEPS = ["00-data", "01-pair", "02-label", "03-dedup", "04-order"]


@pytest.fixture
def recipe(tmp_path):
    lines = [
        {"prompt": f"question {row // 4}", "response": f"answer {row % 10}", "score": row % 7 + row / 100}
        for row in range(80)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def load(name: str = "small", temperature: float = 1.0, data: str = "[{file: rows.jsonl}]") -> Recipe:
        path = tmp_path / f"{name}.yaml"
        path.write_text(RECIPE.format(name=name, temperature=temperature, data=data))
        return Recipe.load(path)

    return load


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


class Made:
    """What a build did, step by step."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def steps(self, state: str) -> list[str]:
        return [event.step for event in self.events if event.state == state]


def built(recipe: Recipe, store: Store, keep: str = "last", **settings: object) -> tuple[Build, Made]:
    told = Made()
    given = Settings(shard_rows=20, keep=keep, progress=told.events.append, **settings)
    return make(recipe, store, given), told


def there(store: Store, build: Build) -> list[str]:
    """Return the steps whose rows are all there."""
    return [name for name, made in build.steps.items() if all(map(store.has, made.shards))]


def digests(build: Build) -> list[str]:
    return [manifest.digest for manifest in build.steps.values()]


def test_only_the_last_steps_rows_stay_and_every_digest_is_the_same(recipe, store, tmp_path):
    whole, _ = built(recipe(), Store(tmp_path / "other"), "new")
    build, _ = built(recipe(), store)
    assert digests(build) == digests(whole)
    assert there(Store(tmp_path / "other"), whole) == STEPS
    assert there(store, build) == ["04-order"]
    assert build.table.equals(whole.table)


def test_the_store_never_holds_the_rows_of_more_than_two_steps(recipe, store):
    most = []

    def look(event: Event) -> None:
        if event.state == "start":
            names = [ref.step for ref in store.refs("small")] if store.runs() else []
            found = [store.step(ref.key) for ref in store.refs("small")] if names else []
            most.append(
                [name for name, made in zip(names, found, strict=True) if all(map(store.has, made.shards))]
            )

    make(recipe(), store, Settings(shard_rows=20, keep="last", progress=look))
    assert most == [[], ["00-data"], ["01-pair"], ["02-label"], ["03-dedup"]]


def test_what_was_dropped_stays_and_can_be_looked_at(recipe, store):
    build, _ = built(recipe(), store)
    dedup = build.steps["03-dedup"]
    assert dedup.rows.dropped > 0
    assert rows(store, dedup, part="dropped", count=100).num_rows == dedup.rows.dropped


def test_a_second_build_makes_nothing_again(recipe, store):
    first, _ = built(recipe(), store)
    for keep in ("last", "new"):
        again, told = built(recipe(), store, keep)
        assert told.steps("cached") == STEPS
        assert not told.steps("start")
        assert digests(again) == digests(first)


def test_rows_that_a_changed_step_needs_are_made_again_and_no_others(recipe, store):
    built(recipe(), store)
    build, told = built(recipe(temperature=2.0), store)
    assert told.steps("start") == ["00-data", "01-pair", "02-label", "03-dedup", "04-order"]
    assert there(store, build) == ["04-order"]


def test_a_step_added_at_the_end_reads_the_rows_that_are_there(recipe, store, tmp_path):
    built(recipe(), store)
    longer = tmp_path / "small.yaml"
    longer.write_text(longer.read_text() + "  - margin\n")
    build, told = built(Recipe.load(longer), store)
    assert told.steps("start") == ["05-margin"]
    assert there(store, build) == ["05-margin"]


def test_keeping_all_makes_removed_rows_again_with_the_same_digests(recipe, store):
    first, _ = built(recipe(), store)
    build, told = built(recipe(), store, "all")
    assert told.steps("start") == STEPS[:-1]
    assert told.steps("cached") == ["04-order"]
    assert there(store, build) == STEPS
    assert digests(build) == digests(first)
    assert not list((store.root / "removed").glob("*.json"))


def test_a_store_with_all_rows_is_thinned_by_a_later_build(recipe, store):
    built(recipe(), store, "new")
    build, told = built(recipe(), store)
    assert not told.steps("start")
    assert there(store, build) == ["04-order"]


def test_rows_lost_by_accident_are_made_again_not_passed_over(recipe, store):
    build, _ = built(recipe(), store, "new")
    store.discard(build.steps["01-pair"].shards[0])
    _, told = built(recipe(), store, "new")
    assert told.steps("start") == ["01-pair"]


def test_a_lost_shard_of_the_last_step_brings_back_what_it_is_made_of(recipe, store):
    first, _ = built(recipe(), store)
    store.discard(first.last.shards[0])
    build, told = built(recipe(), store)
    assert told.steps("start") == ["00-data", "01-pair", "02-label", "03-dedup", "04-order"]
    assert digests(build) == digests(first)
    assert there(store, build) == ["04-order"]


def test_rows_that_another_run_has_stay(recipe, store):
    other, _ = built(recipe("other", 2.0), store, "new")
    build, _ = built(recipe(), store)
    assert there(store, other) == STEPS
    assert there(store, build) == ["00-data", "01-pair", "04-order"]  # both runs share the first two


def test_rows_that_another_run_reads_as_its_data_stay(recipe, store, tmp_path):
    built(recipe(), store, "new")
    (tmp_path / "reads.yaml").write_text(
        "name: reads\ndata: [{ref: small/02-label}]\nbuild: [{margin: {}}]\n"
    )
    make(Recipe.load(tmp_path / "reads.yaml"), store, Settings(shard_rows=20))
    build, _ = built(recipe(), store)
    assert there(store, build) == ["02-label", "04-order"]


def test_looking_at_removed_rows_says_that_they_were_removed_and_how_to_get_them(recipe, store, tmp_path):
    build, _ = built(recipe(), store)
    attempts = [
        lambda: rows(store, build.steps["01-pair"]),
        lambda: build["pair"],
        lambda: export(store, "small/02-label", tmp_path / "out", "parquet"),
        lambda: compare(store, build.steps["02-label"], build.steps["04-order"]),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError) as caught:
            attempt()
        assert "were removed when the next one stood" in caught.value.what
        assert "--keep all" in caught.value.hint


def test_card_page_export_and_gates_need_only_what_is_there(recipe, store, tmp_path):
    whole, _ = built(recipe(), store, "new")
    card = render(collect(store, "small"))
    build, _ = built(recipe(), store)
    assert there(store, build) == ["04-order"]
    assert build.gates == whole.gates
    assert render(collect(store, "small")) == card
    assert export(store, "small", tmp_path / "out", "hub-folder").rows == build.last.rows.kept
    assert write_report(store, "small", tmp_path / "page").is_file()


def test_garbage_collection_takes_nothing_more_and_forgets_notes_of_forgotten_runs(recipe, store, tmp_path):
    built(recipe(), store)
    assert all(path.parent.name == "parts" for path in find(store).files)
    collect_garbage(store)
    _, told = built(recipe(), store)
    assert told.steps("cached") == STEPS
    for path in (store.root / "refs" / "small").iterdir():
        path.unlink()
    (store.root / "refs" / "small").rmdir()
    collect_garbage(store)
    assert not list((store.root / "removed").iterdir())


@pytest.mark.parametrize("at", [1, 3, 5, 8, 12])
def test_a_build_killed_at_any_removal_goes_on_to_the_same_dataset(recipe, tmp_path, at):
    whole, _ = built(recipe(), Store(tmp_path / "other"), "new")
    script = f"""
import os, signal
from prefkit.recipe import Recipe
from prefkit.run import make
from prefkit.steps import Settings
from prefkit.store import Store

class Mortal(Store):
    left = {at}

    def discard(self, shard):
        Mortal.left -= 1
        if not Mortal.left:
            os.kill(os.getpid(), signal.SIGKILL)
        super().discard(shard)

make(Recipe.load({str(tmp_path / "small.yaml")!r}), Mortal({str(tmp_path / "runs")!r}), Settings(shard_rows=20, keep="last"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    store = Store(tmp_path / "runs")
    build, _ = built(recipe(), store)
    assert digests(build) == digests(whole)
    assert there(store, build) == ["04-order"]


def test_a_refreshed_step_is_asked_for_once_however_often_the_walk_begins(recipe, store):
    built(recipe(), store)
    _, told = built(recipe(), store, refresh=("label",))
    assert told.steps("start").count("02-label") == 1


def test_the_command_line_takes_last_and_all_and_refuses_the_rest(recipe, tmp_path, monkeypatch, capsys):
    from prefkit.cli import main

    recipe()
    monkeypatch.chdir(tmp_path)

    def said(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["prefkit", *words])
        with pytest.raises(SystemExit) as done:
            main()
        return int(done.value.code or 0), capsys.readouterr().err

    assert said("build", "small.yaml", "--keep", "last")[0] == 0
    code, told = said("show", "small/pair")
    assert code == 2
    assert "--keep all" in told
    assert said("build", "small.yaml", "--keep", "all")[0] == 0
    assert said("show", "small/pair")[0] == 0
    code, told = said("build", "small.yaml", "--keep", "first")
    assert code == 2
    assert "'first' is not 'last' or 'all'" in told


def test_a_prompt_that_comes_back_late_leaves_no_shard_that_nothing_needs(recipe, store, tmp_path):
    recipe()
    rows = (tmp_path / "rows.jsonl").read_text()
    (tmp_path / "rows.jsonl").write_text(rows + rows.splitlines()[0] + "\n")
    build, _ = built(recipe(), store, "new", until="data")
    assert build.last.rows.kept == 81
    assert len(build.last.shards) > 1
    assert len(list((store.root / "objects").rglob("*.arrow"))) == len(build.last.shards)
