"""Pieces: the small frozen parts that an objective is composed of, and what they may look at.

Every pairwise loss that the field has named is the same sentence with other words in it: a *mask* of the tokens that
count, a *reward* of a response, an *offset* the gap has to beat, a *link* that says what a gap costs, *labels* that say
how far a row is believed, *weights* of rows, a *reducer* over the step, and *extras* beside it. A piece is one of those
words. It reads in YAML by name (`link: hinge`, `reward: {log-ratio: {beta: 0.1}}`), says which columns it needs, and is
a pure function of tensors; torch is imported where it is used, so that a recipe can be checked without it.

A loss over a list is a loss over its pairs: the rows of one prompt, each a pair of its responses, are the list, and a
listwise piece sees all of them at once (`Pairs.lists`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer
from pydantic_core import PydanticCustomError

from prefkit.catalog import Catalog
from prefkit.columns import Columns
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "SIDES",
    "Extra",
    "Gap",
    "Labels",
    "Link",
    "Lists",
    "Mask",
    "Offset",
    "Pairs",
    "Penalty",
    "Piece",
    "Reducer",
    "Response",
    "Reward",
    "Rows",
    "Side",
    "Span",
    "TokenTerm",
    "Weights",
    "parse",
]

Side = Literal["chosen", "rejected"]
SIDES: tuple[Side, Side] = ("chosen", "rejected")
Span = Mapping[str, Any]
"""One element of a column of spans: start, end, kind, id, value."""


class TokenTerm(NamedTuple):
    """A number per scored token that needs the whole distribution there, of which the trainer hands out sums.

    `function` is given log-softmax values of the policy [tokens, vocab], of the reference [tokens, vocab] if
    `reference` is set, and the ids and values of `column` [tokens, k] if that is set (padded with id -1 and value 0);
    what it does not ask for is None. It returns [tokens], differentiable in the policy's.
    """

    name: str
    function: "Callable[[Tensor, Tensor | None, tuple[Tensor, Tensor] | None], Tensor]"
    sides: tuple[Side, ...] = ("chosen", "rejected")
    reference: bool = False
    column: str | None = None
    """Suffix of the column of each side with a list of (id, number) per scored token, as in `chosen_teacher`."""
    masked: bool = False
    """Whether the sum is weighted by the mask's `term_tokens`, or counts every scored token."""


class Response(NamedTuple):
    """What the policy and the reference said of one side of a batch. Every tensor is [pairs]."""

    logp: "Tensor"
    """Log-prob of the scored tokens, each times its mask, summed; nats."""
    tokens: "Tensor"
    """Sum of the mask: without one, how many tokens were scored, the end-of-turn token included; at least 1."""
    ref_logp: "Tensor | None" = None
    """The same sum under the reference; None where no piece asked for it."""
    plain_logp: "Tensor | None" = None
    """`logp` as if there were no mask; None where there is none."""
    plain_tokens: "Tensor | None" = None
    terms: "Mapping[str, Tensor]" = {}  # noqa: RUF012 - an empty mapping that nothing writes to
    """Sums over scored tokens of the terms that pieces asked for, by name."""
    hidden: "Tensor | None" = None
    """[pairs, dim] mean last hidden state over the scored tokens; None where no piece asked for it."""

    @property
    def whole_logp(self) -> "Tensor":
        """The log-prob of all scored tokens, whatever the mask."""
        return self.logp if self.plain_logp is None else self.plain_logp

    @property
    def whole_tokens(self) -> "Tensor":
        """How many tokens were scored, whatever the mask."""
        return self.tokens if self.plain_tokens is None else self.plain_tokens


class Lists(NamedTuple):
    """How the pairs of a batch make up lists. A batch holds every pair of each of its prompts. All are int64 [pairs]."""

    prompt: "Tensor"
    """Which list a pair belongs to, numbered from 0."""
    chosen: "Tensor"
    """Which distinct response of the batch is chosen, numbered from 0 across lists."""
    rejected: "Tensor"


class Pairs(NamedTuple):
    """All that an objective may know of a batch of pairs."""

    chosen: Response
    rejected: Response
    columns: "Mapping[str, Tensor]" = {}  # noqa: RUF012 - an empty mapping that nothing writes to
    """The columns named in `reads()`, each [pairs]: numbers as they are, booleans as 0 and 1, strings as their place
    among the column's sorted distinct values; `ref_history` as [pairs, policies, 2] log-probs of chosen and rejected;
    and `reliability` where labels keep one per annotator."""
    lists: Lists | None = None
    """Set for a listwise objective."""
    heads: "Mapping[str, Tensor]" = {}  # noqa: RUF012 - an empty mapping that nothing writes to
    """The trained matrices that extras asked for, by name."""
    step_tokens: float | None = None
    """Mean number of chosen tokens a row, over the whole step."""


class Rows(NamedTuple):
    """All rows of a step as a reducer sees them. Every tensor is [pairs] and detached."""

    losses: "Tensor"
    """Before weights; zeros unless the reducer is two-pass."""
    columns: "Mapping[str, Tensor]"
    units: int
    """Rows of the whole step; for a listwise objective, lists."""


class Gap(NamedTuple):
    """What a link sees of a pair: both rewards, and the logit that the offset left of their difference. [pairs]."""

    chosen: "Tensor"
    rejected: "Tensor"
    logit: "Tensor"

    def mirrored(self) -> "Gap":
        """Return the gap as it were with the sides exchanged."""
        return Gap(self.rejected, self.chosen, -self.logit)


class Piece(BaseModel, ABC):
    """A frozen part of an objective, spelled in a recipe as `name` or `{name: {setting: value}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    """How recipes spell it."""
    part: ClassVar[str]
    """Which word of the sentence it is: a field of Objective."""
    listwise: ClassVar[bool] = False
    """Whether it needs every pair of a prompt at once."""

    def reads(self) -> Columns:
        """Return the columns it needs, with their types."""
        return {}

    def terms(self) -> tuple[TokenTerm, ...]:
        """Return the token terms it needs."""
        return ()

    def refuse(self, table: pa.Table) -> str | None:
        """Return why these rows would make it a silent no-op or a lie, or None."""
        return None

    @model_serializer(mode="plain")
    def _as_recipe(self) -> dict[str, dict[str, Any]]:
        return {self.name: dict(self)}


class Mask(Piece):
    """Which tokens of a response count, and how much (B1)."""

    part: ClassVar[str] = "mask"

    @abstractmethod
    def tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        """Return the weight of each scored token, float64 [tokens].

        `offsets` [tokens, 2] are the characters each token covers in the response's text, start and end; a token
        outside of it (the end of the turn) has -1, -1.
        """

    def term_tokens(self, spans: Sequence[Span], offsets: np.ndarray, side: Side) -> np.ndarray:
        """Return the weights that masked token terms are summed with."""
        return self.tokens(spans, offsets, side)


class Reward(Piece):
    """The implicit reward of a response (B1 to B3 of the composition): its own units, higher is better."""

    part: ClassVar[str] = "reward"

    @abstractmethod
    def __call__(self, pairs: Pairs) -> "tuple[Tensor, Tensor]":
        """Return the reward of chosen and of rejected, each [pairs]."""


class Offset(Piece):
    """How much the reward gap has to beat before it counts (B4): logit = gap - offset."""

    part: ClassVar[str] = "offset"

    @abstractmethod
    def __call__(self, pairs: Pairs) -> "Tensor | float":
        """Return the offset in reward units, [pairs] or one number."""


class Link(Piece):
    """What a logit costs (B5): decreasing where chosen is believed better."""

    part: ClassVar[str] = "link"
    symmetric: ClassVar[bool] = True
    """Whether labels may be mixed: cost = a link(gap) + b link(mirrored gap). Links that model ties do it themselves."""

    @abstractmethod
    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        """Return the cost of each pair, [pairs]. A listwise link may put a list's cost on any of its rows."""

    def optimum(self, p: float) -> float | None:
        """Return the logit that minimises the expected cost where chosen wins with probability p; None: unbounded."""
        return None


class Labels(Piece):
    """How far the stored direction of a pair is believed (B6): cost = a right + b wrong, a + b = 1."""

    part: ClassVar[str] = "labels"
    annotators: ClassVar[bool] = False
    """Whether it keeps a reliability per annotator, which the trainer carries from step to step."""

    @abstractmethod
    def __call__(self, right: "Tensor", wrong: "Tensor", pairs: Pairs) -> "tuple[Tensor, Tensor]":
        """Return a and b, detached, each [pairs]: `right` is the cost of each row as labelled, `wrong` mirrored."""

    def start(self, annotators: int) -> np.ndarray:
        """Return the reliability of each annotator before the first step, float64 [annotators]."""
        return np.ones(annotators)

    def learn(self, reliability: np.ndarray, who: np.ndarray, belief: np.ndarray, step: int) -> np.ndarray:
        """Return the reliabilities after a step, given each of its rows' annotator [rows] and a [rows]."""
        return reliability


class Weights(Piece):
    """How much a row's preference cost counts (B7). Never carries a gradient."""

    part: ClassVar[str] = "weights"

    @abstractmethod
    def __call__(self, gap: Gap, pairs: Pairs) -> "Tensor":
        """Return the weight of each pair, [pairs]."""


class Reducer(Piece):
    """How the rows of one optimizer step become one number (B7).

    It hands out one detached coefficient a row, so that a step cut into micro-batches has exactly the gradient of one
    big batch: sum over rows of coefficient times weight times the gradient of the row's loss. It is given all rows of
    the step at once.
    """

    part: ClassVar[str] = "reducer"
    two_pass: ClassVar[bool] = False
    """Whether the coefficients depend on the losses, which then are computed twice."""

    @abstractmethod
    def __call__(self, rows: Rows) -> "Tensor":
        """Return the coefficient of each row, [pairs]."""


class Extra(Piece):
    """A term beside each row's preference cost (B8): not weighted, averaged over the step."""

    part: ClassVar[str] = "extras"
    hidden: ClassVar[bool] = False
    """Whether it looks at mean hidden states."""

    def heads(self) -> Mapping[str, int]:
        """Return the matrices it trains, by name, with their number of rows; each is [rows, hidden dim], from zero."""
        return {}

    @abstractmethod
    def __call__(self, pairs: Pairs) -> "Tensor":
        """Return the term, already scaled, [pairs]."""


class Penalty(Piece):
    """A term in the gradient of each row's loss with respect to the input embeddings (B8), averaged over the step."""

    part: ClassVar[str] = "penalty"
    active: ClassVar[bool] = True
    """Whether there is anything to compute."""

    @abstractmethod
    def __call__(self, squared_norms: "Tensor", mean: float) -> "Tensor":
        """Return the term [pairs], given squared norms [pairs] and their mean over the whole step."""


def parse(base: type[Piece], builtin: Sequence[type[Piece]], value: object) -> object:
    """Read a piece as recipes spell it: `name`, `{name: {setting: value}}`, or a piece already made.

    Raises PydanticCustomError, so that the message lands on the line of the recipe.
    """
    if isinstance(value, str):
        value = {value: {}}
    if not isinstance(value, Mapping):
        return value
    if len(value) != 1:
        raise PydanticCustomError(
            "piece", f"{base.part} takes one name with its settings, got {sorted(value)}"
        )
    ((name, settings),) = value.items()
    catalog = Catalog(base.part, "prefkit.pieces", {piece.name: piece for piece in builtin})
    try:
        kind = catalog.get(str(name))
        if not issubclass(kind, base):
            raise PrefkitError(f"'{name}' is no {base.part}", hint=f"one of: {', '.join(catalog.names())}")
        return kind.model_validate(settings or {})
    except ValidationError as error:
        told = "; ".join(_one(problem["loc"], problem["msg"], problem["input"]) for problem in error.errors())
        raise PydanticCustomError("piece", f"{base.part} '{name}': {told}") from error
    except PrefkitError as error:
        raise PydanticCustomError("piece", f"{error.what} ({error.hint})") from error


def _one(loc: tuple[int | str, ...], message: str, value: object) -> str:
    where = ".".join(str(part) for part in loc)
    return f"{where}: {message[:1].lower()}{message[1:]}, got {value!r}"
