"""Constraints: pairs under demands that a program can check, so that a model learns to follow them.

The demands are read off the two answers and checked again on both before they are written down. Every pair stays, and
gives at most one more, so at least half of all rows are as people or models wrote them:

    response   chosen meets all demands of the prompt and rejected none: an ordinary pair
    margin     the same, and `alt_prompt` has demands that both meet, under which chosen should win by less
    prompt     one answer, chosen on both sides; it meets all demands of `prompt`, and none of `alt_prompt`

Rows of kind `prompt` compare prompts and not answers: no loss that compares the two sides learns from them, and a
training without an objective of their own should leave them out (`filter: {keep: {column: pair_kind, ...}}`).

Source: MAPL (Sun et al., 2025), arXiv 2505.12845.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PositiveInt

from prefkit.columns import COLUMNS, Columns, types
from prefkit.conditioning.constraints import Constraint, demanded, holds, picked, telling
from prefkit.engines import Message
from prefkit.rng import child_ids
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.conditioned import AGAINST_EACH_OTHER, UNDER_THE_PROMPT, messages_array, unsaid
from prefkit.tables import last_content, message_tuples, put

__all__ = ["Constraints"]

PairKind = Literal["response", "margin", "prompt"]
_PROMPT, _ALT = "prompt", "alt_prompt"


@final
class Constraints(Stage):
    """Add to each pair one under demands that chosen meets; write `pair_kind`, `constraints` and `alt_prompt`."""

    name: ClassVar[str] = "constraints"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("pair",), "pair")
    random: ClassVar[bool] = True

    kinds: Annotated[tuple[PairKind, ...], Field(min_length=1)] = ("response",)
    """What kinds of pairs are made; of several, one is drawn for each pair."""
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How likely a pair gets demands."""
    most: PositiveInt = 3
    """How many demands a prompt has at most; how many it has is drawn."""

    def reads(self) -> Columns:
        return types("id", "prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        return types("id", "prompt", "pair_group", "pair_kind", "constraints", "alt_prompt")

    def cost(self) -> Cost:
        return Cost(rows=2)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        made = self._made(table, ctx)
        where = np.asarray([one.row for one in made], dtype=np.int64)
        extra = unsaid(table.take(where), (*AGAINST_EACH_OTHER, *UNDER_THE_PROMPT))
        extra = put(extra, "prompt", messages_array([one.prompt for one in made]))
        extra = _one_answer(extra, [one.kind == _PROMPT for one in made])
        ids = child_ids(self.name, extra["id"].to_pylist(), [one.kind for one in made])
        extra = put(put(extra, "pair_group", extra["id"]), "id", pa.array(ids, pa.string()))
        bare = put(table, "pair_group", table["id"])
        blank: list[Any] = [None] * table.num_rows
        columns = {
            "pair_kind": ["response"] * table.num_rows + [one.kind for one in made],
            "constraints": [*([] for _ in blank), *(one.told for one in made)],
            "alt_prompt": [*blank, *(_turns(one.alt) if one.alt else None for one in made)],
        }
        both = pa.concat_tables([bare, extra])
        for name, values in columns.items():
            both = put(both, name, pa.array(values, COLUMNS[name].type))
        return both.take(np.argsort(np.concatenate([np.arange(table.num_rows), where]), kind="stable"))

    def _made(self, table: pa.Table, ctx: Context) -> list["_Made"]:
        ids = table["id"].to_pylist()
        draws = [ctx.uniform(self, ids, turn) for turn in range(3)]
        sides = [last_content(table[side]).to_pylist() for side in ("chosen", "rejected")]
        prompts, found = message_tuples(table["prompt"]), []
        # A Python loop: every pair is read by itself.
        for row in np.flatnonzero(draws[0] < self.rate).tolist():
            kind = self.kinds[int(draws[1][row] * len(self.kinds))]
            count = 1 + int(draws[2][row] * self.most)
            texts = (sides[0][row] or "", sides[1][row] or "")
            one = self._pair(row, kind, prompts[row], texts, _Draw(ids[row], count, ctx, self))
            if one is None:
                ctx.notes[f"constraints/nothing-tells-{kind}"] += 1
            else:
                found.append(one)
        return found

    def _pair(
        self, row: int, kind: PairKind, prompt: tuple[Message, ...], texts: tuple[str, str], draw: "_Draw"
    ) -> "_Made | None":
        chosen, rejected = texts
        wanted = draw.some(telling(chosen, rejected), _PROMPT)
        if kind == "margin":  # what tells both from nothing at all: demands that both meet
            both = [each for each in telling(chosen, "") if holds(each, rejected)]
            other = draw.some(both, _ALT)
        else:
            other = draw.some(telling(rejected, chosen), _ALT) if kind == "prompt" else []
        if not wanted or (kind != "response" and not other):
            return None
        compared = (chosen, chosen) if kind == "prompt" else texts
        told = [_entry(_PROMPT, each, compared) for each in wanted] + [
            _entry(_ALT, e, compared) for e in other
        ]
        return _Made(row, kind, demanded(prompt, wanted), demanded(prompt, other) if other else (), told)


class _Draw(NamedTuple):
    """How the demands of a pair are drawn."""

    id: str
    most: int
    ctx: Context
    stage: Stage

    def some(self, constraints: Sequence[Constraint], where: str) -> list[Constraint]:
        keys = [f"{self.id}/{where}/{one.kind}/{one.argument}" for one in constraints]
        return picked(constraints, self.ctx.uniform(self.stage, keys).tolist(), self.most)


class _Made(NamedTuple):
    """One pair under demands."""

    row: int
    kind: str
    prompt: tuple[Message, ...]
    alt: tuple[Message, ...]
    told: list[dict[str, Any]]


def _entry(where: str, one: Constraint, texts: tuple[str, str]) -> dict[str, Any]:
    met = [holds(one, text) for text in texts]
    return {
        "where": where,
        "kind": one.kind,
        "argument": one.argument,
        "shown": one.words(),
        "chosen": met[0],
        "rejected": met[1],
    }


def _turns(prompt: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def _one_answer(table: pa.Table, rows: Sequence[bool]) -> pa.Table:
    """Put the chosen answer, and all that is said of it, on both sides of these rows."""
    if not any(rows):
        return table
    there = pa.array(rows, pa.bool_())
    for name in table.column_names:
        other = name.replace("rejected", "chosen", 1)
        if name.startswith("rejected") and other in table.column_names:
            table = put(table, name, pc.if_else(there, table[other], table[name]))
    return table
