"""Both sides: how a stage asks a model about chosen and rejected of every pair, and which pairs do not go on."""

from collections.abc import Collection, Sequence
from typing import Literal

import pyarrow as pa

from prefkit.engines import Conversation, Failure
from prefkit.stage import Context
from prefkit.tables import message_tuples

__all__ = ["SIDES", "TOO_LONG", "TooLong", "conversations", "set_aside", "too_long_drops"]

SIDES = ("chosen", "rejected")
TOO_LONG = "too-long"
TooLong = Literal["fail", "drop"]
"""What happens to a pair with a side longer than the model reads: it fails, or it is dropped and counted."""


def conversations(table: pa.Table, sides: Sequence[str] = SIDES) -> list[Conversation]:
    """Return the first side of every row, then the next side of every row."""
    prompts = message_tuples(table["prompt"])
    tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
    return [
        Conversation(*talk)
        for side in sides
        for talk in zip(prompts, message_tuples(table[side]), tools, strict=True)
    ]


def set_aside(table: pa.Table, answers: Sequence[object], ctx: Context, too_long: TooLong) -> pa.Table:
    """Fail or drop the rows that have a Failure among `answers`, which go by sides as `conversations` do."""
    rows = table.num_rows
    errors: list[str | None] = [None] * rows
    reasons: list[str | None] = [None] * rows
    for at, answer in enumerate(answers):
        if isinstance(answer, Failure) and answer.too_long and too_long == "drop":
            reasons[at % rows] = TOO_LONG
        elif isinstance(answer, Failure) and errors[at % rows] is None:
            errors[at % rows] = f"{SIDES[at // rows]}: {answer.error}"
    # A pair that is too long is dropped whatever became of its other side: asking again cannot help.
    left = [error for reason, error in zip(reasons, errors, strict=True) if reason is None]
    return ctx.fail(ctx.drop(table, reasons), left)


def too_long_drops(too_long: TooLong) -> Collection[str]:
    """Return the reasons for which such a stage drops rows."""
    return (TOO_LONG,) if too_long == "drop" else ()
