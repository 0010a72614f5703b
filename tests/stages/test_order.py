"""The order stage: rank and phase, and that rows stay where they are."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.stages.margin import Margin
from prefkit.stages.order import Order
from prefkit.stages.pair import Pair
from prefkit.testing import check_stage, run_stage

CONFIGS = [
    Order(),
    Order(easy_first=False),
    Order(easy="low"),
    Order(kind="shuffle"),
    Order(kind="phases"),
    Order(kind="phases", k=2, within="shuffled"),
    Order(kind="phases", phases="prompt-rank"),
    Order(kind="phases", phases="thresholds", thresholds=(1.0, 0.0)),
]


def test_the_widest_margin_comes_first(make_pairs):
    out = check_stage(Order(), make_pairs(margin=[0.5, 2.0, -1.0, 1.0]))
    assert out["rank"].to_pylist() == [2, 0, 3, 1]
    assert out["phase"].to_pylist() == [0] * 4
    hard = check_stage(Order(easy_first=False), make_pairs(margin=[0.5, 2.0, -1.0, 1.0]))
    assert hard["rank"].to_pylist() == [1, 3, 0, 2]


def test_low_may_be_easy(make_pairs):
    pairs = make_pairs(margin=[0.5, 2.0, -1.0])
    assert check_stage(Order(easy="low"), pairs)["rank"].to_pylist() == [1, 2, 0]


def test_equal_values_go_by_id(make_pairs):
    out = check_stage(Order(), make_pairs(margin=[1.0, 1.0, 1.0], id=["c", "a", "b"]))
    assert out["rank"].to_pylist() == [2, 0, 1]


def test_rows_without_a_value_come_last_and_are_counted(make_pairs):
    pairs = make_pairs(margin=[None, 1.0, math.nan, math.inf, -5.0])
    for easy_first in (True, False):
        out = run_stage(Order(easy_first=easy_first), pairs)
        assert sorted(out.table["rank"].to_pylist()[i] for i in (0, 2, 3)) == [2, 3, 4]
        assert out.notes == {"order/no-margin": 3}
        phased = Order(kind="phases", phases="thresholds", thresholds=(0.0,), easy_first=easy_first)
        assert run_stage(phased, pairs).table["phase"].to_pylist() == [
            1,
            1 - easy_first,
            1,
            1,
            int(easy_first),
        ]


def test_curriculum_phases_of_one_prompt(make_responses):
    # golden data.json V08: best against the rest, widest gap in phase 0
    pairs = run_stage(
        Pair(kind="best-rest"), make_responses({"p": [5.0, 4.0, 3.0, 2.0], "q": [2.0, 0.0, 1.0]})
    ).table
    out = check_stage(Order(kind="phases", phases="prompt-rank"), Margin()(pairs))
    assert out["rejected_id"].to_pylist() == ["p3", "p2", "p1", "q1", "q2"]
    assert out["phase"].to_pylist() == [0, 1, 2, 0, 1]
    assert out["margin"].to_pylist() == [3.0, 2.0, 1.0, 2.0, 1.0]
    assert sorted(out["rank"].to_pylist()[i] for i in (0, 3)) == [0, 1]


def test_easy_hard_and_disagreeing_pairs(make_pairs):
    # golden data.json V09: margins 2.5, .4, -.3, 1.0 at gamma 1 are easy, hard, disagree, easy
    pairs = make_pairs(margin=[2.5, 0.4, -0.3, 1.0])
    out = check_stage(Order(kind="phases", phases="thresholds", thresholds=(1.0, 0.0)), pairs)
    assert [("easy", "hard", "disagree")[phase] for phase in out["phase"].to_pylist()] == [
        "easy",
        "hard",
        "disagree",
        "easy",
    ]


def test_raising_the_threshold_moves_rows_from_easy_to_hard_only(make_pairs):
    pairs = make_pairs(margin=[2.5, 0.4, 0.3, 1.0, 0.0])
    phases = [
        run_stage(Order(kind="phases", phases="thresholds", thresholds=(gamma,)), pairs)
        .table["phase"]
        .to_pylist()
        for gamma in (0.0, 0.35, 1.0, 3.0)
    ]
    assert phases[0] == [0] * 5
    assert all(
        after >= before for one, other in pairwise(phases) for before, after in zip(one, other, strict=True)
    )


def test_quantile_phases_have_equal_sizes(make_pairs):
    out = check_stage(Order(kind="phases", k=3), make_pairs(margin=[float(i % 4) for i in range(10)]))
    phases = out["phase"].to_pylist()
    assert sorted(phases.count(phase) for phase in set(phases)) == [3, 3, 4]


def test_a_shuffle_depends_on_the_seed_and_not_on_the_rows_order(make_pairs):
    pairs = make_pairs(20)
    one, other = (
        run_stage(Order(kind="shuffle"), pairs, seed=seed).table["rank"].to_pylist() for seed in (0, 1)
    )
    assert one != other
    backwards = (
        run_stage(Order(kind="shuffle"), pairs.take(list(range(19, -1, -1))), seed=0)
        .table["rank"]
        .to_pylist()
    )
    assert backwards == one[::-1]


def test_shuffled_within_means_within(make_pairs):
    pairs = make_pairs(margin=[float(i) for i in range(30)])
    straight = run_stage(Order(kind="phases"), pairs).table
    shuffled = run_stage(Order(kind="phases", within="shuffled"), pairs).table
    assert straight["phase"].equals(shuffled["phase"])
    assert not straight["rank"].equals(shuffled["rank"])
    order = sorted(range(30), key=shuffled["rank"].to_pylist().__getitem__)
    assert [shuffled["phase"][i].as_py() for i in order] == [0] * 10 + [1] * 10 + [2] * 10


rows = st.lists(
    st.tuples(st.sampled_from("pqr"), st.one_of(st.none(), st.floats(-3, 3))), min_size=2, max_size=12
)


@settings(max_examples=40)
@given(rows, st.sampled_from(CONFIGS))
def test_rank_is_a_permutation_that_follows_the_phases(make_pairs, rows, stage):
    rows = sorted(rows, key=lambda row: row[0])
    out = run_stage(
        stage, make_pairs(prompt_id=[row[0] for row in rows], margin=[row[1] for row in rows])
    ).table
    rank, phase = out["rank"].to_pylist(), out["phase"].to_pylist()
    assert sorted(rank) == list(range(len(rows)))
    by_rank = [phase[i] for i in sorted(range(len(rows)), key=rank.__getitem__)]
    assert by_rank == sorted(by_rank)
    assert out["id"].to_pylist() == [f"r{i:03}" for i in range(len(rows))]


@settings(max_examples=40)
@given(rows)
def test_in_a_phase_by_prompt_rank_no_prompt_comes_twice(make_pairs, rows):
    rows = sorted(rows, key=lambda row: row[0])
    pairs = make_pairs(prompt_id=[row[0] for row in rows], margin=[row[1] for row in rows])
    out = run_stage(Order(kind="phases", phases="prompt-rank"), pairs).table
    seen = [(row["prompt_id"], row["phase"]) for row in out.to_pylist()]
    assert len(set(seen)) == len(seen)
    for row in out.to_pylist():
        easier = [
            other["margin"]
            for other in out.to_pylist()
            if other["prompt_id"] == row["prompt_id"] and other["phase"] < row["phase"]
        ]
        assert row["margin"] is None or all(m is not None and m >= row["margin"] for m in easier)


@pytest.mark.parametrize("stage", CONFIGS)
def test_laws_one_row_and_no_row(make_pairs, stage):
    pairs = make_pairs(margin=[0.5, None, -1.0, 2.0], prompt_id=["p", "p", "q", "q"])
    check_stage(stage, pairs)
    assert run_stage(stage, pairs.slice(0, 1)).table["rank"].to_pylist() == [0]
    assert run_stage(stage, pairs.slice(0, 0)).table.num_rows == 0


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"kind": "phases", "phases": "thresholds"}, "go together"),
        ({"thresholds": [1.0]}, "go together"),
        ({"kind": "phases", "phases": "thresholds", "thresholds": [0.0, 1.0]}, "from easy to hard"),
        (
            {"kind": "phases", "phases": "thresholds", "thresholds": [1.0, 0.0], "easy": "low"},
            "from easy to hard",
        ),
        ({"kind": "phases", "phases": "thresholds", "thresholds": [1.0, 1.0]}, "from easy to hard"),
        ({"kind": "phases", "k": 0}, "greater than 0"),
        ({"kind": "sorted"}, "'sort'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Order.model_validate(config)


def test_only_shuffling_draws():
    assert [stage.draws() for stage in CONFIGS] == [False, False, False, True, False, True, False, False]


SPLIT = [2.5, 0.4, -0.3, 1.0]


def test_a_split_sends_easy_and_hard_pairs_their_ways(make_pairs):
    # golden data.json V09: margins 2.5, .4, -.3, 1.0 at gamma 1 are easy, hard, disagree, easy
    pairs = make_pairs(margin=SPLIT)
    out = run_stage(Order(kind="split", gamma=1.0), pairs)
    check_stage(Order(kind="split", gamma=1.0), pairs)
    assert out.table["id"].to_pylist() == ["r000", "r001", "r003"]
    assert out.table["route"].to_pylist() == ["dpo", "resample", "dpo"]
    assert out.table["phase"].to_pylist() == [0, 1, 0]
    assert out.table["rank"].to_pylist() == [0, 2, 1]
    assert out.notes == {"dropped/disagree": 1, "order/easy": 2, "order/hard": 1}


def test_a_pair_that_disagrees_may_be_hard_or_turned_round(make_pairs):
    pairs = make_pairs(margin=SPLIT, chosen_score=[3.0, 2.0, 1.0, 2.0], rejected_score=[0.5, 1.6, 1.3, 1.0])
    hard = check_stage(Order(kind="split", gamma=1.0, on_disagree="hard", hard_route="sft"), pairs)
    assert hard["route"].to_pylist() == ["dpo", "sft", "sft", "dpo"]
    assert hard["rank"].to_pylist() == [0, 2, 3, 1]
    flipped = check_stage(Order(kind="split", gamma=0.2, on_disagree="flip"), pairs)
    assert flipped["flipped"].to_pylist() == [False, False, True, False]
    assert flipped["margin"].to_pylist() == [2.5, 0.4, 0.3, 1.0]
    assert flipped["chosen_score"].to_pylist() == [3.0, 2.0, 1.3, 2.0]
    assert flipped["chosen"][2].as_py()[0]["content"] == "bad 2"
    assert flipped["route"].to_pylist() == ["dpo"] * 4


def test_without_gamma_half_of_the_agreeing_pairs_are_hard(make_pairs):
    pairs = make_pairs(margin=[0.1, 0.2, 0.3, 0.4, -1.0, None])
    out = run_stage(Order(kind="split"), pairs)
    assert out.table["route"].to_pylist() == ["resample", "resample", "dpo", "dpo"]
    assert out.notes["dropped/no-value"] == 1


def test_a_split_by_a_low_value_contradicts_no_label(make_pairs):
    pairs = make_pairs(ppl=[3.0, 9.0, 4.0])
    out = check_stage(Order(kind="split", by="ppl", easy="low", gamma=4.0), pairs)
    assert out["route"].to_pylist() == ["dpo", "resample", "dpo"]
    assert out["rank"].to_pylist() == [0, 2, 1]


@settings(max_examples=40)
@given(st.lists(st.floats(-3, 3), min_size=1, max_size=12), st.floats(0, 2), st.floats(0, 1))
def test_a_split_is_a_partition_and_a_higher_gamma_moves_easy_to_hard_only(make_pairs, margins, gamma, more):
    pairs = make_pairs(margin=margins)
    low, high = (run_stage(Order(kind="split", gamma=g), pairs) for g in (gamma, gamma + more))
    for out in (low, high):
        assert out.table.num_rows + out.notes.get("dropped/disagree", 0) == len(margins)
    for before, after in zip(low.table["route"].to_pylist(), high.table["route"].to_pylist(), strict=True):
        assert before == after or (before, after) == ("dpo", "resample")
    assert "order/hard" not in run_stage(Order(kind="split", gamma=0.0), pairs).notes


def test_interleaved_parts_take_turns(make_pairs):
    pairs = make_pairs(margin=[6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    out = check_stage(Order(kind="interleave", k=3), pairs)
    order = sorted(range(6), key=out["rank"].to_pylist().__getitem__)
    assert [pairs["margin"][row].as_py() for row in order] == [6.0, 4.0, 2.0, 5.0, 3.0, 1.0]
    check_stage(Order(kind="interleave", k=4), pairs)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"gamma": 1.0}, "for kind 'split' only"),
        ({"kind": "split", "gamma": 1.0, "quantile": 0.3}, "either gamma or quantile"),
        ({"kind": "split", "gamma": -1.0}, "below zero"),
        ({"kind": "split", "easy": "low", "on_disagree": "flip"}, "contradicts no label"),
    ],
)
def test_settings_of_a_split_that_make_no_sense_are_refused(config, told):
    with pytest.raises(ValidationError, match=told):
        Order.model_validate(config)


def test_other_orders_know_nothing_of_a_split():
    assert set(Order().model_dump()) == {
        "kind", "by", "easy", "easy_first", "phases", "k", "thresholds", "within",
    }  # fmt: skip
