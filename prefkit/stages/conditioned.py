"""What becomes of a row whose prompt changes: the new prompt, what was added, and what is no longer known."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from prefkit.columns import COLUMNS, MESSAGES
from prefkit.conditioning.goals import Place, placed
from prefkit.tables import message_tuples, put

__all__ = [
    "AGAINST_EACH_OTHER",
    "UNDER_THE_PROMPT",
    "messages_array",
    "prompts_with",
    "unsaid",
    "with_conditions",
]

AGAINST_EACH_OTHER = (
    "p_chosen",
    "tie",
    "flip_prob",
    "flipped",
    "margin",
    "votes",
    "judgements",
    "rationales",
    "weight",
    "chosen_place",
    "rejected_place",
    "difficulty",
    "route",
)
"""What is said of a pair without a goal, and may be false under one."""
UNDER_THE_PROMPT = (
    "ref_chosen_logp",
    "ref_rejected_logp",
    "ref_fingerprint",
    "ref_history",
    "chosen_teacher",
    "rejected_teacher",
    "rejected_advantage",
    "teacher_fingerprint",
    "phase",
    "rank",
)
"""What was measured under the prompt as it was, and the order of rows that are others now."""


def prompts_with(prompts: pa.ChunkedArray, said: Sequence[str], place: Place) -> pa.Array:
    """Return prompts that begin with a text each."""
    # A Python loop: every prompt is a conversation of its own.
    return messages_array(
        [placed(prompt, text, place) for prompt, text in zip(message_tuples(prompts), said, strict=True)]
    )


def messages_array(conversations: Sequence[Sequence[tuple[str, str]]]) -> pa.Array:
    """Return conversations as an Arrow column."""
    return pa.array(
        [[{"role": role, "content": content} for role, content in turns] for turns in conversations], MESSAGES
    )


def with_conditions(table: pa.Table, entries: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Table:
    """Add to `conditions` what a prompt says now, behind what it said before, and forget what went by the old one."""
    said = table["conditions"].to_pylist() if "conditions" in table.column_names else [None] * table.num_rows
    both = [[*(before or ()), *now] for before, now in zip(said, entries, strict=True)]
    return unsaid(put(table, "conditions", pa.array(both, COLUMNS["conditions"].type)), UNDER_THE_PROMPT)


def unsaid(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return the table with these columns, as far as it has them, null."""
    for name in names:
        if name in table.column_names:
            table = put(table, name, pa.nulls(table.num_rows, table.schema.field(name).type))
    return table
