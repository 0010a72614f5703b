"""The mix stage: quotas of whole prompts."""

from collections import Counter

import pytest
from pydantic import ValidationError

from prefkit.errors import ContractError
from prefkit.stages.mix import Mix
from prefkit.testing import check_stage, run_stage


def mixed(make_responses, **sizes: int):
    prompts = [f"{name}{i}" for name, size in sizes.items() for i in range(size)]
    sources = [name for name, size in sizes.items() for _ in range(size) for _ in range(2)]
    return make_responses({prompt: [1.0, 0.0] for prompt in prompts}, source=sources)


def prompts_by_source(table) -> dict[str, int]:
    return dict(
        Counter(
            source
            for _, source in set(zip(*(table[c].to_pylist() for c in ("prompt_id", "source")), strict=True))
        )
    )


def test_quotas_are_kept_exactly(make_responses):
    # golden data.json V34: .5, .3, .2 of 7 are 4, 2, 1
    responses = mixed(make_responses, a=9, b=9, c=9)
    stage = Mix(shares={"a": 0.5, "b": 0.3, "c": 0.2}, total=7)
    out = check_stage(stage, responses)
    assert prompts_by_source(out) == {"a": 4, "b": 2, "c": 1}
    assert run_stage(stage, responses).notes == {"dropped/over-share": 40}


def test_a_prompt_stays_whole(make_responses):
    out = run_stage(Mix(shares={"a": 1, "b": 1}), mixed(make_responses, a=5, b=3)).table
    assert set(Counter(out["prompt_id"].to_pylist()).values()) == {2}


def test_without_a_total_as_many_as_the_shares_allow(make_responses):
    out = run_stage(Mix(shares={"a": 2, "b": 1}), mixed(make_responses, a=9, b=3)).table
    assert prompts_by_source(out) == {"a": 6, "b": 3}


def test_a_stratum_without_a_share_goes(make_responses):
    out = run_stage(Mix(shares={"a": 1}), mixed(make_responses, a=2, b=3))
    assert prompts_by_source(out.table) == {"a": 2}
    assert out.notes == {"dropped/no-share": 6}


def test_temperature_makes_strata_even(make_responses):
    responses = mixed(make_responses, a=16, b=4)
    assert prompts_by_source(run_stage(Mix(), responses).table) == {"a": 16, "b": 4}
    even = run_stage(Mix(temperature=2.0, total=12), responses)
    assert prompts_by_source(even.table) == {"a": 8, "b": 4}


def test_a_quota_that_cannot_be_met_is_counted(make_responses):
    out = run_stage(Mix(shares={"a": 1, "b": 1}, total=10), mixed(make_responses, a=9, b=2))
    assert prompts_by_source(out.table) == {"a": 5, "b": 2}
    assert out.notes["mix/short-of-b"] == 3


def test_a_larger_total_keeps_what_a_smaller_kept(make_responses):
    responses = mixed(make_responses, a=20, b=20)
    few, more = (set(run_stage(Mix(total=n), responses).table["prompt_id"].to_pylist()) for n in (10, 20))
    assert few < more


def test_which_prompts_stay_depends_on_the_seed_and_not_on_the_order(make_responses):
    responses = mixed(make_responses, a=20)
    one, other = (
        set(run_stage(Mix(total=10), responses, seed=s).table["prompt_id"].to_pylist()) for s in (0, 1)
    )
    assert one != other
    turned = responses.take([*range(20, 40), *range(20)])
    assert set(run_stage(Mix(total=10), turned).table["prompt_id"].to_pylist()) == one


def test_strata_within_a_prompt_are_refused(make_responses):
    responses = make_responses({"p": [1.0, 0.0], "q": [1.0, 2.0]}, source=["a", "b", "a", "a"])
    with pytest.raises(ContractError, match="varies within a prompt"):
        Mix()(responses)


def test_strata_that_are_not_there_are_refused(make_responses):
    with pytest.raises(ContractError, match="none of the strata"):
        Mix(shares={"z": 1})(mixed(make_responses, a=2))


def test_one_prompt_and_none(make_responses):
    responses = mixed(make_responses, a=1)
    assert run_stage(Mix(), responses).table.num_rows == 2
    assert run_stage(Mix(), responses.slice(0, 0)).table.num_rows == 0


@pytest.mark.parametrize(
    "config", [{"shares": {"a": 0}}, {"shares": {"a": -1}}, {"total": 0}, {"temperature": 0}]
)
def test_settings_that_make_no_sense_are_refused(config):
    with pytest.raises(ValidationError):
        Mix.model_validate(config)
