"""The protocol: what it hashes, how long each arm is trained, and what is said before anything is run."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prefkit import build
from prefkit.comparing.planning import TYPICAL
from prefkit.engines import Model
from prefkit.errors import DataError, RecipeError, TrainError
from prefkit.experiment.arms import Arm, HeldOut
from prefkit.experiment.protocol import plan, primary_of, protocol, steps_of
from prefkit.experiment.run import prepare
from prefkit.experiment.settings import CompareSettings
from prefkit.sources import Source
from prefkit.stages.judge import Judge
from prefkit.stages.score import Score
from prefkit.store import Store
from prefkit.train.settings import Evaluate, TrainSettings

POLICY = Model(id="prefkit/toy-policy")
GOLD = Score(rule="toy-gold")
TRAINING = TrainSettings(model=POLICY)
ASKED = HeldOut(pa.table({"id": ["p", "q"], "prompt_id": ["p", "q"]}), {}, {})


@pytest.fixture
def store(world: Path, kit) -> Store:
    store = Store(world / "runs")
    for name, stages in (("clean", [kit.split]), ("half", [kit.split, kit.half])):
        build(kit.recipe(world, name, *stages), store)
    return store


# identity

OTHER_SETTINGS = {
    "seeds": 3,
    "subsample": 0.9,
    "prompts": 7,
    "data": (Source(file="other.jsonl"),),
    "pairs": 9,
    "samples": 1,
    "temperature": 0.1,
    "top_p": 0.5,
    "max_tokens": 9,
    "score": Score(rule="length"),
    "second": GOLD,
    "judge": Judge(model=POLICY),
    "primary": "accuracy",
    "tie_band": 0.1,
    "budget": "tokens",
    "controls": ("copy",),
    "flip_rate": 0.4,
    "smallest": 0.01,
    "margin": 0.02,
    "looks": 2,
    "points": 2,
}


def identity(train: TrainSettings = TRAINING, asked: HeldOut = ASKED, **settings: object) -> str:
    return protocol(train, CompareSettings.model_validate({"score": GOLD, **settings}), asked).id


@pytest.mark.parametrize("name", CompareSettings.model_fields)
def test_every_setting_is_part_of_the_identity(name):
    assert identity() == identity()
    assert identity(**{name: OTHER_SETTINGS[name]}) != identity()


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 1},
        {"batch": 8},
        {"learning_rate": 1e-3},
        {"steps": 5},
        {"model": Model(id="prefkit/toy-reward")},
    ],
)
def test_so_is_how_the_arms_are_trained(other):
    assert identity(TRAINING.model_copy(update=other)) != identity()


def test_so_are_the_prompts_and_not_the_order_of_chunks():
    fewer = ASKED._replace(prompts=ASKED.prompts.slice(0, 1))
    assert identity(asked=fewer) != identity()
    cut = pa.concat_tables([ASKED.prompts.slice(0, 1), ASKED.prompts.slice(1)])
    assert identity(asked=ASKED._replace(prompts=cut)) == identity()


def test_how_the_trainer_evaluates_is_not_but_its_scorer_is_taken():
    told = TRAINING.model_copy(update={"evaluate": Evaluate(score=GOLD, prompts=3)})
    assert identity(told) == identity()
    assert protocol(told, CompareSettings(), ASKED).settings.score == GOLD
    assert protocol(told, CompareSettings(), ASKED).id == identity()


def test_the_same_comparison_has_the_same_folder_and_another_has_another(world, store, kit):
    asked = kit.recipe(world, "clean", kit.split)
    ready = prepare(store, ["clean", "half"], asked)
    assert prepare(store, ["clean", "half"], asked).out == ready.out
    assert prepare(store, ["half", "clean"], asked).out != ready.out
    assert prepare(store, ["clean", "clean"], asked).out != ready.out
    assert prepare(store, ["clean", "half"], asked.model_copy(update={"seed": 4})).out != ready.out
    assert not ready.out.exists(), "nothing is written before it begins"


# what decides


def test_the_judge_decides_else_the_score_else_accuracy():
    judge = Judge(model=POLICY)
    for settings, primary in (
        (CompareSettings(judge=judge, score=GOLD), "judge"),
        (CompareSettings(score=GOLD), "win_rate"),
        (CompareSettings(), "accuracy"),
        (CompareSettings(score=GOLD, primary="length_controlled"), "length_controlled"),
        (CompareSettings(judge=judge, score=GOLD, primary="win_rate"), "win_rate"),
    ):
        assert primary_of(settings) == primary


@pytest.mark.parametrize("primary", ["win_rate", "length_controlled"])
def test_a_win_rate_needs_a_scorer(primary):
    with pytest.raises(TrainError, match=f"`primary: {primary}` needs a scorer") as caught:
        primary_of(CompareSettings(primary=primary))
    assert "score" in caught.value.hint


def test_accuracy_needs_held_out_pairs(world, store, kit):
    (world / "ask.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Question {at}"}) + "\n" for at in range(4))
    )
    for name in ("one", "two"):
        build(kit.recipe(world, name, kit.half), store)
    only = "compare:\n  data:\n    - file: ask.jsonl\n"
    asked = kit.recipe(world, "one", kit.half, compare=only)
    with pytest.raises(TrainError, match="needs held-out pairs") as caught:
        prepare(store, ["one", "two"], asked)
    assert "split" in caught.value.hint


def test_settings_that_contradict_each_other_are_refused(world, kit):
    for line, said in (
        ("looks: 3\n  seeds: 4", "3 looks do not divide 4 seeds evenly"),
        ("looks: 4\n  seeds: 4", "a look needs two seeds"),
        ("primary: judge", "`primary: judge` needs a `judge`"),
        ("score: { rule: toy-gold, at: pair }", "at: response"),
        ("judge: { kind: listwise, model: critic }", "kind: pairwise"),
        ("judge: { kind: pairwise, model: critic, topology: all }", "no topology"),
    ):
        with pytest.raises(RecipeError, match=said):
            kit.recipe(world, "wrong", kit.split, compare=f"compare:\n  {line}\n")


def test_one_dataset_is_compared_with_nothing(store, world, kit):
    with pytest.raises(DataError, match="'clean', is compared with nothing") as caught:
        prepare(store, ["clean"], kit.recipe(world, "clean", kit.split))
    assert "prefkit compare clean" in caught.value.hint


def test_a_recipe_without_training_says_not_how_datasets_are_compared(store, world, kit):
    with pytest.raises(TrainError, match="has no `train:`") as caught:
        prepare(store, ["clean", "half"], kit.recipe(world, "clean", kit.split, train=""))
    assert "--set train.model=" in caught.value.hint


# budgets


def arm(name: str, pairs: int, words: int = 1, phases: list[int] | None = None) -> Arm:
    said = [[{"role": "assistant", "content": "please " * words}]] * pairs
    table = pa.table(
        {
            "prompt": [[{"role": "user", "content": "cups"}]] * pairs,
            "chosen": said,
            "rejected": said,
            "phase": phases or [0] * pairs,
        }
    )
    return Arm(name, name, name, table, table.slice(0, 0))


def steps(budget: str, *arms: Arm, **train: object) -> list[int]:
    told = TrainSettings.model_validate({"model": POLICY, "batch": 8, **train})
    asked = protocol(told, CompareSettings(score=GOLD, budget=budget), ASKED)
    return list(steps_of(arms, asked).values())


def test_equal_steps_are_those_of_the_first():
    sizes = arm("a", 20), arm("b", 100), arm("c", 5)
    assert steps("steps", *sizes, epochs=2) == [6, 6, 6]
    assert steps("steps", *sizes, steps=11) == [11, 11, 11]


def test_equal_epochs_are_each_arms_own():
    sizes = arm("a", 20), arm("b", 100), arm("c", 5)
    assert steps("epochs", *sizes) == [3, 13, 1]
    assert steps("epochs", *sizes, epochs=2) == [6, 26, 2]
    assert steps("epochs", *sizes, epochs=0.1) == [1, 1, 1]


def test_equal_tokens_are_fewer_steps_where_pairs_are_longer(kit):
    from prefkit.experiment.protocol import _tokens

    arms = arm("a", 20), arm("b", 20, words=40), arm("c", 20, words=1)
    told = TrainSettings(model=POLICY, batch=8, steps=100)
    mean = {one.name: _tokens(one, told) for one in arms}
    assert mean["b"] == mean["a"] + 2 * 39, "a word of the toy world is a token"
    found = steps("tokens", *arms, steps=100)
    assert found == [100, round(100 * mean["a"] / mean["b"]), 100]
    assert found[1] * mean["b"] == pytest.approx(100 * mean["a"], rel=0.02)


def test_phases_last_as_long_as_they_are_told_and_only_by_epochs():
    phased = arm("a", 20, phases=[0] * 16 + [1] * 4), arm("b", 40, phases=[0] * 8 + [1] * 32)
    assert steps("epochs", *phased, phase_epochs=(2.0, 1.0)) == [2 * 2 + 1, 2 * 1 + 4]
    for budget in ("steps", "tokens"):
        with pytest.raises(TrainError, match=f"`budget: {budget}`") as caught:
            steps(budget, *phased, phase_epochs=(2.0, 1.0))
        assert "budget: epochs" in caught.value.hint


def test_every_arm_has_the_steps_that_were_planned(finished):
    assert set(finished.ready.steps.values()) == {finished.ready.told.train.steps}
    for one in finished.report.arms:
        assert {run.steps for run in one.runs} == {finished.ready.told.train.steps}


# what is said before


def test_the_plan_counts_runs_answers_and_verdicts(world, store, kit):
    asked = kit.recipe(
        world,
        "clean",
        kit.split,
        sets=["compare.judge.kind=pairwise", "compare.judge.model=critic", "compare.points=3"],
    )
    found = prepare(store, ["clean", "half"], asked).planned
    assert (found.runs, found.steps, found.pairs) == (4 * 2, 4 * 2 * 2, 4 * 2 * 2 * 4)
    assert found.answers == (4 * 2 * 3 + 2) * 6 * 2, (
        "each point of each run, and the untrained model with each seed"
    )
    assert found.verdicts == 3 * 2 * 6 * 2
    assert (found.variance, found.variance_from, found.seconds) == (TYPICAL, "typical", None)
    assert found.detectable.effect > 0


def test_a_plan_learns_from_what_was_run_before(finished, tmp_path):
    ready = finished.ready
    again = plan(ready.store.root, ready.told, ready.steps, ready.test, 3)
    assert again.variance_from == finished.report.name
    seen = [one.primary.variance for one in finished.report.versus]
    seen = [each for each in seen if any(each.values())]
    assert again.variance.rest == pytest.approx(sum(each["rest"] for each in seen) / len(seen))
    runs = [run for one in finished.report.arms for run in one.runs]
    per_step = sum(run.seconds for run in runs) / sum(run.steps for run in runs)
    assert again.seconds == pytest.approx(per_step * sum(ready.steps.values()) * 2)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"versus": [{}]}', '{"versus": [], "arms": [{"runs": [{}]}]}']
)
def test_a_report_that_cannot_be_read_tells_nothing(tmp_path, text):
    folder = tmp_path / "compared" / "broken"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(text)
    told = protocol(TRAINING, CompareSettings(score=GOLD), ASKED)
    assert plan(tmp_path, told, {"a": 1}, ASKED, 1).variance_from == "typical"


def test_pairs_that_are_trained_on_are_those_not_held_out(finished):
    clean = finished.ready.arms[0]
    assert pc.all(pc.not_equal(clean.train["split"], "test")).as_py()
