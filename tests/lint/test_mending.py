"""What can be mended is mended in a copy, row by row on record; linting the copy finds no more of it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefkit.errors import PrefkitError
from prefkit.lint import mend, write

MENDED = {
    "role-order",
    "prompt-repeated",
    "same-text",
    "same-tokens",
    "same-after-cut",
    "doubled-bos",
    "end-token-in-response",
    "empty-think-on-one-side",
    "unreadable-row",
}
BOS = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
BOS += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


@pytest.mark.parametrize(
    ("given", "chosen", "rejected", "why"),
    [
        ({"chosen": "red </s>\n"}, "red", "no", "end token taken off a response"),
        ({"chosen": "red<|im_end|><|im_end|>"}, "red", "no", "end token taken off a response"),
        ({"chosen": " red"}, "red", "no", "white space at the ends made alike"),
        ({"rejected": "no\n\n"}, "twelve", "no", "white space at the ends made alike"),
        ({"rejected": "no\r\nred"}, "twelve", "no\nred", "windows line breaks made plain"),
        ({"chosen": "<think>\n</think>\n\nred"}, "red", "no", "empty <think> taken out"),
        ({"chosen": "<s>red"}, "red", "no", "begin token taken off a text"),
        (
            {"chosen": "send red pens please\nred", "rejected": "send red pens please no"},
            "red",
            "no",
            "prompt taken off the responses",
        ),
    ],
)
def test_a_row_is_mended_and_the_log_says_how(lint, mended, row, given, chosen, rejected, why):
    before = lint(row(), row(**given), template=BOS, bos=True)
    after = mended(before)
    told = after.read.table.to_pylist()
    assert [told[1][side][-1]["content"] for side in ("chosen", "rejected")] == [chosen, rejected]
    assert told[0] == before.read.table.to_pylist()[0]
    log = [json.loads(line) for line in log_of(after).splitlines()]
    assert log == [{"id": "pairs.jsonl:2", "action": "changed", "why": [why]}]
    assert after.errors() == set()


def log_of(after) -> str:
    return (after.dataset / "fixes.jsonl").read_text()


def test_pairs_that_are_the_same_or_out_of_order_are_dropped(lint, mended, row, turn):
    before = lint(
        row(),
        row(chosen="red", rejected="red"),
        row(chosen="red", rejected="red "),
        row(chosen="<|im_end|>"),
        row([turn("user", "a"), turn("user", "b")]),
        {"prompt": "no json" * 3},
        "neither",
    )
    after = mended(before)
    assert after.read.table.num_rows == 2  # and the row without responses, which nobody can mend
    assert [(entry["id"][-1], entry["why"][-1]) for entry in map(json.loads, log_of(after).splitlines())] == [
        ("7", "unreadable: not an object"),
        ("2", "same text"),
        ("3", "same text"),
        ("4", "nothing is left"),
        ("5", "role order: user after user"),
    ]
    assert after.errors() == {"null-content", "empty-response"}


def test_what_counts_characters_or_tokens_is_void_where_the_text_changed(lint, mended, row):
    more = {"ref_chosen_logp": -3.5, "chosen_spans": [], "margin": 1.5, "note": "mine"}
    told = mended(lint(row(**more), row(chosen="red ", **more))).read.table.to_pylist()
    assert [one["ref_chosen_logp"] for one in told] == [-3.5, None]
    assert [one["chosen_spans"] for one in told] == [[], None]
    assert [(one["margin"], one["note"]) for one in told] == [(1.5, "mine")] * 2


def test_nothing_is_written_where_there_are_other_files(lint, row, tmp_path):
    before = lint(row())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    with pytest.raises(PrefkitError, match="files that no export wrote"):
        write(mend(before.subject, before.read), tmp_path / "mine", {})


def test_the_copy_opens_as_a_dataset(lint, mended, row):
    after = mended(lint(row(), row(chosen=" red")))
    (path,) = Path(after.dataset).glob("data/*.parquet")
    assert pq.read_table(path).column_names == ["prompt", "chosen", "rejected"]


PIECES = (
    "red",
    " ",
    "\n",
    "\r\n",
    "<think></think>",
    "<s>",
    "</s>",
    "<|im_end|>",
    "send red pens please",
    "<think>a</think>",
)
TEXTS = st.lists(st.sampled_from(PIECES), max_size=5).map("".join)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([None, 24]),
)
def test_linting_a_mended_copy_finds_no_error_that_mending_is_for(lint, mended, row, texts, trims, limit):
    template = BOS.replace("m.content", "m.content | trim") if trims else BOS
    before = lint(
        row(), *(row(*one) for one in texts), template=template, bos=True, limit=limit, truncate="response"
    )
    after = mended(before)
    assert after.errors() & MENDED == set()
    dropped = sum(json.loads(line)["action"] == "dropped" for line in log_of(after).splitlines())
    assert after.read.table.num_rows == len(texts) + 1 - dropped
