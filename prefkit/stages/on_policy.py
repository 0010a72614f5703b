"""On-policy: put answers of the policy in the place of some rejected ones, so that it sees what it would say itself.

A share of the prompts is drawn, exactly so many and nested: a larger share holds a smaller one. In their pairs chosen
stays, and rejected becomes a fresh sample of the policy. What was said of the old rejected answer, or of both, is null
there: nobody has judged the new one, which a good policy may well write better than chosen.

Source: What Matters in Data for DPO? (Pan et al., 2025), arXiv 2508.18312: a tenth helps where chosen is good, and more
adds nothing.
"""

from collections.abc import Collection, Mapping
from typing import Annotated, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat, PositiveInt

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.engines import Completion, Failure, Model, Request
from prefkit.sources.ids import pair_ids
from prefkit.stage import Context, Cost, Flow, Holds, Kind, Stage
from prefkit.stages.conditioned import AGAINST_EACH_OTHER, UNDER_THE_PROMPT
from prefkit.tables import message_tuples, put, to_messages
from prefkit.texts import digests

__all__ = ["OnPolicy"]

_SAME = "identical-texts"
_GIVEN = ("rejected", "rejected_id", "rejected_model", "rejected_origin")


@final
class OnPolicy(Stage):
    """Replace the rejected answers of a share of the prompts by samples of the policy."""

    name: ClassVar[str] = "on-policy"
    kind: ClassVar[Kind] = "global"
    level: ClassVar[Flow] = Flow(("pair",), "pair")
    random: ClassVar[bool] = True

    model: Model
    """The policy that is trained."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Which share of the prompts, rounded to whole ones."""
    temperature: NonNegativeFloat = 1.0
    """Of sampling."""
    max_tokens: PositiveInt = 512
    """Longest answer, in tokens."""

    def reads(self) -> Columns:
        return types("id", "prompt_id", "prompt", "chosen", "rejected", "chosen_id", "rejected_id")

    def writes(self) -> Columns:
        made = types("id", "rejected", "rejected_id", "rejected_model")
        return {**made, "rejected_origin": pa.string()}

    def touches(self) -> Collection[str]:
        return ("tools", "rejected_*", *AGAINST_EACH_OTHER, *UNDER_THE_PROMPT)

    def drops(self) -> Collection[str]:
        return (_SAME,)

    def holds(self, width: Mapping[str, float]) -> Holds:
        return Holds(
            300.0 + 2 * width["rejected"] + 4 * self.share * width["prompt"], "a smaller `share` holds less"
        )

    def cost(self) -> Cost:
        return Cost(calls=self.share, tokens_out=self.share * self.max_tokens, rows=1)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        for name in ("rejected_model", "rejected_origin"):
            if name not in table.column_names:
                table = put(table, name, pa.nulls(table.num_rows, pa.string()))
        rows = np.flatnonzero(self._drawn(table, ctx))
        answers = ctx.engines.generate(self.model, self._requests(table, rows, ctx)) if len(rows) else []
        texts: list[str | None] = [None] * table.num_rows
        errors: list[str | None] = [None] * table.num_rows
        for row, answer in zip(rows.tolist(), answers, strict=True):
            if isinstance(answer, Completion):
                texts[row] = answer.text
            elif isinstance(answer, Failure):
                errors[row] = answer.error
        replaced = pa.array([text is not None for text in texts], pa.bool_())
        made = self._replaced(table, pa.array(texts, pa.string()), replaced)
        made, there = ctx.fail(made, errors), replaced.filter(pc.is_null(pa.array(errors, pa.string())))
        same = (digests(made["chosen"]) == digests(made["rejected"])).all(axis=1) & there.to_numpy(False)
        return ctx.drop(made, pa.array(np.where(same, _SAME, ""), pa.string(), mask=~same))

    def _drawn(self, table: pa.Table, ctx: Context) -> np.ndarray:
        """Return which rows are of a drawn prompt: bool [rows]."""
        prompts = pc.unique(table["prompt_id"])
        draw = ctx.uniform(self, prompts.to_pylist())
        count = int(self.share * len(prompts) + 0.5)
        drawn = prompts.take(pa.array(np.argsort(draw, kind="stable")[:count]))
        found: np.ndarray = pc.is_in(table["prompt_id"], drawn).to_numpy()
        return found

    def _requests(self, table: pa.Table, rows: np.ndarray, ctx: Context) -> list[Request]:
        some = table.take(rows)
        tools = some["tools"].to_pylist() if "tools" in some.column_names else [None] * len(rows)
        asked = zip(some["id"].to_pylist(), message_tuples(some["prompt"]), tools, strict=True)
        return [
            Request(
                prompt,
                self.max_tokens,
                self.temperature,
                seed=rng.draw_seed(ctx.seed, self.name, pair),
                tools=tool,
            )
            for pair, prompt, tool in asked
        ]

    def _replaced(self, table: pa.Table, texts: pa.Array, there: pa.Array) -> pa.Table:
        ids = table["id"].to_pylist()
        new = pa.array(rng.child_ids(self.name, ids, ids), pa.string())
        pairs = pa.array(pair_ids(table["chosen_id"].to_pylist(), new.to_pylist()), pa.string())
        gone = {*AGAINST_EACH_OTHER, *UNDER_THE_PROMPT}
        gone |= {name for name in table.column_names if name.startswith("rejected_")}
        for name in gone.intersection(table.column_names).difference(_GIVEN):
            nothing = pa.nulls(table.num_rows, table.schema.field(name).type)
            table = put(table, name, pc.if_else(there, nothing, table[name]))
        given = {"id": pairs, "rejected_id": new, "rejected": to_messages(texts, "assistant")}
        given |= {
            "rejected_model": pa.array([self.model.id] * table.num_rows, pa.string()),
            "rejected_origin": pa.array(["policy"] * table.num_rows, pa.string()),
        }
        for name, values in given.items():
            table = put(table, name, pc.if_else(there, values, table[name]))
        return table
