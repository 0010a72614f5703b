import math

from prefkit.stages.pass_rate import PassRate
from prefkit.testing import check_stage


def test_the_pass_rate_is_the_share_of_scored_responses_that_pass(make_responses):
    table = make_responses(
        {"p": [1.0, 0.0, 1.0], "q": [0.0], "r": [None, 1.0], "s": [None, None], "t": [0.5, 2.0]}
    )
    out = check_stage(PassRate(), table)
    assert out["pass_rate"].to_pylist() == [2 / 3] * 3 + [0.0] + [1.0] * 2 + [None] * 2 + [0.5] * 2


def test_the_least_score_that_passes_and_its_column_can_be_named(make_responses):
    table = make_responses({"p": [1.0, 1.0]}, help=[0.4, 0.6])
    out = check_stage(PassRate(by="help", at_least=0.5), table)
    assert out["pass_rate"].to_pylist() == [0.5, 0.5]


def test_a_score_that_is_no_number_does_not_pass_by_accident(make_responses):
    out = check_stage(PassRate(), make_responses({"p": [math.nan, 1.0]}))
    assert out["pass_rate"].to_pylist() == [1.0, 1.0]
