"""Prompts of the toy world, in three pools that never share one.

A gain counts only on prompts that training has not seen, and keeping lists of what was seen is how that goes wrong.
So a prompt's own hash says what it is for: half of all prompts taught the shipped policy and reward model, a
quarter is for building datasets, and a quarter is for measuring.

    python -m prefkit.toy 400 > recipes/data/toy-prompts.jsonl
"""

import json
import random
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final, Literal

from prefkit.toy.world import Task, draw_task, write_prompt

__all__ = ["Use", "draw_tasks", "jsonl", "prompts", "use_of"]

Use = Literal["training", "building", "measuring"]
_QUARTERS: Final[tuple[Use, ...]] = ("training", "training", "building", "measuring")


def prompts(n: int, seed: int = 0, use: Use = "building") -> list[str]:
    """Write `n` different prompts of one pool; the first ones are the same for every `n`."""
    # A dictionary is an ordered set.
    seen: dict[str, None] = {}
    tasks = draw_tasks(seed, use)
    while len(seen) < n:
        seen.update(dict.fromkeys(map(write_prompt, islice(tasks, n - len(seen)))))
    return list(seen)


def draw_tasks(seed: int, use: Use) -> Iterator[Task]:
    """Draw tasks of one pool for ever; easy ones come more than once."""
    rng = random.Random(seed)  # noqa: S311
    while True:
        task = draw_task(rng)
        if use_of(write_prompt(task)) == use:
            yield task


def use_of(prompt: str) -> Use:
    """Say what a prompt may be used for."""
    return _QUARTERS[blake2b(prompt.encode(), digest_size=1).digest()[0] % len(_QUARTERS)]


def jsonl(texts: list[str]) -> str:
    """Write prompts as a source reads them: one conversation a line."""
    rows = ({"prompt": [{"role": "user", "content": text}]} for text in texts)
    return "".join(f"{json.dumps(row)}\n" for row in rows)
