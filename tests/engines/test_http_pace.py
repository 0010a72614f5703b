import asyncio

import pytest

from prefkit.engines.http_pace import Pace, Patience

PATIENCE = Patience(first_pause=0.5, longest_pause=8.0, timeout=100.0)


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock) -> Pace:
    return Pace(32, PATIENCE, clock=clock)


def round_of(pace: Pace, clock: Clock, seconds: float, count: int = 32) -> None:
    started = clock.now
    clock.now += seconds
    for _ in range(count):
        pace.answered(started)


def test_it_starts_with_all_that_is_allowed_and_never_exceeds_it(pace, clock):
    assert pace.limit == 32
    for _ in range(20):
        round_of(pace, clock, 1.0)
        assert pace.limit == 32


def test_it_halves_once_for_all_that_were_under_way_and_grows_back(pace, clock):
    clock.now = 1.0
    for _ in range(32):
        pace.refused(0.0, None)
    assert pace.limit == 16
    clock.now = 2.0
    pace.refused(1.5, None)
    assert pace.limit == 8
    limits = []
    for _ in range(20):
        round_of(pace, clock, 1.0, count=int(pace.limit))
        limits.append(pace.limit)
    assert limits == sorted(limits)
    assert limits[0] < 12
    assert limits[-1] == 32


def test_it_never_stops_altogether(pace, clock):
    for _ in range(50):
        clock.now += 1
        pace.refused(clock.now, 0.0)
        pace.strained(clock.now)
    assert pace.limit == 1


def test_answers_that_take_much_longer_than_usual_slow_it_and_a_new_usual_does_not(pace, clock):
    for _ in range(10):
        round_of(pace, clock, 1.0)
    round_of(pace, clock, 1.3)
    assert pace.limit == 32
    low = 32.0
    for _ in range(4):
        round_of(pace, clock, 6.0)
        low = min(low, pace.limit)
    assert low < 31
    for _ in range(40):
        round_of(pace, clock, 6.0)
    assert pace.limit == 32


def test_answers_that_nearly_come_too_late_halve_it(pace, clock):
    round_of(pace, clock, 60.0)
    assert pace.limit <= 16


def test_a_pause_that_is_asked_for_holds_for_everyone():
    async def enter(pace: Pace) -> float:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(3):
            await pace.enter()
        return loop.time() - started

    async def run() -> tuple[float, float]:
        pace = Pace(32, PATIENCE)
        before = await enter(pace)
        started = await pace.enter()
        pace.refused(started, 0.2)
        pace.refused(started, 0.01)
        return before, await enter(pace)

    before, after = asyncio.run(run())
    assert before < 0.1
    assert 0.19 < after < 1.0


def test_no_more_are_under_way_than_the_limit_says():
    most = 0

    async def run() -> int:
        pace, under_way, seen = Pace(8, PATIENCE), 0, []

        async def one(at: int) -> None:
            nonlocal under_way
            for _ in range(20):
                started = await pace.enter()
                under_way += 1
                seen.append((under_way, pace.limit))
                await asyncio.sleep(0)
                under_way -= 1
                if at == 0 and len(seen) % 40 == 0:
                    pace.refused(started, 0.0)
                else:
                    pace.answered(started)
                pace.leave()

        await asyncio.gather(*(one(at) for at in range(20)))
        assert len(seen) == 400
        return max(count for count, _ in seen)

    most = asyncio.run(run())
    assert 4 <= most <= 8


def test_pauses_double_up_to_the_longest_and_never_are_equal(pace):
    for attempt, mean in ((1, 0.5), (2, 1.0), (4, 4.0), (5, 8.0), (500, 8.0)):
        pauses = {pace.pause(attempt) for _ in range(50)}
        assert len(pauses) > 40
        assert mean * 0.5 <= min(pauses) < max(pauses) <= mean * 1.5
