"""Masks: which tokens count, by the characters they share with the spans that a row carries."""

from typing import Any

import numpy as np
import pytest

from prefkit.objectives.masks import MASKS

# "ab cd ef" in four tokens, of which the second covers the end of one word and the start of the next; then the end of
# the turn, which covers no character.
OFFSETS = np.asarray([[0, 1], [1, 4], [4, 5], [6, 8], [-1, -1]])


def tokens(
    lab: Any, mask: object, *marked: tuple[str, int, int, int, float | None], side: str = "chosen"
) -> list[float]:
    spans = [dict(zip(("kind", "start", "end", "id", "value"), span, strict=True)) for span in marked]
    told: list[float] = lab.objective({"mask": mask}).mask.tokens(spans, OFFSETS, side).tolist()
    return told


def test_without_a_mask_every_token_counts_once(lab: Any) -> None:
    assert tokens(lab, "everything") == [1, 1, 1, 1, 1]


def test_a_token_belongs_to_each_span_it_shares_a_character_with(lab: Any) -> None:
    assert tokens(lab, "phrases", ("phrase", 0, 2, 1, None)) == [1, 1, 0, 0, 0]
    assert tokens(lab, "phrases", ("phrase", 3, 5, 1, None)) == [0, 1, 1, 0, 0]
    assert tokens(lab, "phrases", ("phrase", 5, 6, 1, None)) == [0, 0, 0, 0, 0]  # a gap that no token covers
    assert tokens(lab, "phrases", ("phrase", 0, 1, 1, None), ("phrase", 6, 7, 2, None)) == [1, 0, 0, 1, 0]


def test_spans_of_another_kind_do_not_count(lab: Any) -> None:
    assert tokens(lab, "phrases", ("step", 0, 8, 1, 1.0)) == [0, 0, 0, 0, 0]
    assert tokens(lab, "weights", ("step", 0, 8, 1, 1.0), ("weight", 4, 5, 1, 0.5)) == [0, 0, 0.5, 0, 0]


def test_true_sentences_of_chosen_and_false_ones_of_rejected_count_and_the_end_on_both(lab: Any) -> None:
    marked = ("sentence", 0, 4, 1, 1.0), ("sentence", 4, 8, 2, 0.0)
    assert tokens(lab, "facts", *marked) == [1, 1, 0, 0, 1]
    assert tokens(lab, "facts", *marked, side="rejected") == [0, 0, 1, 1, 1]


def test_turning_a_verdict_changes_only_its_own_sentence(lab: Any) -> None:
    one = tokens(lab, "facts", ("sentence", 0, 4, 1, 1.0), ("sentence", 4, 8, 2, 0.0))
    other = tokens(lab, "facts", ("sentence", 0, 4, 1, 1.0), ("sentence", 4, 8, 2, 1.0))
    assert [a != b for a, b in zip(one, other, strict=True)] == [False, False, True, True, False]


def test_terms_have_weights_of_their_own_only_where_the_row_says_so(lab: Any) -> None:
    mask = lab.objective({"mask": "weights"}).mask
    common = [{"kind": "weight", "start": 0, "end": 8, "id": 1, "value": 0.5}]
    own = [*common, {"kind": "kl-weight", "start": 0, "end": 4, "id": 1, "value": 1.0}]
    assert mask.term_tokens(common, OFFSETS, "chosen").tolist() == [0.5, 0.5, 0.5, 0.5, 0]
    assert mask.term_tokens(own, OFFSETS, "chosen").tolist() == [1, 1, 0, 0, 0]
    assert mask.tokens(own, OFFSETS, "chosen").tolist() == [0.5, 0.5, 0.5, 0.5, 0]


@pytest.mark.parametrize(
    ("weigh", "expected"),
    [
        ("one", [0.5, 0.5, 0.5, 0.5, 0.5]),
        ("one-plus-cos", [0.625, 0.625, 0.375, 0.375, 0.375]),
        ("one-minus-cos", [0, 0, 1, 1, 1]),
    ],
)
def test_steps_share_one_by_their_weights_and_the_end_is_of_the_last(
    lab: Any, weigh: str, expected: list[float]
) -> None:
    marked = ("step", 4, 8, 2, 0.2), ("step", 0, 4, 1, 1.0)
    assert tokens(lab, {"steps": {"weigh": weigh}}, *marked) == pytest.approx(expected)


def test_no_mask_of_the_catalog_is_without_a_test() -> None:
    assert {mask.name for mask in MASKS} == {"everything", "phrases", "facts", "weights", "steps"}
