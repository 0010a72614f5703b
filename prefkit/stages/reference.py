"""Reference: log-probs of both sides of a pair under the reference model, computed once and kept as columns.

A fingerprint of everything they depend on (weights, tokenizer, chat template, number format) is kept beside them.
Training refuses columns that another reference made. Nothing is truncated: a conversation that does not fit the
model's context is set aside as failed.
"""

from collections.abc import Collection
from typing import ClassVar, Literal, final

import pyarrow as pa

from prefkit.columns import Columns, types
from prefkit.engines import Conversation, Failure, LogProb, Model
from prefkit.stage import PAIRS, Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put

__all__ = ["Reference"]

SIDES = ("chosen", "rejected")
TOO_LONG = "too-long"


@final
class Reference(Stage):
    """Write the summed log-prob of chosen and rejected under a model, end-of-turn token included, in nats."""

    name: ClassVar[str] = "reference"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS

    model: Model
    """The reference: usually the model that training starts from."""
    too_long: Literal["fail", "drop"] = "fail"
    """What happens to a pair with a side longer than the model reads: it fails, or it is dropped and counted."""

    def reads(self) -> Columns:
        return types("prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        return types("ref_chosen_logp", "ref_rejected_logp", "ref_fingerprint")

    def touches(self) -> Collection[str]:
        return ("tools",)

    def drops(self) -> Collection[str]:
        return (TOO_LONG,) if self.too_long == "drop" else ()

    def cost(self) -> Cost:
        return Cost(calls=2)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        rows = table.num_rows
        answers = ctx.engines.log_probs(self.model, _conversations(table)) if rows else []
        print_ = ctx.engines.fingerprint(self.model) if rows else ""
        errors: list[str | None] = [None] * rows
        reasons: list[str | None] = [None] * rows
        for at, answer in enumerate(answers):
            if isinstance(answer, Failure) and answer.too_long and self.too_long == "drop":
                reasons[at % rows] = TOO_LONG
            elif isinstance(answer, Failure) and errors[at % rows] is None:
                errors[at % rows] = f"{SIDES[at // rows]}: {answer.error}"
        logps = [answer.logp if isinstance(answer, LogProb) else None for answer in answers]
        table = put(table, "ref_chosen_logp", pa.array(logps[:rows], pa.float64()))
        table = put(table, "ref_rejected_logp", pa.array(logps[rows:], pa.float64()))
        table = put(table, "ref_fingerprint", pa.array([print_] * rows, pa.string()))
        # A pair that is too long is dropped whatever became of its other side: asking again cannot help.
        left = [error for reason, error in zip(reasons, errors, strict=True) if reason is None]
        return ctx.fail(ctx.drop(table, reasons), left)


def _conversations(table: pa.Table) -> list[Conversation]:
    """Return the chosen side of every row, then the rejected side of every row."""
    prompts = message_tuples(table["prompt"])
    tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
    return [
        Conversation(*talk)
        for side in SIDES
        for talk in zip(prompts, message_tuples(table[side]), tools, strict=True)
    ]
