"""Pool: answers of several models to each prompt, drawn so that no model answers twice and the policy always does.

Which models answer is drawn for each prompt from its id, so adding prompts changes no other prompt's models. With
`own`, that many of the answers are the policy's, in every prompt alike: the share of the policy is exact, and not only
on average. A pool of past checkpoints with `n: 1` is a checkpoint drawn at random for each prompt.

Sources: four answers of a pool of models, one side from the policy: Tulu 3 (2024); random past checkpoints: SePPO
(2024), arXiv 2410.05255; models of known order without a judge (`pair: by-model-rank`): delta learning (2025).
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, NamedTuple, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.engines import Completion, Failure, Model, Request
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.sample import REPEATED, sampled, without_repeats
from prefkit.tables import message_tuples, put

__all__ = ["Pool"]


@final
class Pool(Stage):
    """Write `n` responses to each prompt, of different models of a pool and, with `own`, of the policy."""

    name: ClassVar[str] = "pool"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("prompt",), "response")
    random: ClassVar[bool] = True

    models: Annotated[tuple[Model, ...], Field(min_length=1)]
    """Who may answer; each prompt draws some of them, none twice."""
    n: PositiveInt = 4
    """Responses to each prompt, the policy's included."""
    policy: Model | None = None
    """The model that is trained."""
    own: NonNegativeInt = 0
    """How many of the responses to each prompt are the policy's."""
    temperature: NonNegativeFloat = 1.0
    """Of sampling; with 0 the policy's own responses are all equal."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the fewest tokens whose probability reaches this."""
    max_tokens: PositiveInt = 512
    """Longest response, in tokens."""
    drop_identical: bool = False
    """Whether to drop responses that repeat an earlier one of the same prompt word for word."""

    @model_validator(mode="after")
    def _enough_models(self) -> Self:
        names = [model.served_as for model in self.models]
        if len(set(names)) < len(names) or (self.policy is not None and self.policy.served_as in names):
            raise ValueError("a model is in the pool twice, or the policy is in it")
        if (self.policy is None) != (self.own == 0):
            raise ValueError("policy and own go together")
        if not 0 <= self.n - self.own <= len(names):
            raise ValueError(f"n is {self.n}, and there are {self.own} of the policy and {len(names)} models")
        return self

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
        tasks = self._tasks(table, ctx)
        answers = self._answers(table, tasks, ctx)
        rows = table.take(np.asarray([task.row for task in tasks], dtype=np.int64))
        errors = [answer.error if isinstance(answer, Failure) else None for answer in answers]
        rows = ctx.fail(rows, errors)
        there = [(t, a) for t, a in zip(tasks, answers, strict=True) if isinstance(a, Completion)]
        rows = put(rows, "index", pa.array([task.place for task, _ in there], pa.int32()))
        said = [answer for _, answer in there]
        origins = ["policy" if task.place < self.own else "pool" for task, _ in there]
        result = sampled(rows, said, [task.model.id for task, _ in there], origins)
        return without_repeats(result, said, ctx) if self.drop_identical else result

    def _tasks(self, table: pa.Table, ctx: Context) -> list["_Task"]:
        """Return who answers what, prompt after prompt, the policy first."""
        prompts = table["prompt_id"].to_pylist()
        draws = [ctx.uniform(self, [f"{p}/{model.served_as}" for p in prompts]) for model in self.models]
        drawn = np.argsort(np.stack(draws, axis=1), axis=1, kind="stable")[:, : self.n - self.own]
        own = [] if self.policy is None else [self.policy] * self.own
        return [
            _Task(row, index, model)
            for row, places in enumerate(drawn.tolist())
            for index, model in enumerate([*own, *(self.models[at] for at in places)])
        ]

    def _answers(self, table: pa.Table, tasks: list["_Task"], ctx: Context) -> list[Completion | Failure]:
        """Ask each model all that it is asked at once; return the answers in the order of the tasks."""
        prompts, ids = message_tuples(table["prompt"]), table["prompt_id"].to_pylist()
        tools = table["tools"].to_pylist() if "tools" in table.column_names else [None] * table.num_rows
        found: dict[int, Completion | Failure] = {}
        for model in dict.fromkeys(task.model for task in tasks):
            mine = [at for at, task in enumerate(tasks) if task.model == model]
            requests = [
                Request(
                    prompts[tasks[at].row],
                    self.max_tokens,
                    self.temperature,
                    self.top_p,
                    seed=rng.draw_seed(ctx.seed, self.name, ids[tasks[at].row], tasks[at].place),
                    tools=tools[tasks[at].row],
                )
                for at in mine
            ]
            found.update(zip(mine, ctx.engines.generate(model, requests), strict=True))
        return [found[at] for at in range(len(tasks))]


class _Task(NamedTuple):
    row: int
    place: int
    model: Model
