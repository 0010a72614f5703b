"""Which executor a build has, from its flags."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefkit.catalog import suggest
from prefkit.cli.out import say
from prefkit.errors import PrefkitError
from prefkit.executors.work import Executor

__all__ = ["executing"]

_KNOWN = ("local", "ray")


@contextmanager
def executing(name: str, address: str, workers: str, jobs: int) -> Iterator[Executor]:
    """Give the executor of `--executor`, and end it."""
    if name not in _KNOWN:
        hint = suggest(name, _KNOWN) or "local, the default, or ray"
        raise PrefkitError(f"'{name}' is no executor", where=f"--executor {name}", hint=hint)
    if name == "local":
        from prefkit.executors.local import Local

        for flag, value in (("--ray-address", address), ("--ray-workers", workers)):
            if value:
                raise PrefkitError("this flag is of the Ray executor", where=flag, hint="--executor ray")
        yield Local(jobs)
        return
    from prefkit.executors.ray import OnRay
    from prefkit.executors.ray_sizes import Bounds, read_bounds

    with OnRay(address, read_bounds(workers) if workers else Bounds(), jobs, say) as executor:
        yield executor
