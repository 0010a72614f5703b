"""Steps: make the rows of one step of a recipe, from its source or from the step before, and say how it went."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa

from prefkit import sources
from prefkit.counting import Counted, Counting, counting
from prefkit.engines import Engines, Spend
from prefkit.engines.placement import Placement
from prefkit.errors import EngineError
from prefkit.events import part_done
from prefkit.executors.calls import Calls
from prefkit.executors.local import Local
from prefkit.executors.work import Executor, Work
from prefkit.executors.workers import Workers
from prefkit.holding import refuse_above
from prefkit.identity import canonical
from prefkit.keys import faked, models_in, stage_key
from prefkit.manifest import Made, Manifest, Part, Rows, Shard
from prefkit.parts import Task, made_now, sum_made
from prefkit.recipe import Recipe
from prefkit.shards import SHARD_ROWS
from prefkit.stage import Stage, level_of
from prefkit.standing import take_back
from prefkit.store import Store
from prefkit.streaming import Here
from prefkit.timing import Stopwatch, added

__all__ = ["Event", "Keep", "Settings", "Step", "make_source", "make_stage"]


class Event(NamedTuple):
    """Something a progress display may show."""

    step: str
    """`05-pair`."""
    state: Literal["cached", "start", "part", "done"]
    rows: int
    """Rows read so far in this step; rows kept once it is cached or done."""
    total: int
    """Rows the step will read; 0 if not known."""


def _silent(event: Event) -> None:
    """Show nothing."""


Keep = Literal["new", "last", "all"]
"""Whose rows stay.

new     those of every step that is made; what was removed earlier is made again only where it is needed
last    those of the last step; the others go as soon as the next step stands, but for what other runs need
all     those of every step, made again where they were removed
"""


class Settings(NamedTuple):
    """Where and how fast: nothing here changes a result."""

    placement: Placement = Placement()
    jobs: int = 1
    shard_rows: int = SHARD_ROWS
    until: str = ""
    """Stop after this step: `05-pair` or `pair`."""
    refresh: tuple[str, ...] = ()
    """Steps to make anew even if they stand, asking models again."""
    progress: Callable[[Event], None] = _silent
    spend: Spend | None = None
    """What counts for the whole run, with its prices and budgets; None counts each step apart."""
    keep: Keep = "new"
    executor: Executor | None = None
    """What makes the parts; None makes them on this machine, in `jobs` worker processes."""
    memory: int | None = None
    """Bytes that a global step may hold; None allows four fifths of what the machine has."""


class Step(NamedTuple):
    """What making a step needs to know."""

    name: str
    key: str
    recipe: Recipe
    store: Store
    settings: Settings
    fresh: bool = False
    """Whether to make it anew, parts and answers included."""


def make_source(step: Step) -> Manifest:
    """Read the recipe's data into shards, the rows that cannot be read aside."""
    watch, recipe, store, tell = Stopwatch(), step.recipe, step.store, step.settings.progress
    tell(Event(step.name, "start", 0, 0))
    if step.settings.executor is not None:
        step.settings.executor.begin()
    schema = sources.unify(
        [sources.peek(source, recipe.folder, store.columns).schema for source in recipe.data]
    )
    rows, read = step.settings.shard_rows, _Read([], [], Counter())
    with store.workspace() as work:
        try:
            tables = sources.passed_through(_batches(step, work, read), schema, rows, read.notes)
            counted = _file(step, watch, tables, read)
        except sources.ScatteredError:
            take_back(store, read.shards)  # few where many prompts come back: the first of them does so early
            read = _Read([], [], Counter())
            tables = sources.gather(_batches(step, work, read), schema, work, rows, read.notes)
            counted = _file(step, watch, tables, read)
    shards, bad, notes = read
    aside = [store.put(pa.concat_tables(bad))] if bad else []
    kept, dropped = _rows(shards), _rows(aside)
    for table in bad:
        notes.update(f"dropped/{reason}" for reason in table["reason"].to_pylist())
    done = _Done(
        tuple(shards),
        tuple(aside),
        (),
        Rows(read=kept + dropped, kept=kept, dropped=dropped),
        notes,
        made_now(watch, Engines(), {}, "prefkit"),
        counted,
    )
    config = {"data": [sources.portable(source) for source in recipe.data]}
    tell(Event(step.name, "done", kept, kept + dropped))
    return _manifest(
        step, done, {"stage": "data", "version": sources.VERSION, "kind": "source", "config": config}
    )


class _Read(NamedTuple):
    shards: list[Shard]
    bad: list[pa.Table]
    notes: Counter[str]


def _file(step: Step, watch: Stopwatch, tables: Iterator[pa.Table], read: _Read) -> Counted:
    """File all rows as shards, and count them."""
    count = 0
    with _counting(step) as counts:
        for table in tables:
            watch.lap("reading")
            read.shards.append(step.store.put(table))
            watch.lap("filing")
            counts.add(read.shards[-1])
            watch.lap("counting")
            count += table.num_rows
            step.settings.progress(Event(step.name, "part", count, 0))
        watch.lap("reading")
        counted = counts.result()
    watch.lap("counting")
    return counted


def make_stage(step: Step, stage: Stage, before: Manifest) -> Manifest:
    """Make what a stage makes of the step before, part by part, using the parts that stand."""
    tell, watch = step.settings.progress, Stopwatch()
    tell(Event(step.name, "start", 0, before.rows.kept))
    with _counting(step) as counts:
        parts = _parts(step, stage, before, counts)
        pa.default_memory_pool().release_unused()  # what making the rows took is not needed to count them
        counted = counts.result()
    notes: Counter[str] = Counter()
    for part in parts:
        notes.update(part.notes)
    made = sum_made(parts)
    timing = added([made.timing, counts.timing], watch.seconds)
    done = _Done(
        tuple(shard for part in parts for shard in part.outputs),
        tuple(part.dropped for part in parts if part.dropped),
        tuple(part.failed for part in parts if part.failed),
        Rows(**{name: sum(getattr(part.rows, name) for part in parts) for name in Rows.model_fields}),
        notes,
        made.model_copy(update={"timing": timing}),
        counted,
    )
    tell(Event(step.name, "done", done.rows.kept, before.rows.kept))
    what = {"stage": stage.name, "version": stage.version, "kind": stage.scope(), "config": canonical(stage)}
    seed = step.recipe.seed if stage.draws() else None
    return _manifest(step, done, {**what, "seed": seed, "input": before.digest})


class _Done(NamedTuple):
    shards: tuple[Shard, ...]
    dropped: tuple[Shard, ...]
    failed: tuple[Shard, ...]
    rows: Rows
    notes: Mapping[str, int]
    made: Made
    counted: Counted


def _manifest(step: Step, done: _Done, what: Mapping[str, object]) -> Manifest:
    schema = step.store.get(done.shards[0]).schema
    fields = {
        "seed": None,
        "input": None,
        **what,
        "key": step.key,
        "level": level_of(schema),
        "digest": done.counted.digest,
        "columns": tuple((column.name, str(column.type)) for column in schema),
        "shards": done.shards,
        "dropped": done.dropped,
        "failed": done.failed,
        "rows": done.rows,
        "drops": _sorted({n.removeprefix(_DROP): c for n, c in done.notes.items() if n.startswith(_DROP)}),
        "notes": _sorted({n: c for n, c in done.notes.items() if not n.startswith(_DROP)}),
        "statistics": done.counted.statistics,
        "made": done.made,
    }
    return Manifest.model_validate(fields)


_DROP = "dropped/"


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _batches(step: Step, work: Path, read: _Read) -> Iterator[pa.Table]:
    for source in step.recipe.data:
        for batch in _batches_of(source, step, work):
            read.notes.update(batch.notes)
            if batch.bad.num_rows:
                read.bad.append(batch.bad)
            yield batch.table


def _batches_of(source: sources.Source, step: Step, work: Path) -> Iterator[sources.Batch]:
    folder, jobs = step.recipe.folder, _cores(step.settings)
    if jobs > 1 and sources.can_be_apart(source, folder):
        return sources.read_apart(source, folder, work, Calls(jobs, _workers(step.settings)))
    return sources.read(source, folder, step.store.read_ref)


def _workers(settings: Settings) -> Workers | None:
    return settings.executor.workers if isinstance(settings.executor, Local) else None


def _cores(settings: Settings) -> int:
    """Return how many cores of this machine a build may use."""
    return settings.jobs if settings.executor is None else settings.executor.jobs


def _parts(step: Step, stage: Stage, before: Manifest, counts: Counting) -> list[Part]:
    """Return the part of every task in order, made or found, and have their rows counted."""
    groups = [before.shards] if stage.scope() == "global" else [(shard,) for shard in before.shards]
    fakes = faked(step.recipe.models, step.settings.placement.engines)
    seed, folder = step.recipe.seed, step.recipe.folder
    tasks = [
        Task(stage_key(stage, seed, _digests(shards), fakes, folder), shards, folder) for shards in groups
    ]
    filed = {} if step.fresh else step.store.parts([task.key for task in tasks])
    found = {key: part for key, part in filed.items() if _stands(step, part)}
    missing = [task for task in tasks if task.key not in found]
    if missing and stage.scope() == "global":
        refuse_above(step.settings.memory, stage, step.name, before.shards, step.store)
    executor = step.settings.executor or Local(step.settings.jobs)
    read, failed = _sum(found, "read"), _sum(found, "failed")
    made = round(before.rows.kept * (stage.cost().rows or 1))  # what fails is a sample, not its prompt
    ready = _counted(counts, tasks, found, 0)
    for part in executor.make(_work(step, stage, counts), missing):
        if part.key not in found:  # two shards may be the same
            read, failed = read + part.rows.read, failed + part.rows.failed
        found[part.key] = part
        ready = _counted(counts, tasks, found, ready)
        part_done(step.name, part, len(found), len(tasks))
        step.settings.progress(Event(step.name, "part", read, before.rows.kept))
        _check_failures(step, failed, made, part)
    return [found[task.key] for task in tasks]


def _counting(step: Step) -> AbstractContextManager[Counting]:
    return counting(step.store, step.name, _cores(step.settings), step.settings.memory)


def _counted(counts: Counting, tasks: Sequence[Task], found: Mapping[str, Part], ready: int) -> int:
    """Have the rows of the next parts counted, from `ready` up to the first that is not there; return which that is.

    Of the one part of a global step some were counted as they were filed; all other parts are one shard.
    """
    while ready < len(tasks) and (part := found.get(tasks[ready].key)) is not None:
        for shard in part.outputs[counts.shards - ready :]:
            counts.add(shard)
        ready += 1
    return ready


def _digests(shards: Sequence[Shard]) -> list[str]:
    return [shard.digest for shard in shards]


def _stands(step: Step, part: Part) -> bool:
    aside = [part.dropped] if part.dropped else []
    return not part.rows.failed and all(step.store.has(shard) for shard in [*part.outputs, *aside])


def _work(step: Step, stage: Stage, counts: Counting) -> Work:
    settings, known = step.settings, step.recipe.models
    # A recipe made in Python may give a stage a model that it does not name.
    unnamed = {model.served_as: model for model in models_in(stage) if model not in known.values()}
    return Work(
        stage,
        step.store,
        step.recipe.seed,
        settings.shard_rows,
        {**known, **unnamed},
        settings.placement,
        step.fresh,
        settings.spend,
        Here(
            beside=counts.seconds, filed=counts.add if stage.scope() == "global" and counts.beside else None
        ),
    )


def _check_failures(step: Step, failed: int, total: int, part: Part) -> None:
    if failed <= step.recipe.max_failures * total or part.failed is None:
        return
    error, count = Counter(step.store.get(part.failed)["error"].to_pylist()).most_common(1)[0]
    what = f"step '{step.name}': {failed} of {total} rows failed, above max_failures = {step.recipe.max_failures:g}"
    hint = "mend the cause and build again: answered requests are kept and not asked again"
    raise EngineError(f"{what}; most often ({count}): {error}", hint=hint)


def _rows(shards: Sequence[Shard]) -> int:
    return sum(shard.rows for shard in shards)


def _sum(parts: Mapping[str, Part], name: str) -> int:
    return sum(int(getattr(part.rows, name)) for part in parts.values())
