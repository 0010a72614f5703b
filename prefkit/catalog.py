"""Catalogs: from the word in a recipe to the class, and nothing registered on import.

Built-ins are explicit tables. Plug-ins are entry points of other packages, listed without being imported and loaded
when a recipe names them. A built-in cannot be shadowed, and two packages that offer one name are an error that names
both.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from prefkit.errors import PrefkitError

__all__ = ["Catalog", "resolve", "suggest"]

C = TypeVar("C")


class Catalog(Generic[C]):
    """Classes of one kind by the name recipes use. A built-in is a class, or `module:Class` to import when asked for."""

    def __init__(self, kind: str, group: str, builtin: Mapping[str, type[C] | str]) -> None:
        self.kind = kind
        self._group = group
        self._builtin = dict(builtin)

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for point in entry_points(group=self._group):
            other = found.get(point.name)
            if point.name in self._builtin or (other is not None and other.value != point.value):
                owner = "prefkit itself" if other is None else _owner(other)
                what = f"{self.kind} '{point.name}' is offered by both {owner} and {_owner(point)}"
                raise PrefkitError(what, hint="uninstall one of them")
            found[point.name] = point
        return found

    def names(self) -> Sequence[str]:
        """Return every name, built-ins first. Loads no plug-in."""
        return [*self._builtin, *sorted(self._plugins)]

    def get(self, name: str) -> type[C]:
        """Return the class for a name. Raises PrefkitError with the nearest name as hint."""
        if name in self._builtin:
            known = self._builtin[name]
            return resolve(known) if isinstance(known, str) else known
        if name in self._plugins:
            loaded: type[C] = self._plugins[name].load()
            return loaded
        hint = suggest(name, self.names()) or f"one of: {', '.join(self.names())}"
        raise PrefkitError(f"no {self.kind} is called '{name}'", hint=hint)

    def origin(self, name: str) -> str:
        """Return which distribution a name comes from: `prefkit`, `package version`, or none (`unnamed`), as in a script."""
        if name in self._builtin:
            return "prefkit"
        return _owner(self._plugins[name]) if name in self._plugins else "unnamed"


def resolve(home: str) -> Any:
    """Return what `module:Class` names."""
    module, _, name = home.partition(":")
    return getattr(import_module(module), name)


def suggest(word: str, known: Sequence[str]) -> str:
    """Return `did you mean 'x'?` for the nearest known word, or nothing."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def _owner(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
