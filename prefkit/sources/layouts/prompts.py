"""Prompts alone: MT-Bench questions, conversations that end with the user, and plain columns."""

from collections.abc import Iterator

import pyarrow as pa

from prefkit.sources.chunks import BadRowError, Cell, Row
from prefkit.sources.conversations import has_turns, speaker
from prefkit.sources.layouts.layout import Head, Layout, required

__all__ = ["MT_BENCH", "OPEN_CONVERSATION", "PROMPTS"]

_ABOUT = {
    "system": ("system",),
    "input": ("input",),
    "tools": ("tools",),
    "reference_answer": ("reference_answer",),
    "domain": ("domain", "category", "subset"),
}


def _unfold_turns(row: Row) -> Iterator[Row]:
    turns = required(row, "turns")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, str) for turn in turns):
        raise BadRowError("'turns' is not a list of texts")
    answers = row.get("reference")
    yield {
        "prompt": turns[0],
        "domain": row.get("category"),
        "reference_answer": answers[0] if isinstance(answers, list) and answers else None,
        "later_turns": turns[1:],
    }


def _is_texts(value: Cell) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, str) for turn in value)


def _asks_last(head: Head) -> bool:
    return head.has("messages", lambda value: has_turns(value) and speaker(value[-1]) in {"user", "tool"})


MT_BENCH = Layout(
    name="mt-bench-questions",
    level="prompt",
    needs=(("question_id",), ("turns",)),
    matches=lambda head: head.has("turns", _is_texts),
    unfold=_unfold_turns,
    gives=("prompt", "domain", "reference_answer"),
    extras={"later_turns": pa.list_(pa.string())},
)
"""The prompt is the first turn: what follows it needs an answer first, and is kept in `later_turns`."""
OPEN_CONVERSATION = Layout(
    name="open-conversation",
    level="prompt",
    needs=(("messages",),),
    columns={"prompt": ("messages",), **{key: value for key, value in _ABOUT.items() if key != "input"}},
    matches=_asks_last,
)
PROMPTS = Layout(
    name="prompts",
    level="prompt",
    needs=(("prompt", "instruction"),),
    columns={"prompt": ("prompt", "instruction"), **_ABOUT},
)
