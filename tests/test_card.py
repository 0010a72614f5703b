"""Data cards: from manifests alone, valid for the hub, and safe against what models and sources are called."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from prefkit.card import save_report, write_card
from prefkit.card.markdown import code, fence, number, public, rate
from prefkit.card.metadata import size_category
from prefkit.columns import MESSAGES, VOTES
from prefkit.errors import StoreError
from prefkit.manifest import Made, Manifest, Rows
from prefkit.stage import level_of
from prefkit.statistics import summarise
from prefkit.statistics.figures import Share
from prefkit.store import Store
from prefkit.train.report import Change, HeldOut, Interval, Report

GOLDEN = Path(__file__).parent / "golden" / "card.md"
RECIPE: dict[str, Any] = {
    "name": "tiny",
    "seed": 7,
    "models": {
        "policy": {"id": "org/policy", "revision": "main"},
        "judge": {"id": "/home/somebody/models/judge-7b", "revision": "0123456789abcdef"},
    },
    "data": [{"file": "/home/somebody/data/prompts.jsonl"}, {"hub": "org/prompts", "split": "train"}],
    "build": [{"sample": {"model": "policy", "n": 4}}, {"pair": {"by": "best-worst"}}, "split"],
    "max_failures": 0.01,
}


def turns(role: str, texts: list[str]) -> pa.Array:
    return pa.array([[{"role": role, "content": text}] for text in texts], MESSAGES)


def many_pairs(count: int = 40, **more: Any) -> pa.Table:
    """Pairs with every kind of label, two a prompt; every tenth is a tie."""
    at = range(count)
    vote = {"order": None, "p": None, "strength": None, "rationale": None}
    votes = [
        [
            {"judge": "a", "winner": "chosen", **vote},
            {"judge": "b", "winner": "rejected" if k % 4 == 0 else "chosen", **vote},
        ]
        for k in at
    ]
    columns = {
        "id": [f"pair-{k:03d}" for k in at],
        "prompt_id": [f"prompt-{k // 2:03d}" for k in at],
        "prompt": turns("user", [f"question {k // 2}" for k in at]),
        "source": ["prompts" if k < count // 2 else "org/prompts" for k in at],
        "chosen": turns("assistant", ["good " * (1 + k % 7) for k in at]),
        "rejected": turns("assistant", ["bad " * (1 + k % 5) for k in at]),
        "chosen_model": ["policy"] * count,
        "rejected_model": ["policy" if k % 3 else "other" for k in at],
        "chosen_score": [1.0 + k / count for k in at],
        "rejected_score": [None if k == 3 else 0.5 for k in at],
        "votes": pa.array(votes, VOTES),
        "p_chosen": [0.5 if k % 10 == 0 else 0.9 for k in at],
        "tie": [k % 10 == 0 for k in at],
        "margin": [0.5 + k / count for k in at],
        "phase": pa.array([k * 2 // count for k in at], pa.int32()),
        "rank": list(at),
        "split": ["test" if k // 2 % 5 == 0 else "train" for k in at],
        "ref_chosen_logp": [-10.0 - k for k in at],
        "ref_rejected_logp": [-12.0 - k / 2 for k in at],
    }
    return pa.table({**columns, **more})


def made(**more: Any) -> Made:
    return Made(prefkit="0.1.0", python="3.11.7", at="2026-01-02T03:04:05+00:00", **more)


def file_step(store: Store, key: str, stage: str, table: pa.Table, **more: Any) -> None:
    shard = store.put(table)
    fields = {
        "key": key,
        "stage": stage,
        "version": 1,
        "kind": "map",
        "level": level_of(table.schema),
        "config": {},
        "seed": None,
        "input": None,
        "digest": shard.digest,
        "columns": tuple((column.name, str(column.type)) for column in table.schema),
        "shards": (shard,),
        "rows": Rows(read=table.num_rows, kept=table.num_rows),
        "made": made(),
        "statistics": summarise(table),
    }
    store.save_step(Manifest.model_validate(fields | more))


def file_run(store: Store, pairs: pa.Table | None = None, recipe: dict[str, Any] | None = None) -> None:
    """File a run of four steps as a build would."""
    pairs = many_pairs() if pairs is None else pairs
    recipe = RECIPE if recipe is None else recipe
    prompts = pairs.select(["prompt_id", "prompt", "source"]).take(
        pa.array(range(0, len(pairs), 2), pa.int64())
    )
    prompts = prompts.add_column(0, "id", prompts["prompt_id"])
    file_step(store, "k0", "data", prompts, kind="source", config={"data": recipe["data"]})
    asked = made(
        engines={"policy": "transformers 5.23.0"}, calls=70, remembered=10, tokens_in=800, tokens_out=1600
    )
    responses = prompts.append_column("response", turns("assistant", ["x"] * len(prompts)))
    file_step(store, "k1", "sample", responses, kind="map", seed=7, made=asked, notes={"sample/truncated": 3})
    flow = {
        "rows": Rows(read=80, kept=len(pairs), dropped=6, failed=1),
        "drops": {"equal scores": 5, "one response": 1},
    }
    file_step(store, "k2", "pair", pairs.drop_columns(["split"]), kind="group", **flow)
    file_step(store, "k3", "split", pairs)
    keys = {"00-data": "k0", "01-sample": "k1", "02-pair": "k2", "03-split": "k3"}
    store.save_refs(recipe["name"], keys, recipe)


def normalised(card: str) -> str:
    return re.sub(r"Made at: \S+", "Made at: (then)", card)


def test_card_is_as_the_golden_file_says(store: Store) -> None:
    file_run(store)
    card = normalised(write_card(store, "tiny"))
    if os.environ.get("PREFKIT_GOLDEN") == "write":
        GOLDEN.write_text(card, encoding="utf-8")
    assert card == GOLDEN.read_text(encoding="utf-8")


def test_a_card_needs_no_rows(store: Store) -> None:
    file_run(store)
    before = write_card(store, "tiny")
    for path in store.root.glob("objects/*/*.arrow"):
        path.unlink()
    assert write_card(store, "tiny") == before


def test_the_hubs_parser_reads_the_metadata(store: Store) -> None:
    from huggingface_hub import DatasetCard

    file_run(store)
    data = DatasetCard(write_card(store, "tiny")).data.to_dict()
    assert data["tags"] == ["preference", "dpo", "prefkit", "synthetic"]
    assert data["size_categories"] == ["n<1K"]
    assert data["license"] == "unknown"
    assert data["configs"][0]["data_files"] == [
        {"split": "test", "path": "data/test-*.parquet"},
        {"split": "train", "path": "data/train-*.parquet"},
    ]


def test_licence_and_language_come_from_the_recipe(store: Store) -> None:
    file_run(store, recipe=RECIPE | {"license": "apache-2.0", "language": ["en", "de"]})
    card = write_card(store, "tiny")
    head = yaml.safe_load(card.split("---")[1])
    assert (head["license"], head["language"]) == ("apache-2.0", ["en", "de"])
    assert "licence is not recorded" not in card
    assert "languages are not recorded" not in card


def test_no_place_on_the_machine_is_named(store: Store) -> None:
    recipe = RECIPE | {"sets": ["data.0.file=/home/somebody/data/prompts.jsonl"]}
    file_run(store, recipe=recipe)
    card = write_card(store, "tiny")
    assert "somebody" not in card
    assert "judge-7b" in card
    assert "--set data.0.file=prompts.jsonl" in card


def test_names_from_outside_cannot_leave_their_cell(store: Store) -> None:
    evil = "x` | <script>alert(1)</script> | \n## Heading [a](http://b) \u202e"
    pairs = many_pairs(chosen_model=[evil] * 40, source=[evil] * 40)
    recipe = RECIPE | {
        "models": {evil: {"id": evil, "revision": "```\n# out"}},
        "build": [{"filter": {"drop": ["```\n# out"]}}],
    }
    file_run(store, pairs, recipe)
    card = write_card(store, "tiny")
    assert "\n## Heading" not in card
    assert not [line for line in card.splitlines() if line.startswith("# out")]
    rows = [line for line in card.splitlines() if "<script>" in line and line.startswith("|")]
    assert len(rows) >= 3
    for row in rows:
        assert "``x` \\| <script>alert(1)</script> \\| ## Heading [a](http://b)``" in row
    assert "\u202e" not in card.partition("```yaml")[0]


def test_the_recipe_in_the_card_is_the_recipe(store: Store) -> None:
    file_run(store)
    block = write_card(store, "tiny").partition("```yaml\n")[2].partition("\n```")[0]
    found = yaml.safe_load(block)
    assert found["build"] == RECIPE["build"]
    assert found["data"] == [{"file": "prompts.jsonl"}, {"hub": "org/prompts", "split": "train"}]


def test_rates_in_the_card_carry_their_number_and_interval(store: Store) -> None:
    file_run(store)
    card = write_card(store, "tiny")
    assert "- pairs too close to call (`tie`): 10.0 % (4 of 40; 95 %: 4.0 to 23.1)" in card
    assert "`equal scores` 6.2 % (5 of 80); `one response` 1.2 % (1 of 80)" in card


def test_limits_are_worked_out_from_what_is_missing(store: Store) -> None:
    file_run(store)
    limits = write_card(store, "tiny").partition("## Known limits")[2].partition("\n## ")[0]
    assert "No training run on this dataset is recorded" in limits
    assert "Models not pinned to a commit: `policy`." in limits
    assert "Hub sources not pinned to a commit: `org/prompts`." in limits
    assert "A check failed: rows that failed is 1, wanted 0." in limits
    assert "held out" not in limits


def test_a_step_of_a_run_has_a_card_of_what_led_to_it(store: Store) -> None:
    file_run(store)
    card = write_card(store, "tiny/02-pair")
    assert "`03-split`" not in card
    assert "No part is held out" in card
    assert "1 of its steps are still to come" in card
    assert "# tiny" in write_card(store, "tiny/sample")


def test_a_card_of_an_unknown_run_says_which_there_are(store: Store) -> None:
    file_run(store)
    with pytest.raises(StoreError, match="no run is called 'tinny'") as caught:
        write_card(store, "tinny")
    assert "tiny" in caught.value.hint


def test_manifests_without_statistics_still_make_a_card(store: Store) -> None:
    file_run(store)
    for key in ("k0", "k3"):
        manifest = store.step(key)
        assert manifest is not None
        store.save_step(manifest.model_copy(update={"statistics": {}}))
    assert "40 preference pairs" in write_card(store, "tiny")


def test_a_card_is_written_whole_where_it_is_wanted(store: Store, tmp_path: Path) -> None:
    file_run(store)
    out = tmp_path / "cards" / "tiny.md"
    assert write_card(store, "tiny", out) == out.read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["tiny.md"]


def test_an_empty_dataset_has_a_card(store: Store) -> None:
    file_run(store, many_pairs().slice(0, 0))
    assert "0 preference pairs" in write_card(store, "tiny")


def test_a_torn_training_report_is_an_error_with_its_place(store: Store) -> None:
    file_run(store)
    (store.root / "refs" / "tiny" / "train-report.json").write_text("{")
    with pytest.raises(StoreError, match="training report of 'tiny' cannot be read"):
        write_card(store, "tiny")


def report() -> Report:
    def ends(mean: float) -> Interval:
        return Interval(mean=mean, low=mean - 0.1, high=mean + 0.1, prompts=4)

    def moved(before: float, after: float) -> Change:
        return Change(before=ends(before), after=ends(after), difference=ends(after - before))

    held_out = HeldOut(
        pairs=8,
        accuracy=moved(0.5, 0.75),
        loss=moved(0.69, 0.55),
        reward_margin=moved(0.0, 1.0),
        chosen_logp=moved(-20, -21),
        rejected_logp=moved(-22, -30),
    )
    return Report(
        key="k",
        model="/home/somebody/runs/model",
        objective="dpo",
        settings={},
        placement={"device": "cpu"},
        pairs=32,
        notes={"too long": 1},
        steps=10,
        seconds=12.5,
        tokens=100,
        first_loss=0.693147,
        last_loss=0.61,
        curve=((0, 0.69), (5, 0.61)),
        held_out=held_out,
        samples=None,
    )


def test_a_card_shows_the_training_run_on_its_rows(store: Store) -> None:
    file_run(store)
    manifest = store.resolve("tiny")
    save_report(store, "tiny", manifest.digest, report())
    card = write_card(store, "tiny")
    assert (
        "| chosen is preferred (accuracy) | 0.5 (n 4; 95 %: 0.4 to 0.6) | 0.75 (n 4; 95 %: 0.65 to 0.85) |"
        in card
    )
    assert "`model` was trained on 32 pairs" in card
    assert "No training run" not in card
    assert "12.5" not in card


def test_a_report_on_other_rows_is_not_shown(store: Store) -> None:
    file_run(store)
    save_report(store, "tiny", "0" * 32, report())
    assert "No training run on this dataset is recorded" in write_card(store, "tiny")
    with pytest.raises(StoreError, match="no run is called"):
        save_report(store, "other", "0" * 32, report())


def test_importing_the_card_imports_nothing_heavy() -> None:
    code_ = "import sys, prefkit.card, prefkit.export, prefkit.page; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", f"import json\n{code_}"], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "datasets", "transformers", "pandas", "huggingface_hub"}
    assert heavy.isdisjoint(json.loads(run.stdout))


# words


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/home/me/x.jsonl", "x.jsonl"),
        ("cannot open '../data/x.jsonl'", "cannot open 'x.jsonl'"),
        ("C:\\Users\\me\\x.csv", "x.csv"),
        ("file:///home/me/x", "x"),
        ("~/models/small", "small"),
        ("org/model", "org/model"),
        ("recipes/data/x.jsonl", "recipes/data/x.jsonl"),
        ("https://host/a/b", "https://host/a/b"),
        ("and/or", "and/or"),
        ("/no_think", "/no_think"),
    ],
)
def test_paths_are_reduced_and_names_are_not(said: str, shown: str) -> None:
    assert public(said) == shown


def test_code_spans_hold_whatever_is_in_them() -> None:
    assert code("a|b") == "`a\\|b`"
    assert code("`") == "`` ` ``"
    assert code("``x") == "``` ``x ```"
    assert code(" \n ") == "–"
    assert code(None) == "–"
    assert len(code("x" * 500)) < 130


def test_fences_are_longer_than_what_they_hold() -> None:
    assert fence("````", "yaml") == "`````yaml\n````\n`````"


def test_numbers_are_short_and_nothing_is_a_dash() -> None:
    assert [number(value) for value in (None, 0.0, 3.0, 1234.5, 0.12345, 1e-7, 1e12)] == [
        "–",
        "0",
        "3",
        "1,234",
        "0.1235",
        "1e-07",
        "1e+12",
    ]
    assert rate(Share(count=0, n=0)) == "–"


def test_size_categories_are_the_hubs() -> None:
    assert [size_category(n) for n in (0, 999, 1000, 99_999, 10**6, 10**11)] == [
        "n<1K",
        "n<1K",
        "1K<n<10K",
        "10K<n<100K",
        "1M<n<10M",
        "n>10B",
    ]
