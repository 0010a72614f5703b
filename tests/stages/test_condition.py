"""The condition and direction stages: what a prompt asks for beside the request."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.recipe import Recipe
from prefkit.run import Settings, build
from prefkit.stages.condition import Condition
from prefkit.stages.direction import Direction
from prefkit.stages.pair import Pair
from prefkit.stages.split import Split
from prefkit.store import Store
from prefkit.tables import put
from prefkit.testing import check_stage, run_stage

GOAL = Condition(kind="reward-goal")


def scored(make_pairs, chosen, rejected, **more):
    return make_pairs(chosen_score=chosen, rejected_score=rejected, **more)


def test_each_pair_comes_once_under_either_score(make_pairs):
    # golden data.json V11: 8 and 6.5
    pairs = scored(make_pairs, [8.0, 3.0], [6.5, 1.0], margin=[1.5, 2.0])
    out = check_stage(GOAL, pairs)
    first, second = out.to_pylist()[:2]
    assert [row["chosen"][0]["content"] for row in (first, second)] == ["good 0", "bad 0"]
    assert [row["rejected"][0]["content"] for row in (first, second)] == ["bad 0", "good 0"]
    assert [row["conditions"] for row in (first, second)] == [
        [{"kind": "goal", "name": "score", "value": 8.0, "shown": "8"}],
        [{"kind": "goal", "name": "score", "value": 6.5, "shown": "6.5"}],
    ]
    assert [row["conditioned_on"] for row in (first, second)] == ["chosen", "rejected"]
    assert [(row["chosen_id"], row["chosen_score"]) for row in (first, second)] == [
        ("r000+", 8.0),
        ("r000-", 6.5),
    ]
    assert "overall score: 6.5" in second["prompt"][0]["content"]
    assert second["prompt"][1:] == [{"role": "user", "content": "question p0"}]
    assert out["margin"].null_count == 4
    assert out["pair_group"].to_pylist() == ["r000", "r000", "r001", "r001"]


def test_equal_and_missing_scores_are_dropped_and_counted(make_pairs):
    out = run_stage(GOAL, scored(make_pairs, [2.0, None, 3.0], [2.0, 1.0, 1.0]))
    assert out.table.num_rows == 2
    assert out.notes == {"dropped/equal-scores": 1, "dropped/no-score": 1}


def test_a_goal_may_stand_before_the_first_user_turn_and_of_one_side_only(make_pairs):
    stage = Condition(
        kind="reward-goal", place="first-user", goals="chosen", by="score", names=["worth"], scale=(0, 4)
    )
    out = check_stage(stage, scored(make_pairs, [2.0, 3.0], [1.0, 0.0]))
    (turn,) = out["prompt"][0].as_py()
    assert turn["role"] == "user"
    assert turn["content"].endswith("worth: 2\n\nquestion p0")
    assert "from 0, the worst, to 4, the best" in turn["content"]


def test_log_probs_under_the_bare_prompt_are_forgotten(make_pairs):
    pairs = scored(
        make_pairs, [2.0, 3.0], [1.0, 0.0], ref_chosen_logp=[-1.0, -2.0], ref_rejected_logp=[-3.0, -4.0]
    )
    out = check_stage(GOAL, pairs)
    assert out["ref_chosen_logp"].null_count == out["ref_rejected_logp"].null_count == 4


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=8))
def test_the_two_rows_of_a_pair_are_mirrored_and_on_one_side_of_a_split(make_pairs, scores):
    pairs = scored(make_pairs, *(list(side) for side in zip(*scores, strict=True)))
    out = run_stage(GOAL, pairs).table
    rows = run_stage(Split(test=0.5), out).table.to_pylist()
    assert len(rows) == 2 * sum(one != other for one, other in scores)
    for one, other in zip(rows[::2], rows[1::2], strict=True):
        assert (one["chosen"], one["rejected"]) == (other["rejected"], other["chosen"])
        assert one["split"] == other["split"]
        for row in (one, other):
            assert row["conditions"][0]["value"] == row["chosen_score"]


def people(make_pairs, counts, **more):
    names = [name for name, count in counts.items() for _ in range(count)]
    return make_pairs(annotator=names, **more)


def test_shots_are_the_same_persons_and_never_the_pair_itself(make_pairs):
    pairs = people(make_pairs, {"ann": 7, "bob": 6, "cy": 2})
    stage = Condition(kind="few-shot", k=2, passes=3)
    check_stage(stage, pairs)
    out = run_stage(stage, pairs)
    of = dict(zip(pairs["id"].to_pylist(), pairs["annotator"].to_pylist(), strict=True))
    assert out.table.num_rows == 3 * (7 // 3 + 6 // 3)
    for row in out.table.to_pylist():
        shots = [entry["name"] for entry in row["conditions"]]
        assert len(set(shots)) == 2
        assert row["pair_group"] not in shots
        assert {of[shot] for shot in shots} == {row["annotator"]}
        asked = row["chosen"][0]["content"]
        assert asked not in row["prompt"][0]["content"]
    assert out.notes["dropped/too-few-pairs"] == 2


def test_of_pairs_with_one_prompt_one_is_in_a_window(make_pairs):
    pairs = people(make_pairs, {"ann": 8}, prompt_id=["p", "p", "p", "p", "q", "r", "s", "s"])
    out = run_stage(Condition(kind="few-shot", k=3, passes=4), pairs).table
    prompt_of = dict(zip(pairs["id"].to_pylist(), pairs["prompt_id"].to_pylist(), strict=True))
    assert out.num_rows == 4
    for row in out.to_pylist():
        seen = [prompt_of[entry["name"]] for entry in row["conditions"]] + [row["prompt_id"]]
        assert len(set(seen)) == 4


def test_shots_come_from_the_split_of_the_request(make_pairs):
    sides = ["train"] * 9 + ["test"] * 6
    pairs = people(make_pairs, {"ann": 15}, split=sides)
    out = run_stage(Condition(kind="few-shot", k=2, passes=2), pairs).table
    of = dict(zip(pairs["id"].to_pylist(), sides, strict=True))
    assert out["split"].to_pylist().count("train") == 6
    assert out["split"].to_pylist().count("test") == 2
    for row in out.to_pylist():
        assert {of[entry["name"]] for entry in row["conditions"]} == {row["split"]}


def test_the_order_of_rows_does_not_matter_to_who_is_shown(make_pairs):
    pairs = people(make_pairs, {"ann": 9})
    stage = Condition(kind="few-shot", k=2)
    one = run_stage(stage, pairs).table.sort_by("id")
    other = run_stage(stage, pairs.take(list(range(8, -1, -1)))).table.sort_by("id")
    assert one.equals(other)


def test_who_is_answered_may_be_said(make_pairs):
    pairs = make_pairs(persona=["a nurse", None, "a cook"])
    check_stage(Condition(kind="persona"), pairs)
    out = run_stage(Condition(kind="persona"), pairs)
    assert "a nurse" in out.table["prompt"][0].as_py()[0]["content"]
    assert out.notes == {"dropped/no-persona": 1}


def test_conditions_add_up(make_pairs):
    pairs = scored(make_pairs, [2.0, 3.0], [1.0, 0.0], persona=["a nurse", "a cook"])
    out = run_stage(GOAL, run_stage(Condition(kind="persona"), pairs).table).table
    assert [entry["kind"] for entry in out["conditions"][0].as_py()] == ["persona", "goal"]
    assert len(out["prompt"][0].as_py()) == 2


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"kind": "persona", "k": 3}, "for kind 'few-shot', not for 'persona'"),
        ({"kind": "few-shot", "goals": "chosen"}, "for kind 'reward-goal'"),
        ({"kind": "reward-goal", "names": ["a", "b"]}, "one name a score"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Condition.model_validate(config)
    with pytest.raises(ValidationError, match="least"):
        Direction(aspects=("a", "b"), angles=(0.0, -10.0))


def test_a_direction_decides_who_is_best(make_responses):
    # golden data.json V20: at -15 degrees (60, 20) beats (70, 80)
    answers = make_responses({"p": [0.0, 0.0], "q": [0.0, 0.0]})
    answers = put(answers, "helpfulness", pa.array([70.0, 60.0, 1.0, None]))
    answers = put(answers, "verbosity", pa.array([80.0, 20.0, 1.0, 2.0]))
    fixed = Direction(aspects=("helpfulness", "verbosity"), angles=(-15.0, -15.0))
    out = check_stage(fixed, answers)
    assert out["direction_score"].to_pylist()[:2] == pytest.approx([46.909284, 52.779169], abs=1e-6)
    assert out["direction_score"][3].as_py() is None
    assert "helpfulness*97 + verbosity*-26" in out["prompt"][0].as_py()[0]["content"]
    assert run_stage(Pair(by="direction_score"), out).table["chosen_id"].to_pylist() == ["p1"]
    drawn = check_stage(Direction(aspects=("helpfulness", "verbosity")), answers)
    prompts = drawn["prompt"].to_pylist()
    assert prompts[0] == prompts[1] != prompts[2]
    parts = np.array([[entry["value"] for entry in row] for row in drawn["conditions"].to_pylist()])
    assert np.hypot(*parts.T) == pytest.approx(1.0)
    assert (np.abs(np.degrees(np.arctan2(parts[:, 1], parts[:, 0])) + 22.5) <= 22.5).all()
    assert drawn.schema.field("prompt").type == MESSAGES


RECIPE = """
name: taste
data: [{{ file: pairs.jsonl }}]
build: [{{ condition: {{ kind: few-shot, {settings} }} }}]
"""


def built(tmp_path, prompts, people, settings, shard_rows):
    lines = [
        {
            "prompt": f"question {prompt}",
            "chosen": f"good {prompt} {person}",
            "rejected": f"bad {prompt} {person}",
            "annotator": f"person {person}",
        }
        for prompt in range(prompts)
        for person in range(people)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "taste.yaml").write_text(RECIPE.format(settings=settings))
    store = Store(tmp_path / f"runs-{shard_rows}")
    made = build(Recipe.load(tmp_path / "taste.yaml"), store, Settings(shard_rows=shard_rows)).last
    prompts_of = [set(store.get(shard)["prompt_id"].to_pylist()) for shard in made.shards]
    assert sum(map(len, prompts_of)) == len(set().union(*prompts_of)), "a prompt is in one shard"
    return made


def test_examples_of_prompts_that_several_people_chose_for_do_not_depend_on_how_rows_are_cut(tmp_path):
    made = [built(tmp_path, 60, 3, "k: 2", rows) for rows in (10_000, 20, 7)]
    assert len({one.digest for one in made}) == 1
    assert sum(shard.rows for shard in made[1].shards) == 60


def test_more_rows_with_examples_than_a_shard_holds_are_cut_by_prompt(tmp_path):
    made = built(tmp_path, 1300, 2, "k: 1, passes: 8", 10_000)
    assert sum(shard.rows for shard in made.shards) == 2 * 650 * 8
    assert all(shard.rows <= 10_000 for shard in made.shards)
    assert len(made.shards) == 2
