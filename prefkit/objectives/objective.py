"""Objective: the composition of pieces that says what a pair costs.

    logit = reward(chosen) - reward(rejected) - offset
    loss  = scale * (labels mix link(gap) and link(mirrored gap))
    step  = sum over rows of reducer * weight * loss, plus the mean of the extras

A named loss is a preset: a function that fills these fields. What enters a recipe's identity is the composition, so
`objective: dpo` and the same pieces written out are the same thing. What happens between epochs or rounds (another
reference, fresh data, extrapolated weights) is not the loss's business: whoever owns that loop calls the trainer.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, NamedTuple, final

import pyarrow as pa
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PositiveFloat,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from prefkit.columns import COLUMNS, Columns
from prefkit.errors import TrainError
from prefkit.objectives.extras import EXTRAS, PENALTIES, NoPenalty
from prefkit.objectives.heads import Heads
from prefkit.objectives.labels import LABELS, Hard
from prefkit.objectives.links import Logistic
from prefkit.objectives.masks import MASKS, Everything
from prefkit.objectives.more_links import LINKS
from prefkit.objectives.offsets import OFFSETS, Constant
from prefkit.objectives.piece import (
    Extra,
    Gap,
    Labels,
    Link,
    Mask,
    Offset,
    Pairs,
    Penalty,
    Piece,
    Reducer,
    Reward,
    TokenTerm,
    Weights,
    parse,
)
from prefkit.objectives.reducers import REDUCERS, Mean
from prefkit.objectives.rewards import REWARDS, LogRatio
from prefkit.objectives.weights import WEIGHTS, Equal

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Costs", "Objective"]

_SPELLING = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "maxProperties": 1}]})
_NUMBER = WithJsonSchema(
    {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "object", "maxProperties": 1}]}
)


class Costs(NamedTuple):
    """What an objective says of a batch. Every tensor is [pairs]; all but `loss` and `extra` are detached."""

    loss: "Tensor"
    """Preference cost of each row, before weights; carries the gradient."""
    extra: "Tensor"
    """What the extras add to each row; carries the gradient."""
    weight: "Tensor"
    chosen_reward: "Tensor"
    rejected_reward: "Tensor"
    belief: "Tensor"
    """How far each row's direction was believed: 1 for hard labels."""


def _offset(value: object) -> object:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Constant(value=value) if number else parse(Offset, OFFSETS, value)


def _extras(value: object) -> object:
    spelled = isinstance(value, str | Mapping | Extra)
    items = [value] if spelled else value
    return tuple(parse(Extra, EXTRAS, item) for item in items) if isinstance(items, list | tuple) else items


@final
class Objective(BaseModel):
    """A loss over pairs, composed of pieces. Spelled as a preset's name, `{preset: name, ...}`, or pieces.

    Beside a preset stand its own parameters, and pieces that take the place of its pieces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: Annotated[Mask, BeforeValidator(lambda value: parse(Mask, MASKS, value)), _SPELLING] = Everything()
    """Which tokens count."""
    reward: Annotated[Reward, BeforeValidator(lambda value: parse(Reward, REWARDS, value)), _SPELLING] = (
        LogRatio()
    )
    """What a response earns."""
    offset: Annotated[Offset, BeforeValidator(_offset), _NUMBER] = Constant()
    """How much the gap has to beat; a number, or a piece that reads a column."""
    link: Annotated[Link, BeforeValidator(lambda value: parse(Link, LINKS, value)), _SPELLING] = Logistic()
    """What the gap costs."""
    scale: PositiveFloat = 1.0
    """What the preference cost is multiplied by; the extras are not."""
    labels: Annotated[Labels, BeforeValidator(lambda value: parse(Labels, LABELS, value)), _SPELLING] = Hard()
    """How far rows are believed."""
    weights: Annotated[Weights, BeforeValidator(lambda value: parse(Weights, WEIGHTS, value)), _SPELLING] = (
        Equal()
    )
    """How much rows count."""
    reducer: Annotated[Reducer, BeforeValidator(lambda value: parse(Reducer, REDUCERS, value)), _SPELLING] = (
        Mean()
    )
    """How the rows of a step become one number."""
    extras: Annotated[tuple[Extra, ...], BeforeValidator(_extras)] = ()
    """Terms beside the preference cost."""
    penalty: Annotated[
        Penalty, BeforeValidator(lambda value: parse(Penalty, PENALTIES, value)), _SPELLING
    ] = NoPenalty()
    """A term in the gradient at the input embeddings."""
    heads: Annotated[
        Heads | None, BeforeValidator(lambda value: parse(Heads, (Heads,), value)), _SPELLING
    ] = None
    """One output head per value of `dimension`, instead of one for all rows."""

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, value: object) -> object:
        if isinstance(value, str):
            value = {"preset": value}
        if not isinstance(value, Mapping) or "preset" not in value:
            return value
        from prefkit.objectives.presets import (
            make,
            parameters,
        )  # presets build objectives, so they come after the class

        settings = {name: setting for name, setting in value.items() if name != "preset"}
        own = parameters(str(value["preset"]))
        pieces = {
            part: settings.pop(part) for part in cls.model_fields if part in settings and part not in own
        }
        try:
            return {**dict(make(str(value["preset"]), settings)), **pieces}
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            told = f"preset '{value['preset']}': {where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}"
            raise PydanticCustomError("preset", f"{told}, got {problem['input']!r}") from error

    @model_validator(mode="after")
    def _fits(self) -> "Objective":
        if not self.link.symmetric and not isinstance(self.labels, Hard):
            raise PydanticCustomError(
                "labels",
                f"link '{self.link.name}' has no mirror image to mix: labels must be 'hard', not '{self.labels.name}'",
            )
        return self

    def pieces(self) -> tuple[Piece, ...]:
        """Return every piece, in the order of the sentence."""
        named = (self.mask, self.reward, self.offset, self.link, self.labels, self.weights, self.reducer)
        return (*named, *self.extras, self.penalty)

    def reads(self) -> Columns:
        """Return the columns that its pieces need, with their types."""
        found = {name: kind for piece in self.pieces() for name, kind in piece.reads().items()}
        return found if self.heads is None else {**found, **self.heads.reads()}

    def terms(self) -> tuple[TokenTerm, ...]:
        """Return the token terms that its pieces need, each once."""
        return tuple({term.name: term for piece in self.pieces() for term in piece.terms()}.values())

    def listwise(self) -> bool:
        """Return whether it needs every pair of a prompt at once."""
        return any(piece.listwise for piece in self.pieces())

    def needs_reference(self) -> bool:
        """Return whether it reads reference log-probs."""
        return "ref_chosen_logp" in self.reads()

    def check(self, table: pa.Table) -> None:
        """Raise TrainError where columns are missing or hold nulls, or a piece would change nothing."""
        for name in self.reads():
            writer = COLUMNS[name].writer if name in COLUMNS else "source, score"
            hint = f"add the stage that writes it: {writer}"
            if name not in table.column_names:
                raise TrainError(
                    f"the objective reads column '{name}', which the pairs do not have", hint=hint
                )
            if table[name].null_count:
                what = f"column '{name}' is null in {table[name].null_count} of {table.num_rows} rows"
                raise TrainError(what, hint=f"filter those rows, or let {writer} fill them")
        for piece in (*self.pieces(), *(() if self.heads is None else (self.heads,))):
            reason = piece.refuse(table)
            if reason:
                raise TrainError(reason, hint=f"change `objective: {piece.part}`, or the stages that label")

    def __call__(self, pairs: Pairs) -> Costs:
        """Return what each pair costs. Differentiable in the policy's log-probs."""
        import torch

        chosen, rejected = self.reward(pairs)
        gap = Gap(chosen, rejected, chosen - rejected - self.offset(pairs))
        loss = self.link(gap, pairs)
        belief = torch.ones_like(loss)
        if not isinstance(self.labels, Hard):
            wrong = self.link(gap.mirrored(), pairs)
            belief, doubt = self.labels(loss, wrong, pairs)
            loss = belief * loss + doubt * wrong
        extra = torch.zeros_like(loss)
        for piece in self.extras:
            extra = extra + piece(pairs)
        weight = self.weights(gap, pairs).detach()
        return Costs(self.scale * loss, extra, weight, chosen.detach(), rejected.detach(), belief.detach())

    def describe(self) -> str:
        """Return the composition in one line, for people; what is at its default is left out."""
        plain = (Everything(), Constant(), Hard(), Equal(), Mean(), NoPenalty())
        words = [_words(piece) for piece in self.pieces() if piece not in plain]
        if self.scale != 1:
            words.append(f"times {self.scale:g}")
        return " · ".join(words if self.heads is None else [*words, _words(self.heads)])


def _words(piece: Piece) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in piece if value is not None)
    return f"{piece.name}({settings})" if settings else piece.name
