"""Continue: let a model go on from the part of a wrong answer that was right.

`judge` of kind `localise` says which step of an answer is the first wrong one. The part before it, with the label of
the wrong step, is where the model takes over: `n` times, each continuation a response of its own, beginning with that
part. Verify them with `score`, then pair them step against step with `siblings`.

The continuations should come from the policy that is trained: steps of another writer hurt in the paper. The prompt is
sent with the beginning as an unfinished assistant turn, so the engine must be able to go on with a turn.

Source: Step-DPO (Lai et al., 2024), arXiv 2406.18629.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.conditioning.stepwise import Fault, fault_at
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.derived import as_responses, fresh_responses, last_turn_replaced
from prefkit.tables import last_content, message_tuples, put

__all__ = ["Continue"]

_NO_STEP = "no-step"


@final
class Continue(Stage):
    """Add `n` continuations of each response that has a first wrong step; every response stays."""

    name: ClassVar[str] = "continue"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("response",), "response")
    random: ClassVar[bool] = True

    model: Model
    """Who goes on: the policy."""
    n: PositiveInt = 8
    """Continuations of each response."""
    temperature: NonNegativeFloat = 0.8
    """Of sampling."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Keep the fewest tokens whose probability reaches this."""
    max_tokens: PositiveInt = 512
    """Longest continuation, in tokens."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """What ends a step, as it was told to the judge that counted them."""
    label: str = ""
    """What a step begins with, `{}` for its number: `Step {}:`. The model goes on behind the label. Empty: no label."""

    @model_validator(mode="after")
    def _label_has_a_number(self) -> Self:
        if self.label and self.label.count("{}") != 1:
            raise ValueError("label has `{}` once, where the step's number goes")
        return self

    def reads(self) -> Columns:
        return types("id", "prompt_id", "prompt", "response", "first_error")

    def writes(self) -> Columns:
        made = types("id", "response", "model", "origin", "finish", "n_tokens", "sampler_logp")
        return {**made, **types("parent_id", "prefix_end", "step_index")}

    def touches(self) -> Collection[str]:
        return ("tools",)

    def drops(self) -> Collection[str]:
        return (_NO_STEP,)

    def cost(self) -> Cost:
        return Cost(calls=self.n, tokens_out=self.n * self.max_tokens, rows=1 + self.n)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        texts, errors = last_content(table["response"]).to_pylist(), table["first_error"].to_pylist()
        faults = [
            fault_at(text or "", error, self.separator, self.label) if error else None
            for text, error in zip(texts, errors, strict=True)
        ]
        lost = [bool(error) and fault is None for error, fault in zip(errors, faults, strict=True)]
        table = ctx.drop(table, [_NO_STEP if each else None for each in lost])
        begun = [
            _Begun(text or "", fault)
            for text, fault, gone in zip(texts, faults, lost, strict=True)
            if not gone
        ]
        return self._joined(_marked(self._whole(table), begun), begun, ctx)

    def _joined(self, table: pa.Table, begun: Sequence["_Begun"], ctx: Context) -> pa.Table:
        """Return each response with its continuations behind it."""
        rows = np.repeat([row for row, each in enumerate(begun) if each.fault], self.n).astype(np.int64)
        answers = (
            ctx.engines.generate(self.model, self._requests(table, rows, begun, ctx)) if len(rows) else []
        )
        errors = [answer.error if isinstance(answer, Failure) else None for answer in answers]
        kept = ctx.fail(table.take(rows), errors)
        there = np.asarray([error is None for error in errors], dtype=bool)
        turns = np.tile(np.arange(self.n), len(rows) // self.n)[there] if len(rows) else rows
        said = [answer for answer in answers if isinstance(answer, Completion)]
        fresh = self._responses(kept, [begun[row] for row in rows[there]], turns, said)
        where = np.concatenate([np.arange(table.num_rows), rows[there]])
        both = pa.concat_tables([table, fresh.select(table.column_names)])
        return both.take(np.argsort(where, kind="stable"))

    def _requests(
        self, table: pa.Table, rows: np.ndarray, begun: Sequence["_Begun"], ctx: Context
    ) -> list[Request]:
        ids, prompts = table["id"].to_pylist(), message_tuples(table["prompt"])
        tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
        knobs = (self.max_tokens, self.temperature, self.top_p, 0)
        # A Python loop: each continuation has its own seed.
        return [
            Request(
                _asked(prompts[row], begun[row].prefix()),
                *knobs,
                rng.draw_seed(ctx.seed, self.name, ids[row], at % self.n),
                tools=tools[row],
            )
            for at, row in enumerate(rows.tolist())
        ]

    def _responses(
        self, parents: pa.Table, begun: Sequence["_Begun"], turns: np.ndarray, said: Sequence[Completion]
    ) -> pa.Table:
        texts = [each.prefix() + answer.text for each, answer in zip(begun, said, strict=True)]
        responses = last_turn_replaced(parents["response"], texts)
        ids = rng.child_ids(self.name, parents["id"].to_pylist(), map(str, turns.tolist()))
        rows = fresh_responses(parents, responses, ids, "policy", self.model.id)
        columns = {
            "parent_id": parents["id"],
            "prefix_end": parents["prefix_end"],
            "step_index": parents["step_index"],
            "finish": pa.array([answer.finish for answer in said], pa.string()),
            "n_tokens": pa.array([answer.tokens or None for answer in said], pa.int32()),
            "sampler_logp": pa.array([answer.logp for answer in said], pa.float64()),
        }
        for name, values in columns.items():
            rows = put(rows, name, values)
        return rows

    def _whole(self, table: pa.Table) -> pa.Table:
        """Return the table with every column that a continuation has."""
        table = as_responses(table)
        for name, kind in types("finish", "n_tokens", "sampler_logp", "parent_id").items():
            if name not in table.column_names:
                table = put(table, name, pa.nulls(table.num_rows, kind))
        return table


class _Begun(NamedTuple):
    text: str
    fault: Fault | None

    def prefix(self) -> str:
        """Return the part that was right."""
        return self.text[: self.fault.end] if self.fault else self.text


def _marked(table: pa.Table, begun: Sequence[_Begun]) -> pa.Table:
    """Write where each response goes wrong; one that is a continuation already keeps what it says."""
    ends = pa.array([each.fault.end if each.fault else None for each in begun], pa.int32())
    numbers = pa.array([each.fault.step if each.fault else None for each in begun], pa.int32())
    for name, values in (("prefix_end", ends), ("step_index", numbers)):
        before = table[name] if name in table.column_names else pa.nulls(table.num_rows, pa.int32())
        table = put(table, name, pc.coalesce(values, before))
    return table


def _asked(prompt: tuple[Message, ...], prefix: str) -> tuple[Message, ...]:
    return (*prompt, Message("assistant", prefix)) if prefix else prompt
