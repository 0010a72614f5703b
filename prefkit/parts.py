"""Parts: what a step makes of one shard, and how it is made.

A part is the unit of resume. Its key hashes the stage, the shard's content and the seed if the stage draws, so a part
made by a build that was killed, or by another recipe with the same step on the same rows, is found and used.
"""

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from prefkit import __version__
from prefkit.catalog import Catalog
from prefkit.engines import Engines, Spend
from prefkit.engines.spend import Tally
from prefkit.manifest import Made, Part, Rows, Shard, Used, add_used
from prefkit.stage import Context, Stage
from prefkit.stages import HOMES
from prefkit.store import Store
from prefkit.streaming import Filed, Here, apply_to_all, put_aside
from prefkit.timing import Phase, Stopwatch, added

__all__ = ["STAGES", "Task", "made_now", "make_part", "sum_made"]

STAGES: Catalog[Stage] = Catalog("stage", "prefkit.stages", HOMES)


class Task(NamedTuple):
    """One part to make."""

    key: str
    inputs: tuple[Shard, ...]
    """One shard for a map or group stage; all of them for a global one."""
    folder: Path = Path()
    """What paths in settings are relative to."""


def make_part(
    stage: Stage,
    task: Task,
    store: Store,
    engines: Engines,
    seed: int,
    shard_rows: int,
    here: Here | None = None,
) -> Part:
    """Run a stage on a task's rows, file what it makes, and file the part. `here` is what this process has for it."""
    here = here or Here()
    watch, before = Stopwatch(here.beside), engines.spend.snapshot()
    ctx = Context(seed=seed, engines=engines, folder=task.folder)
    if stage.scope() == "global":
        here = here._replace(apart=here.apart and watch.apart(here.apart))
        filed = apply_to_all(stage, task.inputs, store, ctx, shard_rows, watch.lap, here)
    else:
        filed = _apply(stage, task.inputs, store, ctx, watch.lap)
    part = Part(
        key=task.key,
        outputs=filed.outputs,
        dropped=filed.dropped,
        failed=filed.failed,
        rows=Rows(
            read=sum(shard.rows for shard in task.inputs),
            kept=filed.kept,
            dropped=_count(ctx.dropped),
            failed=_count(ctx.failed),
        ),
        notes=dict(sorted(ctx.notes.items())),
        made=made_now(watch, engines, before, STAGES.origin(stage.name)),
    )
    store.save_part(part)
    return part


def made_now(watch: Stopwatch, engines: Engines, before: Mapping[str, Tally], plugin: str) -> Made:
    """Return how something was made just now, from the watch started and the engines' counters before it."""
    used = {name: _used(name, tally, engines.spend) for name, tally in engines.spend.since(before).items()}
    return Made(
        prefkit=__version__,
        python=platform.python_version(),
        plugin=plugin,
        engines={name: how for name, how in sorted(engines.versions().items()) if name in used},
        calls=sum(one.calls for one in used.values()),
        remembered=sum(one.remembered for one in used.values()),
        tokens_in=sum(one.tokens_in for one in used.values()),
        tokens_out=sum(one.tokens_out for one in used.values()),
        models=used,
        seconds=round(watch.seconds, 3),
        timing=watch.timing(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def sum_made(parts: Sequence[Part]) -> Made:
    """Return how all parts of a step were made."""
    newest = max(parts, key=lambda part: part.made.at).made
    engines = {model: version for part in parts for model, version in part.made.engines.items()}
    return newest.model_copy(
        update={
            "engines": dict(sorted(engines.items())),
            "models": add_used(part.made.models for part in parts),
            "seconds": round(sum(part.made.seconds for part in parts), 3),
            "timing": added((part.made.timing for part in parts), 0.0),
            **{
                name: sum(int(getattr(part.made, name)) for part in parts)
                for name in ("calls", "remembered", "tokens_in", "tokens_out")
            },
        }
    )


def _used(name: str, tally: Tally, spend: Spend) -> Used:
    counts = {**asdict(tally), "seconds": round(tally.seconds, 3)}
    return Used(**counts, dollars=spend.cost({name: tally}) if tally.calls else None)


def _apply(
    stage: Stage, shards: Sequence[Shard], store: Store, ctx: Context, lap: Callable[[Phase], None]
) -> Filed:
    """Apply a stage whose rows need no more of the others than their shard."""
    table = pa.concat_tables([store.get(shard) for shard in shards])
    lap("reading")
    result = stage(table, ctx)
    lap("working")
    dropped, failed = (put_aside(store, tables) for tables in (ctx.dropped, ctx.failed))
    filed = Filed((store.put(result),), dropped, failed, result.num_rows)
    lap("filing")
    return filed


def _count(tables: Sequence[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)
