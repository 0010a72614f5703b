"""Judge: what a model says of responses, kept word for word.

    pairwise    which of two is better: votes on pairs, or the responses of a prompt against each other
    pointwise   how good one is, by a rubric, on a scale
    listwise    how all responses of a prompt rank
    localise    which step of a response is the first wrong one
    hindsight   which of two is better once it is known what came of acting on them

A judge is not believed blindly: it sees every pair in both orders, its answer is read strictly or not at all, and
canaries, whose right answer is known, are hidden in its work. What that says of the judge is counted in the notes and
shown in the card. Whoever judges may be judged: every answer stands in `judgements` as it came.

Sources: hindsight, RLHS (2025); localise, Step-DPO (2024); token probabilities as preference strength, OSP (2024).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, final

import pyarrow as pa
from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    model_validator,
)

from prefkit.columns import Columns, types
from prefkit.engines import Model
from prefkit.errors import ContractError
from prefkit.identity import hash_json
from prefkit.judging.tasks import PLACES, Task, Terms
from prefkit.judging.wording import AnyWording, Wording, check_places
from prefkit.judging.work import Found, Work
from prefkit.stage import Context, Cost, Flow, Kind, Stage
from prefkit.stages import judge_rows

__all__ = ["Judge"]

_ONLY_FOR: dict[str, tuple[Task, ...]] = {
    "topology": ("pairwise", "hindsight"),
    "verdict": ("pairwise", "pointwise", "hindsight"),
    "allow_tie": ("pairwise", "hindsight"),
    "swap": ("pairwise", "listwise", "hindsight"),
    "scale": ("pointwise",),
    "rubric": ("pairwise", "pointwise", "listwise", "hindsight"),
    "simulator": ("hindsight",),
    "separator": ("localise",),
    "canaries": ("pairwise", "pointwise", "listwise", "hindsight"),
}
_RESPONSES = 8
"""Responses of a prompt, for the estimate of costs alone."""


@final
class Judge(Stage):
    """Ask a model what it thinks of responses; every answer is kept as it came."""

    model_config = ConfigDict(serialize_by_alias=True)

    name: ClassVar[str] = "judge"
    kind: ClassVar[Kind] = "group"
    level: ClassVar[Flow] = Flow(("response", "pair"))
    random: ClassVar[bool] = True

    task: Task = Field("pairwise", alias="kind")
    """`pairwise` and `hindsight` judge pairs, and write `votes`, or with a `topology` the responses of a prompt.
    `pointwise` and `listwise` score responses; `localise` writes `first_error` and marks it in `spans`."""
    model: Model
    """Who judges."""
    topology: Literal["all", "adjacent", "vs-baseline", "tournament"] | None = None
    """Which responses of a prompt meet: `all`; neighbours in a ranking (`adjacent`); each and the baseline; or in
    knock-out rounds. The score is the mean probability of winning, in a tournament the number of wins; neighbours
    keep the score that ranks them. `pair` makes votes of what stands in `judgements`."""
    by: str = "score"
    """With `adjacent`: which score ranks."""
    baseline: str | None = None
    """With `vs-baseline`: the model or origin of the response that all others meet."""
    template: AnyWording | None = None
    """What is asked, if not the shipped template of the kind: `{text: ...}` or `{file: judge.txt}`, with its places.
    Files are relative to the recipe, and what they say is part of the key."""
    rubric: AnyWording | None = None
    """What counts, if not the shipped rubric: `{text: ...}` or `{file: rubric.txt}`."""
    reference: str | None = None
    """A text column with a trusted answer that the judge is shown; with `hindsight`, the simulator alone."""
    verdict: Literal["reasoned", "token"] = "reasoned"
    """`reasoned`: reasons, then the verdict. `token`: the verdict alone, with its probability `p` where the engine
    knows those of tokens."""
    swap: bool = True
    """Whether both orders are asked, or one that is drawn."""
    votes: PositiveInt = 1
    """Answers to each question."""
    allow_tie: bool = True
    """Whether the judge may say that neither is better."""
    scale: tuple[int, int] = (1, 10)
    """Of pointwise scores: the worst and the best."""
    into: Annotated[
        str, Field(validation_alias=AliasChoices("as", "into"), pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    ] = "score"
    """Name of the score column, where there is one. Spelled `as` in a recipe."""
    simulator: Model | None = None
    """With `hindsight`: who writes what comes of a response, if not the judge. Better not who wrote it."""
    separator: Annotated[str, Field(min_length=1)] = "\n"
    """With `localise`: what ends a step."""
    temperature: NonNegativeFloat = 0.0
    """Of sampling; above 0 for several votes."""
    max_tokens: PositiveInt = 512
    """Longest answer with reasons, in tokens."""
    retries: NonNegativeInt = 2
    """How often to ask again, with another seed, for an answer that cannot be read."""
    on_parse_error: Literal["null", "fail"] = "null"
    """What an answer becomes that still cannot be read: a vote without a winner, no score; or its row fails."""
    canaries: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of pairs or responses with which a question is hidden whose answer is known. They change no result."""

    @model_validator(mode="after")
    def _fits_the_kind(self) -> Self:
        fields = type(self).model_fields
        for name, tasks in _ONLY_FOR.items():
            if self.task not in tasks and getattr(self, name) != fields[name].default:
                raise ValueError(f"kind '{self.task}' has no {name}")
        for name, topology in (("baseline", "vs-baseline"), ("by", "adjacent")):
            if self.topology != topology and getattr(self, name) != fields[name].default:
                raise ValueError(f"{name} is for topology '{topology}'")
        if self.topology == "vs-baseline" and self.baseline is None:
            raise ValueError("topology 'vs-baseline' needs a baseline: the name of a model or an origin")
        return self

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        low, high = self.scale
        if low >= high:
            raise ValueError(f"scale goes from the worst to the best, not from {low} to {high}")
        if self.verdict == "token" and self.task == "pointwise" and not 0 <= low < high <= 9:
            raise ValueError("verdict 'token' needs scores of one digit: scale: [1, 5]")
        if self.votes > 1 and self.temperature == 0 and self.verdict == "reasoned":
            raise ValueError("at temperature 0 all votes are the same: set temperature, or votes to 1")
        if self.template is not None and self.template.file is None:
            check_places(self.template.words, PLACES[self.task])
        return self

    def reads(self) -> Columns:
        if self._is_of_pairs():
            needed = types("prompt", "chosen", "rejected", "chosen_id", "rejected_id")
        else:
            needed = types("id", "prompt_id", "prompt", "response")
        if self.topology == "adjacent":
            needed = {**needed, self.by: pa.float64()}
        if self.topology == "vs-baseline":
            needed = {**needed, **types("model", "origin")}
        return needed if self.reference is None else {**needed, self.reference: pa.string()}

    def writes(self) -> Columns:
        if self._is_of_pairs():
            return types("votes", "judgements")
        if self.task == "localise":
            return types("first_error", "spans", "judgements")
        score = {} if self.topology == "adjacent" else {self.into: pa.float64()}
        if self.task == "pointwise" and self.votes > 1:
            score[f"{self.into}_std"] = pa.float64()
        return {**score, **types("judgements")}

    def touches(self) -> Collection[str]:
        return ("votes", "judgements") if self._is_of_pairs() else ("judgements",)

    def scope(self) -> Kind:
        return "map" if self._is_of_pairs() or self.task in {"pointwise", "localise"} else "group"

    def files(self, folder: Path) -> Sequence[str]:
        own = [
            (wording, wording.read(folder)) for wording in (self.template, self.rubric) if wording is not None
        ]
        if self.template is not None:
            try:
                check_places(self.template.read(folder).words, PLACES[self.task])
            except ValueError as error:
                raise ContractError(str(error), where=self.template.file or "") from error
        return [hash_json(read.words) for wording, read in own if wording.file is not None]

    def cost(self) -> Cost:
        orders = 2 if self.swap and self.task not in {"pointwise", "localise"} else 1
        per_row = {"listwise": 1 / _RESPONSES}.get(self.task, 1.0)
        if self.topology == "all":
            per_row = (_RESPONSES - 1) / 2
        calls = orders * (per_row * self.votes + self.canaries)
        told = calls * (self.max_tokens if self.verdict == "reasoned" else 1)
        if self.task == "hindsight":
            foreseen = 2 if self._is_of_pairs() else 1
            calls, told = calls + foreseen, told + foreseen * self.max_tokens
        return Cost(calls=calls, tokens_out=told)

    def apply(self, table: pa.Table, ctx: Context) -> pa.Table:
        found = Found([[] for _ in range(table.num_rows)], {}, Counter())
        asked = judge_rows.Asked(table, self._work(ctx), self._foresight(ctx), self.reference, found)
        if self._is_of_pairs():
            table = judge_rows.of_pairs(asked)
        elif self.topology is not None:
            score = None if self.topology == "adjacent" else self.into
            table = judge_rows.of_prompts(asked, self.topology, self.by, self.baseline, score)
        elif self.task == "listwise":
            table = judge_rows.of_lists(asked, self.into)
        elif self.task == "localise":
            table = judge_rows.of_steps(asked, self.separator)
        else:
            table = judge_rows.of_responses(asked, self.into, has_std=self.votes > 1)
        ctx.notes.update({f"{self.name}/{name}": n for name, n in found.notes.items() if n})
        errors = pa.array(judge_rows.errors(asked, by_row=self.scope() == "map"), pa.string())
        return ctx.fail(table.select(self.becomes(asked.table.schema).names), errors)

    def _is_of_pairs(self) -> bool:
        return self.task in {"pairwise", "hindsight"} and self.topology is None

    def _work(self, ctx: Context) -> Work:
        terms = Terms(
            self.task,
            self.model,
            (self.template or Wording(name=f"judge.{self.task}.v1")).read(ctx.folder),
            (self.rubric or Wording(name="judge.rubric.v1")).read(ctx.folder),
            self.verdict == "token",
            self.allow_tie,
            self.scale,
            self.temperature,
            self.max_tokens,
            self.retries,
            ctx.seed,
        )
        must_read = self.on_parse_error == "fail"
        return Work(terms, ctx.engines, self.votes, self.swap, must_read, self.canaries)

    def _foresight(self, ctx: Context) -> Work | None:
        """Return how consequences are asked for, where they are."""
        if self.task != "hindsight":
            return None
        work = self._work(ctx)
        return work._replace(terms=work.terms._replace(model=self.simulator or self.model))
