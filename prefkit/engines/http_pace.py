"""Pace: how many requests a server gets at once, found by asking it.

Starts at the most that is allowed and halves when the server says that it is busy, once for all requests that were
under way by then; grows back with every answer (additive increase, multiplicative decrease: Chiu and Jain 1989). A
pause that the server asks for holds for all requests, not for the one it was told. Answers that take much longer than
usual slow the pace too, a little, so that a server which only queues is not filled up until answers come too late.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Pace", "Patience"]

_GROWTH = 0.05
"""Part of the most that is added in the time of one answer; at least one request."""
_STRETCH = 2.5
"""How many times the usual seconds recent answers may take."""
_EASING = 0.8
_MEMORY = 10
"""Rounds of answers that the usual seconds go back."""


class Patience(NamedTuple):
    """How long to wait and how often to try."""

    attempts: int = 6
    """For one request, while the server is broken or silent."""
    first_pause: float = 0.5
    """Seconds before the second attempt, on average; doubles with every attempt."""
    longest_pause: float = 30.0
    """Seconds. A server's own Retry-After is honoured up to 300 s."""
    timeout: float = 600.0
    """Seconds for one answer, from the first byte sent to the last one read."""
    refusals: int = 20
    """For one request, while the server says that it is busy: that costs nothing, and others are served meanwhile."""


class Pace:
    """The requests under way at one server."""

    def __init__(
        self, most: int, patience: Patience, limit: float = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Allow `most` requests at once, and for a start `limit` of them; 0 is all."""
        self.limit = float(limit or most)
        """How many may be under way now, at least 1."""
        self.most = most
        self._patience, self._now = patience, clock
        self._chance = random.Random(0)  # noqa: S311 - spreads pauses; decides no answer
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opens_at = self._cut_at = -float("inf")
        self._refused_in_a_row = self._seen = self._looked = 0
        self._recent = self._usual = 0.0

    async def enter(self) -> float:
        """Wait for a turn; return when it began, in seconds of the clock. `leave` ends it."""
        while True:
            now = self._now()
            if now < self._opens_at:
                await asyncio.sleep(self._opens_at - now)
            elif self._under_way < int(self.limit):
                self._under_way += 1
                return now
            else:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn

    def leave(self) -> None:
        """End a turn."""
        self._under_way -= 1
        for _ in range(min(int(self.limit) - self._under_way, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)

    def answered(self, started: float) -> None:
        """Learn that a request was answered."""
        self._refused_in_a_row = 0
        self.limit = min(self.most, self.limit + max(1.0, _GROWTH * self.most) / self.limit)
        self._learn(self._now() - started)

    def refused(self, started: float, wait: float | None) -> None:
        """Learn that the server is busy, and maybe for how many seconds: everyone waits."""
        if self._cut(started, 0.5):
            self._refused_in_a_row += 1
            wait = self.pause(self._refused_in_a_row) if wait is None else wait
        self._opens_at = max(self._opens_at, self._now() + (wait or 0.0))

    def strained(self, started: float) -> None:
        """Learn that a request was not answered in time."""
        self._cut(started, 0.5)

    def pause(self, attempt: int) -> float:
        """Return how many seconds to wait after attempt 1, 2, ..., with jitter."""
        longest = self._patience.longest_pause
        # The exponent is bounded where the pause is, so that no number of attempts overflows it.
        pause = min(longest, self._patience.first_pause * 2.0 ** min(attempt - 1, 60))
        return pause * (0.5 + self._chance.random())

    def _cut(self, started: float, factor: float) -> bool:
        """Slow down, unless the request was sent before the pace was slowed last; return whether."""
        if started < self._cut_at:
            return False
        self.limit, self._cut_at = max(1.0, self.limit * factor), self._now()
        return True

    def _learn(self, seconds: float) -> None:
        self._seen += 1
        self._recent += (seconds - self._recent) / min(self._seen, max(8.0, self.limit))
        self._usual += (seconds - self._usual) / min(self._seen, _MEMORY * max(8, self.most))
        if self._seen - self._looked < max(8.0, self.limit):
            return
        self._looked = self._seen
        if self._recent > self._patience.timeout / 2:
            self._cut(self._now(), 0.5)
        elif self._recent > _STRETCH * self._usual:
            self._cut(self._now(), _EASING)
