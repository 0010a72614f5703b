"""Rule `style`: features of a response as scores."""

from typing import get_args

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from prefkit.columns import MESSAGES
from prefkit.quality.style import FEATURES
from prefkit.rules.style import Feature, Style


def said(role: str, texts) -> pa.Array:
    return pa.array([None if text is None else [{"role": role, "content": text}] for text in texts], MESSAGES)


def scores(rule: Style, *texts: str | None, prompt: str = "Tell me of cats and dogs.") -> list:
    table = pa.table(
        {
            "prompt": said("user", [prompt] * len(texts)),
            "response": said("assistant", texts),
            "reference_answer": pa.array([prompt] * len(texts), pa.string()),
        }
    )
    return rule.score(table).to_pylist()


def test_every_feature_of_style_that_the_shortcut_score_sees_can_be_a_score():
    assert set(get_args(Feature)) == {*FEATURES, "words", "readability", "novelty"} - {"length"}


@pytest.mark.parametrize(
    ("feature", "text", "score"),
    [
        ("words", "Don't panic: 3 cats.", 4),
        ("sentences", "One. Two! Three?", 3),
        ("headings", "# A\ntext\n## B", 2),
        ("bullets", "- a\n- b\n* c", 3),
        ("hedges", "Perhaps it may rain, probably.", 3),
        ("refusal", "I'm sorry, but I can't help with that.", 1),
        ("refusal", "I can help.", 0),
        # 6 words, 1 sentence, 6 syllables: 206.835 - 6.09 - 84.6.
        ("readability", "The cat sat on the mat.", 116.145),
        # {cats, and, dogs, purr} against {tell, me, of, cats, and, dogs}: 3 shared of 7.
        ("novelty", "Cats and dogs purr.", 1 - 3 / 7),
    ],
)
def test_a_feature_is_counted_as_a_reader_would(feature, text, score):
    assert scores(Style(feature=feature), text) == [pytest.approx(score)]


def test_counts_can_be_for_each_hundred_words_and_are_unknown_without_words():
    rule = Style(feature="hedges", per_words=True)
    assert scores(rule, "perhaps it is so", "...", None) == [25.0, None, None]
    assert scores(Style(feature="readability"), "", None) == [None, None]


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.text(max_size=40))
def test_novelty_is_a_share_and_zero_for_a_copy(texts, prompt):
    for source in ("prompt", "reference_answer"):
        rule = Style(feature="novelty", source=source)
        found = [score for score in scores(rule, *texts, prompt=prompt) if score is not None]
        assert all(0 <= score <= 1 for score in found)
        assert scores(rule, prompt, prompt=prompt)[0] in (0.0, None)


def test_what_is_no_count_cannot_be_for_each_hundred_words():
    with pytest.raises(ValidationError, match="is none"):
        Style(feature="readability", per_words=True)
