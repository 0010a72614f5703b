"""What a recipe says of gates: `fail_if`, a mapping of rules to a limit, to what happens, or to both.

    fail_if:
      length-auc: { above: 0.75, then: mark }
      longer-chosen: { outside: [0.3, 0.7] }
      contamination: off

Whoever gives a limit wants it held: a rule with one stops the build unless it says `then: mark`. A limit replaces the
default one as a whole. No part of any key: a changed gate rebuilds nothing.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple, Self, final

from pydantic import BaseModel, BeforeValidator, ConfigDict, FiniteFloat, ValidationError, model_validator

from prefkit.catalog import suggest
from prefkit.errors import Problem, StoreError
from prefkit.gates.rules import RULES, Rule, Then, Wanted
from prefkit.validation import Owner, fill, problem, shown
from prefkit.yaml_strict import Node

__all__ = [
    "AnyLimit",
    "Limit",
    "Read",
    "Setting",
    "limits_in",
    "limits_of_run",
    "plain_limits",
    "read_limits",
    "setting",
]

_HELP = "prefkit stages fail_if"


@final
class Limit(BaseModel):
    """When a gate fails, and what happens then."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    above: FiniteFloat | None = None
    """It fails above this value. Shares are in 0 to 1."""
    below: FiniteFloat | None = None
    """It fails below this value."""
    outside: tuple[FiniteFloat, FiniteFloat] | None = None
    """It fails below the first value and above the second."""
    then: Then | None = None
    """`stop` the build, `mark` the card, or `off`. With a limit of its own a gate stops; without one it does what it does
    by default."""

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.outside is not None and (self.above is not None or self.below is not None):
            raise ValueError("give `outside`, or `above` and `below`")
        low, high = self.wanted
        if low is not None and high is not None and low > high:
            raise ValueError(f"nothing is both at least {low:g} and at most {high:g}")
        if self.then is None and self.wanted == Wanted():
            raise ValueError("say `above`, `below`, `outside` or `then`")
        return self

    @property
    def wanted(self) -> Wanted:
        """What passes; no ends where no limit is said."""
        return Wanted(*self.outside) if self.outside is not None else Wanted(self.below, self.above)


class Setting(NamedTuple):
    """What a run asks of a rule."""

    wanted: Wanted | None
    """None: nothing."""
    then: Then
    is_said: bool
    """Whether the limit is the recipe's own."""


def setting(rule: Rule, said: Mapping[str, Limit]) -> Setting:
    """Return what holds for a rule, from its defaults and what a recipe says."""
    limit = said.get(rule.name)
    if limit is None:
        return Setting(rule.wanted, rule.then, is_said=False)
    if limit.wanted == Wanted():
        return Setting(rule.wanted, limit.then or rule.then, is_said=False)
    return Setting(limit.wanted, limit.then or "stop", is_said=True)


def _from_word(value: Any) -> Any:
    return {"then": value} if isinstance(value, str) else value


AnyLimit = Annotated[Limit, BeforeValidator(_from_word)]


def limits_in(said: Mapping[str, Limit]) -> Mapping[str, Limit]:
    """Return limits as they are. Raises ValueError for a rule that does not exist, or has no limit that could hold."""
    for name, limit in said.items():
        if wrong := _wrong(name, limit):
            raise ValueError(wrong)
    return said


def _wrong(name: str, limit: Limit) -> str:
    if name not in RULES:
        return f"no gate is called '{name}'"
    if RULES[name].wanted is None and limit.wanted == Wanted() and limit.then != "off":
        return f"gate '{name}' has no limit unless you give one: say `above`, `below` or `outside`"
    return ""


class Read(NamedTuple):
    """The limits of a recipe, and what is wrong with it."""

    limits: dict[str, Limit]
    problems: tuple[Problem, ...]


def read_limits(node: Node | None, file: str) -> Read:
    """Read `fail_if` from the tree of a recipe. Finds every problem."""
    if node is None:
        return Read({}, ())
    if not isinstance(node.value, Mapping):
        what = f"fail_if: input should be a mapping, got {shown(node)}"
        return Read({}, (problem(what, node, Owner(file), "fail_if: { length-auc: stop }"),))
    limits: dict[str, Limit] = {}
    problems: list[Problem] = []
    for name, item in node.value.items():
        owner = Owner(file, f"gate '{name}'", _HELP)
        if name not in RULES:
            hint = suggest(name, list(RULES)) or f"`{_HELP}` lists them"
            problems.append(problem(_wrong(name, Limit(then="off")), item, owner, hint))
            continue
        inside = Node({"then": item}, item.line, origin=item.origin) if isinstance(item.value, str) else item
        filled = fill(Limit, inside, owner)
        problems += filled.problems
        if filled.config is not None:
            limits[name] = filled.config
            if wrong := _wrong(name, filled.config):
                problems.append(problem(wrong, item, owner, f"{name}: {{ above: ... }}"))
    return Read(limits, tuple(problems))


def plain_limits(said: Mapping[str, Limit]) -> dict[str, Any]:
    """Return limits as a recipe spells them."""
    return {name: _plain(limit) for name, limit in said.items()}


def _plain(limit: Limit) -> object:
    told = limit.model_dump(mode="json", exclude_none=True)
    return limit.then if set(told) == {"then"} else told


def limits_of_run(recipe: Mapping[str, Any]) -> dict[str, Limit]:
    """Return the limits of a recipe that a store kept; of rules that a newer version has, none. Raises StoreError."""
    said = recipe.get("fail_if", {})
    try:
        return {name: Limit.model_validate(_from_word(said[name])) for name in said if name in RULES}
    except (ValidationError, TypeError) as error:
        what = "the recipe of the run has a `fail_if` that cannot be read"
        raise StoreError(what, hint="build it again") from error
