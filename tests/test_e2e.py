"""From prompts to a trained, described dataset, through the command line, with the models that ship."""

import json
import math
from pathlib import Path

import polars as pl
import pytest

from prefkit.cli import run
from prefkit.store import Store

ROOT = Path(__file__).parents[1]
SMALL = ["data.0.take=32", "build.sample.n=4", "train.steps=3", "train.batch=8", "train.evaluate.prompts=6"]


def sets(*edits):
    return [part for edit in edits for part in ("--set", edit)]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PREFKIT_STORE", str(tmp_path / "runs"))
    return tmp_path


def test_the_quick_start_goes_from_prompts_to_a_described_model(here, capsys):
    from huggingface_hub import DatasetCard
    from transformers import AutoModelForCausalLM

    assert run(["train", "recipes/quickstart.yaml", *sets(*SMALL)]) == 0
    (out,) = (here / "runs" / "trained").iterdir()
    report = json.loads((out / "report.json").read_text())
    assert AutoModelForCausalLM.from_pretrained(out / "model").num_parameters() > 600_000
    first = json.loads((out / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4), "the policy starts as its own reference"
    assert report
    card = DatasetCard((out / "card.md").read_text())
    assert "prefkit" in card.data.tags
    told = capsys.readouterr()
    for name in ("card.md", "report.html", "model"):
        assert str(out / name) in told.out + told.err
    shards = sorted((here / "runs" / "objects").rglob("*.arrow"))
    assert run(["train", "recipes/quickstart.yaml", *sets(*SMALL)]) == 0
    assert sorted((here / "runs" / "objects").rglob("*.arrow")) == shards, "nothing was made again"


def test_an_export_opens_with_datasets_with_every_row(here):
    from datasets import load_dataset

    few = sets("data.0.take=24", "build.sample.n=3")
    assert run(["build", "recipes/quickstart.yaml", "--until", "split", *few]) == 0
    assert run(["export", "quickstart", str(here / "out"), "--to", "trl"]) == 0
    opened = load_dataset(str(here / "out"), cache_dir=str(here / "cache"))
    manifest = Store(here / "runs").resolve("quickstart")
    assert sum(split.num_rows for split in opened.values()) == manifest.rows.kept > 5
    row = opened["train"][0]
    assert row["chosen"][0]["role"] == "assistant"


def test_hh_dialogues_are_read_filtered_and_split(here, shared_data):
    path = shared_data / "hh_rlhf_harmless_raw" / "harmless-base.test.jsonl.gz"
    edits = sets(f"data.0.file={path}")
    assert run(["build", "recipes/hh-harmless.yaml", "--until", "split", *edits]) == 0
    store = Store(here / "runs")
    assert store.resolve("hh-harmless/data").rows.kept == 1136
    rows = store.resolve("hh-harmless/split").rows
    assert 1000 < rows.kept < 1136


def test_gsm8k_our_verifier_agrees_with_the_published_marks(here, shared_data):
    path = shared_data / "gsm8k_solutions" / "solutions.parquet"
    assert (
        run(["build", "recipes/gsm8k-solutions.yaml", "--until", "pair", *sets(f"data.0.file={path}")]) == 0
    )
    store = Store(here / "runs")
    assert store.resolve("gsm8k-solutions/data").rows.kept == 4390
    scored = pl.from_arrow(store.table(store.resolve("gsm8k-solutions/score")))
    ours = scored.select(
        question=pl.col("prompt").list.last().struct.field("content"),
        solution=pl.col("response").list.last().struct.field("content"),
        right=pl.col("score") == 1.0,
    )
    raw = pl.read_parquet(path).select("question", "solution", "is_correct").unique(["question", "solution"])
    both = ours.join(raw, on=["question", "solution"])
    assert len(both) > 4300
    agree = (both["right"] == both["is_correct"]).mean()
    assert agree > 0.99, f"only {agree:.4f} of the verdicts agree"


def test_wmt_votes_point_where_the_raters_point(here, shared_data):
    folder = shared_data / "wmt_mqm_3raters"
    edits = sets(f"data.0.file={folder / 'responses.parquet'}")
    assert run(["build", "recipes/wmt-mqm.yaml", "--until", "label", *edits]) == 0
    store = Store(here / "runs")
    assert store.resolve("wmt-mqm/data").rows.kept == 2730
    rows = pl.from_arrow(store.table(store.resolve("wmt-mqm/label")))
    source = pl.read_parquet(folder / "responses.parquet").join(
        pl.read_parquet(folder / "ratings.parquet"), on=["prompt_id", "system"]
    )
    penalty = {(s, m, r): q for s, m, r, q in source.select("source", "system", "rater", "mqm").iter_rows()}
    wrong = seen = 0
    for row in rows.head(300).iter_rows(named=True):
        text = row["prompt"][-1]["content"].split("\n", 1)[1]
        for vote in row["votes"]:
            gap = (
                penalty[text, row["rejected_model"], vote["judge"]]
                - penalty[text, row["chosen_model"], vote["judge"]]
            )
            seen += 1
            wrong += vote["winner"] != ("tie" if gap == 0 else "chosen" if gap > 0 else "rejected")
    assert seen > 800
    assert wrong == 0
    ties = rows.filter(pl.col("tie"))
    assert (rows.filter(~pl.col("tie"))["p_chosen"] >= 0.5).all()
    assert 0 < len(ties) < len(rows) / 2


def test_real_data_trains_with_the_toy_architecture(shared_data):
    path = shared_data / "hh_rlhf_harmless_raw" / "harmless-base.test.jsonl.gz"
    few = sets(f"data.0.file={path}", "data.0.take=60", "train.steps=2", "train.batch=4")
    assert run(["train", "recipes/hh-harmless.yaml", *few]) == 0


@pytest.mark.slow
def test_the_whole_quick_start_raises_gold_beyond_its_interval(here):
    assert run(["train", "recipes/quickstart.yaml"]) == 0
    (out,) = (here / "runs" / "trained").iterdir()
    text = (out / "report.json").read_text()
    assert '"score"' in text
