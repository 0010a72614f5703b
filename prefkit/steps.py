"""Steps: make the rows of one step of a recipe, from its source or from the step before, and say how it went."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import pyarrow as pa

from prefkit import sources
from prefkit.engines import Engines, Spend
from prefkit.engines.placement import Placement, open_engines
from prefkit.errors import EngineError
from prefkit.identity import canonical, digest_all
from prefkit.keys import faked, models_in, stage_key
from prefkit.manifest import Made, Manifest, Part, Rows, Shard, add_used
from prefkit.parts import Task, made_now, make_parts
from prefkit.recipe import Recipe
from prefkit.shards import SHARD_ROWS
from prefkit.stage import Stage, level_of
from prefkit.statistics import summarise_shards
from prefkit.store import Store

__all__ = ["Event", "Settings", "Step", "make_source", "make_stage"]


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
    started, shards, bad, notes = time.perf_counter(), list[Shard](), list[pa.Table](), Counter[str]()
    recipe, store, tell = step.recipe, step.store, step.settings.progress
    tell(Event(step.name, "start", 0, 0))
    schema = sources.unify(
        [sources.peek(source, recipe.folder, store.columns).schema for source in recipe.data]
    )
    with store.workspace() as work:
        batches = _batches(step, bad, notes)
        for table in sources.gather(batches, schema, work, step.settings.shard_rows, notes):
            shards.append(store.put(table))
            tell(Event(step.name, "part", sum(shard.rows for shard in shards), 0))
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
        made_now(time.perf_counter() - started, Engines(), {}, "prefkit"),
    )
    config = {"data": [sources.portable(source) for source in recipe.data]}
    tell(Event(step.name, "done", kept, kept + dropped))
    return _manifest(
        step, done, {"stage": "data", "version": sources.VERSION, "kind": "source", "config": config}
    )


def make_stage(step: Step, stage: Stage, before: Manifest) -> Manifest:
    """Make what a stage makes of the step before, part by part, using the parts that stand."""
    tell = step.settings.progress
    tell(Event(step.name, "start", 0, before.rows.kept))
    parts = _parts(step, stage, before)
    notes: Counter[str] = Counter()
    for part in parts:
        notes.update(part.notes)
    done = _Done(
        tuple(shard for part in parts for shard in part.outputs),
        tuple(part.dropped for part in parts if part.dropped),
        tuple(part.failed for part in parts if part.failed),
        Rows(**{name: sum(getattr(part.rows, name) for part in parts) for name in Rows.model_fields}),
        notes,
        _sum_made(parts),
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


def _manifest(step: Step, done: _Done, what: Mapping[str, object]) -> Manifest:
    pa.default_memory_pool().release_unused()  # what making the rows took is not needed to count them
    first = step.store.get(done.shards[0])
    one = len(done.shards) == 1
    whole = (
        done.shards[0].digest if one else digest_all((step.store.get(s) for s in done.shards), first.schema)
    )
    fields = {
        "seed": None,
        "input": None,
        **what,
        "key": step.key,
        "level": level_of(first.schema),
        "digest": whole,
        "columns": tuple((column.name, str(column.type)) for column in first.schema),
        "shards": done.shards,
        "dropped": done.dropped,
        "failed": done.failed,
        "rows": done.rows,
        "drops": _sorted({n.removeprefix(_DROP): c for n, c in done.notes.items() if n.startswith(_DROP)}),
        "notes": _sorted({n: c for n, c in done.notes.items() if not n.startswith(_DROP)}),
        "statistics": summarise_shards(done.shards, step.store.get),
        "made": done.made,
    }
    return Manifest.model_validate(fields)


_DROP = "dropped/"


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _batches(step: Step, bad: list[pa.Table], notes: Counter[str]) -> Iterator[pa.Table]:
    for source in step.recipe.data:
        for batch in sources.read(source, step.recipe.folder, step.store.read_ref):
            notes.update(batch.notes)
            if batch.bad.num_rows:
                bad.append(batch.bad)
            yield batch.table


def _parts(step: Step, stage: Stage, before: Manifest) -> list[Part]:
    """Return the part of every task in order, made or found."""
    groups = [before.shards] if stage.scope() == "global" else [(shard,) for shard in before.shards]
    fakes = faked(step.recipe.models, step.settings.placement.engines)
    seed, folder = step.recipe.seed, step.recipe.folder
    tasks = [
        Task(stage_key(stage, seed, _digests(shards), fakes, folder), shards, folder) for shards in groups
    ]
    found = {task.key: part for task in tasks if (part := _standing(step, task)) is not None}
    missing = [task for task in tasks if task.key not in found]
    for part in make_parts(
        stage, missing, step.store, _engines(step, stage, missing), step.recipe.seed, step.settings
    ):
        found[part.key] = part
        step.settings.progress(Event(step.name, "part", _sum(found, "read"), before.rows.kept))
        made = round(before.rows.kept * (stage.cost().rows or 1))  # what fails is a sample, not its prompt
        _check_failures(step, _sum(found, "failed"), made, part)
    return [found[task.key] for task in tasks]


def _digests(shards: Sequence[Shard]) -> list[str]:
    return [shard.digest for shard in shards]


def _standing(step: Step, task: Task) -> Part | None:
    part = None if step.fresh else step.store.part(task.key)
    if part is None or part.rows.failed:
        return None
    aside = [part.dropped] if part.dropped else []
    return part if all(step.store.has(shard) for shard in [*part.outputs, *aside]) else None


def _engines(step: Step, stage: Stage, missing: Sequence[Task]) -> Engines:
    if not missing or stage.cost().calls == 0:
        return Engines()
    memo = step.store.root / "memo.sqlite"
    settings = step.settings
    # A recipe made in Python may give a stage a model that it does not name.
    known = step.recipe.models
    unnamed = {model.served_as: model for model in models_in(stage) if model not in known.values()}
    return open_engines(
        {**known, **unnamed}, settings.placement, memo, refresh=step.fresh, spend=settings.spend
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


def _sum_made(parts: Sequence[Part]) -> Made:
    newest = max(parts, key=lambda part: part.made.at).made
    engines = {model: version for part in parts for model, version in part.made.engines.items()}
    return newest.model_copy(
        update={
            "engines": dict(sorted(engines.items())),
            "models": add_used(part.made.models for part in parts),
            "seconds": round(sum(part.made.seconds for part in parts), 3),
            **{
                name: sum(int(getattr(part.made, name)) for part in parts)
                for name in ("calls", "remembered", "tokens_in", "tokens_out")
            },
        }
    )
