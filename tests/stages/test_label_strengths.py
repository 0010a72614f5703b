"""Strengths of responses and of models, through the label stage."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from prefkit.errors import EstimateError, PrefkitError
from prefkit.estimators.preference import logistic
from prefkit.labels.direction import turn_round
from prefkit.stages.label import Label
from prefkit.testing import check_stage, run_stage

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rank_aggregation.json").read_text())
MODELS = ("bradley-terry", "davidson", "rao-kupper", "elo", "win-rate", "copeland")
WINS = {("A", "B"): (3, 1), ("A", "C"): (4, 0), ("B", "C"): (2, 2)}


@pytest.fixture
def met(make_pairs, votes):
    """Three responses, as in the worked example: A beat B 3 to 1, C 4 to 0, and B and C are even."""

    def build(wins=WINS, ties=0, **more):
        rows = [
            [("x", "chosen", None, None)] * won
            + [("x", "rejected", None, None)] * lost
            + [("x", "tie", None, None)] * ties
            for won, lost in wins.values()
        ]
        one, other = zip(*wins, strict=True)
        more = {"prompt_id": ["p"] * len(rows), "chosen_id": list(one), "rejected_id": list(other), **more}
        return make_pairs(votes=votes(*rows), **more)

    return build


def label(table, **settings):
    return run_stage(Label(ops=({"from-strengths": settings},)), table)


def test_three_responses_have_bradley_and_terrys_strengths(met):
    a, b, c = GOLDEN["bt"]["theta"]
    out = label(met(), ridge=0.0).table
    assert out["margin"].to_pylist() == pytest.approx([a - b, a - c, b - c], abs=1e-5)
    assert out["p_chosen"][0].as_py() == pytest.approx(logistic(np.array(GOLDEN["bt"]["d_AB"])), abs=1e-6)
    a, b, c = GOLDEN["bt"]["theta_ridge_0_1"]
    assert label(met()).table["margin"].to_pylist() == pytest.approx([a - b, a - c, b - c], abs=1e-5)


def test_sides_that_are_even_alone_are_not_where_one_did_better_against_a_third(met):
    assert label(met(), ridge=0.0).table["p_chosen"][2].as_py() > 0.6


@pytest.mark.parametrize("model", MODELS)
def test_exchanged_sides_have_the_mirrored_label_and_the_laws_hold(met, model):
    stage = Label(ops=({"from-strengths": {"model": model}},))
    table = met(ties=1)
    out = check_stage(stage, table)
    other = run_stage(stage, turn_round(table, np.array([True, False, True]))).table
    sign = np.array([-1, 1, -1])
    assert out["margin"].to_pylist() == pytest.approx(sign * other["margin"].to_numpy(), abs=1e-6)
    if "p_chosen" in out.column_names:
        told = out["p_chosen"].to_numpy(), other["p_chosen"].to_numpy()
        assert told[0] == pytest.approx(np.where(sign < 0, 1 - told[1], told[1]), abs=1e-6)


def test_ties_are_a_class_of_their_own_and_the_note_says_which_parameter_they_have(met):
    out = label(met(ties=1), model="davidson", ridge=0.0)
    assert out.notes["label/nu of exp(d/2) : exp(-d/2) : nu: 2"] == 1
    assert 0.5 < out.table["p_chosen"][0].as_py() < 0.9


def test_models_are_compared_over_all_prompts(met):
    names = {"chosen_model": ["m", "m", "n"], "rejected_model": ["n", "o", "o"]}
    table = met(prompt_id=["p", "q", "r"], chosen_id=["1", "2", "3"], rejected_id=["4", "5", "6"], **names)
    a, b, c = GOLDEN["bt"]["theta"]
    out = label(table, of="models", ridge=0.0).table
    assert out["margin"].to_pylist() == pytest.approx([a - b, a - c, b - c], abs=1e-5)


def test_what_never_met_is_refused_without_a_ridge_and_counted_with_one(met):
    apart = {("A", "B"): (1, 1), ("C", "D"): (2, 1)}
    with pytest.raises(EstimateError, match="parts"):
        label(met(apart), ridge=0.0)
    assert label(met(apart)).notes["label/parts that nothing compares"] == 2
    with pytest.raises(EstimateError, match="infinite"):
        label(met({("A", "B"): (3, 0)}), ridge=0.0)


def test_votes_of_the_test_split_have_no_say(met):
    wins = {("A", "B"): (3, 1), ("B", "A"): (0, 9), ("C", "D"): (1, 0)}
    out = label(met(wins, split=["train", "test", "test"]), ridge=0.0).table
    assert out["margin"].to_pylist() == [
        pytest.approx(np.log(3), abs=1e-6),
        pytest.approx(-np.log(3), abs=1e-6),
        None,
    ]


def test_pairs_without_a_named_side_have_no_label(met):
    out = label(met(chosen_id=["A", "A", None])).table
    assert out["margin"][2].as_py() is None
    assert out["margin"][0].as_py() > 0
    nobody = met(chosen_id=pa.nulls(3, pa.string()))
    with pytest.raises(PrefkitError, match="no vote compares"):
        label(nobody)
