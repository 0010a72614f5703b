"""Pieces: the small frozen parts that an objective is composed of, and what they may look at.

Every pairwise loss that the field has named is the same sentence with other words in it: a *reward* of a response, an
*offset* the gap has to beat, a *link* that says what a gap costs, *labels* that say how far a row is believed,
*weights* of rows, a *reducer* over the batch, and *extras* beside it. A piece is one of those words. It reads in YAML
by name (`link: hinge`, `reward: {log-ratio: {beta: 0.1}}`), says which columns it needs, and is a pure function of
tensors; torch is imported where it is used, so that a recipe can be checked without it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer
from pydantic_core import PydanticCustomError

from prefkit.catalog import Catalog
from prefkit.columns import Columns
from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Extra",
    "Labels",
    "Link",
    "Offset",
    "Pairs",
    "Piece",
    "Reducer",
    "Response",
    "Reward",
    "Weights",
    "parse",
]


class Response(NamedTuple):
    """What the policy and the reference said of one side of a batch. Every tensor is [pairs]."""

    logp: "Tensor"
    """Summed log-prob of the scored tokens, nats."""
    tokens: "Tensor"
    """How many tokens were scored, the end-of-turn token included; at least 1."""
    ref_logp: "Tensor | None" = None
    """The same sum under the reference; None where no piece asked for it."""


class Pairs(NamedTuple):
    """All that an objective may know of a batch of pairs."""

    chosen: Response
    rejected: Response
    columns: "Mapping[str, Tensor]" = {}  # noqa: RUF012 - an empty mapping that nothing writes to
    """The numeric columns named in `reads()`, each [pairs]; booleans as 0 and 1."""


class Piece(BaseModel, ABC):
    """A frozen part of an objective, spelled in a recipe as `name` or `{name: {setting: value}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: ClassVar[str]
    """How recipes spell it."""
    part: ClassVar[str]
    """Which word of the sentence it is: a field of Objective."""

    def reads(self) -> Columns:
        """Return the columns it needs, with their types."""
        return {}

    def refuse(self, table: pa.Table) -> str | None:
        """Return why these rows would make it a silent no-op or a lie, or None."""
        return None

    @model_serializer(mode="plain")
    def _as_recipe(self) -> dict[str, dict[str, Any]]:
        return {self.name: dict(self)}


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
    """Whether labels may be mixed: cost = a link(logit) + b link(-logit). Links that model ties do it themselves."""

    @abstractmethod
    def __call__(self, logit: "Tensor", pairs: Pairs) -> "Tensor":
        """Return the cost of each pair, [pairs]."""

    def optimum(self, p: float) -> float | None:
        """Return the logit that minimises the expected cost where chosen wins with probability p; None: unbounded."""
        return None


class Labels(Piece):
    """How far the stored direction of a pair is believed (B6)."""

    part: ClassVar[str] = "labels"

    @abstractmethod
    def __call__(self, cost: "Callable[[Tensor], Tensor]", logit: "Tensor", pairs: Pairs) -> "Tensor":
        """Return `a cost(logit) + b cost(-logit)` with a + b = 1, [pairs]."""


class Weights(Piece):
    """How much a row counts (B7). Never carries a gradient."""

    part: ClassVar[str] = "weights"

    @abstractmethod
    def __call__(self, pairs: Pairs) -> "Tensor":
        """Return the weight of each pair, [pairs]."""


class Reducer(Piece):
    """How the rows of one optimizer step become one number (B7).

    It hands out one detached coefficient a row, so that a step cut into micro-batches has exactly the gradient of one
    big batch: sum over rows of coefficient times the gradient of the row's loss. A two-pass reducer is given all rows
    of the step at once; any other may be given a part of them, with zeros for losses.
    """

    part: ClassVar[str] = "reducer"
    two_pass: ClassVar[bool] = False
    """Whether the coefficients depend on the losses of the whole step, which then is computed twice."""

    @abstractmethod
    def __call__(self, losses: "Tensor", weights: "Tensor", rows: int) -> "Tensor":
        """Return the coefficient of each row, [pairs]. `rows` is the number of rows of the whole step."""


class Extra(Piece):
    """A term added to each row's cost (B8)."""

    part: ClassVar[str] = "extras"

    @abstractmethod
    def __call__(self, pairs: Pairs) -> "Tensor":
        """Return the term, already scaled, [pairs]."""


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
