"""Trace: pairs with their reasoning and pairs without it, brought together as two views of one prompt.

A reasoning model is asked twice: freely, and with its thinking forced empty; a judge of final answers labels both.
The two pairs come from different samples, so their sides may well disagree, and nothing here makes one from the other:
cutting the reasoning out of a response would score an answer that the model never gave without it. Which view a row is
shows in its responses, so two sources with the same prompts are all it takes.

Source: From Noisy Traces to Stable Gradients (BVPO, 2025).
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, final

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from prefkit.columns import Columns, types
from prefkit.rng import child_id
from prefkit.stage import PAIRS, Context, Flow, Kind, Stage
from prefkit.tables import last_content, prompt_offsets, put

__all__ = ["Trace"]

MIXED, ALONE = "mixed-traces", "no-other-view"


@final
class Trace(Stage):
    """Tell pairs with reasoning from pairs without, and join one of each of a prompt to a group.

    The first pair with reasoning meets the first without, by id, the second the second; what is left over is dropped.
    """

    name: ClassVar[str] = "trace"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = PAIRS

    opens: Annotated[str, Field(min_length=1)] = "<think>"
    """What the reasoning begins with; a response without it may still end it, if the prompt's template began it."""
    closes: Annotated[str, Field(min_length=1)] = "</think>"
    """What the reasoning ends with; with nothing but space before it, or without either mark, there was none."""

    def reads(self) -> Columns:
        return types("id", "prompt_id", "chosen", "rejected")

    def writes(self) -> Columns:
        return types("trace_mode", "pair_group")

    def touches(self) -> Collection[str]:
        return ("trace_mode",)

    def drops(self) -> Collection[str]:
        return (MIXED, ALONE)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        modes = self._modes(table)
        groups: list[str | None] = [None] * table.num_rows
        ids = table["id"].to_pylist()
        for start, length in zip(*prompt_offsets(table), strict=True):
            rows = sorted(range(start, start + length), key=lambda row: ids[row])
            views = [[row for row in rows if modes[row] == mode] for mode in ("trace", "empty")]
            for one, other in zip(*views, strict=False):
                groups[one] = groups[other] = child_id("trace", ids[one], ids[other])
        table = put(table, "trace_mode", pa.array(modes, pa.string()))
        table = put(table, "pair_group", pa.array(groups, pa.string()))
        both = zip(modes, groups, strict=True)
        return ctx.drop(table, [MIXED if m is None else ALONE if g is None else None for m, g in both])

    def _modes(self, table: pa.Table) -> list[str | None]:
        """Return the view of each row, as it says itself or its responses do; null where the two sides disagree."""
        told = table["trace_mode"].to_pylist() if "trace_mode" in table.column_names else [None] * len(table)
        sides = [pc.fill_null(last_content(table[side]), "").to_pylist() for side in ("chosen", "rejected")]
        shown = [{self._thinks(one), self._thinks(other)} for one, other in zip(*sides, strict=True)]
        names = [None if len(seen) > 1 else "trace" if True in seen else "empty" for seen in shown]
        return [mode or name for mode, name in zip(told, names, strict=True)]

    def _thinks(self, text: str) -> bool:
        """Say whether a response has reasoning; one that was cut off within it has."""
        head, mark, _ = text.partition(self.closes)
        opened = head.lstrip().startswith(self.opens)
        return bool((mark or opened) and head.strip().removeprefix(self.opens).strip())
