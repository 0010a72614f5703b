"""Corrupt: pairs of an answer and what a model makes of it that cannot see what it is about.

Every sentence is cut at a word drawn for it. The model gets the true sentences before it and its first words, but a
prompt of which most sentences are hidden, and ends it: fluently, and without knowing. So the rejected side is in the
style of the answer and wrong where the answer depends on its context. No judge takes part.

A corruption that says too much of the same is made again with other cuts; one that never differs is dropped.

Source: BDHS, Amirloo et al. (2024), arXiv 2407.02477, which hides parts of an image; here it is the text of the prompt.
How alike two answers are is the cosine of their embeddings, or without an embedding model the share of words in common.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, final

import numpy as np
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
from prefkit.columns import Columns, types
from prefkit.conditioning.revisions import Cut, cut_sentences, edit_ratio, impaired, joined
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.marks import sentences
from prefkit.scorers.embedded import cosines, embedded
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.asking import Asked, usable
from prefkit.stages.derived import PAIR_COLUMNS, as_responses, derived_pairs, derived_schema
from prefkit.tables import last_content, message_tuples, put

__all__ = ["Corrupt"]

_EMPTY, _ALIKE, _OTHER_COUNT = "empty", "too-similar", "other-sentences"
Share = Annotated[float, Field(ge=0, le=1)]


@final
class Corrupt(Stage):
    """Make a pair of each answer: chosen is the answer, rejected the same with its sentences ended blindly."""

    name: ClassVar[str] = "corrupt"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("response", "pair"), "pair")
    random: ClassVar[bool] = True

    model: Model
    """Who ends the sentences; usually the policy itself. It must be able to go on with an unfinished turn."""
    hidden: Share = 0.99
    """How likely each sentence of the prompt is hidden from it."""
    max_similarity: Share = 0.97
    """How alike the two may be at most."""
    embed: Model | None = None
    """An embedding model, which then says how alike they are; without one it is the share of words in common."""
    temperature: NonNegativeFloat = 1.0
    """Of sampling."""
    max_tokens: PositiveInt = 64
    """Longest end of a sentence, in tokens."""
    retries: NonNegativeInt = 4
    """How often to cut and ask again."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        plain: dict[str, Any] = dump(self)
        if self.embed is None:
            plain.pop("embed", None)
        return plain

    def reads(self) -> Columns:
        return types("id", "prompt_id", "prompt")

    def writes(self) -> Columns:
        return {**PAIR_COLUMNS, **types("edit_ratio")}

    def drops(self) -> Collection[str]:
        return (_EMPTY, _ALIKE, _OTHER_COUNT)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        return derived_schema(schema, "chosen").append(pa.field("edit_ratio", pa.float64()))

    def cost(self) -> Cost:
        return Cost(
            calls=8, tokens_out=8 * self.max_tokens, rows=1
        )  # a call a sentence; answers have about 8

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        ids, table = table["id"].to_pylist(), as_responses(table, "chosen")
        prompts = message_tuples(table["prompt"])
        texts = [text or "" for text in last_content(table["response"]).to_pylist()]
        rows = [_Row(*row) for row in zip(ids, prompts, texts, strict=True)]
        found = Asked(
            [""] * len(rows), [None if row.text.strip() else _EMPTY for row in rows], [None] * len(rows)
        )
        pending = [at for at, row in enumerate(rows) if row.text.strip()]
        for attempt in range(1 + self.retries):
            pending = self._attempt(rows, pending, attempt, found, ctx)
        table, kept = usable(table, found, ctx)
        made = [found.texts[row] for row in kept]
        names = rng.child_ids(self.name, [ids[row] for row in kept], made)
        pairs = derived_pairs(table, made, names, "corruption", self.model.id, wins=False)
        before = [text or "" for text in last_content(table["response"]).to_pylist()]
        ratios = [edit_ratio(one, other) for one, other in zip(before, made, strict=True)]
        return put(pairs, "edit_ratio", pa.array(ratios, pa.float64()))

    def _attempt(
        self, rows: Sequence["_Row"], pending: Sequence[int], attempt: int, found: Asked, ctx: Context
    ) -> list[int]:
        """Corrupt these rows once, file what is good, and return those to be tried again."""
        cuts = {at: self._cuts(rows[at], attempt, ctx) for at in pending}
        wanted = [(at, n) for at in pending for n in range(len(cuts[at]))]
        hidden = {at: self._hidden(rows[at], attempt, ctx) for at in pending}
        requests = [
            self._request(rows[at], hidden[at], cuts[at][n], (ctx.seed, n, attempt)) for at, n in wanted
        ]
        answers = ctx.engines.generate(self.model, requests) if requests else []
        tails: dict[int, list[str]] = {at: [] for at in pending}
        for (at, _), answer in zip(wanted, answers, strict=True):
            if isinstance(answer, Failure):
                found.errors[at] = answer.error
            elif isinstance(answer, Completion):
                tails[at].append(answer.text)
        whole = [at for at in pending if found.errors[at] is None]
        made = [joined(cuts[at], tails[at]) for at in whole]
        again = []
        for at, text, alike in zip(whole, made, self._alike(rows, whole, made, found, ctx), strict=True):
            if found.errors[at] is not None:
                continue
            found.flaws[at] = self._flaw(rows[at].text, text, alike)
            if found.flaws[at] is None:
                found.texts[at] = text
            else:
                again.append(at)
        return again

    def _alike(
        self, rows: Sequence["_Row"], whole: Sequence[int], made: Sequence[str], found: Asked, ctx: Context
    ) -> list[float]:
        """Return how alike each corruption is to its answer; what could not be embedded gets an error in `found`."""
        if self.embed is None:
            return [1 - edit_ratio(rows[at].text, text) for at, text in zip(whole, made, strict=True)]
        texts = [pa.array([rows[at].text for at in whole], pa.string()), pa.array(made, pa.string())]
        before, after = embedded(texts, self.embed, ctx.engines)
        for at, *errors in zip(whole, before.errors, after.errors, strict=True):
            found.errors[at] = next((error for error in errors if error is not None), None)
        told: list[float] = cosines(before.vectors, after.vectors).tolist()
        return told

    def _flaw(self, text: str, made: str, alike: float) -> str | None:
        if alike > self.max_similarity:
            return _ALIKE
        return None if len(sentences(made)) == len(sentences(text)) else _OTHER_COUNT

    def _cuts(self, row: "_Row", attempt: int, ctx: Context) -> list[Cut]:
        keys = [f"{row.id}/cut/{n}" for n in range(len(sentences(row.text)))]
        return cut_sentences(row.text, ctx.uniform(self, keys, attempt).tolist())

    def _hidden(self, row: "_Row", attempt: int, ctx: Context) -> tuple[Message, ...]:
        count = sum(len(sentences(turn.content or "")) for turn in row.prompt)
        keys = [f"{row.id}/hide/{n}" for n in range(count)]
        draws: np.ndarray = ctx.uniform(self, keys, attempt)
        return impaired(row.prompt, draws.tolist(), self.hidden)

    def _request(
        self, row: "_Row", prompt: tuple[Message, ...], cut: Cut, where: tuple[int, int, int]
    ) -> Request:
        seed, number, attempt = where
        begun = Message("assistant", cut.before + cut.head)
        draw = rng.draw_seed(seed, self.name, f"{row.id}/{number}", attempt)
        return Request((*prompt, begun), self.max_tokens, self.temperature, seed=draw, stop=("\n",))


class _Row(NamedTuple):
    id: str
    prompt: tuple[Message, ...]
    text: str
