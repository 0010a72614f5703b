"""Replay: run a stage again on a few rows, with an engine that has nothing but its memory, and note what it asks.

Nothing is asked of a model, and nothing is written. Failures are never remembered, so a request that failed has no
answer here either, and its row fails again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from prefkit.engines import (
    Answers,
    Candidates,
    Completion,
    Conversation,
    Engines,
    Failure,
    LogProb,
    Model,
    Request,
    Spend,
)
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.thinned import Thinned
from prefkit.engines.weights import identity
from prefkit.errors import EngineError, PrefkitError
from prefkit.keys import models_in
from prefkit.manifest import Manifest
from prefkit.parts import STAGES
from prefkit.rng import child_id
from prefkit.stage import Context, Stage

__all__ = ["Asked", "Replayed", "Rerun", "asks_models", "rerun", "stage_of"]

A = TypeVar("A")
_FORGOTTEN = "nothing is remembered of this request"


class Asked(NamedTuple):
    """One request of a replay, and what is remembered of it."""

    model: Model
    method: str
    request: Any
    """A Request, a Conversation, a Thinned or a text."""
    answer: Any
    """A Failure where nothing is remembered."""


class Replayed(NamedTuple):
    """What a stage makes of some rows, with remembered answers alone."""

    kept: pa.Table
    dropped: pa.Table
    failed: pa.Table
    asked: tuple[Asked, ...]
    error: str = ""
    """Why the stage did not end; its tables are empty then."""


class Rerun(NamedTuple):
    """What a replay needs to know of a step."""

    stage: Stage
    manifest: Manifest
    memo: Memo
    folder: Path
    fingerprints: Mapping[str, str]
    """What log-probs of a model are filed under, by what it is served as, as far as the step's rows tell."""


def stage_of(manifest: Manifest) -> Stage:
    """Return the stage of a step with its settings. Raises PrefkitError where this prefkit has another one."""
    kind = STAGES.get(manifest.stage)
    if kind.version != manifest.version:
        what = f"stage '{manifest.stage}' has version {kind.version} now, and the step was made by {manifest.version}"
        raise PrefkitError(what)
    try:
        return kind.model_validate(manifest.config)
    except ValueError as error:
        raise PrefkitError(
            f"stage '{manifest.stage}' does not take the settings of the step any more"
        ) from error


def asks_models(stage: Stage) -> bool:
    """Say whether a stage asks models under its settings."""
    return stage.cost().calls > 0 and next(models_in(stage), None) is not None


def rerun(step: Rerun, rows: pa.Table) -> Replayed:
    """Run a step's stage on some of the rows it read."""
    log: list[Asked] = []
    serving = {model.served_as: _Recollection(step, model, log) for model in models_in(step.stage)}
    ctx = Context(seed=step.manifest.seed or 0, engines=Engines(serving), folder=step.folder)
    none = pa.table({})
    try:
        kept = step.stage(rows, ctx)
    except PrefkitError as error:
        return Replayed(none, none, none, tuple(log), error.what)
    except Exception as error:  # noqa: BLE001 - a few rows may be too few for a stage; the stored ones stand
        return Replayed(none, none, none, tuple(log), f"{type(error).__name__}: {error}")
    dropped, failed = (_joined(each) for each in (ctx.dropped, ctx.failed))
    return Replayed(kept, dropped, failed, tuple(log))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def _identity(step: Rerun, model: Model) -> str:
    """Return under which name the step's answers of a model are filed: those of the fake engine apart."""
    if step.manifest.made.engines.get(model.served_as, "").partition(" ")[0] == "fake":
        return child_id("fake", model.served_as, model.revision)
    return identity(model)


class _Recollection:
    """Every method of an engine, answered from memory and noted down."""

    def __init__(self, step: Rerun, model: Model, log: list[Asked], apart: str = "") -> None:
        self._step, self._model, self._log = step, model, log
        silent = _Silent(step.fingerprints)
        self._memory = Remembering(silent, step.memo, Spend(), lambda one: _identity(step, one), apart=apart)

    def afresh(self, name: str) -> "_Recollection":
        return _Recollection(self._step, self._model, self._log, name)

    def recalled(self, model: Model, requests: Sequence[Request]) -> list[bool]:
        return self._memory.recalled(model, requests)

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:
        return self._noted("generate", model, requests, self._memory.generate(model, requests))

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:
        return self._noted("log-probs", model, conversations, self._memory.log_probs(model, conversations))

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:
        return self._noted("rewards", model, conversations, self._memory.rewards(model, conversations))

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:
        return self._noted("thinned-rewards", model, passes, self._memory.thinned_rewards(model, passes))

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:
        return self._noted("embed", model, texts, self._memory.embed(model, texts))

    def next_tokens(
        self,
        model: Model,  # noqa: ARG002
        conversations: Sequence[Conversation],  # noqa: ARG002
        wanted: int | Sequence[np.ndarray],  # noqa: ARG002
    ) -> Answers[Candidates]:
        raise EngineError("what a model thinks of further tokens is not remembered")

    def vocabulary(self, model: Model) -> str:  # noqa: ARG002
        raise EngineError("the vocabulary of a model is not remembered")

    def fingerprint(self, model: Model) -> str:
        return self._memory.fingerprint(model)

    def _noted(self, method: str, model: Model, requests: Sequence[Any], answers: Answers[A]) -> Answers[A]:
        found = dict(answers)
        for at, request in enumerate(requests):
            self._log.append(Asked(model, method, request, found[at]))
        yield from found.items()


class _Silent:
    """An engine that knows no answer."""

    def __init__(self, fingerprints: Mapping[str, str]) -> None:
        self._fingerprints = fingerprints

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:  # noqa: ARG002
        return _nothing(requests)

    def log_probs(self, model: Model, conversations: Sequence[Conversation]) -> Answers[LogProb]:  # noqa: ARG002
        return _nothing(conversations)

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:  # noqa: ARG002
        return _nothing(conversations)

    def thinned_rewards(self, model: Model, passes: Sequence[Thinned]) -> Answers[tuple[float, ...]]:  # noqa: ARG002
        return _nothing(passes)

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:  # noqa: ARG002
        return _nothing(texts)

    def fingerprint(self, model: Model) -> str:
        if model.served_as not in self._fingerprints:
            raise EngineError(f"the step's rows do not say which log-probs of '{model.served_as}' they have")
        return self._fingerprints[model.served_as]


def _nothing(requests: Sequence[object]) -> Iterator[tuple[int, Failure]]:
    return ((at, Failure(_FORGOTTEN)) for at in range(len(requests)))
