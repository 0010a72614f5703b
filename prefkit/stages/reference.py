"""Reference: log-probs of both sides of a pair under the reference model, computed once and kept as columns.

A fingerprint of everything they depend on (weights, tokenizer, chat template, number format) is kept beside them.
Training refuses columns that another reference made. Nothing is truncated: a conversation that does not fit the
model's context is set aside as failed. A reference may be a soup, a model with a second one averaged in; games against
earlier policies keep the log-probs of each of those in a history beside the reference's own.
"""

from collections.abc import Collection
from typing import ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc

from prefkit.columns import COLUMNS, Columns, types
from prefkit.engines import LogProb, Model
from prefkit.errors import ContractError
from prefkit.stage import PAIRS, Context, Cost, Flow, Kind, Stage
from prefkit.stages.both_sides import TooLong, conversations, set_aside, too_long_drops
from prefkit.tables import put

__all__ = ["Reference"]

HISTORY = "ref_history"


@final
class Reference(Stage):
    """Write the summed log-prob of chosen and rejected under a model, end-of-turn token included, in nats."""

    name: ClassVar[str] = "reference"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS

    model: Model
    """The reference: usually the model that training starts from."""
    too_long: TooLong = "fail"
    """What happens to a pair with a side longer than the model reads: it fails, or it is dropped and counted."""
    history: bool = False
    """Whether the log-probs go to the front of `ref_history`, as those of the latest of several earlier policies."""

    def reads(self) -> Columns:
        return types("prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        if self.history:
            return types(HISTORY)
        return types("ref_chosen_logp", "ref_rejected_logp", "ref_fingerprint")

    def touches(self) -> Collection[str]:
        return ("tools", HISTORY) if self.history else ("tools",)

    def drops(self) -> Collection[str]:
        return too_long_drops(self.too_long)

    def cost(self) -> Cost:
        return Cost(calls=2)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        rows = table.num_rows
        answers = ctx.engines.log_probs(self.model, conversations(table)) if rows else []
        print_ = ctx.engines.fingerprint(self.model) if rows else ""
        logps = [answer.logp if isinstance(answer, LogProb) else None for answer in answers]
        prints = pa.array([print_] * rows, pa.string())
        chosen, rejected = (pa.array(part, pa.float64()) for part in (logps[:rows], logps[rows:]))
        if self.history:
            table = put(table, HISTORY, _with_latest(table, prints, chosen, rejected))
        else:
            table = put(table, "ref_chosen_logp", chosen)
            table = put(table, "ref_rejected_logp", rejected)
            table = put(table, "ref_fingerprint", prints)
        return set_aside(table, answers, ctx, self.too_long)


def _with_latest(table: pa.Table, prints: pa.Array, chosen: pa.Array, rejected: pa.Array) -> pa.Array:
    """Return the history of each row with one entry more, at its front. Raises ContractError for a policy it has."""
    kind = COLUMNS[HISTORY].type
    latest = zip(prints.to_pylist(), chosen.to_pylist(), rejected.to_pylist(), strict=True)
    names = ("model", "chosen_logp", "rejected_logp")
    entries = [dict(zip(names, entry, strict=True)) for entry in latest]
    if HISTORY not in table.column_names:
        return pa.array([[entry] for entry in entries], kind)
    known = pc.struct_field(pc.list_flatten(table[HISTORY]), "model")
    if pc.any(pc.is_in(known, prints.unique())).as_py():
        what = f"column '{HISTORY}' has the log-probs of this policy already"
        raise ContractError(what, hint="give each `reference` step with `history: true` a model of its own")
    before = table[HISTORY].to_pylist()
    return pa.array([[entry, *(row or ())] for entry, row in zip(entries, before, strict=True)], kind)
