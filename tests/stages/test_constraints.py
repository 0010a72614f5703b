"""The constraints stage: pairs under demands that are checked."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.conditioning.constraints import Constraint, holds
from prefkit.stages.constraints import Constraints
from prefkit.testing import check_stage, run_stage

LONG = "we walked along the old river until evening fell there"
SHORT = "we went home, 2"
KINDS = ("response", "margin", "prompt")


@pytest.mark.parametrize("kind", KINDS)
def test_every_demand_is_met_as_it_is_told(make_pairs, kind):
    pairs = make_pairs(
        chosen=[LONG, "1, 2, three", "same"], rejected=[SHORT, "One two", "same"], p_chosen=[0.9] * 3
    )
    out = check_stage(Constraints(kinds=[kind]), pairs)
    ids = pairs["id"].to_pylist()
    assert [row["id"] for row in out.to_pylist() if row["id"] in ids] == ids
    made = [row for row in out.to_pylist() if row["id"] not in ids]
    assert made
    for row in made:
        assert row["pair_kind"] == kind
        assert row["p_chosen"] is None
        texts = {side: row[side][0]["content"] for side in ("chosen", "rejected")}
        assert (texts["chosen"] == texts["rejected"]) == (kind == "prompt")
        for told in row["constraints"]:
            demand = Constraint(told["kind"], told["argument"])
            assert {side: told[side] for side in texts} == {
                side: holds(demand, texts[side]) for side in texts
            }
            place = row["prompt" if told["where"] == "prompt" else "alt_prompt"]
            assert told["shown"] in place[-1]["content"]
            assert place[-1]["content"].startswith("question")
            if told["where"] == "prompt":
                assert told["chosen"]
                assert told["rejected"] == (kind == "prompt")
            else:
                assert told["chosen"] == told["rejected"] == (kind == "margin")
        assert (row["alt_prompt"] is None) == (kind == "response")


def test_a_pair_that_nothing_tells_apart_stays_alone_and_is_counted(make_pairs):
    out = run_stage(Constraints(), make_pairs(chosen=["so"], rejected=["so"]))
    assert out.table["pair_kind"].to_pylist() == ["response"]
    assert out.table["constraints"].to_pylist() == [[]]
    assert out.notes == {"constraints/nothing-tells-response": 1}


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.text("ab c,", max_size=9), st.text("ab c,", max_size=9)), min_size=1, max_size=6)
)
def test_at_most_half_of_the_rows_are_made(make_pairs, texts):
    one, other = zip(*texts, strict=True)
    pairs = make_pairs(chosen=list(one), rejected=list(other))
    out = run_stage(Constraints(kinds=KINDS), pairs).table
    assert len(texts) <= out.num_rows <= 2 * len(texts)
    assert set(pairs["id"].to_pylist()) <= set(out["id"].to_pylist())


def test_the_rate_says_how_many_and_a_low_one_is_part_of_a_high_one(make_pairs):
    pairs = make_pairs(40)
    ids = [set(run_stage(Constraints(rate=rate), pairs).table["id"].to_pylist()) for rate in (0.3, 0.8, 1.0)]
    assert ids[0] < ids[1] < ids[2]
    assert len(ids[2]) == 80
