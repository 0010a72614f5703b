"""Asking a model for texts that must pass a check, again with another seed where one does not."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa

from prefkit.engines import Engines, Failure, Model, Request
from prefkit.stage import Context

__all__ = ["Asked", "ask", "usable"]


class Asked(NamedTuple):
    """What came of each question."""

    texts: list[str]
    """The text that passed; empty where none did."""
    flaws: list[str | None]
    """What was wrong with the last one, where none passed."""
    errors: list[str | None]
    """Why there was no answer at all."""


def ask(
    engines: Engines,
    model: Model,
    count: int,
    request: Callable[[int, int], Request],
    flaw: Callable[[int, str], str | None],
    retries: int,
) -> Asked:
    """Ask `count` questions and each that has a flawed answer up to `retries` times more.

    `request(row, attempt)` is what to ask; `flaw(row, text)` is what is wrong with a stripped answer, or None.
    """
    found = Asked([""] * count, [None] * count, [None] * count)
    pending: Sequence[int] = range(count)
    for attempt in range(1 + retries):
        answers = engines.generate(model, [request(row, attempt) for row in pending]) if pending else []
        again = []
        for row, answer in zip(pending, answers, strict=True):
            if isinstance(answer, Failure):
                found.errors[row] = answer.error
                continue
            text = answer.text.strip()
            found.flaws[row] = flaw(row, text)
            if found.flaws[row] is None:
                found.texts[row] = text
            else:
                again.append(row)
        pending = again
    return found


def usable(table: pa.Table, asked: Asked, ctx: Context) -> tuple[pa.Table, list[int]]:
    """Set aside rows without an answer and rows without a good one; return the others and which they were."""
    table = ctx.fail(table, asked.errors)
    there = [row for row, error in enumerate(asked.errors) if error is None]
    table = ctx.drop(table, [asked.flaws[row] for row in there])
    return table, [row for row in there if asked.flaws[row] is None]
