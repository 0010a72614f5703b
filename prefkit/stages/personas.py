"""Personas: pairs as each of several imagined people would choose, for learning to go by a person's taste.

Each person is described by a model, once, from a few traits. Every pair is given to some of them, drawn by the pair's
id; each is asked in both orders which answer they prefer, with the whole description before them, and the two answers
are their `votes`. Of a pair they contradict themselves on, the order decided and not the person: it is dropped. What
was known of the pair before was another's opinion, so it is gone from these rows.

`label` with `from-votes` and `orient` makes preferences of the votes, and `condition` of kind `few-shot` shows a person
by what they chose. Test on people who were not trained on, and mind that describer, chooser and writer may be one model.

Source: Few-Shot Preference Optimization (Singh et al., 2025), arXiv 2502.19312.
"""

from collections.abc import Collection, Sequence
from typing import Annotated, Any, ClassVar, Self, final

import numpy as np
import pyarrow as pa
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from prefkit import rng
from prefkit.columns import VOTES, Columns, types
from prefkit.engines import Completion, Failure, Message, Model, Request
from prefkit.prompts import fill, spoken, template
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages.conditioned import AGAINST_EACH_OTHER, unsaid
from prefkit.tables import message_tuples, put

__all__ = ["Personas"]

_UNREADABLE, _CONTRADICTS = "no-choice", "contradicts-itself"
_CHOICES = ("1", "2")
_ORDERS = ("chosen-first", "rejected-first")


@final
class Personas(Stage):
    """Make of each pair one row a person: who it is in `annotator` and `persona`, what they prefer in `votes`."""

    name: ClassVar[str] = "personas"
    kind: ClassVar[Kind] = "map"
    level: ClassVar[Flow] = Flow(("pair",), "pair")
    random: ClassVar[bool] = True

    model: Model
    """Who describes people and chooses for them."""
    traits: Annotated[tuple[str, ...], Field(min_length=1)]
    """The traits of each person: `a retired teacher; likes short answers`."""
    n: PositiveInt = 1
    """How many people are asked about each pair."""
    describe: bool = True
    """Whether a model makes a description of the traits; if not, they are the description."""
    max_tokens: PositiveInt = 256
    """Longest description, in tokens."""
    temperature: NonNegativeFloat = 0.7
    """Of the descriptions; choices are the likeliest."""

    @model_validator(mode="after")
    def _enough_people(self) -> Self:
        if len(set(self.traits)) < len(self.traits):
            raise ValueError("two people have the same traits")
        if self.n > len(self.traits):
            raise ValueError(f"n is {self.n}, and there are {len(self.traits)} people")
        return self

    def reads(self) -> Columns:
        return types("id", "prompt", "chosen", "rejected")

    def writes(self) -> Columns:
        return types("id", "annotator", "persona", "votes", "pair_group")

    def drops(self) -> Collection[str]:
        return (_UNREADABLE, _CONTRADICTS)

    def cost(self) -> Cost:
        return Cost(calls=2 * self.n, tokens_out=2 * self.n, rows=self.n)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        ids = table["id"].to_pylist()
        people = [rng.child_id("persona", traits) for traits in self.traits]
        draws = np.stack([ctx.uniform(self, [f"{pair}/{who}" for pair in ids]) for who in people], axis=1)
        drawn = np.argsort(draws, axis=1, kind="stable")[:, : self.n].reshape(-1).tolist()
        rows = table.take(np.repeat(np.arange(len(ids)), self.n))
        told = self._described(ctx) if len(ids) else [""] * len(people)
        rows = put(rows, "pair_group", rows["id"])
        names = [people[at] for at in drawn]
        rows = put(rows, "annotator", pa.array(names, pa.string()))
        rows = put(rows, "persona", pa.array([_text(told[at]) for at in drawn], pa.string()))
        made = rng.child_ids(self.name, rows["id"].to_pylist(), names)
        rows = put(unsaid(rows, AGAINST_EACH_OTHER), "id", pa.array(made, pa.string()))
        undescribed = [said.error if isinstance(said := told[at], Failure) else None for at in drawn]
        return self._chosen(ctx.fail(rows, undescribed), ctx)

    def _described(self, ctx: Context) -> Sequence[str | Failure]:
        """Return each person's description, or why there is none."""
        if not self.describe:
            return self.traits
        requests = [
            Request(
                (Message("user", fill(template("augment.persona.v1"), {"traits": traits})),),
                self.max_tokens,
                self.temperature,
                seed=rng.draw_seed(ctx.seed, self.name, traits),
            )
            for traits in self.traits
        ]
        answers = ctx.engines.generate(self.model, requests)
        return [one.text.strip() if isinstance(one, Completion) else one for one in answers]

    def _chosen(self, rows: pa.Table, ctx: Context) -> pa.Table:
        """Ask each person in both orders and write what they say as votes."""
        requests = self._requests(rows)
        answers = ctx.engines.generate(self.model, requests) if requests else []
        errors = [next((a.error for a in both if isinstance(a, Failure)), None) for both in _twos(answers)]
        said = [
            [a.text.strip()[:1] if isinstance(a, Completion) else "" for a in both] for both in _twos(answers)
        ]
        there = [row for row, error in enumerate(errors) if error is None]
        rows, said = ctx.fail(rows, errors), [said[row] for row in there]
        reasons = [
            _UNREADABLE if not set(both) <= set(_CHOICES) else _CONTRADICTS if both[0] == both[1] else None
            for both in said
        ]
        kept = [both for both, reason in zip(said, reasons, strict=True) if reason is None]
        rows = ctx.drop(rows, reasons)
        votes = [
            [_vote(who, order, first == "1") for order in _ORDERS]
            for who, (first, _) in zip(rows["annotator"].to_pylist(), kept, strict=True)
        ]
        return put(rows, "votes", pa.array(votes, VOTES))

    def _requests(self, rows: pa.Table) -> list[Request]:
        text = template("augment.choice.v1")
        sides = zip(*(message_tuples(rows[name]) for name in ("prompt", "chosen", "rejected")), strict=True)
        asked = []
        # A Python loop: every pair is a text of its own.
        for persona, (prompt, one, other) in zip(rows["persona"].to_pylist(), sides, strict=True):
            for first, second in ((one, other), (other, one)):
                values = {"persona": persona, "prompt": spoken(prompt)}
                values |= {"first": spoken(first), "second": spoken(second)}
                asked.append(Request((Message("user", fill(text, values)),), 1, 0.0, choices=_CHOICES))
        return asked


def _text(said: str | Failure) -> str:
    return said if isinstance(said, str) else ""


def _twos(answers: Sequence[Completion | Failure]) -> list[Sequence[Completion | Failure]]:
    return [answers[at : at + 2] for at in range(0, len(answers), 2)]


def _vote(who: str, order: str, chosen: bool) -> dict[str, Any]:
    winner = "chosen" if chosen else "rejected"
    nothing = dict.fromkeys(("p", "strength", "rationale"))
    return {"judge": who, "order": order, "winner": winner, **nothing}
