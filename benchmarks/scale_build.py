"""The build that `scale.py` measures, in a process of its own: what `prefkit build` and `prefkit export` do, timed by step.

    python benchmarks/scale_build.py RECIPE STORE OUT JOBS KEEP

Prints one line of JSON a step: when it began, and the CPU seconds that this process and its workers had used by then.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path


def tell(step: str, rows: int = 0) -> None:
    """Print where the process stands."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(each.ru_utime + each.ru_stime for each in used)
    print(json.dumps({"step": step, "at": time.time(), "cpu": cpu, "rows": rows}), flush=True)


def main() -> None:
    """Build and export, on as many cores as there are workers."""
    recipe, store, out, jobs, keep = sys.argv[1:]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(jobs)])
    from prefkit.export import export
    from prefkit.recipe import Recipe
    from prefkit.run import build
    from prefkit.steps import Event, Settings
    from prefkit.store import Store

    def progress(event: Event) -> None:
        if event.state == "start":
            tell(event.step)
        if event.state == "done":
            tell("rows", event.rows)

    settings = Settings(jobs=int(jobs), progress=progress)
    if keep != "all":
        settings = settings._replace(keep=keep)
    tell("start")
    made = build(Recipe.load(recipe), Store(store), settings)
    tell("export")
    export(Store(store), made.recipe.name, Path(out), "parquet", int(jobs))
    tell("end", made.last.rows.kept)
    print(json.dumps({"digest": made.last.digest, "drops": {n: m.drops for n, m in made.steps.items()}}))


if __name__ == "__main__":
    main()
