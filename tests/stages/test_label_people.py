"""Labels of people who differ, and how many labels are wrong, through the label stage."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.columns import VOTES
from prefkit.errors import EstimateError
from prefkit.estimators.preference import logistic
from prefkit.labels.direction import turn_round
from prefkit.stages.label import Label
from prefkit.testing import check_stage, run_stage

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "annotators.json").read_text())
MARGINS = np.array([2.0, -1.0])
LCPO = [0.95, 0.9, 0.85, 0.8, 0.9, 0.2, 0.1, 0.7, 0.6, 0.95]


def label(table, op, **settings):
    return run_stage(Label(ops=({op: settings},)), table)


def cast(wins, total):
    """One row's votes: how often each person said chosen, of how many times."""
    return [
        {"judge": f"j{at}", "winner": "chosen" if vote < won else "rejected"}
        for at, (won, asked) in enumerate(zip(wins, total, strict=True))
        for vote in range(asked)
    ]


def test_two_people_who_disagree_have_a_stronger_mean_preference_than_their_pooled_votes(make_pairs, votes):
    golden = GOLDEN["heterogeneous"]
    wins = round(1000 * golden["p_bar"])
    column = votes(
        *[[("x", "chosen", None, None)] * wins + [("x", "rejected", None, None)] * (1000 - wins)] * 2
    )
    table = make_pairs(2, votes=column)
    out = check_stage(Label(ops=({"from-people": {"variance": golden["var_p"], "pseudo": 1e-9}},)), table)
    assert out["p_chosen"].to_pylist() == pytest.approx([golden["s_corrected"]] * 2, abs=1e-3)
    assert out["margin"].to_pylist() == pytest.approx([golden["corrected_margin"]] * 2, abs=3e-3)
    pooled = label(table, "from-people", variance=0.0, pseudo=1e-9).table
    assert pooled["margin"].to_pylist() == pytest.approx([golden["bt_margin"]] * 2, abs=2e-3)


def test_people_who_differ_too_much_keep_the_pooled_label_and_are_counted(make_pairs, votes):
    golden = GOLDEN["heterogeneous_fail"]
    column = votes([("x", "chosen", None, None)] * 631 + [("x", "rejected", None, None)] * 369)
    out = label(make_pairs(1, votes=column), "from-people", variance=golden["var_p"], pseudo=1e-9)
    assert out.notes["label/differ too much"] == 1
    assert out.table["p_chosen"].to_pylist() == pytest.approx([golden["p_bar"]], abs=1e-3)


@given(st.integers(1, 9), st.floats(0.001, 0.25))
def test_the_correction_never_turns_a_preference_and_mirrors_with_its_pair(make_pairs, votes, wins, variance):
    rows = [("x", "chosen", None, None)] * wins + [("x", "rejected", None, None)] * (10 - wins)
    table = make_pairs(1, votes=votes(rows))
    stage = Label(ops=({"from-people": {"variance": variance}},))
    margin = run_stage(stage, table).table["margin"][0].as_py()
    assert margin * (wins - 5) >= 0
    mirrored = run_stage(stage, turn_round(table, np.array([True]))).table
    assert mirrored["margin"][0].as_py() == pytest.approx(-margin, abs=1e-9)


def test_the_variance_is_found_from_people_who_judged_a_pair_twice(make_pairs):
    draw = np.random.default_rng(0)
    p = logistic(np.where(draw.random((300, 12)) < 0.5, 1.5, -1.0))
    rows = [cast(won, [2] * 12) for won in draw.binomial(2, p)]
    split = ["train"] * 200 + ["test"] * 100
    table = make_pairs(300, votes=pa.array(rows, VOTES), split=split)
    out = label(table, "from-people")
    found = next(float(name.rpartition(": ")[2]) for name in out.notes if "variance found" in name)
    assert found == pytest.approx(p.var(axis=1).mean(), abs=0.01)
    margins, pooled = (
        label(table, "from-people", **more).table["margin"].to_numpy() for more in ({}, {"variance": 0.0})
    )
    assert (np.abs(margins) >= np.abs(pooled) - 1e-9).all()
    once = make_pairs(2, votes=pa.array([cast([1, 0], [1, 1])] * 2, VOTES))
    with pytest.raises(EstimateError, match="on no pair have two people two judgements"):
        label(once, "from-people")


def test_only_pairs_on_which_people_are_unanimous_have_a_label(make_pairs, votes):
    a, b, c = (("ann", "chosen"), ("bob", "chosen"), ("bob", "rejected"))
    said = [[a, b], [a, c], [a, a], [("ann", "tie"), ("bob", "tie")], [("ann", "rejected"), c], [b, c, a]]
    column = votes(*[[(*vote, None, None) for vote in row] for row in said], None)
    out = check_stage(Label(ops=({"from-people": {"how": "unanimous"}},)), make_pairs(7, votes=column))
    assert out["p_chosen"].to_pylist() == [1.0, None, None, 0.5, 0.0, None, None]


def test_unanimous_pairs_have_the_odds_of_the_sum_of_what_people_prefer(make_pairs):
    draw = np.random.default_rng(1)
    left = draw.random((20_000, 2)) < logistic(MARGINS)
    table = make_pairs(20_000, votes=pa.array([cast(row, [1, 1]) for row in left.astype(int)], VOTES))
    p = label(table, "from-people", how="unanimous").table["p_chosen"].drop_null().to_numpy()
    assert len(p) / 20_000 == pytest.approx(GOLDEN["heterogeneous"]["kept_fraction"], abs=0.015)
    assert p.mean() == pytest.approx(GOLDEN["heterogeneous"]["unanimous_cond"], abs=0.02)


def test_beliefs_tell_how_many_labels_are_wrong_and_which(make_pairs):
    out = label(make_pairs(10, p_chosen=LCPO), "noise")
    golden = GOLDEN["lcpo_fixed"]
    assert 1 - out.table["flip_prob"].to_numpy() == pytest.approx(np.array(golden["weights"]), abs=2e-6)
    assert found_noise(out.notes)[0] == pytest.approx(1 - golden["eta"], abs=1e-4)
    check_stage(Label(ops=("noise",)), make_pairs(10, p_chosen=LCPO))


def found_noise(notes):
    told = next(name for name in notes if "noise found" in name).partition(": ")[2]
    rate, low, high = (float(word.strip("()")) for word in told.replace("to ", "").split())
    return rate, low, high


def noisy(make_pairs, rows=6000, rate=0.2, **more):
    """Pairs whose labels were turned round at a rate, and what a calibrated scorer that saw none of them says."""
    draw = np.random.default_rng(3)
    margin = draw.normal(0, 2.5, rows)
    margin = np.where(draw.random(rows) < logistic(margin), margin, -margin)  # chosen is the better one
    wrong = draw.random(rows) < rate
    p = logistic(np.where(wrong, -margin, margin))
    return make_pairs(rows, p_chosen=p, **more), wrong


def test_a_planted_fifth_is_found_within_2_points_and_the_interval_has_it(make_pairs):
    table, wrong = noisy(make_pairs)
    rate, low, high = found_noise(label(table, "noise").notes)
    assert rate == pytest.approx(wrong.mean(), abs=0.02)
    assert low < wrong.mean() < high
    assert high - low < 0.06


def test_the_fewer_rows_are_kept_by_flip_prob_the_more_of_their_labels_are_right(make_pairs):
    table, wrong = noisy(make_pairs)
    flip = label(table, "noise").table["flip_prob"].to_numpy()
    order = np.argsort(flip)
    right = [(~wrong[order[: int(kept * len(order))]]).mean() for kept in (1.0, 0.8, 0.6, 0.4, 0.2)]
    assert right[0] == pytest.approx(0.8, abs=0.02)
    assert (np.diff(right) > 0).all()
    assert right[1] > right[0] + 0.08
    assert right[-1] > 0.99


def test_a_belief_that_has_the_noise_in_it_finds_none_unless_it_is_calibrated_on_clean_labels(make_pairs):
    table, wrong = noisy(make_pairs)
    p = table["p_chosen"].to_numpy()
    margin = 0.45 * np.log(
        p / (1 - p)
    )  # a scorer that learned from a fifth of wrong labels is so much less sure
    known = np.where(np.arange(len(p)) % 5 == 0, (~wrong).astype(float), np.nan)
    gold = pa.array(known, mask=np.isnan(known))
    at = table.column_names.index("p_chosen")
    unsure = table.set_column(at, "p_chosen", pa.array(logistic(margin))).append_column("people", gold)
    assert found_noise(label(unsure, "noise").notes)[0] < 0.15
    out = label(unsure, "noise", calibrate_on="people")
    rate, low, high = found_noise(out.notes)
    assert rate == pytest.approx(wrong.mean(), abs=0.02)
    assert low < wrong.mean() < high
    assert out.notes["label/calibrated on rows"] == 1200
    check_stage(Label(ops=({"noise": {"calibrate_on": "people"}},)), unsure.slice(0, 60))


def test_each_annotator_has_a_rate_of_their_own_and_the_test_split_none(make_pairs):
    who = ["good"] * 3000 + ["bad"] * 3000
    table, wrong = noisy(make_pairs, annotator=who, split=["train", "train", "test"] * 2000)
    table = table.filter(pa.array(~wrong | (np.arange(6000) >= 3000)))
    stage = Label(ops=({"noise": {"annotators": "each"}},))
    flip = run_stage(stage, table).table["flip_prob"].to_numpy()
    good = np.array(table["annotator"].to_pylist()) == "good"
    assert flip[good].mean() < 0.01
    assert flip[~good].mean() == pytest.approx(0.2, abs=0.03)
    check_stage(stage, table.slice(2300, 200))


def test_votes_that_differ_tell_how_often_one_is_wrong(make_pairs):
    draw = np.random.default_rng(4)
    wrong = draw.random((4000, 3)) < 0.2
    rows = [cast(row, [1, 1, 1]) for row in (~wrong).astype(int)]
    table = make_pairs(4000, votes=pa.array(rows, VOTES))
    out = label(table, "noise", by="votes")
    rate, low, high = found_noise(out.notes)
    assert rate == pytest.approx(0.2, abs=0.02)
    assert low < 0.2 < high
    flip = out.table["flip_prob"].to_numpy()
    assert flip[wrong.sum(axis=1) == 0] == pytest.approx(rate**3 / (rate**3 + (1 - rate) ** 3), abs=1e-4)
    assert flip[wrong.sum(axis=1) == 3].min() > 0.98
    check_stage(Label(ops=({"noise": {"by": "votes"}},)), table.slice(0, 50))


@pytest.mark.parametrize(
    ("op", "settings", "told"),
    [
        ("noise", {"by": "votes", "annotators": "each"}, "for by 'p_chosen'"),
        ("from-people", {"how": "unanimous", "variance": 0.1}, "not for how 'unanimous'"),
        ("from-people", {"least": 3}, "not for how 'variance'"),
    ],
)
def test_settings_that_say_nothing_are_refused(op, settings, told):
    with pytest.raises(ValueError, match=told):
        Label(ops=({op: settings},))
