"""Spend: what engines were asked, what it took, what it cost, and where to stop.

One `Spend` counts for a whole run, model by model. It is fed where answers are remembered, so a remembered answer is
counted as such and costs nothing. Nothing here is part of a result's identity.

There are no built-in prices: they change, and differ by contract. What has no price has no cost that could be shown,
which is not the same as a cost of nothing. Tokens are those the engine told of: a server that counts none leaves
`uncounted` calls, and the cost is then a lower bound. What failed attempts took, no server tells.

A budget is for one run. It is looked at after every answer: once it is reached no further request is started, the
answers under way are taken, and the run ends with a BudgetError. So it may be passed by what was under way.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal, InvalidOperation
from typing import NamedTuple, Protocol, runtime_checkable

from prefkit.errors import EngineError, PrefkitError

__all__ = [
    "Budget",
    "BudgetError",
    "Drains",
    "Price",
    "Spend",
    "Tally",
    "Tokens",
    "dollars",
    "read_budget",
    "read_price",
]

_MILLION = 6
_SCALES = {"": 0, "tokens": 0, "k": 3, "m": 6, "b": 9}
_AMOUNT = re.compile(
    r"(?P<sign>\$?)(?P<number>\d+(?:\.\d*)?|\.\d+) ?(?P<unit>usd|tokens|k|m|b|)", re.IGNORECASE
)
_CENT, _FINE = Decimal("0.01"), Decimal("0.0001")


class BudgetError(EngineError):
    """A budget is spent. What was answered is remembered; a run with a larger one goes on from there."""


class Price(NamedTuple):
    """What a model costs, in dollars per million tokens."""

    tokens_in: Decimal
    tokens_out: Decimal

    def of(self, tokens_in: int, tokens_out: int) -> Decimal:
        """Return the cost of so many tokens in dollars, exactly."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out).scaleb(-_MILLION)


class Budget(NamedTuple):
    """What may be spent, in dollars or in tokens read and written."""

    amount: Decimal
    is_money: bool
    model: str = ""
    """What the model is served as; "" for all models of a run together."""

    def __str__(self) -> str:
        """Return the amount as people read it."""
        return dollars(self.amount) if self.is_money else f"{self.amount:,.0f} tokens"


class Tokens(NamedTuple):
    """What one answer took."""

    read: int
    written: int
    told: bool = True
    """Whether these are all its tokens. If not, they are a lower bound."""


@runtime_checkable
class Drains(Protocol):
    """Has requests under way that are paid for, and can end its work without losing their answers."""

    def enough(self) -> None:
        """Start no further request of the call under way; those that were started are still answered."""
        ...


@dataclass
class Tally:
    """What was asked of one model."""

    calls: int = 0
    """Requests answered by an engine."""
    remembered: int = 0
    """Requests answered from the memo, or by another answer of the same call."""
    failed: int = 0
    """Requests without an answer, after the engine's own retries."""
    tokens_in: int = 0
    tokens_out: int = 0
    saved_in: int = 0
    """Tokens that the remembered answers took when they were first given."""
    saved_out: int = 0
    uncounted: int = 0
    """Answers whose tokens are not all known."""
    seconds: float = 0.0
    """Time between asking the engine and its last answer."""

    def plus(self, other: "Tally") -> "Tally":
        """Return the sum of both."""
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(Tally)))

    def less(self, before: "Tally") -> "Tally":
        """Return what came after `before`."""
        return Tally(*(getattr(self, one.name) - getattr(before, one.name) for one in fields(Tally)))


@dataclass
class Spend:
    """What engines were asked and answered so far: the one counter the memo adds to."""

    counts: Counter[str] = field(default_factory=Counter)
    """Of all models. Keys: `calls` (answered by an engine), `remembered` (by the memo), `tokens_in`, `tokens_out`."""
    models: dict[str, Tally] = field(default_factory=dict)
    """By what a model is served as."""
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By what a model is served as."""
    budgets: tuple[Budget, ...] = ()
    served: frozenset[str] = frozenset()
    """Models that somebody else runs, and may bill."""
    elsewhere: Callable[[], Mapping[str, Tally]] = dict
    """Says what other processes of this run counted so far, by model: budgets are for all of them together."""

    # counting

    def answered(self, model: str, tokens: Tokens, *, again: int = 0) -> None:
        """Count an answer of an engine that was asked for once, and stands for `again` further equal requests."""
        tally = self._of(model)
        tally.calls += 1
        tally.tokens_in += tokens.read
        tally.tokens_out += tokens.written
        tally.uncounted += not tokens.told
        self.counts["calls"] += 1
        self.counts["tokens_in"] += tokens.read
        self.counts["tokens_out"] += tokens.written
        self.remembered(model, tokens, again)

    def remembered(self, model: str, tokens: Tokens, times: int) -> None:
        """Count requests that cost nothing: their answer, which once took so many tokens, was known."""
        tally = self._of(model)
        tally.remembered += times
        tally.saved_in += times * tokens.read
        tally.saved_out += times * tokens.written
        self.counts["remembered"] += times

    def failed(self, model: str) -> None:
        """Count a request that has no answer."""
        self._of(model).failed += 1

    def waited(self, model: str, seconds: float) -> None:
        """Count time an engine took."""
        self._of(model).seconds += seconds

    def follow(self, models: Mapping[str, Tally]) -> None:
        """Take over what all workers of a run counted, this process included."""
        self.models.update({name: replace(tally) for name, tally in models.items()})
        for name in ("calls", "remembered", "tokens_in", "tokens_out"):
            self.counts[name] = sum(getattr(tally, name) for tally in self.models.values())

    def _of(self, model: str) -> Tally:
        return self.models.setdefault(model, Tally())

    def snapshot(self) -> dict[str, Tally]:
        """Return a copy of the counts of each model as they are now."""
        return {name: replace(tally) for name, tally in list(self.models.items())}

    def since(self, before: Mapping[str, Tally]) -> dict[str, Tally]:
        """Return what was counted of each model after a snapshot; models that nothing was asked of are left out."""
        found = {
            name: tally.less(before.get(name, Tally())) for name, tally in sorted(self.snapshot().items())
        }
        return {name: tally for name, tally in found.items() if tally != Tally()}

    # money

    def cost(self, models: Mapping[str, Tally] | None = None) -> Decimal | None:
        """Return the dollars spent on models that have a price; None if none of those asked has one."""
        asked = self.snapshot() if models is None else models
        known = [
            self.prices[name].of(tally.tokens_in, tally.tokens_out)
            for name, tally in asked.items()
            if name in self.prices
        ]
        return sum(known, Decimal(0)) if known else None

    def is_floor(self, models: Mapping[str, Tally]) -> bool:
        """Say whether the cost is a lower bound: some tokens are not known, or a model that may be billed has no price."""
        return any(
            (name in self.prices and tally.uncounted) or (name in self.served and name not in self.prices)
            for name, tally in models.items()
            if tally.calls
        )

    # budgets

    def serve(self, models: Collection[str]) -> None:
        """Note which models somebody else runs. Raises EngineError for a budget in dollars where one has no price.

        A model in this process that has no price is not counted by a budget in dollars of the whole run.
        """
        self.served = frozenset(models)
        for budget in self.budgets:
            asked = [budget.model] if budget.model else sorted(self.served)
            free = [name for name in asked if name not in self.prices]
            if budget.is_money and free:
                what = f"a budget of {budget} cannot hold: model '{free[0]}' has no price"
                raise EngineError(what, hint="say it in dollars per million tokens: --price NAME=IN/OUT")

    def check(self, model: str) -> None:
        """Raise BudgetError if nothing further may be asked of a model."""
        if error := self.reached(model):
            raise error

    def reached(self, model: str) -> BudgetError | None:
        """Return what to raise where a budget for a model, or for all of them, is spent."""
        everywhere = self._everywhere() if self.budgets else {}
        for budget in self.budgets:
            if budget.model not in ("", model):
                continue
            if model in self.served and everywhere.get(model, Tally()).uncounted:
                return _blind(budget, model)
            spent = self._spent(budget, everywhere)
            if spent >= budget.amount:
                return _over(budget, spent)
        return None

    def _everywhere(self) -> dict[str, Tally]:
        found, elsewhere = self.snapshot(), self.elsewhere()
        return {
            name: found.get(name, Tally()).plus(elsewhere.get(name, Tally())) for name in {*found, *elsewhere}
        }

    def _spent(self, budget: Budget, everywhere: Mapping[str, Tally]) -> Decimal:
        chosen = {name: tally for name, tally in everywhere.items() if budget.model in ("", name)}
        if budget.is_money:
            return self.cost(chosen) or Decimal(0)
        return Decimal(sum(tally.tokens_in + tally.tokens_out for tally in chosen.values()))


def read_price(text: str) -> Price:
    """Read a price as `IN/OUT`, dollars per million tokens. Raises PrefkitError."""
    parts = text.split("/")
    try:
        found = [Decimal(part.strip().removeprefix("$")) for part in parts]
    except InvalidOperation:
        found = []
    if len(found) != 2 or not all(each.is_finite() and each >= 0 for each in found):
        raise PrefkitError(
            f"'{text}' is no price", hint="dollars per million tokens read and written: 0.15/0.60"
        )
    return Price(found[0], found[1])


def read_budget(text: str, model: str = "") -> Budget:
    """Read a budget: `$5` or `5usd` in dollars; `2M`, `300k` or `5000tokens` in tokens. Raises PrefkitError."""
    found = _AMOUNT.fullmatch(text.strip())
    unit = found["unit"].lower() if found else ""
    is_money = found is not None and (found["sign"] == "$" or unit == "usd")
    if found is None or (found["sign"] and unit not in ("", "usd")) or not (is_money or unit):
        hint = "dollars: 5usd, or '$5' in quotes, which keep the shell away from it; tokens: 2M, 300k, 5000tokens"
        raise PrefkitError(f"'{text}' is no budget", hint=hint)
    amount = Decimal(found["number"])
    return Budget(amount if is_money else amount.scaleb(_SCALES[unit]), is_money, model)


def dollars(amount: Decimal) -> str:
    """Return an amount as people read it: to the cent, or to a hundredth of one where it is less than a dime."""
    if 0 < amount < _FINE:
        return f"<${_FINE}"
    return f"${amount.quantize(_FINE if 0 < amount < 10 * _CENT else _CENT):,}"


def _over(budget: Budget, spent: Decimal) -> BudgetError:
    of = f" for model '{budget.model}'" if budget.model else ""
    so_far = Budget(spent, budget.is_money)
    what = f"the budget of {budget}{of} is spent: {so_far} so far"
    hint = "what was answered is kept: the same command goes on from there, with its budget anew"
    return BudgetError(what, where="--budget", hint=hint)


def _blind(budget: Budget, model: str) -> BudgetError:
    what = f"a budget of {budget} cannot hold: the server of model '{model}' does not say how many tokens it took"
    return BudgetError(what, where="--budget", hint="build without a budget, or mend the server's `usage`")
