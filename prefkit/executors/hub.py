"""The hub: the one process of a cluster that keeps the answers of engines and the counts of all workers.

Answers are in one SQLite file, whose locks do not hold across machines, so one process beside the driver owns it and
the workers ask that one. It also knows who is asking what at the moment: two workers with the same request pay once.
And it adds up what all of them spent, since a budget is for the run.

A worker tells its counts as totals since it began, so telling them twice, or again after the hub itself was restarted,
changes nothing. A worker that has not been heard of for a while is taken for dead, and what it was asking is free.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from prefkit.engines.answers import Memo
from prefkit.engines.spend import Tally

__all__ = ["SILENCE_SECONDS", "Counts", "Hub", "added", "told"]

Counts = dict[str, dict[str, dict[str, float]]]
"""By worker, by model, by name of the count."""
SILENCE_SECONDS = 20.0
"""After so long without a word a worker is taken for dead."""


class Hub:
    """Answers, who asks what, what it took, and how often each part was begun."""

    def __init__(self, memo: str, environment: Mapping[str, str], silence: float = SILENCE_SECONDS) -> None:
        """Open the file of answers when the first is asked for. The environment holds the keys of servers."""
        self._path, self._environment, self._silence = Path(memo), dict(environment), silence
        self._opened: Memo | None = None
        self._asking: dict[bytes, str] = {}
        self._heard: dict[str, float] = {}
        self._fresh: dict[str, set[bytes]] = {}
        self._counts: Counts = {}
        self._begun: Counter[str] = Counter()
        self._change = asyncio.Event()

    async def environment(self) -> dict[str, str]:
        """Return what engines may need of the driver's environment."""
        return self._environment

    async def begin(self, part: str) -> int:
        """Return how often this part was begun, this time included."""
        self._begun[part] += 1
        return self._begun[part]

    async def repeats(self) -> int:
        """Return how often a part was begun again, because the worker that made it was gone."""
        return self._begun.total() - len(self._begun)

    async def find(self, keys: Sequence[bytes], scope: str) -> dict[bytes, bytes]:
        """Return the answers of those keys that have one; within a scope, only those of this run."""
        return self._memo.find([key for key in keys if key in self._fresh.get(scope, ())] if scope else keys)

    async def claim(
        self, worker: str, keys: Sequence[bytes], scope: str
    ) -> tuple[dict[bytes, bytes], list[bytes]]:
        """Return what is known, and which other keys no other worker is asking; wait until there is one or the other."""
        while True:
            self._heard[worker] = time.monotonic()
            known = await self.find(keys, scope)
            mine = [key for key in keys if key not in known and not self._is_asked(key, worker)]
            if known or mine or not keys:
                self._asking.update(dict.fromkeys(mine, worker))
                return known, mine
            await self._changed()

    async def release(self, worker: str, keys: Sequence[bytes]) -> None:
        """Free the keys that a worker claimed and has no answer to."""
        for key in keys:
            if self._asking.get(key) == worker:
                del self._asking[key]
        self._change.set()

    async def tell(
        self,
        worker: str,
        answers: Sequence[tuple[bytes, bytes]],
        counts: Mapping[str, Mapping[str, float]],
        scope: str,
    ) -> Counts:
        """Keep answers and a worker's counts; return the counts of all others."""
        self._heard[worker] = time.monotonic()
        fresh = self._fresh.setdefault(scope, set()) if scope else set()
        for key, answer in answers:
            self._memo.remember(key, answer, instead=bool(scope) and key not in fresh)
            fresh.add(key)
            self._asking.pop(key, None)
        if answers:
            self._change.set()
        self._merge({worker: {model: dict(tally) for model, tally in counts.items()}})
        return {name: models for name, models in self._counts.items() if name != worker}

    async def exchange(self, known: Counts) -> Counts:
        """Take over counts that another hub knew before this one was started, and return all."""
        self._merge(known)
        return self._counts

    @property
    def _memo(self) -> Memo:
        if self._opened is None:
            self._opened = Memo(self._path)
        return self._opened

    def _is_asked(self, key: bytes, worker: str) -> bool:
        other = self._asking.get(key, worker)
        return other != worker and time.monotonic() - self._heard[other] < self._silence

    async def _changed(self) -> None:
        """Wait until something was answered or given back, or somebody may have died."""
        self._change.clear()
        try:
            await asyncio.wait_for(self._change.wait(), self._silence / 4)
        except TimeoutError:
            return

    def _merge(self, counts: Counts) -> None:
        for worker, models in counts.items():
            mine = self._counts.setdefault(worker, {})
            for model, tally in models.items():
                if _size(tally) >= _size(mine.get(model, {})):
                    mine[model] = tally


def _size(tally: Mapping[str, float]) -> float:
    """Return how far a worker's counts are: they only grow."""
    return sum(tally.values())


def told(models: Mapping[str, Tally]) -> dict[str, dict[str, float]]:
    """Return counts by model as plain numbers."""
    return {model: asdict(tally) for model, tally in models.items()}


def added(counts: Counts) -> dict[str, Tally]:
    """Return the counts of all workers together, by model."""
    total: dict[str, Tally] = {}
    read: Callable[..., Tally] = Tally
    for models in counts.values():
        for model, tally in models.items():
            total[model] = total.get(model, Tally()).plus(read(**tally))
    return total
