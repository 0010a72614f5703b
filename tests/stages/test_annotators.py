"""The annotators stage: a row for each vote, turned the way it went."""

import pyarrow as pa
import pytest

from prefkit.errors import ContractError
from prefkit.stages.annotators import Annotators
from prefkit.testing import check_stage, run_stage


def texts(table, side):
    return [row[0]["content"] for row in table[side].to_pylist()]


@pytest.fixture
def voted(make_pairs, votes):
    column = votes(
        [("ann", "chosen", 1.0, 2.0), ("bob", "rejected", 0.0, -1.0), ("cy", "tie", 0.5, 0.0)],
        [("ann", "rejected", None, None)],
        [("bob", None, None, None)],
        None,
    )
    return make_pairs(4, votes=column, chosen_score=[3.0] * 4, rejected_score=[1.0] * 4, margin=[2.0] * 4)


def test_each_vote_becomes_a_row_on_which_its_annotator_prefers_chosen(voted):
    out = check_stage(Annotators(), voted)
    assert out["annotator"].to_pylist() == ["ann", "bob", "ann"]
    assert texts(out, "chosen") == ["good 0", "bad 0", "bad 1"]
    assert texts(out, "rejected") == ["bad 0", "good 0", "good 1"]
    assert [[(v["judge"], v["winner"]) for v in row] for row in out["votes"].to_pylist()] == [
        [("ann", "chosen")],
        [("bob", "chosen")],
        [("ann", "chosen")],
    ]


def test_all_that_is_said_of_the_sides_turns_with_them(voted):
    out = check_stage(Annotators(), voted)
    assert out["chosen_score"].to_pylist() == [3.0, 1.0, 1.0]
    assert out["chosen_id"].to_pylist() == ["r000+", "r000-", "r001-"]
    assert out["margin"].to_pylist() == [2.0, -2.0, -2.0]
    assert out["votes"][1].as_py()[0]["p"] == 1.0
    assert out["votes"][1].as_py()[0]["strength"] == 1.0


def test_what_gives_no_row_is_counted(voted):
    out = run_stage(Annotators(), voted)
    assert out.notes == {
        "annotators/votes-left-out/tie": 1,
        "annotators/votes-left-out/no-verdict": 1,
        "dropped/no-votes": 1,
        "dropped/no-usable-vote": 1,
    }
    assert sorted(part for table in out.dropped for part in table["id"].to_pylist()) == ["r002", "r003"]


def test_ties_may_stay_as_they_are(voted):
    out = check_stage(Annotators(ties="keep"), voted)
    assert out["annotator"].to_pylist() == ["ann", "bob", "cy", "ann"]
    assert texts(out, "chosen")[2] == "good 0"
    assert out["votes"][2].as_py()[0]["winner"] == "tie"


def test_a_vote_without_a_name_is_left_out(make_pairs, votes):
    column = votes([(None, "chosen", 1.0, 1.0), ("a", "chosen", 1.0, 1.0)], [("b", "chosen", 1.0, 1.0)])
    out = run_stage(Annotators(), make_pairs(2, votes=column))
    assert out.table["annotator"].to_pylist() == ["a", "b"]
    assert out.notes == {"annotators/votes-left-out/no-name": 1}


def test_an_annotator_who_votes_twice_has_two_rows_with_ids_of_their_own(make_pairs, votes):
    twice = [("ann", "chosen", 1.0, 1.0), ("ann", "rejected", 0.0, -1.0)]
    out = check_stage(Annotators(), make_pairs(2, votes=votes(twice, twice[:1])))
    assert out["annotator"].to_pylist() == ["ann"] * 3


def test_ids_do_not_depend_on_the_other_votes(make_pairs, votes):
    ann, bob = ("ann", "chosen", 1.0, 1.0), ("bob", "chosen", 1.0, 1.0)
    both = run_stage(Annotators(), make_pairs(1, votes=votes([bob, ann]))).table
    alone = run_stage(Annotators(), make_pairs(1, votes=votes([ann]))).table
    assert both["id"].to_pylist()[1] == alone["id"].to_pylist()[0]


def test_what_was_flipped_before_still_says_so(make_pairs, votes):
    column = votes([("a", "rejected", 0.0, None)], [("a", "chosen", 1.0, None)])
    pairs = make_pairs(2, votes=column, flipped=[True, None])
    assert check_stage(Annotators(), pairs)["flipped"].to_pylist() == [True, None]
    assert "flipped" not in check_stage(Annotators(), make_pairs(2, votes=column)).column_names


def test_earlier_policies_are_told_the_other_way_round_too(make_pairs, votes):
    entry = {"model": "m", "chosen_logp": -1.0, "rejected_logp": -2.0}
    column = votes([("a", "rejected", 0.0, None)], [("a", "chosen", 1.0, None)])
    out = check_stage(Annotators(), make_pairs(2, votes=column, ref_history=[[entry], [entry]]))
    assert [row[0]["chosen_logp"] for row in out["ref_history"].to_pylist()] == [-2.0, -1.0]


def test_rows_may_stay_and_those_with_one_vote_get_its_name(voted):
    out = check_stage(Annotators(kind="only-vote"), voted)
    assert out["annotator"].to_pylist() == [None, "ann", "bob", None]
    assert out["id"].to_pylist() == voted["id"].to_pylist()


def test_a_column_of_one_side_alone_is_refused_before_any_row_is_read(voted):
    with pytest.raises(ContractError, match="rejected_advantage"):
        Annotators().output_schema(
            voted.append_column("rejected_advantage", pa.nulls(4, pa.float64())).schema
        )
