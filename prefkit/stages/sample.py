"""Sample: answers of a model to prompts.

Every sample is one request with a seed of its own, derived from the prompt's id and the sample's number. So raising
`n` keeps the samples that are there, adding prompts changes no other prompt's samples, and a sample is never asked for
twice. What the model would not answer is set aside as failed, by sample; the prompt's other samples go on.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.conditioning.goals import (
    Place,
    direction_text,
    neighbour_angles,
    placed,
    shown_weights,
    unit_directions,
)
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.sources.ids import response_ids
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put, to_messages

__all__ = ["REPEATED", "Around", "Sample", "sampled", "without_repeats"]

REPEATED = "identical-sample"


class Around(BaseModel):
    """Directions in the plane of two aspects, of which each sample of a prompt is asked to follow another.

    A model may follow a direction near the one that is wanted better than that one itself: score the samples, add
    `direction` with the wanted angle, and `select` the best `by: direction_score`. Source: RPS (Mao et al., 2026),
    arXiv 2510.20498.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    aspects: tuple[str, str]
    """What the prompt calls them; the angle is 0 where only the first counts, and 90 where only the second does."""
    angle: Annotated[float, Field(ge=-180, le=180)]
    """The direction that is wanted, in degrees."""
    within: Annotated[float, Field(ge=0, le=90)] = 30.0
    """How far the directions go to either side, in degrees, in even steps; with 0 all samples have the wanted one."""
    place: Place = "system"
    """Where it is said: in the `system` turn, or before the `first-user` turn."""

    def texts(self, count: int) -> list[str]:
        """Return what each of `count` samples is asked for."""
        weights = shown_weights(unit_directions(neighbour_angles(self.angle, count, self.within)))
        return [direction_text(self.aspects, each) for each in weights.tolist()]


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
    beams: bool = False
    """Whether to write the `n` likeliest answers that a beam search of that width finds, instead of samples."""
    around: Around | None = None
    """Ask each sample of a prompt for another direction around one. The stored prompt stays as it is."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out a setting that came later while it says nothing, so that it is no part of the identity."""
        plain: dict[str, Any] = dump(self)
        for name in ("around", "beams"):
            if not plain.get(name):
                plain.pop(name, None)
        return plain

    @model_validator(mode="after")
    def _draws_or_searches(self) -> Self:
        drawing = ("temperature", "top_p", "top_k", "stop", "around")
        told = [name for name in drawing if getattr(self, name) != type(self).model_fields[name].default]
        if self.beams and told:
            raise ValueError(f"a beam search draws nothing and knows no stops: leave out {', '.join(told)}")
        return self

    def draws(self) -> bool:
        return not self.beams

    def reads(self) -> Columns:
        return types("prompt_id", "prompt")

    def writes(self) -> Columns:
        return types("id", "response", "index", "model", "origin", "finish", "n_tokens", "sampler_logp")

    def drops(self) -> Collection[str]:
        return (REPEATED,) if self.drop_identical else ()

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
        result = sampled(put(kept, "index", index), said, [self.model.id] * len(said))
        return without_repeats(result, said, ctx) if self.drop_identical else result

    def _requests(self, table: pa.Table, seed: int) -> list[Request]:
        tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
        rows = zip(table["prompt_id"].to_pylist(), message_tuples(table["prompt"]), tools, strict=True)
        knobs = (self.max_tokens, self.temperature, self.top_p, self.top_k)
        if self.beams:
            return [
                Request(self._asked(messages, ""), self.max_tokens, tools=tool, beam=(at, self.n))
                for _, messages, tool in rows
                for at in range(self.n)
            ]
        directions = [] if self.around is None else self.around.texts(self.n)
        # A Python loop: engines want Python values, and each sample has its own seed.
        return [
            Request(
                self._asked(messages, directions[at] if directions else ""),
                *knobs,
                rng.draw_seed(seed, self.name, prompt_id, at),
                self.stop,
                tool,
            )
            for prompt_id, messages, tool in rows
            for at in range(self.n)
        ]

    def _asked(self, messages: tuple[Message, ...], direction: str) -> tuple[Message, ...]:
        if self.system is not None and not (messages and messages[0].role == "system"):
            messages = (Message("system", self.system), *messages)
        return placed(messages, direction, self.around.place) if self.around is not None else messages


def sampled(
    rows: pa.Table, said: Sequence[Completion], models: Sequence[str], origins: Sequence[str] = ()
) -> pa.Table:
    """Return prompt rows, one for each completion, as responses of these models; `policy` unless said otherwise."""
    prompts = rows["prompt_id"].to_pylist()
    responses = to_messages(pa.array([answer.text for answer in said], pa.string()), "assistant")
    ids = response_ids(prompts, responses, models, occurrences(prompts, said))
    columns = {
        "id": pa.array(ids, pa.string()),
        "response": responses,
        "model": pa.array(models, pa.string()),
        "origin": pa.array(origins or ["policy"] * len(said), pa.string()),
        "finish": pa.array([answer.finish for answer in said], pa.string()),
        # A server may not say how many tokens it wrote; every answer has at least one.
        "n_tokens": pa.array([answer.tokens or None for answer in said], pa.int32()),
        "sampler_logp": pa.array([answer.logp for answer in said], pa.float64()),
    }
    for name, values in columns.items():
        rows = put(rows, name, values)
    return rows


def without_repeats(result: pa.Table, said: Sequence[Completion], ctx: Context) -> pa.Table:
    """Drop responses that repeat an earlier one of the same prompt word for word; `said` are their completions."""
    repeats = occurrences(result["prompt_id"].to_pylist(), said)
    return ctx.drop(result, [REPEATED if count else None for count in repeats])


def occurrences(prompts: Sequence[str], said: Sequence[Completion]) -> list[int]:
    """Return how many earlier samples of the same prompt have the same text."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for prompt, answer in zip(prompts, said, strict=True):
        found.append(seen[prompt, answer.text])
        seen[prompt, answer.text] += 1
    return found
