"""The difficulty stage: what is hard as a column, and an order by it."""

import pytest
from pydantic import ValidationError

from prefkit.stages.difficulty import Difficulty
from prefkit.stages.order import Order
from prefkit.testing import check_stage, run_stage


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, [-5.0, 5.0, None]),
        ({"kind": "agreement-needed"}, [0.377541, 0.622459, None]),
        ({"kind": "agreement-needed", "beta": 0.2}, [0.268941, 0.731059, None]),
        ({"kind": "perplexity"}, [7.389056, 2.718282, None]),
        ({"kind": "margin"}, [-2.0, 1.0, None]),
        ({"kind": "score-spread"}, [5.0, 1.0, None]),
    ],
)
def test_difficulty_of_each_kind(make_pairs, config, expected):
    pairs = make_pairs(
        ref_chosen_logp=[-40.0, -55.0, None],
        ref_rejected_logp=[-45.0, -50.0, -1.0],
        chosen_n_tokens=[20, 55, 0],
        margin=[2.0, -1.0, None],
        chosen_score_std=[3.0, 1.0, None],
        rejected_score_std=[4.0, 0.0, 1.0],
    )
    stage = Difficulty.model_validate(config)
    out = check_stage(stage, pairs)
    assert out["difficulty"].to_pylist() == pytest.approx(expected, abs=1e-6)
    ranks = run_stage(Order(by="difficulty", easy="low"), out).table["rank"].to_pylist()
    assert ranks == [int(expected[0] > expected[1]), int(expected[0] < expected[1]), 2]


def test_a_beta_without_use_is_refused():
    with pytest.raises(ValidationError, match="has no beta"):
        Difficulty(kind="margin", beta=0.1)
