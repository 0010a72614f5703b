"""The trace stage: pairs with reasoning and pairs without it, as two views of a prompt."""

import pytest

from prefkit.stages.trace import Trace
from prefkit.testing import check_stage, run_stage

LONG, SHORT = "<think>\nhm, 2 and 2\n</think>\n4", "<think>\n\n</think>\n\n4"


def test_a_pair_with_reasoning_and_one_without_become_a_group(make_pairs):
    pairs = make_pairs(
        prompt_id=["p", "p", "q", "q"],
        chosen=[LONG, SHORT, "4", LONG],
        rejected=[LONG + "5", SHORT + "5", "5", LONG + "5"],
    )
    out = check_stage(Trace(), pairs)
    assert out["trace_mode"].to_pylist() == ["trace", "empty", "empty", "trace"]
    groups = out["pair_group"].to_pylist()
    assert groups[0] == groups[1] != groups[2] == groups[3]


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("4", "empty"),
        ("", "empty"),
        ("<think></think>4", "empty"),
        ("  <think> \n </think>4", "empty"),
        ("<think>why</think>4", "trace"),
        ("why</think>4", "trace"),  # the template's generation prompt opened it
        ("</think>4", "empty"),
        ("<think>cut off in the mid", "trace"),
        ("it says <think>", "empty"),
    ],
)
def test_the_view_shows_in_the_response(make_pairs, text, mode):
    pairs = make_pairs(prompt_id=["p", "p"], chosen=[text, text], rejected=[text, text])
    dropped = run_stage(Trace(), pairs).dropped[0]
    assert dropped["trace_mode"].to_pylist() == [mode] * 2


def test_rows_that_find_no_partner_are_dropped_and_counted(make_pairs):
    pairs = make_pairs(
        prompt_id=["p", "p", "p", "q", "q"],
        chosen=[LONG, LONG, SHORT, LONG, SHORT],
        rejected=[LONG, LONG, SHORT, SHORT, SHORT],
    )
    out = run_stage(Trace(), pairs)
    assert out.table["id"].to_pylist() == ["r000", "r002"]
    assert out.notes == {"dropped/no-other-view": 2, "dropped/mixed-traces": 1}
    check_stage(Trace(), pairs)


def test_several_pairs_of_a_prompt_meet_in_the_order_of_their_ids(make_pairs):
    pairs = make_pairs(
        id=["d", "c", "b", "a"],
        prompt_id=["p"] * 4,
        chosen=[LONG, LONG, SHORT, SHORT],
        rejected=["<think>x"] * 2 + ["x"] * 2,
    )
    out = check_stage(Trace(), pairs)
    groups = dict(zip(out["id"].to_pylist(), out["pair_group"].to_pylist(), strict=True))
    assert groups["c"] == groups["a"] != groups["d"] == groups["b"]


def test_what_a_row_says_of_itself_counts(make_pairs):
    pairs = make_pairs(
        prompt_id=["p", "p"], chosen=["4", "4"], rejected=["5", "6"], trace_mode=["trace", None]
    )
    assert check_stage(Trace(), pairs)["trace_mode"].to_pylist() == ["trace", "empty"]


def test_other_marks_may_enclose_the_reasoning(make_pairs):
    pairs = make_pairs(prompt_id=["p", "p"], chosen=["[a]b[/a]4", "4"], rejected=["[a]c[/a]5", "[a][/a]5"])
    out = check_stage(Trace(opens="[a]", closes="[/a]"), pairs)
    assert out["trace_mode"].to_pylist() == ["trace", "empty"]
