"""Run a recipe: make what is missing, step by step, and nothing twice.

A step is looked up by its key, which hashes what the stage does and the content it reads; so an upstream change that
does not change the rows costs nothing downstream. A missing step is made part by part, and parts that already stand
are used. An object that turns out damaged is discarded and whatever made it runs again. Kill it anywhere: the next
build goes on from the last finished part, and no engine answer that was recorded is asked for again.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from prefkit.catalog import suggest
from prefkit.errors import GateError, PrefkitError, StoreError
from prefkit.events import build_done, build_started, object_damaged, step_cached, step_done, step_started
from prefkit.executors.local import Local
from prefkit.executors.workers import kept_workers
from prefkit.gates.verdict import Result, gated, stopping
from prefkit.keys import faked, source_key, stage_key
from prefkit.manifest import Manifest
from prefkit.recipe import Recipe
from prefkit.standing import mark_whole, remove_rows, standing
from prefkit.steps import Event, Settings, Step, make_source, make_stage
from prefkit.store import DamagedError, Store
from prefkit.timing import Stopwatch

__all__ = ["Build", "Event", "Settings", "build", "make"]

_REPAIRS = 25
"""Damaged objects mended in one build before it gives up: more than that is a broken disk, not bad luck."""


@dataclass(frozen=True)
class Build:
    """A finished build: the recipe and the manifest of every step, by name, in order."""

    recipe: Recipe
    store: Store
    steps: Mapping[str, Manifest]

    def __getitem__(self, name: str) -> pa.Table:
        """Return the rows of a step (`05-pair` or `pair`), memory-mapped."""
        return self.store.table(self.steps[_find(name, list(self.steps))])

    @property
    def last(self) -> Manifest:
        """The manifest of the last step."""
        return list(self.steps.values())[-1]

    @property
    def gates(self) -> list[Result]:
        """What the gates find (`prefkit.gates`), from manifests alone. A build that ended early is not gated."""
        is_whole = len(self.steps) == 1 + len(self.recipe.build)
        return gated(self.steps, self.recipe.fail_if) if is_whole else []

    @property
    def table(self) -> pa.Table:
        """The rows of the last step, memory-mapped."""
        return self.store.table(self.last)


def build(recipe: Recipe, store: Store, settings: Settings | None = None) -> Build:
    """Make every missing step of a recipe and return the build.

    Raises PrefkitError of the kind that fits; whatever was finished stays, so the next call goes on from there.
    GateError is one of them: everything is built, and `error.build` is what this would have returned.
    """
    made = make(recipe, store, settings)
    if problems := stopping(made.gates, recipe.name):
        raise GateError(problems, recipe.name, made)
    return made


def make(recipe: Recipe, store: Store, settings: Settings | None = None) -> Build:
    """Make every missing step of a recipe and return the build, whatever its gates find."""
    settings = settings or Settings()
    names = ["00-data", *recipe.step_names()]
    if settings.until:
        names = names[: names.index(_find(settings.until, names)) + 1]
    fresh = {_find(name, names) for name in settings.refresh}
    rows = _Rows(store, set(names if settings.keep == "all" else names[-1:]), set())
    watch = Stopwatch()
    build_started(recipe, store, settings.placement, names, settings.jobs)
    with store.locked(), _executed(settings) as settings:
        for _ in range(_REPAIRS + len(names)):
            try:
                made = _walk(recipe, store, settings, names, fresh, rows)
                build_done(recipe, made.last, watch.seconds)
            except _MissingRows as missing:
                rows.wanted.add(missing.step)
            except DamagedError as error:
                object_damaged(error)
                store.discard(error.shard)
            else:
                return made
    hint = "check the disk, or give another --store"
    raise StoreError(f"more than {_REPAIRS} objects were damaged", where=store.shown, hint=hint)


@contextmanager
def _executed(settings: Settings) -> Iterator[Settings]:
    """Give settings whose worker processes, if it is local ones, stay for the whole build."""
    executor = settings.executor or Local(settings.jobs)
    if not isinstance(executor, Local) or executor.workers is not None:
        yield settings
        return
    with kept_workers(None) as workers:
        yield settings._replace(executor=executor._replace(workers=workers))


def _walk(
    recipe: Recipe, store: Store, settings: Settings, names: Sequence[str], fresh: set[str], rows: "_Rows"
) -> Build:
    done: dict[str, Manifest] = {}
    fakes = faked(recipe.models, settings.placement.engines)
    before: Manifest | None = None
    for name, stage in zip(names, [None, *recipe.build], strict=False):
        if stage is None or before is None:
            key = source_key(recipe.data, recipe.folder, store)
        else:
            key = stage_key(stage, recipe.seed, [before.digest], fakes, recipe.folder)
        step = Step(name, key, recipe, store, settings, name in fresh)
        manifest = _standing(step, rows)
        if manifest is None:
            if before is not None and not rows.there(before):
                raise _MissingRows(list(done)[-1])
            again = store.step(key) is not None
            step_started(name, key, before.rows.kept if before else 0, again=again)
            manifest = (
                make_source(step) if stage is None or before is None else make_stage(step, stage, before)
            )
            store.save_step(manifest)
            mark_whole(store, manifest)
            fresh.discard(name)
            step_done(name, manifest)
        done[name] = manifest
        keys = {each: made.key for each, made in done.items()}
        store.save_refs(recipe.name, keys, recipe.described(), first=len(keys) < 1 + len(recipe.build))
        if settings.keep == "last" and before is not None and rows.there(manifest):
            remove_rows(store, recipe.name, before, manifest)
        before = manifest
    made = Build(recipe, store, done)
    for shard in made.last.shards:
        store.get(shard)  # the dataset is checked against its digest before anyone trains on it
    return made


class _MissingRows(Exception):  # noqa: N818 - not an error: the walk begins again and makes them
    """A step has to be made, and the rows it reads were removed."""

    def __init__(self, step: str) -> None:
        super().__init__(step)
        self.step = step


class _Rows(NamedTuple):
    """Which rows a build cannot do without, and what it has told."""

    store: Store
    wanted: set[str]
    """Steps whose rows are made again if they were removed: the last one, and those that a missing step reads."""
    told: set[str]
    """Steps that were said to stand: a walk may begin more than once."""

    def there(self, manifest: Manifest) -> bool:
        return all(map(self.store.has, manifest.shards))


def _standing(step: Step, rows: _Rows) -> Manifest | None:
    found = None if step.fresh else standing(step.store, step.key)
    if found is None or (not found.whole and step.name in rows.wanted):
        return None
    if step.name not in rows.told:
        rows.told.add(step.name)
        manifest = found.manifest
        step_cached(step.name, manifest)
        step.settings.progress(Event(step.name, "cached", manifest.rows.kept, manifest.rows.read))
    return found.manifest


def _find(name: str, names: Sequence[str]) -> str:
    """Return the step that `05-pair` or `pair` names; of several stages of one name, the last."""
    matching = [step for step in names if name in (step, step.partition("-")[2])]
    if not matching:
        hint = (
            suggest(name, [*names, *(step.partition("-")[2] for step in names)])
            or f"steps: {', '.join(names)}"
        )
        raise PrefkitError(f"the recipe has no step '{name}'", hint=hint)
    return matching[-1]
