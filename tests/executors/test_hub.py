"""What the process beside the driver knows: answers, who is asking what, and what all workers spent."""

import asyncio
from pathlib import Path

from prefkit.engines.spend import Tally
from prefkit.executors.hub import Hub, added, told

A, B, C = b"a" * 16, b"b" * 16, b"c" * 16


def hub(tmp_path: Path, silence: float = 60.0) -> Hub:
    return Hub(str(tmp_path / "memo.sqlite"), {}, silence)


def test_an_answer_is_known_to_every_worker_and_to_the_next_hub(tmp_path):
    async def story():
        first = hub(tmp_path)
        assert await first.claim("one", [A, B], "") == ({}, [A, B])
        await first.tell("one", [(A, b"1")], {}, "")
        return await first.claim("two", [A], ""), await hub(tmp_path).find([A, B], "")

    assert asyncio.run(story()) == (({A: b"1"}, []), {A: b"1"})


def test_what_one_worker_asks_no_other_one_asks_and_it_waits_only_when_nothing_else_is_left(tmp_path):
    async def story():
        one = hub(tmp_path)
        await one.claim("one", [A, B], "")
        assert await one.claim("two", [B, C], "") == ({}, [C])
        waiting = asyncio.create_task(one.claim("two", [B], ""))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await one.tell("one", [(B, b"2")], {}, "")
        return await waiting

    assert asyncio.run(story()) == ({B: b"2"}, [])


def test_what_was_given_back_without_an_answer_another_worker_asks(tmp_path):
    async def story():
        one = hub(tmp_path)
        await one.claim("one", [A], "")
        waiting = asyncio.create_task(one.claim("two", [A], ""))
        await asyncio.sleep(0.05)
        await one.release("one", [A])
        return await waiting

    assert asyncio.run(story()) == ({}, [A])


def test_a_worker_that_is_silent_for_long_has_nothing_claimed(tmp_path):
    async def story():
        one = hub(tmp_path, silence=0.1)
        await one.claim("dead", [A], "")
        return await asyncio.wait_for(one.claim("two", [A], ""), 5)

    assert asyncio.run(story()) == ({}, [A])


def test_a_worker_that_gives_signs_of_life_keeps_its_claims(tmp_path):
    async def story():
        one = hub(tmp_path, silence=0.3)
        await one.claim("slow", [A], "")
        waiting = asyncio.create_task(one.claim("two", [A], ""))
        for _ in range(10):
            await asyncio.sleep(0.1)
            await one.tell("slow", [], {}, "")
        assert not waiting.done()
        await one.tell("slow", [(A, b"1")], {}, "")
        return await waiting

    assert asyncio.run(story()) == ({A: b"1"}, [])


def test_in_a_refreshed_step_only_its_own_answers_count_and_replace_older_ones_once(tmp_path):
    async def story():
        one = hub(tmp_path)
        await one.tell("one", [(A, b"old")], {}, "")
        assert await one.claim("one", [A], "step") == ({}, [A])
        await one.tell("one", [(A, b"new")], {}, "step")
        assert await one.claim("two", [A], "step") == ({A: b"new"}, [])
        await one.tell("two", [(A, b"newer")], {}, "step")
        return await one.find([A], ""), await one.find([A], "another step")

    assert asyncio.run(story()) == ({A: b"new"}, {})


def test_counts_are_totals_so_that_telling_them_twice_or_to_a_new_hub_changes_nothing(tmp_path):
    early, late = {"m": Tally(calls=1, tokens_in=5)}, {"m": Tally(calls=3, tokens_in=9)}

    async def story():
        one = hub(tmp_path)
        await one.tell("one", [], told(early), "")
        await one.tell("one", [], told(late), "")
        assert added(await one.tell("two", [], told(early), "")) == late
        known = await one.exchange({"before": told(early)})
        another = hub(tmp_path)
        await another.tell("one", [], told(early), "")  # late on its way
        await another.exchange(known)
        return await another.exchange({})

    assert added(asyncio.run(story())) == {"m": Tally(calls=5, tokens_in=19)}


def test_parts_begun_again_are_counted(tmp_path):
    async def story():
        one = hub(tmp_path)
        times = [await one.begin(part) for part in ("x", "y", "x", "x")]
        return times, await one.repeats()

    assert asyncio.run(story()) == ([1, 1, 2, 3], 2)
