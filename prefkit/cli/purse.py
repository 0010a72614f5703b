"""What models cost and what may be spent, from `--price`, `--prices` and `--budget`.

A price file has one line a model, by its id or by the name a recipe gives it, so that one file serves every recipe:

    org/model: 0.15/0.60
    judge: { in: 2.50, out: 10 }
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from prefkit.catalog import suggest
from prefkit.engines import Model
from prefkit.engines.spend import Budget, Price, Spend, read_budget, read_price
from prefkit.errors import PrefkitError, RecipeError
from prefkit.yaml_strict import MAX_BYTES, Node, parse

__all__ = ["Purse"]

T = TypeVar("T")


class Purse(NamedTuple):
    """The flags, as they were typed."""

    prices: Sequence[str] = ()
    """`NAME=IN/OUT`."""
    price_file: str = ""
    budgets: Sequence[str] = ()
    """`AMOUNT` for a run, or `NAME=AMOUNT` for a model."""

    def spend(self, models: Mapping[str, Model]) -> Spend:
        """Return the counter of a run of a recipe's models. Raises PrefkitError for what is no price or budget."""
        budgets = tuple(_budget(text, models) for text in self.budgets)
        return Spend(prices=self.priced(models), budgets=budgets)

    def priced(self, models: Mapping[str, Model]) -> dict[str, Price]:
        """Return the price of each model by what it is served as; a flag counts more than the file."""
        filed = _read_file(Path(self.price_file)) if self.price_file else {}
        found = {
            model.served_as: price
            for name, model in models.items()
            if (price := filed.get(name) or filed.get(model.served_as))
        }
        for text in self.prices:
            name, sign, amount = text.rpartition("=")
            if not sign:
                what = f"'{text}' is not NAME=IN/OUT"
                raise PrefkitError(what, where=f"--price {text}", hint="--price judge=0.15/0.60")
            found[_served(name, models, f"--price {text}")] = _placed(read_price, amount, f"--price {text}")
        return found


def _budget(text: str, models: Mapping[str, Model]) -> Budget:
    where = f"--budget {text}"
    name, sign, amount = text.rpartition("=")
    model = _served(name, models, where) if sign else ""
    return _placed(read_budget, amount, where)._replace(model=model)


def _placed(read_it: Callable[[str], T], text: str, where: str) -> T:
    """Read a value; an error says where it stands."""
    try:
        return read_it(text)
    except PrefkitError as error:
        raise PrefkitError(error.what, where=where, hint=error.hint) from error


def _served(name: str, models: Mapping[str, Model], where: str) -> str:
    if name in models:
        return models[name].served_as
    served = [model.served_as for model in models.values()]
    if name in served:
        return name
    hint = suggest(name, [*models, *served]) or f"models of the recipe: {', '.join(models) or 'none'}"
    raise PrefkitError(f"the recipe has no model '{name}'", where=where, hint=hint)


def _read_file(path: Path) -> dict[str, Price]:
    try:
        with path.open("rb") as file:
            document = parse(file.read(MAX_BYTES + 1), str(path))
    except OSError as error:
        what = f"cannot read the prices: {(error.strerror or str(error)).lower()}"
        raise PrefkitError(what, where=str(path), hint="--prices FILE, or PREFKIT_PRICES=FILE") from error
    if document.problems:
        raise RecipeError(document.problems)
    prices = document.root.value
    if not isinstance(prices, Mapping):
        raise PrefkitError(
            "the file holds no prices", where=str(path), hint="one line a model: judge: 0.15/0.60"
        )
    return {name: _price(node, f"{path}:{node.line}") for name, node in prices.items()}


def _price(node: Node, where: str) -> Price:
    value = node.value
    if isinstance(value, Mapping) and set(value) == {"in", "out"}:
        text = f"{_text(value['in'])}/{_text(value['out'])}"
    else:
        text = _text(node)
    return _placed(read_price, text, where)


def _text(node: Node) -> str:
    """Return a value as it is written."""
    return node.text or str(node.value)
