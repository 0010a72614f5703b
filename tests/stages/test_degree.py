"""The degree stage: copies of pairs that have lost a growing share of their words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.marks import words
from prefkit.stages.degree import Degree, shortened
from prefkit.stages.filter import Filter
from prefkit.testing import check_stage, run_stage

TEXT = "The elephant  walks, and the elephant\nsleeps at noon."
LEVELS = (1 / 3, 2 / 3)


def said(table, side="chosen"):
    return [row[-1]["content"] for row in table[side].to_pylist()]


def test_the_longest_words_go_first_wherever_they_stand():
    # distinct: elephant, sleeps, walks, noon, the, and, at; a third of seven is two, two thirds are four
    assert shortened(TEXT, LEVELS) == ["The walks, and the\nat noon.", "The , and the\nat ."]


@given(st.text(alphabet="abcdeF gh\n.é ", max_size=60))
@settings(max_examples=200, deadline=None)
def test_what_is_gone_at_one_degree_is_gone_at_the_next(text):
    made = shortened(text, LEVELS)
    kept = [[word for word in words(one.casefold()) if word.isalnum()] for one in (text, *made)]
    if made:
        assert len({*kept[0]}) > len({*kept[1]}) > len({*kept[2]})
        assert {*kept[2]} <= {*kept[1]} <= {*kept[0]}
    for one in made:
        assert "  " not in one
        assert all(line == line.strip(" ") for line in one.split("\n"))


def test_degree_0_is_the_pair_as_it_was_and_the_others_point_to_it(make_pairs):
    pairs = make_pairs(chosen=[TEXT, "one two three four"], rejected=["five  six seven ", TEXT])
    out = check_stage(Degree(), pairs)
    assert out["degree"].to_pylist() == [0, 1, 2, 0, 1, 2]
    assert out["pair_group"].to_pylist() == ["r000"] * 3 + ["r001"] * 3
    untouched = out.filter([degree == 0 for degree in out["degree"].to_pylist()])
    assert untouched.select(pairs.column_names).equals(pairs)
    assert said(out, "rejected")[:3] == ["five  six seven ", "five six", "six"]


def test_nothing_that_was_said_of_the_texts_is_said_of_their_copies(make_pairs, votes):
    column = votes([("a", "chosen", 1.0, 1.0)], None)
    pairs = make_pairs(
        chosen=[TEXT, TEXT],
        rejected=["five six seven", "x"],
        votes=column,
        chosen_score=[1.0, 2.0],
        rejected_score=[0.0, 0.0],
        margin=[1.0, 2.0],
        ref_chosen_logp=[-1.0, -1.0],
        annotator=["ann", "bob"],
        domain=["law", "law"],
    )
    out = check_stage(Degree(), pairs)
    assert out["chosen_score"].to_pylist() == [1.0, None, None, 2.0]
    assert out["votes"].is_valid().to_pylist() == [True, False, False, False]
    for name in ("margin", "rejected_score", "ref_chosen_logp"):
        assert out[name].is_valid().to_pylist() == [True, False, False, True]
    assert out["annotator"].to_pylist() == ["ann", "ann", "ann", "bob"]
    assert out["domain"].to_pylist() == ["law"] * 4
    assert len(set(out["chosen_id"].to_pylist())) == 4


def test_a_pair_with_too_few_words_has_no_copies_and_is_counted(make_pairs):
    pairs = make_pairs(chosen=[TEXT, TEXT, TEXT], rejected=["yes", "a b c", None])
    out = run_stage(Degree(), pairs)
    assert out.table["degree"].to_pylist() == [0, 0, 1, 2, 0]
    assert out.notes == {"degree/too-few-words": 2}


def test_copies_are_taken_out_again_by_a_filter(make_pairs):
    out = run_stage(Degree(), make_pairs(chosen=[TEXT], rejected=["a b c"])).table
    kept = run_stage(Filter(keep={"column": "degree", "max": 0}), out).table
    assert kept["id"].to_pylist() == ["r000"]


def test_the_levels_may_be_others(make_pairs):
    out = check_stage(Degree(levels=(0, 0.5)), make_pairs(chosen=["aa b", "cc d"], rejected=["e ff", "g hh"]))
    assert said(out) == ["aa b", "b", "cc d", "d"]


@pytest.mark.parametrize("levels", [(0.0,), (0.1, 0.5), (0.0, 0.5, 0.5), (0.0, 1.0), (0.0, -0.5)])
def test_levels_that_do_not_rise_from_nothing_are_refused(levels):
    with pytest.raises(ValidationError):
        Degree(levels=levels)
