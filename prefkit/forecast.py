"""Forecast: what a step would take of models, said before any of them is asked.

Nothing here is exact, so each figure says what it is based on. Best is what the memo holds: the stage is tried on a few
rows spread over its input, with an engine that knows only remembered answers, which tells what share of the requests is
free, how long the prompts are, and how long the answers were. Next best is what the same stage and model took in an
earlier build. Otherwise prompts are taken at four bytes a token and answers for as long as they may be. How fast a
model answers is known from earlier builds alone. What failed attempts will take is never known.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from prefkit import sources
from prefkit.engines import Answers, Completion, Conversation, Engine, Engines, Failure, Model, Request, Spend
from prefkit.engines.memo import Memo, Remembering
from prefkit.engines.spend import Price, Tally
from prefkit.engines.weights import identity
from prefkit.errors import PrefkitError
from prefkit.keys import models_in, stage_key
from prefkit.manifest import Manifest, Shard, Used
from prefkit.recipe import Recipe
from prefkit.stage import Context, Stage
from prefkit.store import Store

__all__ = ["Forecast", "Measured", "Trial", "forecast", "head_of", "left", "measured", "spread", "try_out"]

_BYTES_A_TOKEN = 4
"""Of UTF-8: about right for English, and for scripts of two or three bytes a character better than characters are."""
_TRIED_ROWS = 256
_TRIED_SHARDS = 4
"""Opening one checks its content: 20 MB take 20 ms."""
_HEAD_ROWS = 64
_ENOUGH_ANSWERS = 8
"""Remembered answers from which a mean length is taken."""


class Measured(NamedTuple):
    """What a stage took of a model in an earlier build."""

    run: str
    used: Used


class Trial(NamedTuple):
    """A stage tried on some rows, with remembered answers alone."""

    rows: int
    tally: Tally
    """`failed` are the requests that nothing is remembered of."""
    bytes: int
    """Of text in those requests."""
    from_memo: bool
    """Whether the rows are spread over the input, so that the share of remembered answers means something."""


class Forecast(NamedTuple):
    """About what a step takes."""

    calls: int
    """Requests that an engine has to answer."""
    tokens_out: int
    remembered: int | None = None
    """Requests that are free; None if not looked up."""
    tokens_in: int | None = None
    dollars: Decimal | None = None
    seconds: float | None = None
    basis: tuple[str, ...] = ()


class _Each(NamedTuple):
    """What one call takes of one model."""

    tokens_in: float | None
    tokens_out: float
    seconds: float | None


def forecast(
    stage: Stage,
    calls: int,
    tokens_out: int,
    prices: Mapping[str, Price],
    known: Mapping[tuple[str, str], Measured],
    trial: Trial | None,
) -> Forecast:
    """Return what so many requests would take, of which each answer is at most `tokens_out / calls` long.

    A stage with several models is taken to ask each of them as often.
    """
    models = list(dict.fromkeys(model.served_as for model in models_in(stage)))
    if not calls or not models:
        return Forecast(calls, tokens_out)
    basis: list[str] = []
    free = _free(calls, trial, basis)
    share = (calls - (free or 0)) / len(models)
    each = {model: _each(stage, model, tokens_out / calls, known, trial, basis) for model in models}
    cost = [
        prices[model].of(round(share * one.tokens_in), round(share * one.tokens_out))
        for model, one in each.items()
        if model in prices and one.tokens_in is not None
    ]
    return Forecast(
        calls - (free or 0),
        round(sum(share * one.tokens_out for one in each.values())),
        free,
        _sum([None if one.tokens_in is None else share * one.tokens_in for one in each.values()]),
        sum(cost, Decimal(0)) if len(cost) == len(models) else None,
        _sum_seconds([None if one.seconds is None else share * one.seconds for one in each.values()]),
        tuple(dict.fromkeys(basis)),
    )


def _free(calls: int, trial: Trial | None, basis: list[str]) -> int | None:
    """Return how many of the requests are remembered, None if not looked up."""
    asked = trial.tally.remembered + trial.tally.failed if trial is not None else 0
    if trial is None or not trial.from_memo or not asked:
        basis.append("remembered answers are not looked up, and may make it less")
        return None
    basis.append(f"remembered answers as for {trial.rows:,} rows spread over the input")
    return round(calls * trial.tally.remembered / asked)


def _each(
    stage: Stage,
    model: str,
    longest: float,
    known: Mapping[tuple[str, str], Measured],
    trial: Trial | None,
    basis: list[str],
) -> _Each:
    """Return what one call takes of a model, from the best there is, and say what that is."""
    earlier, written = known.get((stage.name, model)), ", answers as long as they may be" if longest else ""
    seconds = earlier.used.seconds / earlier.used.calls if earlier else None
    if trial is not None and trial.tally.remembered >= _ENOUGH_ANSWERS and trial.tally.saved_in:
        count = trial.tally.remembered
        basis.append("tokens as in the answers that are remembered")
        found = _Each(trial.tally.saved_in / count, trial.tally.saved_out / count, seconds)
    elif earlier is not None and earlier.used.tokens_in and not earlier.used.uncounted:
        count = earlier.used.calls
        basis.append(f"tokens as measured in run '{earlier.run}'")
        found = _Each(earlier.used.tokens_in / count, earlier.used.tokens_out / count, seconds)
    elif trial is not None and trial.tally.failed:
        size = trial.bytes / trial.tally.failed / _BYTES_A_TOKEN
        basis.append(f"prompts as in {trial.rows:,} rows, at {_BYTES_A_TOKEN} bytes a token{written}")
        found = _Each(size, longest, seconds)
    else:
        basis.append(f"how long prompts are is not known yet{written}")
        found = _Each(None, longest, seconds)
    if earlier is not None:
        basis.append(f"time as measured in run '{earlier.run}'")
    return found


def _sum(values: Sequence[float | None]) -> int | None:
    found = _sum_seconds(values)
    return None if found is None else round(found)


def _sum_seconds(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


# what is known


def measured(store: Store, run: str) -> dict[tuple[str, str], Measured]:
    """Return what each stage took of each model, in this run or else in another one of the store."""
    found: dict[tuple[str, str], Measured] = {}
    runs = store.runs()
    for name in [run] * (run in runs) + [each for each in runs if each != run]:
        for ref in store.refs(name):
            manifest = store.step(ref.key)
            for model, used in manifest.made.models.items() if manifest else ():
                if used.calls:
                    found.setdefault((manifest.stage if manifest else "", model), Measured(name, used))
    return found


def left(stage: Stage, seed: int, before: Manifest, store: Store, folder: Path = Path()) -> list[Shard]:
    """Return the shards of the input whose part does not stand. Paths in settings are relative to `folder`."""
    if stage.scope() == "global":
        return list(before.shards)
    keys = [stage_key(stage, seed, [shard.digest], (), folder) for shard in before.shards]
    parts = store.parts(keys)
    return [
        shard
        for shard, key in zip(before.shards, keys, strict=True)
        if key not in parts or parts[key].rows.failed
    ]


def spread(store: Store, shards: Sequence[Shard]) -> pa.Table:
    """Return a few rows spread evenly over a few of the shards, themselves spread evenly."""
    chosen = [shards[at] for at in _even(len(shards), _TRIED_SHARDS)]
    share = _TRIED_ROWS // len(chosen)
    return pa.concat_tables([table.take(_even(len(table), share)) for table in map(store.get, chosen)])


def _even(count: int, wanted: int) -> np.ndarray:
    return (
        np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64)) if count else np.arange(0)
    )


def head_of(recipe: Recipe) -> pa.Table | None:
    """Return the first rows of the data, where they are in a file here and cheap to read."""
    source = recipe.data[0]
    if source.file is None or source.join is not None:
        return None
    take = min(_HEAD_ROWS, source.take or _HEAD_ROWS)
    try:
        batches = list(sources.read(source.model_copy(update={"take": take}), recipe.folder))
    except PrefkitError:
        return None
    return pa.concat_tables([batch.table for batch in batches]) if batches else None


def try_out(
    stage: Stage, table: pa.Table, seed: int, store: Store | None, folder: Path = Path()
) -> Trial | None:
    """Try a stage that takes each row on its own with remembered answers alone. None if that cannot be done.

    Without a store nothing is looked up. Paths in settings are relative to `folder`. Loads no model.
    """
    if stage.scope() != "map" or not table.num_rows or not set(stage.reads()) <= set(table.column_names):
        return None
    weighing, spend = _Weighing(), Spend()
    try:
        memo = Memo(Path() if store is None else store.answers(), read_only=True)
        engine: Engine = Remembering(weighing, memo, spend, identity)
        engines = Engines({model.served_as: engine for model in models_in(stage)}, spend)
        stage(table, Context(seed=seed, engines=engines, folder=folder))
    except Exception:  # noqa: BLE001 - only an estimate; the build says what is wrong
        return None
    tally = Tally()
    for one in spend.snapshot().values():
        tally = tally.plus(one)
    return Trial(table.num_rows, tally, weighing.bytes, store is not None)


class _Weighing:
    """Generates, Rewards and Embeds, without any answer: it weighs what it is asked."""

    def __init__(self) -> None:
        self.bytes = 0

    def generate(self, model: Model, requests: Sequence[Request]) -> Answers[Completion]:  # noqa: ARG002
        """Weigh the prompts."""
        return self._none([[turn.content for turn in one.messages] + [one.tools] for one in requests])

    def rewards(self, model: Model, conversations: Sequence[Conversation]) -> Answers[tuple[float, ...]]:  # noqa: ARG002
        """Weigh the conversations."""
        asked = [[turn.content for turn in (*one.prompt, *one.response)] for one in conversations]
        return self._none(asked)

    def embed(self, model: Model, texts: Sequence[str]) -> Answers[tuple[float, ...]]:  # noqa: ARG002
        """Weigh the texts."""
        return self._none([[text] for text in texts])

    def _none(self, asked: Sequence[Sequence[str | None]]) -> Answers[Any]:
        for position, texts in enumerate(asked):
            self.bytes += sum(len((text or "").encode("utf-8", "replace")) for text in texts)
            yield position, Failure("nothing is asked")
