"""How much of a text another keeps, and texts whose sentences end another way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.conditioning.revisions import HIDDEN, cut_sentences, edit_ratio, impaired, joined, kept_mask
from prefkit.engines import Message
from prefkit.marks import sentences


def test_the_edit_ratio_counts_words_of_both_sides():
    assert edit_ratio("the cat sat", "the cat sat") == 0.0
    assert edit_ratio("the cat sat", "the dog sat") == pytest.approx(2 / 6)
    assert edit_ratio("one", "two") == 1.0
    assert edit_ratio("", "") == 0.0


@given(st.text("ab .", max_size=12), st.text("ab .", max_size=12))
def test_the_edit_ratio_is_symmetric_and_a_share(one, other):
    assert edit_ratio(one, other) == pytest.approx(edit_ratio(other, one))
    assert 0.0 <= edit_ratio(one, other) <= 1.0


def test_what_is_below_the_threshold_is_hidden():
    # golden data.json V07: .2, .995, .5, .991 at .99 keep the second and the fourth
    draws = [0.2, 0.995, 0.5, 0.991]
    assert kept_mask(np.array(draws), 0.99).astype(int).tolist() == [0, 1, 0, 1]
    prompt = [Message("system", "Be brief."), Message("user", "It rains. I am cold. What now?")]
    assert impaired(prompt, draws, 0.99) == (
        Message("system", HIDDEN),
        Message("user", f"It rains. {HIDDEN} What now?"),
    )


def test_a_sentence_is_cut_at_a_word_and_ends_another_way():
    text = "The cat sat down. It was warm there!\nGood."
    cuts = cut_sentences(text, [0.5, 0.0, 0.9])
    assert [cut.head for cut in cuts] == ["The cat", " It", "Good."]
    assert cuts[1].before == "The cat sat down. "[: len(cuts[1].before)]
    made = joined(cuts, ["ran away. And more", "froze", ""])
    assert made == "The cat ran away. It froze!\nGood."


@given(
    st.text("ab .\n!", max_size=30),
    st.lists(st.text("cd .", max_size=8), min_size=20, max_size=20),
    st.floats(0, 0.99),
)
def test_every_sentence_keeps_its_head(text, tails, draw):
    marks = sentences(text)
    cuts = cut_sentences(text, [draw] * len(marks))
    assert "".join(cut.head + cut.tail for cut in cuts) == text[: marks[-1].end if marks else 0]
    at, made = 0, joined(cuts, tails[: len(cuts)])
    for cut in cuts:
        at = made.index(cut.head, at) + len(cut.head)
