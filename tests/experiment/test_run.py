"""A comparison from beginning to end: what it leaves, that it can be computed again, and that it goes on after anything."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prefkit.experiment.analyse import analyse
from prefkit.experiment.arm import Facts
from prefkit.experiment.markdown import render
from prefkit.experiment.ready import Ready
from prefkit.experiment.report import Comparison
from prefkit.experiment.run import prepare, rules, run
from prefkit.experiment.told import wins
from prefkit.recipe import Recipe
from prefkit.store import Store
from prefkit.tables import last_content

FILES = ("report.json", "report.md", "measured.arrow", "answers.arrow", "plan.json")
ARMS = ["clean", "half", "clean (copy)", "clean (30% flipped)"]


@pytest.fixture
def again(finished, tmp_path, kit) -> tuple[Ready, Recipe]:
    """The same comparison, finished, in a store of one's own."""
    shutil.copytree(finished.folder, tmp_path / "copied")
    recipe = Recipe.load(str(tmp_path / "copied" / "clean.yaml"), kit.whole)
    return prepare(Store(tmp_path / "copied" / "runs"), ["clean", "half"], recipe), recipe


def without_times(report: Comparison) -> dict:
    told = report.model_dump(mode="json")
    for arm in told["arms"]:
        for each in arm["runs"]:
            del each["seconds"]
    return told


# what it leaves


def test_every_run_is_measured_with_every_seed_at_every_point(finished):
    counts = (
        finished.measured.filter(pl.col("arm") != "", metric="score").group_by("arm", "seed", "step").len()
    )
    assert set(counts["arm"]) == set(ARMS)
    assert set(zip(counts["seed"], counts["step"], strict=True)) == {(0, 1), (0, 2), (1, 1), (1, 2)}
    assert set(counts["len"]) == {6 * 2}
    for arm in finished.report.arms:
        assert {(point.seed, point.step) for point in arm.points} == {
            (s, at) for s in (0, 1) for at in (0, 1, 2)
        }
        assert all(point.kl == 0 and point.win_rate == 0.5 for point in arm.points if point.step == 0)


def test_everything_that_was_asked_for_is_told_of_every_arm(finished):
    wanted = {
        "score",
        "second",
        "chars",
        "kl",
        "kl_k3",
        "reference_ratio",
        "win_rate_base",
        "accuracy",
        "ranking",
    }
    wanted |= {
        "accuracy_balanced",
        "ranks_mended",
        "brier",
        "chosen_ratio",
        "rejected_ratio",
        "top_entropy",
        "top_mass",
    }
    wanted |= {"accuracy:clean", "accuracy:half"}
    assert [arm.name for arm in finished.report.arms] == ARMS
    for arm in finished.report.arms:
        wins = {"win_rate", "second_win_rate", "judge"} if arm.name != "clean" else set()
        assert set(arm.metrics) <= wanted | wins
        assert (wanted | wins) - set(arm.metrics) <= {"accuracy_balanced", "ranks_mended"}, (
            "few pairs may lack these"
        )
        assert 0 <= arm.weights["weights_same"] <= arm.weights["weights_within"] <= 1
        assert 0 < arm.diversity < 2
        assert len(arm.runs) == 2
        for each in arm.runs:
            assert [step for step, _ in each.curves["loss"]] == [0, 1]
            assert each.first_loss == pytest.approx(np.log(2), abs=1e-4), (
                "the policy starts as its own reference"
            )
    assert finished.report.primary == "judge"
    assert [(one.arm, one.base) for one in finished.report.versus] == [(name, "clean") for name in ARMS[1:]]


def test_the_texts_are_kept_and_the_models_are_not(finished):
    answers = pl.read_ipc(finished.ready.out / "answers.arrow")
    assert answers.group_by("arm", "seed").len()["len"].to_list() == [12] * 5 * 2
    assert answers["response"].list.last().struct.field("content").str.len_chars().min() > 0
    trained = answers.filter(pl.col("arm") != "")
    assert trained["model"].to_list() == trained["arm"].to_list(), "folders that are gone name nobody"
    left = [path.name for path in (finished.folder / "runs" / "compared").rglob("*") if path.is_file()]
    assert not [name for name in left if name.endswith((".safetensors", ".bin", ".new"))]
    assert not list(finished.ready.out.rglob("training"))


def test_what_was_measured_is_what_the_answers_show(finished):
    answers = pl.read_ipc(finished.ready.out / "answers.arrow")
    last = finished.measured.filter(pl.col("step") == pl.col("step").max().over("arm", "seed"))
    wide = last.filter(pl.col("metric").is_in(["score", "chars", "second"])).pivot(
        "metric", index=["arm", "seed", "prompt_id", "row"], values="value"
    )
    both = answers.with_columns(row=pl.col("sample").cast(pl.String)).join(
        wide, on=["arm", "seed", "prompt_id", "row"]
    )
    assert both.height == answers.height
    texts = last_content(answers.to_arrow()["response"]).to_pylist()
    assert answers["chars"].to_list() == [len(text) for text in texts]
    for mine, theirs in (("score", "score_right"), ("chars", "chars_right"), ("second", "second_right")):
        assert both[mine].to_list() == both[theirs].to_list()
    assert both["second_right"].to_list() == both["chars_right"].to_list(), (
        "the second scorer counts characters"
    )


def test_the_judge_is_shown_the_answers_of_the_same_prompt_and_number(finished):
    keys = ["seed", "prompt_id", "row"]
    last = finished.measured.filter(pl.col("step") == pl.col("step").max().over("arm", "seed"))
    scores = last.filter(metric="score").select("arm", *keys, "value")
    verdicts = last.filter(metric="preferred")
    assert set(verdicts["arm"]) == set(ARMS[1:])
    assert set(verdicts["of"]) == {"clean"}
    both = verdicts.join(scores, on=["arm", *keys], suffix="_ours").join(
        scores.filter(arm="clean").drop("arm"), on=keys, suffix="_theirs"
    )
    assert both.height == 3 * 2 * 12
    gap = both["value_ours"].to_numpy() - both["value_theirs"].to_numpy()
    np.testing.assert_array_equal(both["value"], (1 + np.sign(gap)) / 2)  # the toy judge sees what gold is


def test_the_same_draws_meet_and_a_copy_has_its_own(finished):
    told = finished.report
    rows = pl.read_ipc(finished.ready.out / "answers.arrow")
    texts = {
        (arm, seed): part["response"].list.last().struct.field("content").to_list()
        for (arm, seed), part in rows.group_by("arm", "seed", maintain_order=True)
    }
    assert texts["", 0] != texts["", 1]
    assert texts["clean", 0] != texts["clean (copy)", 0]
    assert told.versus[1].primary.variance["rest"] > 0, "a copy that is the same run would prove nothing"


# computing it again


def test_every_figure_is_computed_from_the_table_alone(finished):
    facts = [
        Facts(arm.name, arm.ref, arm.digest, arm.control, arm.other_seeds, arm.pairs, arm.prompts, ())
        for arm in finished.report.arms
    ]
    level = finished.report.versus[0].primary.level
    arms, versus = analyse(finished.measured, facts, range(2), rules(finished.ready, level))
    assert versus == finished.report.versus
    for mine, theirs in zip(arms, finished.report.arms, strict=True):
        assert (mine.metrics, mine.points, mine.displaced) == (
            theirs.metrics,
            theirs.points,
            theirs.displaced,
        )


def test_what_is_read_is_a_pure_function_of_the_report(finished):
    out = finished.ready.out
    report = Comparison.model_validate_json((out / "report.json").read_bytes())
    assert report.model_dump(mode="json") == finished.report.model_dump(mode="json")
    assert render(report) == (out / "report.md").read_text(encoding="utf-8")


def test_the_page_begins_with_the_answer(finished):
    title, first, *rest = render(finished.report).split("\n\n")
    assert title == "# Comparison: clean and half"
    told = finished.report.versus[0]
    share = f"`half` wins {wins(told.primary)}, even is 50 %."
    assert first == f"**{told.verdict}.** {share} {told.words}"
    assert [part for part in rest if part.startswith("**control:")]


def test_doing_it_again_trains_nothing_and_gives_the_same_bytes(finished, again, kit):
    ready, recipe = again
    assert ready.out.name == finished.ready.out.name
    assert ready.planned.variance_from != "typical", "by now more is known"
    before = {name: (ready.out / name).read_bytes() for name in FILES}
    for name in FILES[:4]:
        (ready.out / name).unlink()
    left = ready.out / "runs" / "1-clean" / "0" / "training"
    (left / "model").mkdir(parents=True)  # as after a kill before it could be cleared up
    told = []
    run(
        ready,
        kit.place,
        kit.engines(recipe, ready.store),
        lambda name, event: told.append((name, event.phase)),
    )
    assert told == []
    assert not left.exists()
    assert {name: (ready.out / name).read_bytes() for name in FILES} == before


def test_a_run_whose_measurements_are_gone_is_done_again_alone(finished, again, kit):
    ready, recipe = again
    (ready.out / "runs" / "2-half" / "1" / "measured.arrow").unlink()
    told = []
    done = run(ready, kit.place, kit.engines(recipe, ready.store), lambda name, _: told.append(name))
    assert set(told) == {"half, seed 1"}
    assert without_times(done.report) == without_times(finished.report)
    assert pl.read_ipc(ready.out / "measured.arrow").equals(finished.measured)


# The first life of a comparison: a process of its own, which ends in the middle of training.
LIFE = """
import json, os, signal, sys
from prefkit.engines.placement import Placement, open_engines
from prefkit.experiment.run import prepare, run
from prefkit.recipe import Recipe
from prefkit.store import Store
from prefkit.train import TrainPlacement

recipe = Recipe.load(sys.argv[1] + "/clean.yaml", json.loads(sys.argv[2]))
store = Store(sys.argv[1] + "/runs")
engines = open_engines(recipe.models, Placement(device="cpu"), store.root / "memo.sqlite")
ready = prepare(store, ["clean", "half"], recipe)

def tell(name, event):
    if (event.phase, event.done) == ("train", 2):
        os.kill(os.getpid(), signal.SIGKILL)

run(ready, TrainPlacement(device="cpu", checkpoint_every=1), engines, tell)
"""


def test_a_comparison_that_is_killed_goes_on_as_if_nothing_had_happened(finished, again, kit):
    ready, recipe = again
    folder: Path = ready.out / "runs" / "1-clean" / "1"
    shutil.rmtree(folder)
    command = [sys.executable, "-c", LIFE, str(ready.store.root.parent), json.dumps(kit.whole)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    first = subprocess.run(command, check=False, env=environment, timeout=120, stdout=subprocess.DEVNULL)
    assert first.returncode == -signal.SIGKILL
    assert [path.name for path in folder.iterdir()] == ["training"]
    told = []
    done = run(
        ready, kit.place, kit.engines(recipe, ready.store), lambda name, event: told.append((name, event))
    )
    steps = [event.done for _, event in told if event.phase == "train"]
    assert 1 not in steps, "it goes on where it was"
    assert {name for name, _ in told} == {"clean, seed 1"}
    assert not (folder / "training").exists()
    assert without_times(done.report) == without_times(finished.report)
    assert pl.read_ipc(ready.out / "measured.arrow").equals(finished.measured)
