"""The win-rate stage: how often a response beats one drawn from its prompt's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.stages.pair import Pair
from prefkit.stages.win_rate import WinRate
from prefkit.testing import check_stage, run_stage


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_it_is_the_mean_probability_of_winning_with_itself_at_one_half(make_responses):
    out = check_stage(WinRate(), make_responses({"p": [2.0, 0.0, 1.0], "q": [3.0]}))
    wanted = [
        (0.5 + sigmoid(2) + sigmoid(1)) / 3,
        (sigmoid(-2) + 0.5 + sigmoid(-1)) / 3,
        (sigmoid(-1) + sigmoid(1) + 0.5) / 3,
        0.5,
    ]
    assert out["win_rate"].to_pylist() == pytest.approx(wanted)


def test_the_scale_multiplies_score_differences(make_responses):
    out = check_stage(WinRate(scale=3.0), make_responses({"p": [1.0, 0.0]}))
    assert out["win_rate"].to_pylist() == pytest.approx([(0.5 + sigmoid(3)) / 2, (0.5 + sigmoid(-3)) / 2])


@given(st.lists(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=6), min_size=2, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_win_rates_of_a_prompt_average_to_one_half(make_responses, scores):
    table = make_responses({f"p{at}": group for at, group in enumerate(scores)})
    rates = iter(check_stage(WinRate(), table)["win_rate"].to_pylist())
    for group in scores:
        mine = [next(rates) for _ in group]
        assert np.mean(mine) == pytest.approx(0.5, abs=1e-9)
        assert [mine[at] for at in np.argsort(group)] == sorted(mine)


def test_a_response_without_a_score_has_none_and_counts_for_none(make_responses):
    table = make_responses({"p": [1.0, None, math.inf, 1.0], "q": [None, math.nan]})
    out = check_stage(WinRate(), table)
    assert out["win_rate"].to_pylist() == [0.5, None, None, 0.5, None, None]


def test_the_sizes_of_the_groups_are_counted(make_responses):
    out = run_stage(WinRate(), make_responses({"p": [1.0, 2.0], "q": [1.0, None], "r": [3.0, 3.0]}))
    assert out.notes == {"win-rate/prompts-with-2-responses": 2, "win-rate/prompts-with-1-responses": 1}


def test_another_score_may_be_read_and_pairs_carry_the_rates_of_both_sides(make_responses):
    table = make_responses({"p": [0.0, 1.0]}, style=[2.0, 2.0])
    assert check_stage(WinRate(by="style"), table)["win_rate"].to_pylist() == [0.5, 0.5]
    pairs = run_stage(Pair(), run_stage(WinRate(), table).table).table
    assert pairs["chosen_win_rate"].to_pylist() == pytest.approx([(0.5 + sigmoid(1)) / 2])
    assert pairs["rejected_win_rate"].to_pylist() == pytest.approx([(0.5 + sigmoid(-1)) / 2])
