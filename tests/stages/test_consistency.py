"""The consistency stage: how far two scorers order a prompt's responses alike."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.stages.consistency import Consistency
from prefkit.stages.label import Label
from prefkit.stages.pair import Pair
from prefkit.testing import check_stage, run_stage

STAGE = Consistency(of=("now", "before"))


def rated(make_responses, *prompts):
    """Response rows of prompts, each a pair of lists of scores."""
    names = {f"p{at}": now for at, (now, _) in enumerate(prompts)}
    now, before = ([x for prompt in prompts for x in prompt[side]] for side in (0, 1))
    return make_responses(names, now=pa.array(now, pa.float64()), before=pa.array(before, pa.float64()))


def first_of(table, prompt):
    return next(row["consistency"] for row in table.to_pylist() if row["prompt_id"] == prompt)


def test_the_published_examples(make_responses):
    # golden data.json V15
    rows = rated(
        make_responses,
        ([0.3, 0.9, 0.1, 0.5], [0.2, 0.8, 0.4, 0.6]),
        ([1.0, 1.0, 2.0], [3.0, 1.0, 2.0]),
        ([1.0, 1.0], [2.0, 1.0]),
        ([1.0, None], [2.0, 1.0]),
        ([1.0], [2.0]),
    )
    out = check_stage(STAGE, rows)
    told = [first_of(out, f"p{at}") for at in range(5)]
    assert told == [pytest.approx(0.833333, abs=1e-6), 0.5, 0.5, None, None]
    ends = check_stage(Consistency(of=("now", "before"), how="extremes"), rows)
    assert first_of(ends, "p0") == 0.0


def test_it_reaches_the_label_through_pairing(make_responses):
    rows = rated(make_responses, ([0.3, 0.9, 0.1, 0.5], [0.2, 0.8, 0.4, 0.6]))
    pairs = run_stage(Pair(by="now"), run_stage(STAGE, rows).table).table
    out = run_stage(Label.model_validate({"ops": ["consistency"]}), pairs).table
    row = out.to_pylist()[0]
    assert (row["chosen_id"], row["rejected_id"]) == ("p01", "p02")
    h, p = 0.4, row["p_chosen"]
    loss = p * np.log1p(np.exp(-h)) + (1 - p) * np.log1p(np.exp(h))
    assert loss == pytest.approx(0.579682, abs=1e-6)


scores = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=6)


@settings(max_examples=40)
@given(scores)
def test_alike_is_one_reversed_is_zero_and_monotone_transforms_change_nothing(make_responses, given_scores):
    now, before = ([float(pair[side]) for pair in given_scores] for side in (0, 1))
    cases = [(now, now), (now, [-x for x in now]), (now, before), ([np.exp(x) for x in now], before)]
    out = run_stage(STAGE, rated(make_responses, *cases)).table
    told = [first_of(out, f"p{at}") for at in range(4)]
    even = len(set(now)) == 1
    assert told[:2] == ([0.5, 0.5] if even else [pytest.approx(1.0), pytest.approx(0.0)])
    assert told[2] == pytest.approx(told[3])
    assert 0 <= told[2] <= 1


@settings(max_examples=30)
@given(scores)
def test_both_correlations_are_those_of_scipy(make_responses, given_scores):
    from scipy.stats import kendalltau, spearmanr

    now, before = ([float(pair[side]) for pair in given_scores] for side in (0, 1))
    if len(set(now)) == 1 or len(set(before)) == 1:
        return
    rows = rated(make_responses, (now, before))
    for how, reference in (("kendall", kendalltau), ("spearman", spearmanr)):
        told = run_stage(Consistency(of=("now", "before"), how=how), rows).table["consistency"][0].as_py()
        assert told == pytest.approx((reference(now, before).statistic + 1) / 2)


def test_a_score_is_not_compared_with_itself():
    with pytest.raises(ValidationError, match="agrees with itself"):
        Consistency(of=("a", "a"))
