"""Recall: what an engine with a memory would say without being asked again, and how to have it asked all the same.

A memory is what makes a build cheap to run again, and it stands in the way twice: an answer that nobody can read stays
what it was however often it is asked for, and an engine that is asked the same thing twice agrees with itself
whether or not it is repeatable.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

from prefkit.engines import Engine, Engines, Model, Request

__all__ = ["Recalls", "afresh", "recalled"]


@runtime_checkable
class Recalls(Protocol):
    """Gives an answer that it once had again, instead of asking for another one."""

    def recalled(self, model: Model, requests: Sequence[Request]) -> list[bool]:
        """Return which requests for text it has the answer to."""
        ...

    def afresh(self, name: str) -> Engine:
        """Return the same engine with a memory of its own, by this name, which holds nothing of what this one heard."""
        ...


def recalled(engines: Engines, model: Model, requests: Sequence[Request]) -> list[bool]:
    """Return which requests `generate` would answer with what was said before, and for free."""
    engine = engines.serving.get(model.served_as)
    return engine.recalled(model, requests) if isinstance(engine, Recalls) else [False] * len(requests)


def afresh(engines: Engines, name: str) -> Engines:
    """Return the engines with a memory of their own, so that what was asked before is asked once more."""
    serving = {
        model: engine.afresh(name) if isinstance(engine, Recalls) else engine
        for model, engine in engines.serving.items()
    }
    return replace(engines, serving=serving)
