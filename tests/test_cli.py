import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefkit.cli import run

HEAVY = {"torch", "transformers", "datasets", "sentence_transformers", "vllm"}
VERBS = (
    "new",
    "plan",
    "build",
    "train",
    "show",
    "why",
    "diff",
    "lint",
    "card",
    "export",
    "stages",
    "verify",
    "gc",
)
ROWS = [
    {"prompt": f"question {at // 2}", "response": f"answer {at}\x1b[31m", "score": float(at % 2)}
    for at in range(8)
]
SMALL = """
name: small
seed: 17
models:
  policy: { id: org/policy }
data:
  - file: rows.jsonl
build:
  - pair
  - margin: { scale: 2.0 }
  - split
train:
  model: policy
  objective: simpo
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFKIT_STORE", raising=False)
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("small.yaml").write_text(SMALL)
    return tmp_path


@pytest.fixture
def built(here, capsys) -> Path:
    assert run(["build", "small.yaml"]) == 0
    capsys.readouterr()
    return here


def told(capsys, *arguments: str, code: int = 0) -> str:
    assert run(arguments) == code
    out, err = capsys.readouterr()
    return out if code == 0 else err


def test_the_golden_help_is_what_every_verb_says(capsys, golden, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    pages = [told(capsys, "--help"), *(told(capsys, verb, "--help") for verb in VERBS)]
    golden("help.txt", ("\n" + "-" * 80 + "\n").join(pages))


def test_help_is_one_sentence_and_two_command_lines(capsys):
    for verb in VERBS:
        paragraphs = told(capsys, verb, "--help").split("\n\n")
        sentence, examples = paragraphs[1].strip(), paragraphs[2].splitlines()
        assert sentence.endswith(".")
        assert sentence.count("\n") == 0
        assert len(examples) == 2
        assert all(line.strip().startswith(f"prefkit {verb}") for line in examples)


def test_without_a_verb_there_is_help(capsys):
    assert told(capsys) == told(capsys, "--help")


def test_the_golden_plan_reads_like_a_table_of_contents(here, capsys, golden):
    before = told(capsys, "plan", "small.yaml")
    assert run(["build", "small.yaml", "--until", "margin"]) == 0
    capsys.readouterr()
    after = told(capsys, "plan", "small.yaml")
    golden("plan.txt", before + "\n" + after)


def test_plan_for_machines_has_the_same_steps(here, capsys):
    found = json.loads(told(capsys, "plan", "small.yaml", "--json"))
    assert [step["name"] for step in found["steps"]] == ["00-data", "01-pair", "02-margin", "03-split"]
    assert found["columns"]["margin"] == "double"


def test_build_says_where_the_shards_are(here, capsys):
    out = told(capsys, "build", "small.yaml")
    assert [Path(line).suffix for line in out.splitlines()] == [".arrow"]
    assert all(Path(line).is_file() for line in out.splitlines())


def test_build_again_finds_everything_cached(built, capsys):
    assert run(["build", "small.yaml"]) == 0
    assert capsys.readouterr().err.count("cached") == 4


def test_build_until_a_step_stops_there(here, capsys):
    found = json.loads(told(capsys, "build", "small.yaml", "--until", "pair", "--json"))
    assert list(found) == ["00-data", "01-pair"]


def test_the_store_may_be_named_by_flag_or_environment(here, capsys, monkeypatch):
    told(capsys, "build", "small.yaml", "--store", "one")
    monkeypatch.setenv("PREFKIT_STORE", "two")
    told(capsys, "build", "small.yaml")
    assert Path("one/refs/small").is_dir()
    assert Path("two/refs/small").is_dir()


def test_every_error_of_a_recipe_is_printed_with_where_and_hint(here, capsys):
    Path("bad.yaml").write_text(SMALL.replace("- pair", "- pear").replace("seed: 17", "seed: x"))
    err = told(capsys, "plan", "bad.yaml", code=2)
    assert err == (
        "error: seed: input should be a whole number, got 'x'\n"
        "  where: bad.yaml:3\n"
        "\n"
        "error: no stage is called 'pear'\n"
        "  where: bad.yaml:9\n"
        "  hint:  did you mean 'pair'?\n"
    )


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["plan", "nowhere.yaml"], "error: cannot read the recipe: no such file or directory"),
        (["plan"], "error: missing argument 'RECIPE'"),
        (["biuld"], "error: no such command 'biuld'"),
        (["plan", "small.yaml", "--frobnicate"], "error: no such option"),
        (["build", "small.yaml", "--jobs", "0"], "error: invalid value for '--jobs'"),
        (["build", "small.yaml", "--until", "pear"], "error: the recipe has no step 'pear'"),
        (["build", "small.yaml", "--engine", "x"], "error: 'x' is not NAME=ENGINE"),
        (["build", "small.yaml", "--set", "build.pair.by=taste"], "error: stage 'pair' reads column 'taste'"),
        (["train", "rows-only.yaml"], "error: the recipe has no `train:`"),
        (["show", "small"], "error: no run is called 'small'"),
        (["show"], "error: no run is here yet"),
        (["diff", "small", "small"], "error: no run is called 'small'"),
        (["card", "small"], "error: no run is called 'small'"),
        (["export", "small", "out"], "error: no run is called 'small'"),
        (["stages", "pear"], "error: no stage is called 'pear'"),
        (["new", "quikstart"], "error: no recipe is called 'quikstart'"),
    ],
)
def test_what_a_user_can_mend_is_one_clear_error_and_code_2(here, capsys, arguments, what):
    Path("rows-only.yaml").write_text("name: rows\ndata: [{ file: rows.jsonl }]\n")
    err = told(capsys, *arguments, code=2)
    assert err.startswith(what)
    assert "Traceback" not in err


def test_a_bug_escapes_with_its_traceback(here, monkeypatch):
    monkeypatch.setattr("prefkit.plan.plan", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(["plan", "small.yaml"])


def test_ctrl_c_says_that_nothing_is_lost(here, capsys, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefkit.plan.plan", interrupt)
    assert "the same command goes on from there" in told(capsys, "plan", "small.yaml", code=2)


def test_show_without_a_step_lists_the_runs(built, capsys):
    assert "small/03-split" in told(capsys, "show")
    listed = [json.loads(line) for line in told(capsys, "show", "--json").splitlines()]
    assert [entry["step"] for entry in listed] == ["00-data", "01-pair", "02-margin", "03-split"]


def test_show_prints_rows_without_their_control_characters(built, capsys):
    out = told(capsys, "show", "small/pair", "--rows", "2")
    assert out.startswith("small/pair · pair v1 · 4 pair rows\n")
    assert out.count("question") == 2
    assert "\x1b" not in out
    raw = told(capsys, "show", "small/pair", "--rows", "2", "--json")
    assert "\x1b" not in raw
    assert [json.loads(line)["chosen"][0]["content"] for line in raw.splitlines()] == [
        "answer 1\x1b[31m",
        "answer 3\x1b[31m",
    ]


def test_show_finds_columns_ids_and_dropped_rows(built, capsys):
    assert "by how much chosen is better" in told(capsys, "show", "small", "--columns")
    first = json.loads(told(capsys, "show", "small", "-n", "1", "--json"))
    assert json.loads(told(capsys, "show", "small", "--id", first["id"][:8], "--json")) == first
    assert "no rows dropped" in told(capsys, "show", "small", "--dropped")
    assert "two questions" in told(capsys, "show", "small", "--dropped", "--failed", code=2)


def test_diff_prints_nothing_where_nothing_changed(built, capsys):
    assert told(capsys, "diff", "small", "small/split") == ""
    told(capsys, "build", "small.yaml", "--set", "name=other", "--set", "build.margin.scale=3")
    out = told(capsys, "diff", "small/margin", "other/margin", "-n", "2").splitlines()
    assert out[:2] == ["setting  scale: 2 -> 3", "values   margin: 4 of 4 rows"]
    assert [line.partition("  ")[2][12:] for line in out[2:]] == ["  2 -> 3"] * 2
    found = json.loads(told(capsys, "diff", "small/margin", "other/margin", "--json"))
    assert (found["flipped"], found["values"]) == (0, {"margin": 4})
    assert [(one["before"], one["after"]) for one in found["examples"]["margin"]] == [(2.0, 3.0)] * 4


def test_diff_of_two_runs_says_which_steps_they_were_made_by(built, capsys):
    recipe = (
        Path("small.yaml")
        .read_text()
        .replace("  - split\n", "")
        .replace("  - pair\n", "  - dedup\n  - pair\n")
    )
    Path("other.yaml").write_text(recipe.replace("name: small", "name: other").replace("17", "18"))
    told(capsys, "build", "other.yaml")
    out = told(capsys, "diff", "small", "other")
    assert out.startswith("recipe   seed: 17 -> 18\n")
    assert [line.split()[:2] for line in out.splitlines() if re.match(r"\d\d-", line)] == [
        ["00-data", "same"],
        ["01-dedup", "added"],
        ["01-pair", "->"],
        ["02-margin", "->"],
        ["03-split", "removed"],
    ]
    found = json.loads(told(capsys, "diff", "small", "other", "--json"))
    assert [step["state"] for step in found["steps"]] == ["same", "added", "same", "same", "removed"]
    assert [one["name"] for one in found["recipe"]] == ["seed"]


def test_stages_lists_and_explains(capsys):
    assert "margin" in told(capsys, "stages")
    assert "chosen_score" in told(capsys, "stages", "margin")
    assert "max_bad" in told(capsys, "stages", "data")
    assert "learning_rate" in told(capsys, "stages", "train")
    entries = [json.loads(line) for line in told(capsys, "stages", "--json").splitlines()]
    assert len(entries) >= 5
    for entry in entries:
        explained = json.loads(told(capsys, "stages", entry["stage"], "--json"))
        assert all(setting["meaning"] for setting in explained["settings"]), entry["stage"]


def test_the_schema_is_printed_as_json(capsys):
    assert json.loads(told(capsys, "stages", "--schema"))["title"] == "prefkit recipe"


def test_new_lists_recipes_and_copies_one_that_plans(here, capsys):
    assert "quickstart" in told(capsys, "new")
    made = told(capsys, "new", "quickstart", "mine").splitlines()
    assert made[0] == "mine/quickstart.yaml"
    assert "mine/recipe.schema.json" in made
    told(capsys, "plan", "mine/quickstart.yaml")
    assert "not overwritten" in told(capsys, "new", "quickstart", "mine", code=2)


def test_gc_lists_first_and_deletes_when_told(built, capsys):
    told(capsys, "build", "small.yaml", "--set", "build.margin.scale=3")
    listed = told(capsys, "gc").splitlines()
    assert listed
    assert all(Path(line).is_file() for line in listed)
    told(capsys, "gc", "--yes")
    assert not any(Path(line).exists() for line in listed)
    assert told(capsys, "gc") == ""


def test_a_card_and_an_export_are_written(built, capsys):
    assert told(capsys, "card", "small").startswith("---\n")
    assert told(capsys, "card", "small", "card.md") == "card.md\n"
    assert Path("card.md").read_text().startswith("---\n")
    assert told(capsys, "export", "small", "out", "--to", "parquet") == "out\n"
    assert list(Path("out/data").glob("*.parquet"))


def timed(*arguments: str) -> tuple[float, set[str]]:
    """Return the seconds of CPU that a command takes in a process of its own, and what it imported."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('\\nMODULES', *{n.partition('.')[0] for n in sys.modules}, file=sys.stderr))\n"
        "from prefkit.cli import main\n"
        "main()"
    )
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, set(done.stderr.rpartition("MODULES")[2].split())


def test_help_costs_under_four_tenths_of_a_second():
    seconds, modules = min((timed("--help") for _ in range(3)), key=lambda found: found[0])
    assert seconds < 0.4
    assert not modules & (HEAVY | {"pyarrow", "polars", "pydantic"})


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "small.yaml"),
        ("show", "small"),
        ("stages",),
        ("stages", "--schema"),
        ("diff", "small", "small"),
        ("gc",),
        ("new",),
    ],
)
def test_looking_imports_nothing_heavy(built, arguments):
    _, modules = timed(*arguments)
    assert "prefkit" in modules
    assert not modules & HEAVY


def test_a_training_run_is_told_with_intervals():
    from prefkit.cli.trained import story
    from prefkit.train.report import Change, HeldOut, Interval, Report

    def change(before: float, after: float) -> Change:
        moved = after - before
        known = Interval(mean=moved, low=moved - 0.05, high=moved + 0.05, prompts=9)
        sides = [Interval(mean=mean, low=None, high=None, prompts=9) for mean in (before, after)]
        return Change(before=sides[0], after=sides[1], difference=known)

    held_out = HeldOut(
        pairs=1200,
        accuracy=change(0.5, 0.7),
        loss=change(0.7, 0.6),
        reward_margin=change(0.0, 0.1),
        chosen_logp=change(-10.0, -9.0),
        rejected_logp=change(-10.0, -11.0),
    )
    report = Report(
        key="k",
        model="org/policy",
        objective="dpo",
        settings={},
        placement={},
        pairs=4800,
        notes={},
        steps=75,
        seconds=21.4,
        tokens=1,
        first_loss=0.6931,
        last_loss=0.6001,
        curve=[],
        held_out=held_out,
        samples=None,
    )
    assert list(story(report)) == [
        "trained   4 800 pairs, 75 steps, 21 s: loss 0.6931 -> 0.6001",
        "held out  1 200 pairs: reward accuracy 0.500 -> 0.700, difference +0.200 (95 %: +0.150 to +0.250)",
    ]
