"""Building and training as the command line does them: placement from flags, progress on stderr."""

from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from prefkit.cli.out import say
from prefkit.cli.progress import Progress
from prefkit.cli.purse import Purse
from prefkit.engines import Spend
from prefkit.engines.placement import Placement, open_engines
from prefkit.errors import GateError, PrefkitError
from prefkit.events import training as tell_training
from prefkit.executors.work import Executor
from prefkit.gates.verdict import announce
from prefkit.holding import bytes_of
from prefkit.identity import canonical, hash_json
from prefkit.recipe import Recipe
from prefkit.run import Build, Settings
from prefkit.run import build as run_build
from prefkit.steps import Keep
from prefkit.store import Store
from prefkit.train.settings import TrainPlacement, TrainSettings

if TYPE_CHECKING:
    from prefkit.train.run import Event, TrainResult

__all__ = ["Trained", "build_recipe", "paths", "placement", "train_placement", "train_recipe"]


def build_recipe(
    path: str,
    sets: Sequence[str] | None,
    store: str,
    place: Placement,
    executor: Executor,
    purse: Purse | Spend,
    until: str = "",
    refresh: Sequence[str] | None = None,
    keep: str = "",
    memory: str = "",
) -> Build:
    """Load a recipe, check it as a whole, and build what is missing, counting what models take."""
    from prefkit.plan import plan

    recipe = Recipe.load(path, sets or ())
    spend = purse if isinstance(purse, Spend) else purse.spend(recipe.models)
    plan(recipe, Store(store))
    fresh = tuple(refresh or ())
    try:
        with Progress(spend) as progress:
            settings = Settings(
                place, executor.jobs, until=until, refresh=fresh, progress=progress, spend=spend
            )
            settings = settings._replace(
                executor=executor, keep=_kept(keep), memory=bytes_of(memory) if memory else None
            )
            made = run_build(recipe, Store(store), settings)
    except GateError as error:
        _warn(error.build)
        raise
    _warn(made)
    return made


def _kept(rows: str) -> Keep:
    """Return whose rows stay, from `--keep`."""
    known: dict[str, Keep] = {"": "new", "last": "last", "all": "all"}
    if rows not in known:
        raise PrefkitError(f"'{rows}' is not 'last' or 'all'", where=f"--keep {rows}", hint="--keep last")
    return known[rows]


def _warn(made: Build | None) -> None:
    """Say which gates mark the card, so that nobody has to read it to know."""
    if made is not None and (lines := list(announce(made.gates))):
        say("", *lines)


def placement(engines: Sequence[str] | None, device: str, concurrency: int, timeout: float) -> Placement:
    """Return where models run, from `--engine NAME=ENGINE`, `--device`, `--concurrency` and `--timeout`."""
    placed = {}
    for text in engines or ():
        name, sign, engine = text.partition("=")
        if not sign or not name or not engine:
            what = f"'{text}' is not NAME=ENGINE"
            raise PrefkitError(what, where=f"--engine {text}", hint="--engine judge=http://localhost:8000/v1")
        placed[name] = engine
    return Placement(engines=placed, device=device, concurrency=concurrency, timeout=timeout)


def train_placement(**flags: object) -> TrainPlacement:
    """Return where and how fast training runs. Raises PrefkitError for a flag with a value it does not have."""
    try:
        return TrainPlacement.model_validate(flags)
    except ValidationError as error:
        wrong = error.errors()[0]
        flag = str(wrong["loc"][0]).replace("_", "-")
        what = f"'{wrong['input']}' is no value of the flag: {wrong['msg'].lower()}"
        raise PrefkitError(what, where=f"--{flag}", hint="prefkit train --help") from error


def paths(build: Build) -> Iterator[Path]:
    """Yield the files of the dataset: the shards of the last step, in order."""
    for shard in build.last.shards:
        yield build.store.path(shard)


class Trained(NamedTuple):
    """A training run and what was written about it."""

    build: Build
    result: "TrainResult"
    card: Path
    report: Path
    first: bool
    """Whether this process is the one of several that speaks."""


def train_recipe(
    path: str,
    sets: Sequence[str] | None,
    store: str,
    answering: Placement,
    executor: Executor,
    place: TrainPlacement,
    purse: Purse,
    memory: str = "",
) -> Trained:
    """Build what is missing, train on the last step, and leave the run in the store's folder.

    Under `torchrun`, rank 0 builds and writes, and the others help with the steps.
    """
    recipe = Recipe.load(path, sets or ())
    if recipe.train is None:
        hint = "add to the recipe: train: { model: policy, objective: dpo }"
        raise PrefkitError("the recipe has no `train:`, so there is nothing to train", where=path, hint=hint)

    from prefkit.train.ranks import joined

    spend = purse.spend(recipe.models)

    with joined(place.device) as ranks:
        if ranks.rank == 0:
            done = build_recipe(path, sets, store, answering, executor, spend, memory=memory)
            ranks.wait()
            return _train(recipe, recipe.train, done, answering, place, spend)
        ranks.wait()
        with redirect_stderr(StringIO()):  # everything is built; only one of the ranks says so
            done = build_recipe(path, sets, store, answering, executor, spend, memory=memory)
            trained = _train(recipe, recipe.train, done, answering, place, spend, first=False)
    return trained


def _train(
    recipe: Recipe,
    settings: TrainSettings,
    done: Build,
    engines: Placement,
    place: TrainPlacement,
    spend: Spend,
    *,
    first: bool = True,
) -> Trained:
    from transformers.utils import logging

    from prefkit.card import save_report, write_card
    from prefkit.page import write_report
    from prefkit.train import train

    logging.disable_progress_bar()  # bars for shards that take milliseconds; downloads keep theirs
    # One folder for each thing that can be asked for, so that a changed setting never meets an older run.
    asked = hash_json({"settings": canonical(settings), "rows": done.last.digest})
    out = done.store.root / "trained" / f"{recipe.name}-{asked[:8]}"
    answering = open_engines(recipe.models, engines, done.store.answers(), spend=spend)
    card, report = out / "card.md", out / "report.html"
    with done.store.synced(out, send=first), Progress(spend) as progress:

        def tell(event: "Event") -> None:
            note = f"loss {event.metrics['loss']:.4f}" if "loss" in event.metrics else ""
            progress.track(event.phase, event.done, event.total, note)
            tell_training("", event.phase, event.done, event.total, event.metrics)

        result = train(settings, done.table, out=out, placement=place, engines=answering, progress=tell)
        if first:
            save_report(done.store, recipe.name, done.last.digest, result.report)
            write_card(done.store, recipe.name, card)
            write_report(done.store, recipe.name, report)
    return Trained(done, result, card, report, first)
