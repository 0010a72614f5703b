"""The label stage: probabilities, ties, noise and direction, op by op and in order."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import RATIONALES, types
from prefkit.errors import ContractError
from prefkit.identity import fingerprint
from prefkit.labels import BUILTIN, FromScores, Orient, Tie
from prefkit.stages.label import Label
from prefkit.testing import check_stage, run_stage


def label(*ops: object) -> Label:
    return Label.model_validate({"ops": list(ops)})


def text(column: pa.ChunkedArray) -> list[str]:
    return [row[0]["content"] for row in column.to_pylist()]


def test_probability_from_scores(make_pairs):
    # golden data.json V18: logit(.8) = 1.386294
    pairs = make_pairs(chosen_score=[1.386294, 2.0, 0.0], rejected_score=[0.0, 2.0, 1.386294])
    out = check_stage(label("from-scores"), pairs)
    assert out["p_chosen"].to_pylist() == pytest.approx([0.8, 0.5, 0.2], abs=1e-6)
    half = check_stage(label({"from-scores": {"temperature": 2.0}}), pairs)
    assert half["p_chosen"][0].as_py() == pytest.approx(1 / (1 + math.exp(-0.693147)), abs=1e-6)


def test_another_score_may_decide(make_pairs):
    pairs = make_pairs(2, chosen_help=pa.array([1.0, 0.0]), rejected_help=pa.array([0.0, 1.0]))
    out = check_stage(label({"from-scores": {"by": "help"}}), pairs)
    assert out["p_chosen"][0].as_py() > 0.5 > out["p_chosen"][1].as_py()


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_a_missing_score_gives_null_and_never_a_default(make_pairs, bad):
    pairs = make_pairs(chosen_score=[1.0, bad, 1.0, bad], rejected_score=[0.0, 0.0, bad, bad])
    out = check_stage(
        label("from-scores", {"smooth": {"rate": 0.1}}, {"tie": {"delta": 0.1}}, "orient"), pairs
    )
    assert out["p_chosen"].is_null().to_pylist() == [False, True, True, True]
    assert out["tie"].to_pylist() == [False, None, None, None]
    assert out["flipped"].to_pylist() == [False] * 4


def test_probability_from_votes(make_pairs, votes):
    # golden data.json V30: five for, one tie, two against
    many = [("j", "chosen", 1.0, 1.0)] * 5 + [("j", "tie", 0.5, 0.0)] + [("j", "rejected", 0.0, -1.0)] * 2
    column = votes(
        many, None, [("j", None, None, None)], [("a", "chosen", 1.0, 1.0), ("b", "rejected", 0.0, -1.0)]
    )
    out = check_stage(label("from-votes"), make_pairs(4, votes=column))
    assert out["p_chosen"].to_pylist() == [0.6875, None, None, 0.5]
    careful = check_stage(label({"from-votes": {"pseudo": 0.5}}), make_pairs(4, votes=column))
    assert careful["p_chosen"].to_pylist() == [pytest.approx(6 / 9), None, None, 0.5]


def test_a_majority_is_sure_and_an_even_vote_is_not(make_pairs, votes):
    many = ("x", "chosen", None, None), ("y", "chosen", None, None), ("z", "rejected", None, None)
    column = votes(many, many[1:], many[2:], ())
    out = check_stage(label({"from-votes": {"use": "majority"}}), make_pairs(4, votes=column))
    assert out["p_chosen"].to_pylist() == [1.0, 0.5, 0.0, None]


def test_probability_from_the_votes_own_probabilities(make_pairs, votes):
    # golden data.json V30: .8 in one order and .4 in the other
    column = votes([("j", "chosen", 0.8, None), ("j", "rejected", 0.4, None)], [("j", "chosen", None, None)])
    out = check_stage(label({"from-votes": {"use": "p"}}), make_pairs(2, votes=column))
    assert out["p_chosen"].to_pylist() == [pytest.approx(0.6), None]


def test_ties_near_even_probability(make_pairs):
    # golden data.json V30: with delta .1, .6 is no tie and .55 is one
    pairs = make_pairs(p_chosen=[0.6, 0.55, 0.5, 0.45, 0.4, None])
    out = check_stage(label({"tie": {"delta": 0.1}}), pairs)
    assert out["tie"].to_pylist() == [False, True, True, True, False, None]
    exact = check_stage(label("tie"), pairs)
    assert exact["tie"].to_pylist() == [False, False, True, False, False, None]
    assert exact["p_chosen"].equals(pairs["p_chosen"])


def test_ties_by_margin(make_pairs):
    out = check_stage(
        label({"tie": {"delta": 0.5, "on": "margin"}}), make_pairs(margin=[0.5, -0.4, 0.0, None])
    )
    assert out["tie"].to_pylist() == [False, True, True, None]


def test_ties_where_votes_do_not_agree(make_pairs, votes):
    # golden data.json V30: judged both ways round, .8 and .4 pick different sides
    column = votes(
        [("j", "chosen", 0.8, None), ("j", "rejected", 0.4, None)],
        [("j", "chosen", 0.8, None), ("j", "chosen", 0.7, None)],
        [("a", "chosen", 1.0, 1.0), ("b", "chosen", 1.0, 2.0), ("c", "tie", 0.5, 0.0)],
        None,
    )
    pairs = make_pairs(4, votes=column)
    assert check_stage(label({"tie": {"rule": "agree"}}), pairs)["tie"].to_pylist() == [
        True,
        False,
        True,
        None,
    ]
    two_thirds = label({"tie": {"rule": "agree", "agree": 2 / 3}})
    assert check_stage(two_thirds, pairs)["tie"].to_pylist() == [True, False, False, None]


@pytest.mark.parametrize(
    ("rule", "limit"), [({"rule": "davidson"}, 2 * math.log(2)), ({"rule": "rao-kupper"}, None)]
)
def test_ties_by_a_model_are_where_a_tie_is_the_most_probable_outcome(make_pairs, rule, limit):
    # golden data.json V31: at a difference of .4 a tie has .495033 (Davidson) and .485247 (Rao and Kupper)
    pairs = make_pairs(margin=[0.4, -0.4, 0.0, 3.0, -3.0, None])
    out = check_stage(label({"tie": rule}), pairs)
    assert out["tie"].to_pylist() == [True, True, True, False, False, None]
    if limit is not None:
        near = make_pairs(margin=[limit - 1e-6, limit + 1e-6])
        assert run_stage(label({"tie": rule}), near).table["tie"].to_pylist() == [True, False]


def test_without_a_tie_parameter_there_are_no_ties(make_pairs):
    pairs = make_pairs(margin=[0.1, -2.0])
    for rule in ({"rule": "davidson", "nu": 0}, {"rule": "rao-kupper", "kappa": 1}):
        assert run_stage(label({"tie": rule}), pairs).table["tie"].to_pylist() == [False, False]


def test_smoothing_and_denoising(make_pairs):
    # golden data.json V35
    pairs = make_pairs(p_chosen=[1.0, 0.8, 0.0, 0.5, None])
    out = check_stage(label({"smooth": {"rate": 0.1}}), pairs)
    assert out["p_chosen"].to_pylist() == [*(pytest.approx(p) for p in (0.9, 0.74, 0.1, 0.5)), None]
    back = check_stage(label({"smooth": {"rate": 0.1}}, {"denoise": {"rate": 0.1}}), pairs)
    assert back["p_chosen"].to_pylist() == [*(pytest.approx(p) for p in (1.0, 0.8, 0.0, 0.5)), None]


def full(make_pairs, votes, count: int = 40) -> pa.Table:
    rng = np.random.default_rng(5)
    column = votes(
        *[[("ann", "chosen", 1.0, 2.0), ("bob", "tie", 0.5, 0.0), ("eve", None, None, None)]] * count
    )
    return make_pairs(
        count,
        chosen_score=rng.normal(size=count),
        rejected_score=rng.normal(size=count),
        chosen_model=["large"] * count,
        rejected_model=["small"] * count,
        p_chosen=[0.7] * count,
        margin=rng.normal(size=count),
        flip_prob=[0.2] * count,
        ref_chosen_logp=[-3.0] * count,
        ref_rejected_logp=[-5.0] * count,
        votes=column,
        rationales=pa.array(
            [[{"kind": "general", "model": "m", "text": "why", "prompt_text": "?", "chosen_first": True}]]
            * count,
            RATIONALES,
        ),
    )


def test_planted_noise_exchanges_the_sides_and_keeps_what_is_said(make_pairs, votes):
    pairs = full(make_pairs, votes)
    out = check_stage(label({"flip": {"rate": 0.3}}), pairs)
    flipped = out["flipped"].to_numpy()
    assert 4 <= flipped.sum() <= 20
    before, after = pairs.to_pylist(), out.to_pylist()
    for old, new, turned in zip(before, after, flipped, strict=True):
        one, other = ("rejected", "chosen") if turned else ("chosen", "rejected")
        for name in ("", "_id", "_score", "_model"):
            assert new[f"chosen{name}"] == old[f"{one}{name}"]
            assert new[f"rejected{name}"] == old[f"{other}{name}"]
        assert new["ref_chosen_logp"] == old[f"ref_{one}_logp"]
        assert [new[name] for name in ("id", "p_chosen", "margin", "votes")] == [
            old[name] for name in ("id", "p_chosen", "margin", "votes")
        ]


def test_planted_noise_has_the_rate_that_was_asked_for(make_pairs):
    out = run_stage(label({"flip": {"rate": 0.2}}), make_pairs(4000), seed=1)
    rate = out.table["flipped"].to_numpy().mean()
    assert abs(rate - 0.2) < 4 * math.sqrt(0.2 * 0.8 / 4000)
    assert out.notes == {"label/flipped": int(rate * 4000)}


def test_a_larger_rate_flips_the_same_rows_and_more(make_pairs):
    few = run_stage(label({"flip": {"rate": 0.1}}), make_pairs(300)).table["flipped"].to_numpy()
    more = run_stage(label({"flip": {"rate": 0.4}}), make_pairs(300)).table["flipped"].to_numpy()
    assert (more >= few).all()
    assert run_stage(label({"flip": {"rate": 0.0}}), make_pairs(300)).notes == {"label/flipped": 0}


def test_two_flips_in_a_row_draw_anew(make_pairs):
    out = run_stage(label({"flip": {"rate": 0.5}}, {"flip": {"rate": 0.5}}), make_pairs(400)).table
    assert 0.35 < out["flipped"].to_numpy().mean() < 0.65


def test_flipping_twice_changes_nothing_but_says_so(make_pairs, votes):
    pairs = full(make_pairs, votes)
    for op in ({"flip": {"rate": 1.0}}, {"flip": {"bottom": 1.0, "only_negative": False}}):
        twice = run_stage(label(op, op), pairs.drop_columns(["rationales"])).table
        assert twice["flipped"].to_pylist() == [False] * len(pairs)
        assert twice.drop_columns(["flipped"]).to_pylist() == [
            {name: pytest.approx(value) if isinstance(value, float) else value for name, value in row.items()}
            for row in pairs.drop_columns(["rationales"]).to_pylist()
        ]


def test_flipping_in_two_stages_changes_nothing_but_says_so(make_pairs):
    once = run_stage(label({"flip": {"rate": 1.0}}), make_pairs(3)).table
    assert once["flipped"].to_pylist() == [True] * 3
    assert run_stage(label({"flip": {"rate": 1.0}}), once).table["flipped"].to_pylist() == [False] * 3


def test_the_lowest_margins_are_turned_round(make_pairs):
    # golden data.json V17: the bottom 20 % of ten strengths are rows 1 and 6
    strengths = [1.9, -0.8, 0.1, 0.6, 2.4, 0.3, -0.2, 1.1, 0.05, 0.9]
    out = check_stage(label({"flip": {"bottom": 0.2}}), make_pairs(margin=strengths))
    assert np.flatnonzero(out["flipped"].to_numpy()).tolist() == [1, 6]
    assert out["margin"].to_pylist() == [1.9, 0.8, 0.1, 0.6, 2.4, 0.3, 0.2, 1.1, 0.05, 0.9]
    assert text(out["chosen"])[1] == "bad 1"


def test_rows_of_positive_margin_are_spared(make_pairs):
    strengths = [3.0, 2.0, 1.0, 4.0, 5.0]
    spared = run_stage(label({"flip": {"bottom": 0.4}}), make_pairs(margin=strengths))
    assert spared.notes == {"label/flipped": 0}
    forced = run_stage(label({"flip": {"bottom": 0.4, "only_negative": False}}), make_pairs(margin=strengths))
    assert np.flatnonzero(forced.table["flipped"].to_numpy()).tolist() == [1, 2]


@pytest.mark.parametrize(("share", "count"), [(0.29, 29), (0.3, 30), (0.0, 0), (1.0, 100), (0.005, 0)])
def test_a_share_is_rounded_down(make_pairs, share, count):
    pairs = make_pairs(margin=[-float(i) for i in range(1, 101)])
    assert run_stage(label({"flip": {"bottom": share}}), pairs).notes == {"label/flipped": count}


def test_equal_margins_are_flipped_by_id(make_pairs):
    pairs = make_pairs(margin=[-1.0, -1.0, -1.0, None, math.nan], id=list("cabde"))
    out = run_stage(label({"flip": {"bottom": 0.34}}), pairs).table
    assert out["flipped"].to_pylist() == [False, True, False, False, False]


def test_turning_round_tells_everything_the_other_way(make_pairs, votes):
    pairs = full(make_pairs, votes, 2)
    pairs = pairs.set_column(pairs.schema.get_field_index("p_chosen"), "p_chosen", pa.array([0.2, 0.7]))
    (turned, stayed), (old, same) = check_stage(label("orient"), pairs).to_pylist(), pairs.to_pylist()
    assert turned["flipped"]
    assert turned["chosen"] == old["rejected"]
    assert turned["p_chosen"] == 0.8
    assert turned["flip_prob"] == 0.8
    assert turned["margin"] == -old["margin"]
    assert [(vote["winner"], vote["p"], vote["strength"]) for vote in turned["votes"]] == [
        ("rejected", 0.0, -2.0),
        ("tie", 0.5, -0.0),
        (None, None, None),
    ]
    assert turned["rationales"] is None
    assert stayed == same | {"flipped": False}


def test_orient_by_margin(make_pairs):
    out = check_stage(
        label({"orient": {"by": "margin"}}), make_pairs(margin=[-1.0, 0.0, 2.0, None, math.nan])
    )
    assert out["flipped"].to_pylist() == [True, False, False, False, False]
    assert out["margin"].to_pylist()[:4] == [1.0, 0.0, 2.0, None]


def test_presentation_order_is_mirrored_with_the_sides(make_pairs, votes):
    column = votes([("j", "chosen", 1.0, 1.0)], [("j", "chosen", 1.0, 1.0)]).to_pylist()
    column[0][0]["order"], column[1][0]["order"] = "chosen-first", "unknown"
    pairs = make_pairs(2, p_chosen=[0.1, 0.1], votes=column)
    out = run_stage(label("orient"), pairs).table
    assert [row[0]["order"] for row in out["votes"].to_pylist()] == ["rejected-first", "unknown"]


p_values = st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=8)


@settings(max_examples=50)
@given(p_values)
def test_after_orient_chosen_is_believed_better(make_pairs, given_p):
    out = run_stage(label("orient"), make_pairs(p_chosen=given_p)).table
    assert all(p is None or p >= 0.5 for p in out["p_chosen"].to_pylist())


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=8))
def test_swapped_sides_give_the_mirror_image_before_orient_and_the_same_row_after(make_pairs, rows):
    one, other = [row[0] for row in rows], [row[1] for row in rows]
    straight = make_pairs(chosen_score=one, rejected_score=other)
    good, bad = text(straight["chosen"]), text(straight["rejected"])
    swapped = make_pairs(chosen=bad, rejected=good, chosen_score=other, rejected_score=one)
    before = [
        run_stage(label("from-scores"), pairs).table["p_chosen"].to_numpy() for pairs in (straight, swapped)
    ]
    assert before[0] + before[1] == pytest.approx(1.0)
    after = [run_stage(label("from-scores", "orient"), pairs).table for pairs in (straight, swapped)]
    uneven = np.flatnonzero(before[0] != 0.5)
    for name in ("chosen", "rejected", "chosen_score"):
        assert after[0][name].take(uneven).to_pylist() == after[1][name].take(uneven).to_pylist()


@settings(max_examples=50)
@given(st.lists(st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 2.0, math.inf])), min_size=2, max_size=8))
def test_no_row_gains_a_number_it_was_not_given(make_pairs, scores):
    pairs = make_pairs(chosen_score=scores, rejected_score=scores[::-1])
    out = run_stage(label("from-scores", {"smooth": {"rate": 0.2}}, "orient"), pairs).table
    given_both = [
        all(s is not None and math.isfinite(s) for s in pair)
        for pair in zip(scores, scores[::-1], strict=True)
    ]
    assert out["p_chosen"].is_valid().to_pylist() == given_both


@pytest.mark.parametrize(
    ("op", "scope", "draws"),
    [
        ("from-scores", "map", False),
        ("from-votes", "map", False),
        ({"tie": {"delta": 0.1}}, "map", False),
        ({"flip": {"rate": 0.1}}, "map", True),
        ({"flip": {"bottom": 0.1}}, "global", False),
        ("orient", "map", False),
    ],
)
def test_the_scope_follows_the_ops(op, scope, draws):
    assert label("from-scores", op).scope() == scope
    assert label("from-scores", op).draws() is draws


def test_reads_leaves_out_what_an_earlier_op_writes():
    assert set(label("from-scores", {"tie": {"delta": 0.1}}).reads()) == {"chosen_score", "rejected_score"}
    assert set(label({"tie": {"delta": 0.1}}).reads()) == {"p_chosen"}
    assert set(label("from-scores", "tie", "orient").writes()) == {"p_chosen", "tie", "flipped"}


def test_an_op_may_be_spelled_in_three_ways():
    spelled = [
        label("from-scores"),
        label({"from-scores": {}}),
        label({"from-scores": None}),
        Label(ops=(FromScores(),)),
    ]
    assert len({fingerprint(stage) for stage in spelled}) == 1
    assert Label(ops=(Tie(delta=0.1), Orient())).model_dump(mode="json") == {
        "ops": [
            {"tie": {"rule": "delta", "delta": 0.1, "on": "p_chosen", "agree": 1.0, "nu": 2.0, "kappa": 3.0}},
            {"orient": {"by": "p_chosen"}},
        ]
    }


def test_every_op_is_offered():
    offered = str(Label.model_json_schema())
    assert len(BUILTIN) == 17
    for op in BUILTIN:
        assert f"'const': '{op.name}'" in offered


@pytest.mark.parametrize(
    ("ops", "told"),
    [
        ([], "at least 1 item"),
        (["form-scores"], "'from-scores'"),
        ([{"tie": {"delta": -1}}], "greater than or equal to 0"),
        ([{"tie": {}, "orient": {}}], "discriminator"),
        ([{"flip": {}}], "either rate or bottom"),
        ([{"flip": {"rate": 0.1, "bottom": 0.1}}], "either rate or bottom"),
        ([{"flip": {"rate": 1.5}}], "less than or equal to 1"),
        ([{"smooth": {"rate": 0.5}}], "less than 0.5"),
        ([{"smooth": {}}], "either rate or by"),
        ([{"smooth": {"rate": 0.1, "by": "flip_prob"}}], "either rate or by"),
        ([{"tie": {"calibrate_on": "t", "delta": 0.1}}], "delta is found by calibrating"),
        ([{"tie": {"calibrate_on": "t", "agree_with": "p", "target": 0.9}}], "or agree_with"),
        ([{"tie": {"agree_with": "p"}}], "go together"),
        ([{"tie": {"rule": "agree", "calibrate_on": "t"}}], "no threshold"),
        ([{"from-ensemble": {"of": ["a"]}}], "at least 2"),
        ([{"from-ensemble": {"of": ["a", "a"]}}], "twice"),
        ([{"peer-review": {"of": ["a", "both"]}}], "two different scores"),
        ([{"tie": {"dleta": 1}}], "Extra inputs"),
    ],
)
def test_ops_that_make_no_sense_are_refused(ops, told):
    with pytest.raises(ValidationError, match=told):
        Label.model_validate({"ops": ops})


def test_a_wrong_setting_is_located_in_its_op():
    with pytest.raises(ValidationError) as caught:
        label("from-scores", {"tie": {"delta": -1}})
    assert caught.value.errors()[0]["loc"] == ("ops", 1, "tie", "delta")


def test_sides_that_cannot_change_places_are_refused_before_running(make_pairs):
    lonely = make_pairs(2, p_chosen=[0.1, 0.9], rejected_help=pa.array([1.0, 2.0]))
    with pytest.raises(ContractError, match="'rejected_help' has no counterpart"):
        label("orient").output_schema(lonely.schema)
    uneven = lonely.append_column("chosen_help", pa.array(["a", "b"]))
    with pytest.raises(ContractError, match="differ in type"):
        label("orient").output_schema(uneven.schema)
    assert label("from-votes").output_schema(
        lonely.append_column("votes", pa.nulls(2, types("votes")["votes"])).schema
    )


def test_one_row_and_no_row(make_pairs):
    stage = label("from-scores", {"flip": {"rate": 0.5}})
    pairs = make_pairs(chosen_score=[1.0], rejected_score=[0.0])
    assert run_stage(stage, pairs).table.num_rows == 1
    assert run_stage(stage, pairs.slice(0, 0)).table.num_rows == 0
    bottom = label({"flip": {"bottom": 0.5}})
    assert run_stage(bottom, make_pairs(margin=[-1.0])).notes == {"label/flipped": 0}
    assert run_stage(bottom, make_pairs(margin=[-1.0]).slice(0, 0)).table.num_rows == 0
