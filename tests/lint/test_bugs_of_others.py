"""Mistakes in preference data that users of other tools have reported, each found before training.

What they reported besides is no matter of lint: slow or uncached tokenising and jobs that die of it (the trainer
tokenises once), responses beyond two that are ignored and ranked lists (`pair` makes pairs of them, with a count),
losses that are not finite and accuracies that stay at one half (the trainer watches both), and columns that another
trainer rejects (`export` writes each its own).
"""

import json

import pytest

from prefkit.errors import ContractError, DataError
from prefkit.lint import read
from prefkit.store import Store

PREFILL = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}"
)


def test_a_prompt_that_is_doubled_in_the_responses_is_an_error(lint, row):
    prompt = "which pens are blue and green?"
    linted = lint(row(prompt, f"{prompt} twelve", f"{prompt} no"))
    assert linted.details("prompt-repeated") == ['"which pens are blue and green?"']


@pytest.mark.parametrize("layout", ["explicit", "implicit", "text"])
def test_the_layouts_of_one_pair_are_the_same_tokens(lint, row, turn, layout):
    """Prompt beside the responses, conversations with the prompt in them, or plain text: one training row."""
    asked, chosen, rejected = (
        turn("user", "how many pens"),
        turn("assistant", "twelve"),
        turn("assistant", "no"),
    )
    rows = {
        "explicit": {"prompt": [asked], "chosen": [chosen], "rejected": [rejected]},
        "implicit": {"chosen": [asked, chosen], "rejected": [asked, rejected]},
        "text": {"prompt": "how many pens", "chosen": "twelve", "rejected": "no"},
    }
    linted, wanted = lint(rows[layout]), lint(row("how many pens"))
    assert linted.errors() == set()
    for part, tokens in wanted.subject.tokens.items():
        assert linted.subject.tokens[part].row(0) == tokens.row(0)


def test_a_template_that_prefills_think_before_responses_that_open_with_it_is_an_error(lint, row):
    linted = lint(row(chosen="<think>seven</think>red", rejected="six</think>no"), template=PREFILL)
    assert linted.details("prefilled-think") == ["chosen"]
    assert "prefilled-think" not in lint(row(chosen="six</think>red"), template=PREFILL).found


def test_rows_that_no_build_takes_are_told_with_their_line_and_reason(lint, turn):
    good = {
        "chosen": [turn("user", "a"), turn("assistant", "b")],
        "rejected": [turn("user", "a"), turn("assistant", "c")],
    }
    linted = lint(good, good | {"rejected": [turn("user", "c")]}, good)
    assert linted.found["unreadable-row"].examples == [
        {"id": "pairs.jsonl:2", "detail": "no prompt before the response"}
    ]
    assert linted.read.ids == ["pairs.jsonl:1", "pairs.jsonl:3"]


def test_columns_that_mean_nothing_and_rows_that_are_no_pairs_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"colour": "red"}))
    with pytest.raises(DataError, match="colour"):
        read(str(path), Store(tmp_path / "runs"))
    path.write_text(json.dumps({"prompt": "a", "response": "b"}))
    with pytest.raises(ContractError, match="holds responses, not pairs"):
        read(str(path), Store(tmp_path / "runs"))


def test_the_layout_of_ultrafeedback_binarized_is_accepted(lint, turn):
    asked = turn("user", "how many")
    sides = {"chosen": [asked, turn("assistant", "red")], "rejected": [asked, turn("assistant", "no")]}
    linted = lint(
        {"prompt": "how many", "prompt_id": "x", **sides, "score_chosen": 8.0, "score_rejected": 2.0}
    )
    assert linted.errors() == set()
    assert linted.report.trained_on == 1


def test_pairs_whose_conversations_part_before_the_last_turn_are_an_error(lint, turn):
    def side(first: str, last: str) -> list:
        return [turn("user", "a"), turn("assistant", first), turn("user", "b"), turn("assistant", last)]

    linted = lint(
        {"chosen": side("x", "red"), "rejected": side("x", "no")},
        {"chosen": side("x", "red"), "rejected": side("y", "no")},
    )
    assert linted.found["unreadable-row"].examples == [
        {"id": "pairs.jsonl:2", "detail": "chosen and rejected differ before the last turn"}
    ]


def test_pairs_that_are_the_same_once_they_are_cut_are_an_error(lint, row):
    pair = row("send pens", "red blue green " * 8 + "pens", "red blue green " * 8 + "cups")
    limit = lint(pair).report.tokens["prompt"]["max"] + 10
    linted = lint(pair, limit=limit, truncate="response")
    assert linted.report.trained_on == 0
    (detail,) = linted.details("same-after-cut")
    first = linted.report.tokens["first difference"]["max"]
    assert first > 10
    assert detail == f"they differ from token {first} on and are cut at 10"
    assert lint(pair, limit=limit, truncate="prompt").details("same-after-cut") == []


def test_an_empty_think_block_on_one_side_is_an_error(lint, row):
    empty = "<think>\n\n</think>\n\n"
    linted = lint(row(chosen=f"{empty}red", rejected="no"), row(chosen=f"{empty}red", rejected=f"{empty}no"))
    assert [example["id"] for example in linted.found["empty-think-on-one-side"].examples] == [
        "pairs.jsonl:1"
    ]
