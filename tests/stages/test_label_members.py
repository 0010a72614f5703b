"""Label ops on several scorers, searches and anchors, and ties calibrated on people."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import EstimateError
from prefkit.stages.label import Label
from prefkit.testing import check_stage, run_stage

# golden data.json V17: ten reward models on one published pair
GAPS = [0.171875, -0.402344, 1.265625, 0.336884, -1.867188, -0.21875, 0.335938, -0.21875, -0.46875, -0.265625]
# golden data.json V16: margins of two reward models
A, B = [2.0, -1.0, 0.3, 1.2, -0.2, 0.8], [1.5, 0.4, -0.6, 1.0, 0.1, -0.9]


def label(*ops: object) -> Label:
    return Label.model_validate({"ops": list(ops)})


def scored(make_pairs, **gaps):
    """Pairs whose scores differ by these gaps."""
    sides = {}
    for name, values in gaps.items():
        sides[f"chosen_{name}"] = pa.array(values, pa.float64())
        sides[f"rejected_{name}"] = pa.array([0.0] * len(values))
    return make_pairs(len(next(iter(gaps.values()))), **sides)


def test_an_ensemble_says_how_strong_a_preference_is(make_pairs):
    pairs = scored(make_pairs, **{f"m{at}": [gap, -gap] for at, gap in enumerate(GAPS)})
    op = {"of": [f"m{at}" for at in range(10)], "standardise": False}
    row = check_stage(label({"from-ensemble": op}), pairs).to_pylist()[0]
    assert row["margin"] == pytest.approx(-0.133109, abs=1e-6)
    assert row["strength_std"] == pytest.approx(0.796853, abs=1e-6)
    assert row["strength_agree"] == pytest.approx(0.4)
    assert row["p_chosen"] == pytest.approx(0.473406, abs=1e-6)
    other = check_stage(label({"from-ensemble": {**op, "p": "sigmoid-mean"}}), pairs)
    assert other["p_chosen"][0].as_py() == pytest.approx(0.466772, abs=1e-6)


def test_standardised_members_count_alike_whatever_their_scale(make_pairs):
    one = scored(make_pairs, a=[1.0, -2.0, 3.0, None], b=[0.5, 0.25, -1.0, 1.0])
    wide = scored(make_pairs, a=[100.0, -200.0, 300.0, None], b=[0.5, 0.25, -1.0, 1.0])
    stage = label({"from-ensemble": {"of": ["a", "b"]}})
    told = [check_stage(stage, pairs).to_pylist() for pairs in (one, wide)]
    for name in ("p_chosen", "margin", "strength_std", "strength_agree"):
        assert [row[name] for row in told[0]][:3] == pytest.approx([row[name] for row in told[1]][:3])
        assert told[0][3][name] is None


def test_the_scale_of_members_is_not_fitted_to_the_test_split(make_pairs):
    pairs = scored(make_pairs, a=[1.0, -1.0, 50.0], b=[1.0, 1.0, 1.0]).append_column(
        "split", pa.array(["train", "train", "test"])
    )
    out = check_stage(label({"from-ensemble": {"of": ["a", "b"]}}), pairs)
    assert out["margin"].to_pylist() == pytest.approx([1.0, 0.0, 25.5])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=2, max_size=6))
def test_an_ensemble_says_the_mirror_image_of_mirrored_pairs(make_pairs, rows):
    one, other = [list(side) for side in zip(*rows, strict=True)]
    straight = scored(make_pairs, a=one, b=other)
    mirrored = scored(make_pairs, a=[-x for x in one], b=[-x for x in other])
    stage = label({"from-ensemble": {"of": ["a", "b"]}})
    told, back = run_stage(stage, straight).table, run_stage(stage, mirrored).table
    for name, sum_ in (("p_chosen", 1.0), ("strength_agree", 1.0), ("margin", 0.0)):
        total = told[name].to_numpy() + back[name].to_numpy()
        assert total == pytest.approx(np.full(len(rows), sum_), abs=1e-9)
    assert told["strength_std"].to_numpy() == pytest.approx(back["strength_std"].to_numpy(), abs=1e-12)


def test_turning_round_mirrors_what_scorers_of_pairs_said(make_pairs):
    pairs = make_pairs(
        margin=[-1.0, 1.0],
        score_p=pa.array([0.2, 0.7]),
        score_bald=pa.array([0.1, 0.2]),
        gpm_margin=pa.array([-0.5, 0.5]),
        gpm_p=pa.array([0.1, 0.9]),
        top_p=pa.array([0.95, 0.95]),
        strength_agree=[0.3, 0.8],
        kept_by=["both", "both"],
    )
    out = check_stage(label({"orient": {"by": "margin"}}), pairs)
    assert out["score_p"].to_pylist() == pytest.approx([0.8, 0.7])
    assert out["score_bald"].to_pylist() == [0.1, 0.2]
    assert out["gpm_margin"].to_pylist() == [0.5, 0.5]
    assert out["gpm_p"].to_pylist() == pytest.approx([0.9, 0.9])
    assert out["top_p"].to_pylist() == [0.95, 0.95]
    assert out["strength_agree"].to_pylist() == pytest.approx([0.7, 0.8])
    assert out["kept_by"].to_pylist() == [None, "both"]


def test_strength_then_flip_as_published(make_pairs):
    strengths = [1.9, -0.8, 0.1, 0.6, 2.4, 0.3, -0.2, 1.1, 0.05, 0.9]
    pairs = scored(make_pairs, a=strengths, b=strengths)
    ops = [{"from-ensemble": {"of": ["a", "b"], "standardise": False}}, {"flip": {"bottom": 0.2}}]
    out = check_stage(label(*ops), pairs)
    assert np.flatnonzero(out["flipped"].to_numpy()).tolist() == [1, 6]
    assert (out["margin"].to_numpy() >= 0).all()
    assert out["strength_agree"].to_pylist() == [1.0] * 10


def test_visits_make_a_cautious_label(make_pairs):
    # golden data.json V05: 5 visits against 2
    counts = {"chosen_visits": [5, 2, 0, 3, None], "rejected_visits": [2, 5, 0, -1, 1]}
    pairs = make_pairs(5, **{name: pa.array(values, pa.int64()) for name, values in counts.items()})
    p = check_stage(label("visits"), pairs)["p_chosen"].to_pylist()
    assert p == [pytest.approx(0.714286, abs=1e-6), 0.5, 1.0, None, None]


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_more_visits_to_chosen_never_lower_its_probability(make_pairs, won, lost):
    pairs = make_pairs(
        2, chosen_visits=pa.array([won, won + 1]), rejected_visits=pa.array([lost, lost], pa.int64())
    )
    p = run_stage(label("visits"), pairs).table["p_chosen"].to_pylist()
    assert 0.5 <= p[0] <= p[1] <= 1


def test_consistency_is_the_mean_over_prompts_or_each_prompts_own(make_pairs):
    pairs = make_pairs(
        prompt_id=["p", "p", "q", "r"],
        consistency=[1.0, 1.0, 0.5, None],
    )
    mean = check_stage(label("consistency"), pairs)
    assert mean["p_chosen"].to_pylist() == [0.75] * 4
    own = check_stage(label({"consistency": {"use": "prompt"}}), pairs)
    assert own["p_chosen"].to_pylist() == [1.0, 1.0, 0.5, None]


def test_the_mean_consistency_is_not_fitted_to_the_test_split(make_pairs):
    pairs = make_pairs(consistency=[1.0, 0.0], split=["train", "test"])
    assert check_stage(label("consistency"), pairs)["p_chosen"].to_pylist() == [1.0, 1.0]


def test_a_policy_nearer_to_the_anchor_makes_a_pair(make_pairs):
    # golden data.json V06: -10.5 now; -12 and -9 before
    pairs = make_pairs(
        4,
        chosen_logp=pa.array([-10.5, -10.5, -10.5, None]),
        chosen_ref_logp=pa.array([-12.0, -9.0, -10.5, -9.0]),
        rejected_logp=pa.array([-1.0] * 4),
        rejected_ref_logp=pa.array([-2.0] * 4),
    )
    out = check_stage(label("anchor"), pairs)
    assert out["route"].to_pylist() == ["dpo", "sft", "sft", None]
    flipped = check_stage(label({"anchor": {"otherwise": "flip"}}), pairs)
    assert flipped["route"].to_pylist() == ["dpo", "dpo", "dpo", None]
    assert flipped["flipped"].to_pylist() == [False, True, True, False]


def test_peers_review_each_other(make_pairs):
    # golden data.json V16: the first learns from 0, 1 and 3, the second from 0, 3 and 5
    pairs = scored(make_pairs, a=A, b=B)
    out = check_stage(label({"peer-review": {"of": ["a", "b"], "noise": 0.5}}), pairs)
    kept = out["kept_by"].to_pylist()
    assert [at for at, who in enumerate(kept) if who in ("b", "both")] == [0, 1, 3]
    assert [at for at, who in enumerate(kept) if who in ("a", "both")] == [0, 3, 5]
    swapped = run_stage(label({"peer-review": {"of": ["b", "a"], "noise": 0.5}}), pairs).table
    assert swapped["kept_by"].to_pylist() == kept


def test_without_noise_peers_keep_everything_that_both_scored(make_pairs):
    pairs = scored(make_pairs, a=[1.0, 2.0, None], b=[3.0, -1.0, 2.0])
    out = check_stage(label({"peer-review": {"of": ["a", "b"], "noise": 0.0}}), pairs)
    assert out["kept_by"].to_pylist() == ["both", "both", None]


def test_left_to_itself_peer_review_takes_negative_margins_for_the_noise(make_pairs):
    pairs = scored(make_pairs, a=A, b=B)  # both find two of six wrong: four are kept
    out = run_stage(label({"peer-review": {"of": ["a", "b"]}}), pairs)
    assert sum(who in ("a", "both") for who in out.table["kept_by"].to_pylist()) == 4


def test_disagreement_of_members_is_a_belief_that_the_label_is_wrong(make_pairs):
    # golden data.json V14
    pairs = make_pairs(
        4,
        score_p=pa.array([0.875, 0.5, 0.5, None]),
        score_bald=pa.array([0.015093, 0.280404, 0.002504, None]),
    )
    safe = check_stage(label("uncertainty"), pairs)["flip_prob"].to_pylist()
    assert safe == [*(pytest.approx(x, abs=1e-6) for x in (0.010887, 0.202269, 0.001806)), None]
    literal = check_stage(label({"uncertainty": {"how": "literal"}}), pairs)["flip_prob"].to_pylist()
    assert literal == [*(pytest.approx(x, abs=1e-6) for x in (0.732863, 0.78969, 0.73037)), None]
    mean = check_stage(label({"uncertainty": {"how": "mean-p"}}), pairs)["flip_prob"].to_pylist()
    assert mean == [0.125, 0.5, 0.5, None]


def test_each_rows_own_doubt_may_smooth_it(make_pairs):
    pairs = make_pairs(p_chosen=[1.0, 1.0, 0.8, 1.0], flip_prob=[0.0, 0.25, 0.1, None])
    out = check_stage(label({"smooth": {"by": "flip_prob"}}), pairs)
    assert out["p_chosen"].to_pylist() == [1.0, 0.75, pytest.approx(0.74), None]


def tied(make_pairs, count=4000, nu=1.0, seed=3):
    """Margins, and whether people call a tie under Davidson's model; not all pairs were asked about."""
    draw = np.random.default_rng(seed)
    margin = draw.normal(size=count) * 1.5
    chance = nu / (np.exp(margin / 2) + np.exp(-margin / 2) + nu)
    human = draw.random(count) < chance
    asked = draw.random(count) < 0.5
    return make_pairs(margin=margin, human=pa.array(human, pa.bool_(), mask=~asked)), human[asked]


def test_calibrated_ties_are_as_frequent_as_those_of_people(make_pairs):
    pairs, human = tied(make_pairs)
    stage = label({"tie": {"on": "margin", "calibrate_on": "human"}})
    out = run_stage(stage, pairs)
    assert out.table["tie"].to_numpy().mean() == pytest.approx(human.mean(), abs=0.03)
    assert out.notes["label/ties there by rule"] == out.notes["label/ties there by people"] == human.sum()
    assert out.notes["label/calibrated on rows"] == len(human)
    assert stage.scope() == "global"
    check_stage(stage, pairs.slice(0, 60))


@pytest.mark.parametrize(("rule", "name"), [("davidson", "nu"), ("rao-kupper", "kappa")])
def test_the_tie_parameter_is_found_on_what_people_call_ties(make_pairs, rule, name):
    pairs, _ = tied(make_pairs, nu=4.0)
    out = run_stage(label({"tie": {"rule": rule, "calibrate_on": "human"}}), pairs)
    told = next(note for note in out.notes if note.startswith(f"label/{name} found"))
    if rule == "davidson":
        assert float(told.partition(": ")[2]) == pytest.approx(4.0, rel=0.15)
    assert 0.3 < out.table["tie"].to_numpy().mean() < 0.95
    check_stage(label({"tie": {"rule": rule, "calibrate_on": "human"}}), pairs.slice(0, 60))


def test_ties_may_be_set_so_that_decided_pairs_agree_with_people(make_pairs):
    p = [0.95, 0.9, 0.8, 0.7, 0.6, 0.45]
    people = [1.0, 1.0, 1.0, 0.0, 1.0, 0.5]
    pairs = make_pairs(p_chosen=p, human=pa.array(people))
    out = run_stage(label({"tie": {"agree_with": "human", "target": 1.0}}), pairs)
    assert out.table["tie"].to_pylist() == [False, False, False, True, True, True]
    assert out.notes["label/decided there by both"] == out.notes["label/decided there alike"] == 3
    lax = label({"tie": {"agree_with": "human", "target": 0.8}})
    assert check_stage(lax, pairs)["tie"].to_pylist() == [False] * 6
    wrong = make_pairs(p_chosen=[0.9, 0.8], human=pa.array([0.0, 0.0]))
    with pytest.raises(EstimateError, match="no threshold"):
        run_stage(lax, wrong)


def test_ties_are_not_calibrated_on_nobody_or_on_the_test_split(make_pairs):
    pairs = make_pairs(p_chosen=[0.9, 0.6], human=pa.array([None, True]), split=["train", "test"])
    with pytest.raises(EstimateError, match="no row to calibrate"):
        run_stage(label({"tie": {"calibrate_on": "human"}}), pairs)


def test_both_conventions_of_the_tie_parameter_give_the_published_numbers(make_pairs):
    # golden data.json V31: their Davidson nu 1 is 2 here, their Rao and Kupper nu 3 is kappa 3
    from prefkit.estimators.ties import davidson, rao_kupper

    told = [*davidson(np.array(0.4), 2.0), *rao_kupper(np.array(0.4), 3.0)]
    wanted = [0.302317, 0.202649, 0.495033, 0.33212, 0.182633, 0.485247]
    assert [float(x) for x in told] == pytest.approx(wanted, abs=1e-6)


def test_older_settings_have_the_dump_they_had():
    assert label({"smooth": {"rate": 0.1}}).model_dump(mode="json") == {"ops": [{"smooth": {"rate": 0.1}}]}
    assert "calibrate_on" not in str(label({"tie": {"delta": 0.1}}).model_dump(mode="json"))
    assert math.isclose(label({"smooth": {"rate": 0.1}}).ops[0].rate, 0.1)
