"""Rationale: why the chosen response is better, in words, for training on the reason beside the preference.

A model is told which of two responses is better and asked why: in general, or with quotes of the places that decide
it. Which response comes first is drawn for each pair, so that the place gives nothing away. Beside the text stands the
question it is trained on: the same pair in the same order, without the verdict. A rationale that names its label,
copies an answer or quotes nothing real is asked for again with another seed, and left out if that does not help.

It may also be of each response by itself: what speaks for chosen, and what against rejected, by a model that sees one
of them alone, so that nothing of the other can get into it.

Method, of the pair: Just et al. (2024), arXiv 2407.14477. A rationale gives its label away: never show it to a judge that labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, final

import pyarrow as pa
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from prefkit import rng
from prefkit.columns import COLUMNS, Columns, types
from prefkit.engines import Failure, Message, Model, Request
from prefkit.prompts import RationaleKind, fill, rationale_flaw, spoken, template
from prefkit.stage import PAIRS, Context, Cost, Flow, Kind, Stage
from prefkit.tables import message_tuples, put

__all__ = ["Rationale"]

About = Literal["pair", "response"]
_TRAIN, _TRAIN_ALONE = "rationale.train.v1", "rationale.response.train.v1"


@final
class Rationale(Stage):
    """Write `rationales`: reasons why chosen is better, one of each kind."""

    name: ClassVar[str] = "rationale"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = PAIRS
    random: ClassVar[bool] = True

    model: Model
    """Who writes them."""
    kinds: Annotated[tuple[RationaleKind, ...], Field(min_length=1)] = ("general",)
    """`general`: a reason at a high level, without quotes. `specific`: with quotes of what decides it."""
    max_tokens: PositiveInt = 256
    """Longest rationale, in tokens."""
    temperature: NonNegativeFloat = 0.7
    """Of sampling; above 0, so that asking again can help."""
    retries: NonNegativeInt = 2
    """How often to ask again for a rationale that fails a check."""
    about: Annotated[tuple[About, ...], Field(min_length=1)] = ("pair",)
    """`pair`: why chosen is better than rejected. `response`: what speaks for chosen and what against rejected, each
    seen alone; its kinds are `chosen-general`, `rejected-general`, and so on."""
    strict: bool = False
    """Whether a rationale of the pair may neither give the verdict (`Response 1 is better`), nor speak of a label,
    nor quote what is not there. One of a response never may."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings that came later while they say nothing new, so that they are no part of the identity."""
        plain: dict[str, Any] = dump(self)
        if self.about == ("pair",):
            plain.pop("about", None)
        if not self.strict:
            plain.pop("strict", None)
        return plain

    def reads(self) -> Columns:
        return types("id", "prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        return types("rationales")

    def cost(self) -> Cost:
        calls = len(self.kinds) * sum(
            {"pair": 1, "response": 2}[about] for about in dict.fromkeys(self.about)
        )
        return Cost(calls=calls, tokens_out=calls * self.max_tokens)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        errors: list[str | None] = [None] * table.num_rows
        entries: list[list[dict[str, Any]]] = [[] for _ in range(table.num_rows)]
        tasks = list(self._tasks(table, ctx))
        for attempt in range(1 + self.retries):
            tasks = self._ask(tasks, attempt, entries, errors, ctx)
        for task in tasks:
            ctx.notes[f"{self.name}/{task.flaw}"] += 1
        order = {name: at for at, name in enumerate(self._names())}
        for found in entries:
            found.sort(key=lambda entry: order[entry["kind"]])
        table = put(table, "rationales", pa.array(entries, COLUMNS["rationales"].type))
        return ctx.fail(table, pa.array(errors, pa.string()))

    def _tasks(self, table: pa.Table, ctx: Context) -> Iterator["_Task"]:
        chosen_first = ctx.uniform(self, table["id"].to_pylist()) < 0.5
        sides = zip(*(message_tuples(table[name]) for name in ("prompt", "chosen", "rejected")), strict=True)
        # A Python loop: every pair is a text of its own.
        for row, (prompt, chosen, rejected) in enumerate(sides):
            pair_id, asked = table["id"][row].as_py(), {"prompt": spoken(prompt)}
            first, second = (chosen, rejected) if chosen_first[row] else (rejected, chosen)
            both = {**asked, "response_1": spoken(first), "response_2": spoken(second)}
            for kind in self.kinds if "pair" in self.about else ():
                yield _Task(row, pair_id, kind, kind, both, chosen_first=bool(chosen_first[row]))
            for side, response in (
                (("chosen", chosen), ("rejected", rejected)) if "response" in self.about else ()
            ):
                for kind in self.kinds:
                    alone = {**asked, "response": spoken(response)}
                    yield _Task(row, pair_id, f"{side}-{kind}", kind, alone, chosen_first=None)

    def _names(self) -> Iterator[str]:
        """Yield what rationales are called, in the order in which a row has them."""
        for about in self.about:
            for side in ("",) if about == "pair" else ("chosen-", "rejected-"):
                yield from (f"{side}{kind}" for kind in self.kinds)

    def _ask(
        self,
        tasks: Sequence["_Task"],
        attempt: int,
        entries: list[list[dict[str, Any]]],
        errors: list[str | None],
        ctx: Context,
    ) -> list["_Task"]:
        """Ask for every task once, file what is good, and return what is to be asked for again."""
        again = []
        requests = [self._request(task, attempt, ctx.seed) for task in tasks]
        answers = ctx.engines.generate(self.model, requests) if requests else []
        for task, answer in zip(tasks, answers, strict=True):
            if isinstance(answer, Failure):
                errors[task.row] = errors[task.row] or answer.error
                continue
            text = answer.text.strip()
            shown = [value for name, value in task.values.items() if name != "prompt"]
            flaw = rationale_flaw(task.kind, text, shown, strict=self.strict or task.chosen_first is None)
            if flaw is None:
                entries[task.row].append(self._entry(task, text))
            else:
                again.append(task._replace(flaw=flaw))
        return again

    def _request(self, task: "_Task", attempt: int, seed: int) -> Request:
        if task.chosen_first is None:
            standing = "better" if task.name.startswith("chosen-") else "worse"
            text = fill(template(f"rationale.response.{task.kind}.v1"), {**task.values, "standing": standing})
        else:
            better = "1" if task.chosen_first else "2"
            text = fill(template(f"rationale.{task.kind}.v1"), {**task.values, "better": better})
        draw = rng.draw_seed(seed, f"{self.name}|{task.name}", task.pair_id, attempt)
        return Request((Message("user", text),), self.max_tokens, self.temperature, seed=draw)

    def _entry(self, task: "_Task", text: str) -> dict[str, Any]:
        question = fill(template(_TRAIN if task.chosen_first is not None else _TRAIN_ALONE), task.values)
        return {
            "kind": task.name,
            "model": self.model.id,
            "text": text,
            "prompt_text": question,
            "chosen_first": task.chosen_first,
        }


class _Task(NamedTuple):
    """One rationale wanted."""

    row: int
    pair_id: str
    name: str
    """What it is called in the column."""
    kind: RationaleKind
    values: Mapping[str, str]
    """The prompt and the responses in the order they are shown."""
    chosen_first: bool | None
    """None where one response is shown alone."""
    flaw: str = ""
    """What was wrong with the last attempt."""
