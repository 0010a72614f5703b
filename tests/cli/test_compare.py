"""`prefkit compare` and `prefkit ablate`: what they say before, after, and where they cannot begin."""

import json
import random
from pathlib import Path

import pytest

from prefkit.cli import run
from prefkit.store import Store
from prefkit.toy.demonstrators import COMMON_HABITS, demonstrate
from prefkit.toy.pools import draw_tasks
from prefkit.toy.world import write_prompt

RECIPE = """
name: {name}
seed: 3
models:
  policy: {{ id: prefkit/toy-policy }}
data:
  - file: pairs.jsonl
build:
  - split: {{ test: 0.4 }}
{stages}
train:
  model: policy
  objective: simpo
  steps: 2
  batch: 4
  learning_rate: 1e-3
  order: shuffled
compare:
  seeds: 1
  prompts: 4
  pairs: 3
  samples: 1
  max_tokens: 8
  score: {{ rule: toy-gold }}
  controls: []
"""
FLIP = "  - label: { ops: [{ flip: { rate: 0.5 } }] }"


def write(name: str, stages: str = "") -> str:
    Path(f"{name}.yaml").write_text(RECIPE.format(name=name, stages=stages))
    return f"{name}.yaml"


@pytest.fixture
def here(cli):
    """The command line in a folder with twenty pairs, and `clean` and `half` in the store."""
    rng, tasks, rows = random.Random(0), draw_tasks(0, "building"), {}
    while len(rows) < 20:
        task = next(tasks)
        sides = demonstrate(rng, task), demonstrate(rng, task, 0.6, COMMON_HABITS)
        if sides[0] != sides[1]:
            rows[write_prompt(task)] = sides
    lines = [{"prompt": prompt, "chosen": sides[0], "rejected": sides[1]} for prompt, sides in rows.items()]
    Path("pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, stages in (("clean", ""), ("half", FLIP)):
        cli.ok("build", write(name, stages))
    return cli


def told(capsys, *arguments: str) -> tuple[str, str]:
    """What a command that ends well says, as answer and on the way."""
    code = run(arguments)
    found = capsys.readouterr()
    assert code == 0, found.err
    return found.out, found.err


# compare


def test_the_plan_says_what_it_takes_and_runs_nothing(here, capsys):
    out, err = told(capsys, "compare", "clean", "half", "--plan")
    assert out == ""
    for said in (
        "datasets  clean (16 pairs), half (16 pairs)",
        "runs      2 of 2 steps, 1 seeds a dataset: 16 pairs seen",
        "answers   12 to 4 held-out prompts",
        "decides   wins against the first dataset, by score (2 x share - 1)",
        "detects   a true difference of ",
        "that is more than the smallest worth having",
    ):
        assert said in err
    assert not Path("runs", "compared").exists()


def test_a_plan_does_not_build_what_it_is_about(here):
    write("fresh", FLIP.replace("0.5", "0.7"))
    found = here.fails("compare", "clean", "fresh.yaml", "--plan")
    assert found.what == "'fresh.yaml' is not built, and what a comparison takes depends on its rows"
    assert found.hint == "prefkit build fresh.yaml"
    assert Store("runs").runs() == ["clean", "half"]


def test_recipes_are_built_first_and_the_answer_comes_as_json(here, capsys):
    write("fresh", FLIP.replace("0.5", "0.9"))
    out, err = told(capsys, "compare", "clean.yaml", "fresh.yaml", "--json")
    report = json.loads(out)
    assert [arm["name"] for arm in report["arms"]] == ["clean", "fresh"]
    assert report["versus"][0]["verdict"] in ("better", "worse", "not distinguishable", "longer")
    assert "With one seed" in report["versus"][0]["words"]
    assert "clean, seed 0" in err
    (folder,) = Path("runs", "compared").iterdir()
    assert json.loads((folder / "report.json").read_text())["versus"] == report["versus"]
    shown, said = told(capsys, "compare", "clean", "fresh")
    assert report["versus"][0]["words"][:30] in shown.replace("\n", " ")
    assert "decides" in shown
    assert str(folder / "report.md") in said
    assert "measured" not in said.replace("measured.arrow", ""), "nothing was trained again"


def test_one_dataset_is_compared_with_nothing(here):
    found = here.fails("compare", "clean")
    assert "'clean', is compared with nothing" in found.what
    assert found.hint == "name another: prefkit compare clean other-run"


@pytest.mark.parametrize("name", ["nowhere", "nowhere.yaml", "clean/nowhere"])
def test_an_unknown_dataset_is_told(here, name):
    found = here.fails("compare", "clean", name)
    assert "nowhere" in found.what


def test_rows_that_are_no_pairs_are_told(here):
    Path("answers.jsonl").write_text('{"prompt": "Say hi", "response": "hi"}\n' * 2)
    Path("answers.yaml").write_text("name: answers\ndata:\n  - file: answers.jsonl\n")
    here.ok("build", "answers.yaml")
    found = here.fails("compare", "clean", "answers")
    assert found.what == "'answers' has response rows, and arms are pairs"
    assert "answers/pair" in found.hint


def test_a_recipe_without_training_is_told_and_may_be_told_it(here, capsys):
    Path("bare.yaml").write_text(RECIPE.format(name="bare", stages="").partition("train:")[0])
    here.ok("build", "bare.yaml")
    found = here.fails("compare", "bare", "half")
    assert "has no `train:`" in found.what
    assert "--set train.model=policy" in found.hint
    sets = ["train.model=policy", "train.objective=simpo", "train.steps=2", "compare.score.rule=toy-gold"]
    _, err = told(
        capsys, "compare", "bare", "half", "--plan", *(part for text in sets for part in ("--set", text))
    )
    assert "4 seeds a dataset" in err


@pytest.mark.parametrize("text", ["build.split.test=0.1", "data.0.take=3"])
def test_settings_of_a_dataset_are_refused_and_not_ignored(here, text):
    found = here.fails("compare", "clean", "half", "--set", text)
    assert "takes datasets as they are" in found.what
    assert found.where == f"--set {text}"
    assert "prefkit build" in found.hint


def test_a_setting_that_is_not_there_is_told_with_what_was_meant(here):
    found = here.fails("compare", "clean", "half", "--set", "compare.seed=3")
    assert "seed" in found.what
    assert "seeds" in found.what + found.hint


# ablate


def test_a_misspelt_step_is_told_before_anything_is_built(here):
    write("fresh", FLIP)
    found = here.fails("ablate", "fresh.yaml", "lable")
    assert found.what == "the recipe has no step 'lable'"
    assert "label" in found.hint
    assert Store("runs").runs() == ["clean", "half"]


def test_the_plan_of_an_ablation_runs_nothing(here, capsys):
    out, err = told(capsys, "ablate", "half.yaml", "--plan")
    assert out == ""
    assert "01-split           stays: it says what is held out" in err
    assert "02-label           without it: 2 steps stand, 0 to run, 0 model calls at most" in err
    assert "training           2 runs at most, 4 steps, 16 pairs seen" in err
    assert Store("runs").runs() == ["clean", "half"]
    assert not Path("runs", "compared").exists()


def test_nor_does_that_of_a_recipe_that_is_not_built(here, capsys):
    write("fresh", FLIP.replace("0.5", "0.7"))
    out, err = told(capsys, "ablate", "fresh.yaml", "--plan")
    assert out == ""
    assert "known once the recipe is built" in err
    assert Store("runs").runs() == ["clean", "half"]


def test_what_each_stage_earned_is_told(here, capsys):
    idle = f"{FLIP}\n  - filter: {{ drop: [empty] }}"
    out, err = told(capsys, "ablate", write("three", idle), "--json")
    stages = {each["step"]: each for each in json.loads(out)["stages"]}
    assert stages["01-split"]["verdict"] == "not tried"
    assert stages["03-filter"]["verdict"] == "changes nothing"
    assert stages["03-filter"]["earned"] is None
    assert stages["02-label"]["earned"]["estimate"] is not None
    assert stages["02-label"]["adjusted"] == stages["02-label"]["earned"]["p"], "one stage shares with nobody"
    assert "three.without-02-label, seed 0" in err
    assert "without-03-filter, seed" not in err, "what changes nothing is not trained"
    shown, said = told(capsys, "ablate", "three.yaml")
    assert "What each stage of three earned" in shown
    assert "changes nothing" in shown
    assert "ablated/three.json" in said


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        ("compare", "Train on each dataset and say which is better"),
        ("ablate", "Leave each stage out in turn"),
    ],
)
def test_help_says_what_it_does_with_an_example(cli, verb, said):
    shown = cli.ok(verb, "--help")
    assert said in shown
    assert f"prefkit {verb} " in shown
    assert "--plan" in shown


# logs


def logged() -> list[dict]:
    return [json.loads(line) for line in Path("log.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(found: list[dict]) -> list[tuple]:
    return [
        (one.get("run"), one.get("arm"), one["phase"], one["done"], one["of"])
        for one in found
        if one["event"] == "training"
    ]


def test_a_log_of_a_comparison_tells_which_arm_is_trained_and_of_no_single_run(here):
    write("fresh", FLIP.replace("0.5", "0.8"))
    here.ok("compare", "clean", "fresh.yaml", "--log", "log.jsonl")
    found = logged()
    assert (found[0]["event"], found[0]["verb"]) == ("started", "compare")
    assert {one["run"] for one in found if one["event"].startswith("build")} == {"fresh"}
    assert trained(found) == [
        (None, f"{arm}, seed 0", "train", done, 2) for arm in ("clean", "fresh") for done in (1, 2)
    ]
    assert (found[-1]["event"], found[-1]["verb"], found[-1].get("run")) == ("finished", "compare", None)
    assert all(one["metrics"]["step"] >= 0 for one in found if one["event"] == "training")


def test_an_ablation_on_stderr_is_json_from_the_first_line_to_the_last(here, capsys):
    out, err = told(capsys, "ablate", "half.yaml", "label", "--log", "-")
    found = [json.loads(line) for line in err.splitlines()]
    assert (found[0]["verb"], found[-1]["event"], found[-1]["verb"]) == ("ablate", "finished", "ablate")
    arms = [one[1] for one in trained(found)]
    assert arms == ["half, seed 0"] * 2 + ["half.without-02-label, seed 0"] * 2
    assert out


def test_training_is_told_step_by_step_in_the_log_of_its_run(here):
    here.ok("train", "clean.yaml", "--log", "log.jsonl")
    found = logged()
    assert (found[0]["verb"], found[-1]["event"], found[-1]["verb"]) == ("train", "finished", "train")
    assert trained(found) == [("clean", None, "train", done, 2) for done in (1, 2)]
