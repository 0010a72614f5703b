"""The split stage: prompts go to one side, whatever else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.stages.split import Split
from prefkit.testing import check_stage, run_stage


def test_rows_of_a_prompt_are_on_one_side(make_responses):
    out = check_stage(Split(test=0.5), make_responses({f"p{i}": [1.0, 0.0, 2.0] for i in range(12)}))
    sides = {}
    for prompt, side in zip(out["prompt_id"].to_pylist(), out["split"].to_pylist(), strict=True):
        sides.setdefault(prompt, set()).add(side)
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "test"}


@given(st.lists(st.text(max_size=5), min_size=1, max_size=20), st.floats(0, 1))
def test_no_prompt_is_ever_on_both_sides(make_pairs, prompts, share):
    out = run_stage(
        Split(test=share), make_pairs(prompt_id=prompts, id=[str(i) for i in range(len(prompts))])
    ).table
    train, test = (
        {p for p, s in zip(out["prompt_id"].to_pylist(), out["split"].to_pylist(), strict=True) if s == side}
        for side in ("train", "test")
    )
    assert not train & test
    assert train | test == set(prompts)


def test_a_prompt_is_on_the_same_side_in_every_dataset_and_under_every_seed(make_pairs):
    alone = run_stage(Split(test=0.5), make_pairs(prompt_id=["p7"]), seed=9).table["split"][0].as_py()
    among = run_stage(Split(test=0.5), make_pairs(prompt_id=[f"p{i}" for i in range(50)]), seed=0).table
    assert among["split"][7].as_py() == alone


def test_a_larger_share_keeps_what_was_held_out(make_pairs):
    pairs = make_pairs(prompt_id=[f"p{i}" for i in range(500)])
    few, more = (run_stage(Split(test=share), pairs).table["split"].to_pylist() for share in (0.1, 0.3))
    assert all(other == "test" for one, other in zip(few, more, strict=True) if one == "test")


def test_the_share_is_about_what_was_asked_for(make_pairs):
    pairs = make_pairs(prompt_id=[f"p{i}" for i in range(5000)])
    held_out = run_stage(Split(test=0.02), pairs).table["split"].to_pylist().count("test")
    assert abs(held_out - 100) < 40  # four standard deviations


def test_the_ends_of_the_share(make_pairs):
    assert set(run_stage(Split(test=0.0), make_pairs(50)).table["split"].to_pylist()) == {"train"}
    assert set(run_stage(Split(test=1.0), make_pairs(50)).table["split"].to_pylist()) == {"test"}


def test_another_salt_gives_another_split(make_pairs):
    pairs = make_pairs(100)
    one, other = (
        run_stage(Split(test=0.5, salt=salt), pairs).table["split"].to_pylist() for salt in ("", "x")
    )
    assert one != other


def test_every_level_can_be_split(make_pairs, make_responses):
    responses = make_responses({"p": [1.0], "q": [1.0]})
    prompts = responses.select(["id", "prompt_id", "prompt"])
    for table in (prompts, responses, make_pairs(prompt_id=["p", "q"])):
        assert check_stage(Split(test=0.5, salt="s"), table)["split"].null_count == 0


def test_a_share_above_one_is_refused():
    with pytest.raises(ValidationError):
        Split(test=1.1)


def crowd(make_pairs, prompts=60, people=40):
    asked = [(f"p{p}", f"u{u}") for p in range(prompts) for u in range(people)]
    return make_pairs(prompt_id=[p for p, _ in asked], annotator=[u for _, u in asked])


def named(table, column, side):
    return {n for n, s in zip(*(table[c].to_pylist() for c in (column, "split")), strict=True) if s == side}


def test_people_are_held_out_with_all_their_rows(make_pairs):
    out = check_stage(Split(by="annotator", test=0.3), crowd(make_pairs, 4, 12))
    assert out.num_rows == 48
    assert not named(out, "annotator", "train") & named(out, "annotator", "test")
    assert named(out, "annotator", "test")


def test_new_people_on_new_prompts_share_neither_with_the_training_rows(make_pairs):
    out = run_stage(Split(by="both", test=0.3), crowd(make_pairs))
    for column in ("annotator", "prompt_id"):
        assert not named(out.table, column, "train") & named(out.table, column, "test")
    sides = out.table["split"].to_pylist()
    assert 0 < sides.count("test") < sides.count("train")
    assert out.notes["dropped/new-prompt-or-person-alone"] == 2400 - len(sides)
    check_stage(Split(by="both", test=0.4), crowd(make_pairs, 3, 5))


def test_rows_of_nobody_cannot_be_said_to_be_of_somebody_new(make_pairs):
    out = run_stage(Split(by="annotator", test=0.5), make_pairs(annotator=["a", None]))
    assert out.table["annotator"].to_pylist() == ["a"]
    assert out.notes == {"dropped/no-annotator": 1}


def test_a_split_by_prompt_is_what_it_was_before_people_could_be_held_out():
    assert Split(test=0.1).model_dump() == {"test": 0.1, "salt": ""}
    assert Split(test=0.1, by="both").model_dump()["by"] == "both"
