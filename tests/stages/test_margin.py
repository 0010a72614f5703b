"""The margin stage: from scores or votes, and its transforms."""

import math

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from prefkit.errors import EstimateError
from prefkit.objectives.weights import MarginAdaptive
from prefkit.stages.margin import Margin
from prefkit.testing import check_stage, run_stage


def test_the_margin_is_the_scaled_difference_of_scores(make_pairs):
    # golden data.json V01: gaps 4.0, 3.4, 1.0, 1.5
    pairs = make_pairs(chosen_score=[-2.5, -5.0, -3.0, -6.4], rejected_score=[-6.5, -8.4, -4.0, -7.9])
    out = check_stage(Margin(), pairs)
    assert out["margin"].to_pylist() == pytest.approx([4.0, 3.4, 1.0, 1.5])
    assert check_stage(Margin(scale=2.0), pairs)["margin"].to_pylist() == pytest.approx([8.0, 6.8, 2.0, 3.0])


@pytest.mark.parametrize("transform", ["raw", "standardise", "residual-length"])
def test_a_missing_or_infinite_score_gives_null(make_pairs, transform):
    pairs = make_pairs(
        chosen_score=[1.0, None, math.nan, math.inf, 1e308, 2.0],
        rejected_score=[0.0, 0.0, 0.0, math.inf, -1e308, None],
    )
    out = check_stage(Margin(transform=transform), pairs)
    assert out["margin"].is_valid().to_pylist() == [True, False, False, False, False, False]


def test_a_finite_margin_that_overflows_is_null(make_pairs):
    pairs = make_pairs(chosen_score=[1e308, 1.0], rejected_score=[-1e308, 0.0])
    assert check_stage(Margin(), pairs)["margin"].to_pylist() == [None, 1.0]


def test_clipping_keeps_both_ends(make_pairs):
    pairs = make_pairs(chosen_score=[9.0, -9.0, 0.5, None], rejected_score=[0.0, 0.0, 0.0, 0.0])
    assert check_stage(Margin(clip=2.0), pairs)["margin"].to_pylist() == [2.0, -2.0, 0.5, None]


def test_standardised_margins_are_in_units_of_their_spread(make_pairs):
    pairs = make_pairs(chosen_score=[3.0, 0.0, None], rejected_score=[0.0, 4.0, 0.0])
    spread = math.sqrt((9 + 16) / 2)
    out = check_stage(Margin(transform="standardise"), pairs)
    assert out["margin"].to_pylist() == [pytest.approx(3 / spread), pytest.approx(-4 / spread), None]


def test_residual_margins_have_the_length_taken_out(make_pairs):
    # golden data.json V29: margins 1, .5, -.2, .8 and length differences 400, 100, -50, 300
    gaps = [400, 100, -50, 300]
    pairs = make_pairs(
        chosen_score=[1.0, 0.5, -0.2, 0.8],
        rejected_score=[0.0] * 4,
        chosen=["x" * (100 + gap) for gap in gaps],
        rejected=["y" * 100] * 4,
    )
    out = check_stage(Margin(transform="residual-length"), pairs)
    assert out["margin"].to_pylist() == pytest.approx([-0.066667, 0.233333, -0.066667, 0.0], abs=1e-6)


def test_length_is_counted_in_characters(make_pairs):
    pairs = make_pairs(
        chosen_score=[1.0, 2.0], rejected_score=[0.0, 0.0], chosen=["😀😀", "é"], rejected=["a", "bcd"]
    )
    # gaps 1 and -2 characters: slope (1 * 1 - 2 * 2) / 5
    out = check_stage(Margin(transform="residual-length"), pairs)
    assert out["margin"].to_pylist() == pytest.approx([1 + 0.6, 2 - 1.2])


def test_the_margin_of_votes_is_their_mean_strength(make_pairs, votes):
    column = votes(
        [("a", "chosen", 1.0, 3.0), ("b", "rejected", 0.0, -1.0), ("c", "tie", None, None)], None, []
    )
    out = check_stage(Margin(source="votes"), make_pairs(3, votes=column))
    assert out["margin"].to_pylist() == [1.0, None, None]


def test_the_scope_follows_the_transform():
    assert Margin().scope() == "map"
    assert Margin(clip=1.0, source="votes").scope() == "map"
    assert Margin(transform="standardise").scope() == "global"
    assert Margin(transform="residual-length").scope() == "global"


@pytest.mark.parametrize("transform", ["raw", "standardise", "residual-length"])
def test_one_row_and_no_row(make_pairs, transform):
    pairs = make_pairs(chosen_score=[2.0], rejected_score=[1.0])
    assert run_stage(Margin(transform=transform), pairs).table["margin"].null_count == 0
    assert run_stage(Margin(transform=transform), pairs.slice(0, 0)).table.num_rows == 0


def test_equal_scores_everywhere_have_margin_zero(make_pairs):
    pairs = make_pairs(chosen_score=[2.0, 2.0], rejected_score=[2.0, 2.0])
    for transform in ("raw", "standardise", "residual-length"):
        assert run_stage(Margin(transform=transform), pairs).table["margin"].to_pylist() == [0.0, 0.0]


def test_swapping_the_sides_negates_every_margin(make_pairs):
    texts = (["a" * 5, "b" * 9, "c"], ["d" * 7, "e", "f" * 3])
    straight = make_pairs(
        chosen_score=[1.0, 5.0, 2.0], rejected_score=[0.0, 7.0, 2.5], chosen=texts[0], rejected=texts[1]
    )
    swapped = make_pairs(
        chosen_score=[1.0, 7.0, 2.5],
        rejected_score=[0.0, 5.0, 2.0],
        chosen=[texts[0][0], *texts[1][1:]],
        rejected=[texts[1][0], *texts[0][1:]],
    )
    for transform in ("raw", "standardise", "residual-length"):
        one, other = (
            run_stage(Margin(transform=transform), pairs).table["margin"] for pairs in (straight, swapped)
        )
        assert other.to_pylist() == pytest.approx([one[0].as_py(), -one[1].as_py(), -one[2].as_py()])


def test_another_score_may_be_read(make_pairs):
    pairs = make_pairs(2, chosen_help=pa.array([3.0, 1.0]), rejected_help=pa.array([1.0, 1.0]))
    assert check_stage(Margin(by="help"), pairs)["margin"].to_pylist() == [2.0, 0.0]


@pytest.mark.parametrize(
    "config",
    [
        {"scale": 0},
        {"clip": 0},
        {"transform": "residual_length"},
        {"form": "votes"},
        {"calibrate_on": "human"},
    ],
)
def test_settings_that_make_no_sense_are_refused(config):
    with pytest.raises(ValidationError):
        Margin.model_validate(config)


def graded(make_pairs, slope=0.4, count=3000, seed=2):
    """Pairs scored on a scale where `slope` log-odds are one unit, and what people said of some."""
    draw = np.random.default_rng(seed)
    gap = draw.normal(size=count) * 4
    people = (draw.random(count) < 1 / (1 + np.exp(-slope * gap))).astype(float)
    asked = draw.random(count) < 0.7
    human = pa.array(people, mask=~asked)
    return make_pairs(count, chosen_score=gap, rejected_score=[0.0] * count, human=human), gap


def test_log_odds_are_the_scale_on_which_verdicts_fit(make_pairs):
    pairs, gap = graded(make_pairs)
    out = run_stage(Margin(transform="log-odds", calibrate_on="human"), pairs)
    margin = out.table["margin"].to_numpy()
    assert margin == pytest.approx(margin[0] / gap[0] * gap)
    assert margin[0] / gap[0] == pytest.approx(0.4, abs=0.04)
    assert out.notes["margin/calibrated on rows"] == len(gap) - pairs["human"].null_count
    check_stage(Margin(transform="log-odds", calibrate_on="human"), pairs.slice(0, 40))


def test_log_odds_do_not_depend_on_the_units_of_the_score(make_pairs):
    pairs, gap = graded(make_pairs)
    tens, _ = graded(make_pairs)
    tens = tens.set_column(tens.column_names.index("chosen_score"), "chosen_score", pa.array(gap * 10))
    stage = Margin(transform="log-odds", calibrate_on="human")
    one, other = (run_stage(stage, each).table["margin"].to_numpy() for each in (pairs, tens))
    assert other == pytest.approx(one)


def test_without_verdicts_chosen_is_what_people_prefer(make_pairs):
    pairs = make_pairs(chosen_score=[2.0, 1.0, -1.0, None], rejected_score=[0.0] * 4)
    margin = check_stage(Margin(transform="log-odds"), pairs)["margin"].to_pylist()
    slope = margin[1]
    # at the best slope the predicted share of mistakes weighs up the one that was made
    assert 2 / (1 + math.exp(2 * slope)) + 1 / (1 + math.exp(slope)) == pytest.approx(
        1 / (1 + math.exp(-slope))
    )
    assert margin[3] is None


def test_a_scale_that_cannot_be_told_is_refused(make_pairs):
    perfect = make_pairs(chosen_score=[2.0, 1.0], rejected_score=[0.0, 0.0])
    with pytest.raises(EstimateError, match="no bound"):
        run_stage(Margin(transform="log-odds"), perfect)
    against = make_pairs(chosen_score=[-2.0, -1.0], rejected_score=[0.0, 0.0])
    with pytest.raises(EstimateError, match="opposite"):
        run_stage(Margin(transform="log-odds"), against)
    nothing = make_pairs(chosen_score=[None, 0.0], rejected_score=[0.0, 0.0])
    with pytest.raises(EstimateError, match="no pair"):
        run_stage(Margin(transform="log-odds"), nothing)


def test_a_clear_majority_of_verdicts_settles_the_scale_too(make_pairs):
    gaps = [*np.linspace(0.1, 5, 200), -0.01]
    pairs = make_pairs(chosen_score=gaps, rejected_score=[0.0] * 201)
    margin = run_stage(Margin(transform="log-odds"), pairs).table["margin"].to_numpy()
    assert margin[0] > 0


def test_the_scale_is_not_fitted_to_the_test_split(make_pairs):
    pairs, _ = graded(make_pairs, count=400)
    some = pairs.slice(0, 200)
    split = pa.array(["train"] * 200 + ["test"] * 200)
    stage = Margin(transform="log-odds", calibrate_on="human")
    told = run_stage(stage, pairs.append_column("split", split)).table["margin"].to_numpy()[:200]
    assert told == pytest.approx(run_stage(stage, some).table["margin"].to_numpy())


def test_tiny_and_huge_margins_have_a_spread(make_pairs):
    for size in (1e-230, 1e200):
        pairs = make_pairs(chosen_score=[3 * size, -4 * size], rejected_score=[0.0, 0.0])
        told = check_stage(Margin(transform="standardise"), pairs)["margin"].to_pylist()
        assert told == pytest.approx([3 / math.sqrt(12.5), -4 / math.sqrt(12.5)])


def test_older_settings_have_the_dump_they_had():
    assert "calibrate_on" not in Margin().model_dump(mode="json")
    assert MarginAdaptive().name == "margin-adaptive"  # named in the help of `transform`
