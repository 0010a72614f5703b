"""Revise: pairs of an answer and its own improvement, which differ in little but what makes one better.

A model rewrites the answer and changes as little as it can. A revision that changes nothing, or too much of it, is
asked for again with another seed and left out if that does not help. Of responses every one is revised; of pairs the
rejected answer is, and the pair it was in makes room for the new one.

Nobody has judged the revision: score both sides and keep the pairs where it gained.

Source: Contrastive learning from AI revisions (CLAIR; D'Oosterlinck et al., 2024), arXiv 2408.06266.
"""

from collections.abc import Collection
from typing import Annotated, ClassVar, final

import pyarrow as pa
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from prefkit import rng
from prefkit.columns import Columns, types
from prefkit.conditioning.revisions import edit_ratio
from prefkit.engines import Message, Model, Request
from prefkit.prompts import fill, spoken, template
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.asking import ask, usable
from prefkit.stages.derived import PAIR_COLUMNS, as_responses, derived_pairs, derived_schema
from prefkit.tables import last_content, message_tuples, put

__all__ = ["Revise"]

_EMPTY, _UNCHANGED, _TOO_MUCH = "empty", "unchanged", "too-much-changed"


@final
class Revise(Stage):
    """Make a pair of each answer: chosen is a revision of it that changes little, rejected the answer itself."""

    name: ClassVar[str] = "revise"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("response", "pair"), "pair")
    random: ClassVar[bool] = True

    model: Model
    """Who revises."""
    max_edit_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The greatest share of words in which the two may differ."""
    max_tokens: PositiveInt = 1024
    """Longest revision, in tokens."""
    temperature: NonNegativeFloat = 0.7
    """Of sampling; above 0, so that asking again can help."""
    retries: NonNegativeInt = 2
    """How often to ask again for a revision that changes nothing or too much."""
    reference: bool = False
    """Whether the model sees `reference_answer`."""

    def reads(self) -> Columns:
        return types("id", "prompt_id", "prompt", *(["reference_answer"] if self.reference else []))

    def writes(self) -> Columns:
        return {**PAIR_COLUMNS, **types("edit_ratio")}

    def drops(self) -> Collection[str]:
        return (_EMPTY, _UNCHANGED, _TOO_MUCH)

    def cost(self) -> Cost:
        return Cost(calls=1, tokens_out=self.max_tokens, rows=1)

    def becomes(self, schema: pa.Schema) -> pa.Schema:
        made = derived_schema(schema)
        return made.append(pa.field("edit_ratio", pa.float64()))

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        ids, table = table["id"].to_pylist(), as_responses(table)
        answers = [text or "" for text in last_content(table["response"]).to_pylist()]
        requests = self._requests(table, answers)

        def flaw(row: int, text: str) -> str | None:
            ratio = edit_ratio(answers[row], text)
            bad = [(not text, _EMPTY), (ratio == 0, _UNCHANGED), (ratio > self.max_edit_ratio, _TOO_MUCH)]
            return next((reason for wrong, reason in bad if wrong), None)

        def request(row: int, attempt: int) -> Request:
            seed = rng.draw_seed(ctx.seed, self.name, ids[row], attempt)
            return requests[row]._replace(seed=seed)

        asked = ask(ctx.engines, self.model, table.num_rows, request, flaw, self.retries)
        table, kept = usable(table, asked, ctx)
        texts = [asked.texts[row] for row in kept]
        made = rng.child_ids(self.name, [ids[row] for row in kept], texts)
        pairs = derived_pairs(table, texts, made, "revision", self.model.id, wins=True)
        before = [text or "" for text in last_content(table["response"]).to_pylist()]
        ratios = [edit_ratio(one, other) for one, other in zip(before, texts, strict=True)]
        return put(pairs, "edit_ratio", pa.array(ratios, pa.float64()))

    def _requests(self, table: pa.Table, answers: list[str]) -> list[Request]:
        known = table["reference_answer"].to_pylist() if self.reference else [None] * table.num_rows
        rows = zip(message_tuples(table["prompt"]), answers, known, strict=True)
        asked = [
            {
                "prompt": spoken(prompt),
                "response": answer,
                "reference": f"\n\nThe trusted answer is: {told}" if told else "",
            }
            for prompt, answer, told in rows
        ]
        text = template("augment.revise.v1")
        return [
            Request((Message("user", fill(text, values)),), self.max_tokens, self.temperature)
            for values in asked
        ]
