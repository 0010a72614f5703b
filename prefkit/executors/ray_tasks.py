"""Tasks of a cluster: one call for each of many texts, begun again where its worker or node is gone.

Ray could begin them again by itself, but it would not say how often: what takes its worker down each time would never
end.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.executors.ray_cluster import failure

__all__ = ["check_times", "outcomes"]

_MOST_TIMES = 10
"""How often a part is begun before what takes its workers down is thought to be the part itself."""
_POLL_SECONDS = 0.5
_LEAVE_SECONDS = 5.0
"""How long tasks that were cancelled have to clear up."""


def outcomes(
    call: Callable[[str], Any], texts: Iterable[str], room: Callable[[], int], lost: Callable[[int], None]
) -> Generator[str, None, None]:
    """Yield what the call of each text returns, in any order, with no more than `room` under way at once.

    Where the worker or node of a call is gone, `lost` is told how often it was begun by now; unless it raises, the call
    is begun again. Raises what a call raises.
    """
    import ray

    given, pending, begun = iter(texts), dict[Any, str](), Counter[str]()
    try:
        while True:
            pending |= {call(text): text for text in islice(given, max(room() - len(pending), 0))}
            if not pending:
                return
            ready, _ = ray.wait(list(pending), timeout=_POLL_SECONDS)
            for reference in ready:
                text = pending.pop(reference)
                begun[text] += 1
                try:
                    outcome: str = ray.get(reference)
                except _gone():
                    lost(begun[text])
                    pending[call(text)] = text
                except ray.exceptions.RayError as error:
                    raise failure(error) from error
                else:
                    yield outcome
    finally:
        for reference in pending:
            ray.cancel(reference)
        ray.wait(list(pending), num_returns=len(pending), timeout=_LEAVE_SECONDS) if pending else None


def check_times(begun: int, stage: str) -> None:
    """Raise PrefkitError if a part of a stage was begun so often that it must be the part that takes its workers down."""
    if begun < _MOST_TIMES:
        return
    what = f"a part of stage '{stage}' was begun {begun} times, and its worker was gone each time"
    hint = "most often memory: give the workers more of it, or the recipe smaller shards; `ray logs` has more"
    raise PrefkitError(what, hint=hint)


def _gone() -> tuple[type[Exception], ...]:
    """Return the errors that say that a worker or node is gone, and nothing of what it was doing."""
    from ray import exceptions

    return (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.LocalRayletDiedError,
        exceptions.OutOfMemoryError,
        exceptions.ObjectLostError,
    )
