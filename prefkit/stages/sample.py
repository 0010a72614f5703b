"""Sample: answers of a model to prompts.

Every sample is one request with a seed of its own, derived from the prompt's id and the sample's number. So raising
`n` keeps the samples that are there, adding prompts changes no other prompt's samples, and a sample is never asked for
twice. What the model would not answer is set aside as failed, by sample; the prompt's other samples go on.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.sources.ids import response_ids
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put, to_messages

__all__ = ["Sample"]

_REPEATED = "identical-sample"


@final
class Sample(Stage):
    """Write `n` responses of a model to each prompt."""

    name: ClassVar[str] = "sample"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("prompt",), "response")
    random: ClassVar[bool] = True

    model: Model
    """Who answers."""
    n: PositiveInt = 4
    """Samples of each prompt."""
    temperature: NonNegativeFloat = 1.0
    """0 takes the most likely token every time, so that all samples of a prompt are equal."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the fewest tokens whose probability reaches this."""
    top_k: NonNegativeInt = 0
    """Keep this many of the most likely tokens; 0 keeps all."""
    max_tokens: PositiveInt = 512
    """Longest response, in tokens."""
    stop: Annotated[
        tuple[str, ...],
        BeforeValidator(
            lambda value: (value,) if isinstance(value, str) else value,
            json_schema_input_type=str | list[str],
        ),
    ] = ()
    """Texts that end a response, and are no part of it."""
    system: str | None = None
    """System turn for prompts that have none. The stored prompt stays as it is."""
    drop_identical: bool = False
    """Whether to drop samples that repeat an earlier one of the same prompt word for word."""

    def reads(self) -> Columns:
        return types("prompt_id", "prompt")

    def writes(self) -> Columns:
        return types("id", "response", "index", "model", "origin", "finish", "n_tokens", "sampler_logp")

    def drops(self) -> Collection[str]:
        return (_REPEATED,) if self.drop_identical else ()

    def touches(self) -> Collection[str]:
        return ("tools",)

    def cost(self) -> Cost:
        return Cost(calls=self.n, tokens_out=self.n * self.max_tokens, rows=self.n)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        answers = ctx.engines.generate(self.model, self._requests(table, ctx.seed)) if table.num_rows else []
        rows = table.take(np.repeat(np.arange(table.num_rows), self.n))
        rows = put(rows, "index", pa.array(np.tile(np.arange(self.n, dtype=np.int32), table.num_rows)))
        errors = [answer.error if isinstance(answer, Failure) else None for answer in answers]
        kept = ctx.fail(rows.drop_columns("index"), pa.array(errors, pa.string()))
        index = rows["index"].filter(pc.is_null(pa.array(errors, pa.string())))
        said = [answer for answer in answers if isinstance(answer, Completion)]
        result = self._responses(put(kept, "index", index), said)
        if not self.drop_identical:
            return result
        repeats = _occurrences(result["prompt_id"].to_pylist(), said)
        return ctx.drop(result, pa.array([_REPEATED if count else None for count in repeats], pa.string()))

    def _requests(self, table: pa.Table, seed: int) -> list[Request]:
        tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
        rows = zip(table["prompt_id"].to_pylist(), message_tuples(table["prompt"]), tools, strict=True)
        knobs = (self.max_tokens, self.temperature, self.top_p, self.top_k)
        # A Python loop: engines want Python values, and each sample has its own seed.
        return [
            Request(
                self._asked(messages), *knobs, rng.draw_seed(seed, self.name, prompt_id, at), self.stop, tool
            )
            for prompt_id, messages, tool in rows
            for at in range(self.n)
        ]

    def _asked(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        if self.system is None or (messages and messages[0].role == "system"):
            return messages
        return (Message("system", self.system), *messages)

    def _responses(self, rows: pa.Table, said: Sequence[Completion]) -> pa.Table:
        prompts = rows["prompt_id"].to_pylist()
        responses = to_messages(pa.array([answer.text for answer in said], pa.string()), "assistant")
        models = [self.model.id] * len(said)
        ids = response_ids(prompts, responses, models, _occurrences(prompts, said))
        columns = {
            "id": pa.array(ids, pa.string()),
            "response": responses,
            "model": pa.array(models, pa.string()),
            "origin": pa.array(["policy"] * len(said), pa.string()),
            "finish": pa.array([answer.finish for answer in said], pa.string()),
            # A server may not say how many tokens it wrote; every answer has at least one.
            "n_tokens": pa.array([answer.tokens or None for answer in said], pa.int32()),
            "sampler_logp": pa.array([answer.logp for answer in said], pa.float64()),
        }
        for name, values in columns.items():
            rows = put(rows, name, values)
        return rows


def _occurrences(prompts: Sequence[str], said: Sequence[Completion]) -> list[int]:
    """Return how many earlier samples of the same prompt have the same text."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for prompt, answer in zip(prompts, said, strict=True):
        found.append(seen[prompt, answer.text])
        seen[prompt, answer.text] += 1
    return found
