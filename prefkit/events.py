"""Events: what a log says of a build, a step and a part. Counts and times only: no row, and no text of one."""

from collections.abc import Mapping, Sequence

from prefkit import __version__
from prefkit.engines.placement import Placement
from prefkit.identity import hash_json
from prefkit.logs import INFO, WARNING, note, shown_address
from prefkit.manifest import Made, Manifest, Part, Rows
from prefkit.recipe import Recipe
from prefkit.store import DamagedError, Store

__all__ = [
    "build_done",
    "build_started",
    "object_damaged",
    "part_done",
    "step_cached",
    "step_done",
    "step_started",
    "training",
]


def build_started(
    recipe: Recipe, store: Store, placement: Placement, names: Sequence[str], jobs: int
) -> None:
    """Tell that a build begins, and of what."""
    note(
        "build started",
        {
            "run": recipe.name,
            "step": None,
            "recipe": hash_json(recipe.described()),
            "store": store.shown,
            "steps": list(names),
            "prefkit": __version__,
            "jobs": jobs,
            "engines": {name: shown_address(engine) for name, engine in placement.engines.items()},
            "device": placement.device,
            "concurrency": placement.concurrency,
        },
    )


def step_started(step: str, key: str, rows: int, *, again: bool) -> None:
    """Tell that a step begins; `rows` is what it will read, 0 if that is not known.

    `again` says that it was made before: rows of it failed or are gone, or somebody wants it anew.
    """
    note("step started", {"step": step, "key": key, "rows": rows or None, "again": again or None})


def step_cached(step: str, manifest: Manifest) -> None:
    """Tell that a step stands already."""
    note(
        "step cached", {"step": step, "key": manifest.key, "digest": manifest.digest, **_flow(manifest.rows)}
    )


def part_done(step: str, part: Part, done: int, of: int) -> None:
    """Tell that a part was made: the `done`-th of so many of its step, those that stood included."""
    seconds = part.made.timing.wall
    fields = {"step": step, "key": part.key, "part": done, "parts": of}
    note("part done", {**fields, **_flow(part.rows), **_pace(part.rows, seconds), **_took(part.made)})


def step_done(step: str, manifest: Manifest) -> None:
    """Tell that a step was made."""
    pace = _pace(manifest.rows, manifest.made.timing.wall)
    what = {"step": step, "key": manifest.key, "digest": manifest.digest, "shards": len(manifest.shards)}
    level = WARNING if manifest.rows.failed else INFO
    note("step done", {**what, **_flow(manifest.rows), **pace, **_took(manifest.made)}, level)


def object_damaged(error: DamagedError) -> None:
    """Tell that an object is gone or not what its name says, and will be made anew."""
    note("object damaged", {"digest": error.shard.digest, "what": error.what, "where": error.where}, WARNING)


def build_done(recipe: Recipe, last: Manifest, seconds: float) -> None:
    """Tell that a build is whole, and the digest of its last step's rows."""
    fields = {"run": recipe.name, "step": None, "digest": last.digest, "rows": last.rows.kept}
    note("build done", {**fields, "seconds": seconds})


def training(arm: str, phase: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
    """Tell how far training is, where it has something measured to say."""
    if metrics:
        told = {name: float(value) for name, value in metrics.items()}
        note("training", {"arm": arm or None, "phase": phase, "done": done, "of": total, "metrics": told})


def _flow(rows: Rows) -> dict[str, object]:
    return {"read": rows.read, "rows": rows.kept, "dropped": rows.dropped, "failed": rows.failed}


def _pace(rows: Rows, seconds: float) -> dict[str, object]:
    return {"seconds": seconds, "rows_per_second": round(rows.read / seconds, 1) if seconds > 0 else None}


def _took(made: Made) -> Mapping[str, object]:
    timing = made.timing
    phases = ("reading", "working", "filing", "counting")
    parts = {name: seconds for name in phases if (seconds := getattr(timing, name))}
    used = {
        name: one.model_dump(mode="json", exclude_defaults=True) for name, one in sorted(made.models.items())
    }
    return {"cpu": timing.cpu, **parts, "peak_bytes": timing.peak_bytes or None, "models": used or None}
